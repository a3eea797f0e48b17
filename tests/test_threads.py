"""Threads of OpenMP wait passively, whatever is started, unless a user has said otherwise."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from .projects import ROOT

WAITING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}


def run(code, **variables):
    inherited = {name: value for name, value in os.environ.items() if name not in WAITING}
    command = [sys.executable, "-W", "always", "-c", code]
    return subprocess.run(command, env=inherited | variables, capture_output=True, text=True, check=True, cwd=ROOT)


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch brings libgomp on Linux only")
def test_libgomp_is_told_to_sleep_soon():
    told = run("import malaria_diffusion, torch; torch.ones(3)", OMP_DISPLAY_ENV="verbose")
    assert re.findall(r"GOMP_SPINCOUNT = '(\d+)'", told.stderr) == ["1000"]
    assert "torch was imported" not in told.stderr
    (libgomp,) = Path(find_spec("torch").origin).parent.glob("lib/libgomp*")  # alone, as torch takes seconds
    code = f"import malaria_diffusion, ctypes; ctypes.CDLL({str(libgomp)!r})"
    spinning = run(code, OMP_DISPLAY_ENV="verbose", GOMP_SPINCOUNT="300000")
    assert re.findall(r"GOMP_SPINCOUNT = '(\d+)'", spinning.stderr) == ["300000"]


def test_what_a_user_has_set_stays():
    code = "import malaria_diffusion, os; print(os.environ['OMP_WAIT_POLICY'])"
    assert run(code, OMP_WAIT_POLICY="ACTIVE").stdout.strip() == "ACTIVE"
    assert run(code).stdout.strip() == "PASSIVE"
    code = "import malaria_diffusion, os; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
    assert run(code, OMP_WAIT_POLICY="ACTIVE").stdout.split() == ["None", "ACTIVE"]
    assert run(code, GOMP_SPINCOUNT="5").stdout.split() == ["5", "None"]


def test_too_late_is_told():
    late = "import torch, malaria_diffusion"
    assert "import malaria_diffusion first, or set OMP_WAIT_POLICY=PASSIVE" in run(late).stderr
    assumed = "import sys; sys.modules['torch'] = sys; import malaria_diffusion"
    assert "import malaria_diffusion first" in run(assumed).stderr
    assert "import malaria_diffusion first" not in run(assumed, OMP_WAIT_POLICY="ACTIVE").stderr


def test_kedro_says_so_before_torch_is_imported():
    code = (
        "import os, sys; from kedro.framework.startup import bootstrap_project; bootstrap_project(os.getcwd()); "
        "print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    )
    assert run(code).stdout.split()[-2:] == ["False", "PASSIVE"]
