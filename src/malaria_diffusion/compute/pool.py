"""Several small trainings at once, each on a thread of its own.

Networks for small images gain little from a second thread: two trainings side by side on one thread each take little
longer than one on two.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from malaria_diffusion.compute.config import DeviceName
from malaria_diffusion.errors import UserError

MOST = 16  # processes, each of which imports torch and holds its cells
ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TQDM_DISABLE": "1"}

Result = TypeVar("Result")


def threads_for(device: DeviceName) -> int:
    """Threads that this process may use for trainings on a device: 1 on any but a processor."""
    import torch

    from malaria_diffusion.compute.device import resolve_device

    return torch.get_num_threads() if resolve_device(device).type == "cpu" else 1


def one_thread_each(
    function: Callable[..., Result], calls: Iterable[tuple[Any, ...]], workers: int
) -> Iterator[Result]:
    """What `function` returns for each of `calls`, in their order.

    Args:
        function: One that can be pickled, as can its arguments and results.
        calls: Arguments; taken one by one, as late as keeps all workers busy.
        workers: Processes, 16 at most. With 1 everything is done in this one.

    Raises:
        UserError: a process was killed, as by a system that has too little memory.
        Exception: what the function raises; other calls are given up, and their processes ended.
    """
    if workers == 1:
        for call in calls:
            yield function(*call)
        return
    workers, waiting = min(workers, MOST), deque[Future[Result]]()
    # unlike the standard library's it starts no script of the user's anew, which may have no guard
    pool = ProcessPoolExecutor(workers, initializer=_end_with, initargs=(os.getpid(),), env=ALONE)
    try:
        for call in calls:
            waiting.append(pool.submit(function, *call))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except TerminatedWorkerError as error:
        raise UserError(
            f"one of {workers} processes side by side was killed, perhaps for want of memory; set OMP_NUM_THREADS "
            "to the number of processes that there is memory for"
        ) from error
    finally:
        pool.shutdown(kill_workers=bool(waiting))


def _end_with(parent: int) -> None:
    """No life after the process that asked: a killed one is gone on with by another."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
