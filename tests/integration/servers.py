"""Starting servers on free ports, waiting for them, and stopping them."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from ..projects import SCRIPTS


def free_port():
    """Below 49152, which is as far as kedro viz goes, and below the ports that systems hand out."""
    draw = random.SystemRandom()  # other tests seed the common one, in every worker alike
    while True:
        port = draw.randrange(20_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def running(command, url, folder, environment, seconds=180):
    """A server that has answered `url`; what it prints goes to a file in `folder`."""
    printed = folder / f"{command[1]}_{command[2]}.txt"
    with printed.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                urllib.request.urlopen(url, timeout=10).close()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert process.poll() is None, printed.read_text()[-3000:]
                assert time.monotonic() < deadline, "the server did not answer: " + printed.read_text()[-3000:]
                time.sleep(0.3)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def serving(project, *command, path="/"):
    """A kedro command that serves, once `path` answers; gives its address."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [SCRIPTS / "kedro", *command, "--port", str(port)]
    with running(command, address + path, project.folder, project.environment):
        yield address
