"""What several test packages share."""

import os

# parallel workers on few cores: threads that wait for each other are slower than one
os.environ.setdefault("OMP_NUM_THREADS", "1")
# as the package says, which tests import after torch
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# shap compiles its loops for many seconds, which a few small cells do not win back
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
