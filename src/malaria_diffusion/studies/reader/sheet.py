"""The sheet: one HTML file that readers open, answer by keyboard, and send their answers back from."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from malaria_diffusion.cards import environment
from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.errors import UserError
from malaria_diffusion.studies.reader.config import ReaderStudyParameters
from malaria_diffusion.studies.reader.key import Key


def render_sheet(key: Key, study: Cells, synthetic: Cells, parameters: ReaderStudyParameters) -> str:
    """Fill the template: it holds pixels and names without meaning, in the key's order, and loads nothing.

    Args:
        key: Of these cells.
        study: All cells of the study.
        synthetic: All synthetic cells.
        parameters: How large cells are shown, and how many to practise with.

    Returns:
        HTML.

    Raises:
        UserError: there are too few cells to practise with.
    """
    sides = {"real": study.images, "synthetic": synthetic.images}
    practice = _practice(study.part("train"), parameters)
    template = environment().get_template("reader_sheet.html")
    return template.render(
        side=parameters.side,
        phantom=study.phantom,
        study={
            "sheet": key.commitment,
            "classes": key.classes,
            "practice": [
                {"label": label, "png": _text(image)}
                for label, image in zip(practice.labels.tolist(), practice.pixels, strict=True)
            ],
            "cells": [{"id": cell.id, "png": _text(sides[cell.kind][cell.row])} for cell in key.cells],
        },
    )


def encode(image: NDArray[np.uint8]) -> bytes:
    """A PNG of an image, uint8 (3, S, S), that tells nothing but its pixels.

    It is not compressed: of a compressed one the length tells how smooth the image is, which may differ by kind.
    """
    png = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(png, "png", compress_level=0)
    return png.getvalue()


def _practice(train: Cells, parameters: ReaderStudyParameters) -> Cells:
    """Cells of training people, classes in turn."""
    if not parameters.practice:
        return train[:0]
    rng = np.random.default_rng([parameters.seed, 1])
    by_class = [rng.permutation(np.flatnonzero(train.labels == label)) for label in train.class_names]
    if (fewest := min(map(len, by_class))) < parameters.practice:
        raise UserError(
            f"reader_study.practice asks for {parameters.practice} training cells of each class, found {fewest} of one"
        )
    return train[np.stack([places[: parameters.practice] for places in by_class], axis=1).ravel()]


def _text(image: NDArray[np.uint8]) -> str:
    return base64.b64encode(encode(image)).decode()
