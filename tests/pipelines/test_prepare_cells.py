"""What is said of the images once they are packed."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from malaria_diffusion.cells.packing import PackingParameters
from malaria_diffusion.cells.sources import open_source
from malaria_diffusion.cells.split import SplitParameters
from malaria_diffusion.pipelines.data_processing.nodes import prepare_cells

SPLIT = SplitParameters(
    strategy="person",
    person_patterns=[],
    smear_pattern=None,
    val_fraction=0.25,
    test_fraction=0.25,
    audit_fraction=0.0,
    seed=0,
)


def write(folder: Path, classes: list[str], top: int, kind: type) -> None:
    """40 grey images of every class, the brightest pixel of each at `top`."""
    rng = np.random.default_rng(0)
    for label in classes:
        (folder / label).mkdir(parents=True)
        for number in range(40):
            levels = rng.integers(0, top + 1, (16, 16)).astype(kind)
            levels[8, 8] = top
            Image.fromarray(levels).save(folder / label / f"{number}.png")


@pytest.fixture
def said(tmp_path, caplog):
    def run(classes: list[str], top: int = 255, kind: type = np.uint8) -> list[tuple[str, str]]:
        write(tmp_path / "raw", classes, top, kind)
        with caplog.at_level(logging.INFO):
            prepare_cells(open_source(tmp_path / "raw"), tmp_path, PackingParameters(size=16), SPLIT)
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    return run


def test_classes_and_their_numbers_are_said(said):
    lines = said(["Infected", "None"])
    assert ("INFO", "classes, which are the innermost folders: Infected 40, None 40") in lines
    assert [message for level, message in lines if level == "WARNING"] == [lines[-1][1]]
    assert "No people known" in lines[-1][1]


def test_folders_that_repeat_are_warned_of_with_what_was_understood(said):
    lines = said(["COVID/images", "Normal/images", "COVID/masks", "Normal/masks"])
    assert ("INFO", "classes, which are the innermost folders: images 80, masks 80") in lines
    warnings = [message for level, message in lines if level == "WARNING"]
    assert any(
        "COVID, Normal has a folder images, masks: the latter are understood as classes" in it for it in warnings
    )


def test_the_bits_in_use_are_said_of_16_bit_images(said):
    lines = said(["A", "B"], 4095, np.uint16)
    assert ("INFO", "16-bit images: none is brighter than 12 bits, so 0 to 4095 became 0 to 255") in lines
    assert not any("no packed image is brighter" in message for _, message in lines)


def test_a_range_that_is_hardly_used_is_warned_of(said):
    assert any("no packed image is brighter than 15 of 255" in message for _, message in said(["A", "B"], 15))
