"""Where the parasites of packed phantom cells are.

Drawing is keyed, so a phantom cell can be drawn again from its name alone, this time with its mask.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from malaria_diffusion.cells.decode import RejectedImage, decode
from malaria_diffusion.cells.packing import PackingParameters
from malaria_diffusion.cells.phantom.draw import PhantomParameters, _draw, _people

_NAME = re.compile(r"(?P<smear>.+?)_IMG_.+_cell_(?P<number>\d+)\.png")


def phantom_masks(
    cells: NDArray[np.uint8], names: Sequence[str], parameters: PhantomParameters, packing: PackingParameters
) -> NDArray[np.bool_] | None:
    """The parasites of packed phantom cells, packed as the cells were.

    Args:
        cells: uint8, (N, 3, S, S), as packed.
        names: The N file names, with suffix.
        parameters: Those the archive was drawn with.
        packing: That of the cells.

    Returns:
        bool, (N, S, S), True where more than half a pixel is parasite; all False for an uninfected cell. None if some
        cell is not what these parameters draw, so that no mask is ever that of another cell.
    """
    people = {smear: person for person in _people(parameters) for smear in person.smears}
    masks = np.zeros((len(cells), packing.size, packing.size), dtype=bool)
    for row, (cell, name) in enumerate(zip(cells, names, strict=True)):
        match = _NAME.fullmatch(name)
        if match is None or match["smear"] not in people or match["number"] == "0":
            return None
        drawn = _draw(parameters.seed, people[match["smear"]], int(match["number"]) - 1)
        if f"{drawn.name}.png" != name or not np.array_equal(_packed(drawn.image, packing, packing.background), cell):
            return None
        if drawn.parasite_mask.any():
            grey = np.repeat(drawn.parasite_mask[..., None], 3, axis=-1) * np.uint8(255)
            masks[row] = _packed(grey, packing, (0, 0, 0))[0] > 127
    return masks


def _packed(
    image: NDArray[np.uint8], packing: PackingParameters, background: tuple[int, int, int]
) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    try:
        return decode(file.getvalue(), packing.size, background, packing.common_side).pixels
    except RejectedImage:  # the crop is larger than common_side, so it was not packed either
        return np.zeros(0, dtype=np.uint8)
