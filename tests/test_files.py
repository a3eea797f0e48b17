"""Files appear whole or not at all, and processes take turns."""

import errno
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest

from malaria_diffusion.files import locked, whole, write_array


def test_what_fails_leaves_the_earlier_file_and_nothing_else(tmp_path):
    place = tmp_path / "new" / "a.txt"
    for content in ("first", "second"):
        with whole(place) as beside:
            beside.write_text(content)
    for error in (OSError(errno.ENOSPC, "full"), KeyboardInterrupt()):
        with pytest.raises(type(error)), whole(place) as beside:
            beside.write_text("third")
            raise error
    assert [path.name for path in place.parent.iterdir()] == ["a.txt"]
    assert place.read_text() == "second"


@pytest.mark.parametrize("call", [1, 2])
def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch, call):
    place = tmp_path / "folder"
    with whole(place) as beside:
        beside.mkdir()
        (beside / "a.txt").write_text("first")
    rename, calls = Path.rename, []

    def fails(path, target):
        calls.append(path)
        if len(calls) == call:
            raise OSError(errno.EACCES, "not allowed")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="not allowed"), whole(place) as beside:
        beside.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (place / "a.txt").read_text() == "first"


def test_an_error_without_a_file_gets_its_name(tmp_path):
    with pytest.raises(OSError, match=r"a\.txt"), whole(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3, 4)])
def test_arrays_are_written_as_numpy_does(tmp_path, shape):
    array = np.asfortranarray(np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape))
    write_array(tmp_path / "a.npy", array)
    loaded = np.load(tmp_path / "a.npy")
    assert loaded.dtype == array.dtype
    np.testing.assert_array_equal(loaded, array)


def test_another_process_waits_for_its_turn_and_says_for_whom(tmp_path):
    code = (
        "import logging, pathlib, sys; from malaria_diffusion.files import locked\n"
        "logging.basicConfig(level='INFO')\n"
        "with locked(pathlib.Path(sys.argv[1])): print(pathlib.Path(sys.argv[1]).read_text())"
    )
    place = tmp_path / "a.txt"
    with locked(place):
        other = subprocess.Popen([sys.executable, "-c", code, place], stdout=PIPE, stderr=PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=3)
        place.write_text("written before the other's turn")
    printed, logged = other.communicate(timeout=60)
    assert printed.strip() == "written before the other's turn"
    who = f"process {os.getpid()} on {platform.node()}: {Path(sys.argv[0]).name}"
    assert re.search(rf"another run \({re.escape(who)}.*\) is at work on {place}: waiting for its end", logged)
    assert {path.name for path in tmp_path.iterdir()} - {"a.txt.lock"} == {"a.txt"}  # which some versions leave
