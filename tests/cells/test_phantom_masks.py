"""The masks are those of the very cells: what is drawn again must equal what was packed."""

import numpy as np
import pytest

from malaria_diffusion.cells.packing import PackedCells, PackingParameters, pack_cells
from malaria_diffusion.cells.phantom.draw import PARASITIZED, PhantomParameters, phantom_cells, write_phantom_archive
from malaria_diffusion.cells.phantom.masks import phantom_masks
from malaria_diffusion.cells.sources import open_source

SMALL = PhantomParameters(infected_people=8, healthy_people=2, cells_per_person=2)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_phantom_archive(SMALL, tmp_path_factory.mktemp("phantom") / "cells.zip")


def pack(archive, folder, packing) -> PackedCells:
    return pack_cells(open_source(archive), packing, folder / "cells.npy")


@pytest.mark.parametrize(
    "packing",
    [
        PackingParameters(size=32),
        PackingParameters(size=48, background=(200, 210, 220)),
        PackingParameters(size=32, common_side=200),
    ],
    ids=["default", "background", "common_side"],
)
def test_masks_are_those_of_the_packed_cells(archive, tmp_path, packing):
    packed = pack(archive, tmp_path, packing)
    masks = phantom_masks(packed.cells, packed.table["name"].tolist(), SMALL, packing)
    assert masks.shape == (len(packed.cells), packing.size, packing.size)
    assert (masks.any(axis=(1, 2)) == (packed.table["label"] == PARASITIZED)).all()
    drawn = {f"{cell.name}.png": cell.parasite_mask for cell in phantom_cells(SMALL)}
    for mask, name in zip(masks, packed.table["name"], strict=True):
        whole = drawn[name]
        side = packing.common_side or max(whole.shape)
        assert mask.mean() == pytest.approx(whole.sum() / side**2, abs=0.01)
        if mask.any():  # in the same place
            rows, columns = ((np.argwhere(whole).mean(axis=0) + (side - np.array(whole.shape)) // 2) / side).T
            assert np.argwhere(mask).mean(axis=0) / packing.size == pytest.approx([rows, columns], abs=0.03)


def test_cells_that_are_not_those_drawn_have_no_masks(archive, tmp_path):
    packing = PackingParameters(size=32)
    packed = pack(archive, tmp_path, packing)
    cells, names = np.array(packed.cells), packed.table["name"].tolist()
    assert phantom_masks(cells, names, SMALL.model_copy(update={"seed": 1}), packing) is None
    assert phantom_masks(cells[::-1], names, SMALL, packing) is None
    assert phantom_masks(cells, names, SMALL, packing.model_copy(update={"common_side": 200})) is None
    assert phantom_masks(cells, names, SMALL, packing.model_copy(update={"common_side": 16})) is None
    assert phantom_masks(cells[:1], ["C100P61ThinF_IMG_20150918_144104_cell_166.png"], SMALL, packing) is None
    assert phantom_masks(cells[:1], ["anything.png"], SMALL, packing) is None
    cells[3, 0, 16, 16] ^= 1
    assert phantom_masks(cells, names, SMALL, packing) is None
    assert phantom_masks(cells[:3], names[:3], SMALL, packing) is not None
