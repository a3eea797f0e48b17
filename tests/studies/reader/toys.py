"""Cells to read, a key of them, and readers who answer as told."""

import json

import numpy as np
import pandas as pd

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.studies.reader.answers import read_answers
from malaria_diffusion.studies.reader.config import ReaderStudyParameters
from malaria_diffusion.studies.reader.key import draw_key

from ...toys import toy

CLASSES = ["ill", "well"]
PARAMETERS = ReaderStudyParameters(cells=12, practice=1, side=128, margin=0.1, confidence=0.95, seed=5)


def of_people(people, cells, classes=CLASSES, seed=0):
    """Packed cells of smooth images: each of so many people in every split has `cells` of every class."""
    rows = [
        {"label": label, "person": f"{split} person {person}", "split": split, "audit": False, "name": f"{number}.png"}
        for split in ("train", "val", "test")
        for person in range(people)
        for label in classes
        for number in range(cells)
    ]
    level = np.random.default_rng(seed).integers(0, 256, (len(rows), 3, 1, 1))
    return toy(np.broadcast_to(level, (len(rows), 3, 8, 8)).astype(np.uint8), pd.DataFrame(rows))


def of_model(number, classes=CLASSES, seed=1):
    """Synthetic cells of noise, so many of each class."""
    images = np.random.default_rng(seed).integers(0, 256, (number * len(classes), 3, 8, 8)).astype(np.uint8)
    lineage = {"class_names": list(classes), "identity": "identity of the model", "phantom": False}
    return Cells.of_model(images, pd.DataFrame({"label": np.repeat(classes, number)}), lineage)


def a_key(people=6, each=8, classes=CLASSES, **changes):
    """Of test people with `each` cells of every class."""
    parameters = PARAMETERS.model_copy(update=changes)
    return draw_key(of_people(people, each, classes).part("test"), of_model(100, classes), parameters)


def file_of(key, reader, kinds, labels=None, seconds=1.0):
    """What the sheet writes of one who says these kinds and classes of its first cells."""
    labels = [cell.label for cell in key.cells] if labels is None else labels
    answers = [
        {"id": cell.id, "kind": str(kind), "label": str(label), "seconds": seconds}
        for cell, kind, label in zip(key.cells, kinds, labels, strict=False)
    ]
    return {"sheet": key.commitment, "reader": reader, "answers": answers}


def answered(folder, key, *files):
    """Those files, read back."""
    folder.mkdir(exist_ok=True)
    for number, file in enumerate(files):
        (folder / f"{number}.json").write_text(file if isinstance(file, str) else json.dumps(file))
    return read_answers(folder, key)
