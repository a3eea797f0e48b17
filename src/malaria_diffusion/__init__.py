"""Denoising diffusion for synthetic medical images, and their honest validation."""

import os

# Threads that wait for each other at the end of every loop spin by default; beside another busy process they spin for a
# core that it holds, and training runs at a tenth of its speed. OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.2.0"
