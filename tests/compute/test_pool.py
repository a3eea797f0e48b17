"""Calls side by side: in order, as late as may be, on one thread each, and gone with whoever asked."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from malaria_diffusion.compute.pool import one_thread_each
from malaria_diffusion.errors import UserError


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_calls_which_are_taken_as_they_are_needed(workers):
    taken = []

    def calls():
        for number in range(12):
            taken.append(number)
            yield (number,)

    found = one_thread_each(math.factorial, calls(), workers)
    assert not taken
    assert next(found) == 1
    assert len(taken) <= workers + 1
    assert list(found) == [math.factorial(number) for number in range(1, 12)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_the_caller_s_and_ends_it(workers):
    found = one_thread_each(math.sqrt, [(4,), (-1,), *[(9,)] * 50], workers)
    assert next(found) == 2
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        list(found)


def test_others_have_one_thread_and_no_bars():
    assert list(one_thread_each(os.getenv, [("OMP_NUM_THREADS",), ("TQDM_DISABLE",)], 2)) == ["1", "1"]


def test_a_killed_worker_is_told():
    with pytest.raises(UserError, match="one of 2 processes side by side was killed"):
        list(one_thread_each(os._exit, [(1,), (1,)], 2))


UNGUARDED = """
from malaria_diffusion.compute.pool import one_thread_each
print(list(one_thread_each(abs, [(-1,), (-2,), (-3,)], 2)))
"""


def test_a_script_needs_no_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.stdout == "[1, 2, 3]\n", done.stderr


ASKS = """
import multiprocessing, time
from malaria_diffusion.compute.pool import one_thread_each
if __name__ == "__main__":
    found = one_thread_each(time.sleep, [(0,), *[(600,)] * 4], 2)
    next(found)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    next(found)
"""


def test_workers_do_not_outlive_a_killed_process():
    with subprocess.Popen([sys.executable, "-c", ASKS], stdout=subprocess.PIPE, text=True) as parent:
        workers = [Path("/proc", pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 60
    while any(worker.exists() for worker in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(worker.exists() for worker in workers)
