"""What several test packages share."""

import os

# parallel workers on few cores: threads that wait for each other are slower than one
os.environ.setdefault("OMP_NUM_THREADS", "1")
