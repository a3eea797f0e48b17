"""Servers that the tests start, wait for, and stop."""

import contextlib
import os
import random
import signal
import socket
import time
import urllib.error
import urllib.request


def free_port():
    """Below 49152, which is as far as kedro viz goes, and below the ports that systems hand out."""
    draw = random.SystemRandom()  # other tests seed the common one, in every worker alike
    while True:
        port = draw.randrange(20_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def serving(project, *command, path="/"):
    """Start a kedro command that serves; give its address once `path` answers, and stop it in the end."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = project.start(*command, "--port", str(port))
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(address + path, timeout=10).close()
                break
            assert process.poll() is None, project.printed.read_text()[-3000:]
            assert time.monotonic() < deadline, "the server did not answer"
            time.sleep(0.3)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
