"""Several small trainings at once, each on a thread of its own.

Networks for small images gain little from a second thread: two trainings side by side on one thread each take little
longer than one on two.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

from malaria_diffusion.compute.config import DeviceName

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
        workers: Processes. With 1 everything is done in this one.

    Raises:
        Exception: what the function raises; calls that have not begun are given up.
    """
    if workers == 1:
        for call in calls:
            yield function(*call)
        return
    waiting: deque[Future[Result]] = deque()
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with torch's threads may hang
    with ProcessPoolExecutor(workers, spawn, _begin) as pool:
        try:
            for call in calls:
                waiting.append(pool.submit(function, *call))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """One thread, no progress bars, and no life after the process that asked."""
    os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}  # before torch and tqdm are imported
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
