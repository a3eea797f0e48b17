"""Denoising diffusion for synthetic medical images, and their honest validation."""

import os
import sys
import warnings

# Threads that wait for each other at the end of every loop spin for milliseconds by default; beside another busy
# process they spin for a core that it holds. Some ten microseconds are what a wait takes where nobody disturbs, and
# sleeping at once would cost more than that. OpenMP reads this once, when torch is imported.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    if "torch" in sys.modules:
        warnings.warn(
            "torch was imported before malaria_diffusion, so its threads spin while they wait, and training is slow "
            "beside other busy processes: import malaria_diffusion first, or set OMP_WAIT_POLICY=PASSIVE",
            stacklevel=2,
        )
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}

__version__ = "0.2.0"
