"""How fast and in how much memory images are packed, next to decoding alone.

    python benchmarks/packing.py --images 4000
    python benchmarks/packing.py --archive cell_images.zip --json packing.json

Peak memory is that of fresh processes which pack a quarter of the images and all of them: packing streams, so
the two differ by the table alone.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from malaria_diffusion.cells.packing import PackingParameters, pack_cells
from malaria_diffusion.cells.sources import Entry, ZipSource

PARAMETERS = PackingParameters(size=32)


class ThinnedSource(ZipSource):
    """Every `step`-th image of an archive."""

    def __init__(self, location: Path, step: int) -> None:
        super().__init__(location)
        self.step = step

    def entries(self, follow_links: bool = False) -> list[Entry]:
        """The entries that are left."""
        return super().entries(follow_links)[:: self.step]


def write_archive(path: Path, count: int) -> None:
    """Write `count` smooth discs of about 130 pixels on black, as PNGs of two classes."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(count):
            width, height = (int(side) for side in rng.integers(110, 151, 2))
            blobs = Image.fromarray(rng.integers(90, 240, (6, 6, 3), dtype=np.uint8))
            y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
            smooth = np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC))
            grain = rng.integers(0, 4, (height, width, 1), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray((smooth & 252 | grain) * (np.hypot(x, y) < 1)[..., None]).save(buffer, "PNG")
            archive.writestr(f"cell_images/{'AB'[2 * k // count]}/{k}.png", buffer.getvalue())


def decode_all(path: Path, size: int | None) -> int:
    """Decode every image in one thread, resize it if `size` is given, and return how many there were."""
    paths = [entry.path for entry in ZipSource(path).entries()]
    with zipfile.ZipFile(path) as archive:
        for name in paths:
            image = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            image.load()
            if size is not None:
                image.resize((size, size), Image.Resampling.BICUBIC)
    return len(paths)


def pack_all(path: Path, step: int = 1) -> int:
    """Pack every `step`-th image into a temporary file and return how many were packed."""
    with tempfile.TemporaryDirectory() as folder:
        return len(pack_cells(ThinnedSource(path, step), PARAMETERS, Path(folder) / "cells.npy").table)


def peak_mib(path: Path, step: int | None) -> float:
    """Peak resident memory of this process after packing every `step`-th image; after its imports if None."""
    if step is not None:
        pack_all(path, step)
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage it leaves out the peak of the parent process
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure(path: Path) -> dict[str, dict[str, float]]:
    """Images per second and peak memory in MiB of one archive."""
    works = {
        "decoding, one thread": lambda: decode_all(path, None),
        "decoding and resizing, one thread": lambda: decode_all(path, PARAMETERS.size),
        f"pack_cells, {os.cpu_count()} threads": lambda: pack_all(path),
    }
    decode_all(path, None)  # so that the archive is in the page cache for all
    speeds: dict[str, float] = {}
    for name, work in works.items():
        start = time.perf_counter()
        count = work()
        speeds[name] = count / (time.perf_counter() - start)
    memory: dict[str, float] = {}
    for name, step in {"imports only": None, "pack_cells, a quarter": 4, "pack_cells, all images": 1}.items():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            memory[name] = fresh.submit(peak_mib, path, step).result()
    return {"images_per_second": speeds, "peak_mib": memory}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000, help="images to make without --archive (default 4000)")
    parser.add_argument("--archive", type=Path, help="measure this zip of class folders")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.archive or Path(folder) / "cells.zip"
        if arguments.archive is None:
            write_archive(path, arguments.images)
        found = measure(path)
    bare = found["images_per_second"]["decoding, one thread"]
    print(f"\n{'':36}{'images/s':>10}{'ratio':>8}")
    for name, speed in found["images_per_second"].items():
        print(f"{name:36}{speed:10.0f}{speed / bare:8.2f}")
    print(f"{'':36}{'peak MiB':>10}")
    for name, peak in found["peak_mib"].items():
        print(f"{name:36}{peak:10.1f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
