"""Cells unlike any in training: planted kinds, and three scores to find them by.

The likelihood alone is no such score: deep generative models find smooth images likelier than those they learned from
(Nalisnick et al. 2019; Serra et al. 2020). So it is measured beside two that also know what is too likely: its distance
from what validation people's cells have, and the Mahalanobis distance of the losses at all levels of noise.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion, gaussian_filter, generate_binary_structure
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.decode import fit
from malaria_diffusion.cells.phantom.draw import PhantomParameters, phantom_cells
from malaria_diffusion.questions.distributions.measure import foreground
from malaria_diffusion.statistics.jackknife import Jackknife
from malaria_diffusion.studies.generative.classifier import GenerativeClassifier

UNTOUCHED = "untouched"
LIKELIHOOD, TWO_SIDED, MAHALANOBIS = "loss", "two-sided loss", "Mahalanobis distance"
FLAGGED = 0.95  # quantile of the validation cells' scores from which on a cell is flagged
BLUR = 1 / 32  # of the side
RIM = 1 / 32  # of the side
PHANTOM_PEOPLE = 10


class Planted(NamedTuple):
    """Cells of one kind.

    Attributes:
        pixels: uint8, (N, 3, S, S).
        keys: Of their noise, (N,).
        people: Whose they are, (N,); of a digit, nobody's, its own name.
    """

    pixels: NDArray[np.uint8]
    keys: NDArray[np.int64]
    people: NDArray[np.str_]


class Detector:
    """Scores by how far a cell's losses are from those of validation people's cells.

    Args:
        typical: Log-losses of validation people's cells at each level, (N, L).
        log_snr: Of each level, nats, falling, (L,).
    """

    def __init__(self, typical: NDArray[np.float64], log_snr: NDArray[np.float64]) -> None:
        self._log_snr = log_snr
        bounds = self._bound(typical)
        self._mean, self._deviation = bounds.mean(), bounds.std() or 1.0
        self._scale = StandardScaler().fit(typical)
        self._shape = LedoitWolf().fit(self._scale.transform(typical))
        self._limits = {name: float(np.quantile(score, FLAGGED)) for name, score in self.scores(typical).items()}

    @classmethod
    def fit(cls, model: GenerativeClassifier, draws: int) -> Self:
        """To the cells that a classifier's rule was chosen by, with so many draws of noise at each level."""
        cells = model.validated.cells
        log_snr = np.array([level.log_snr for level in model.rule.levels])
        return cls(model.typicality(cells.pixels, cells.places, draws), log_snr)

    def scores(self, losses: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The higher, the less a cell of these log-losses (N, L) is like those of training; (N,) by name."""
        bound = self._bound(losses)
        return {
            LIKELIHOOD: bound,
            TWO_SIDED: np.abs(bound - self._mean) / self._deviation,
            MAHALANOBIS: self._shape.mahalanobis(self._scale.transform(losses)),
        }

    def flagged(self, losses: NDArray[np.float64]) -> dict[str, float]:
        """Share of cells beyond 95 % of the validation cells, by score."""
        return {name: float((score > self._limits[name]).mean()) for name, score in self.scores(losses).items()}

    def _bound(self, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Diffusion loss between the first and the last level, nats per dimension (Kingma et al. 2021, eq. 15)."""
        bound: NDArray[np.float64] = np.trapezoid(np.exp(losses)[:, ::-1], self._log_snr[::-1], axis=1) / 2
        return bound


def planted_kinds(cells: Cells, threshold: int, seed: int) -> dict[str, Planted]:
    """These cells untouched and spoiled in five ways, and as many phantom cells (beside real ones) and digits.

    Args:
        cells: Of test people.
        threshold: See `foreground`.
        seed: Of the directions of shifts.
    """
    pixels = np.array(cells.pixels)
    inside = foreground(pixels, cells.background, threshold)
    spoiled = {
        UNTOUCHED: pixels,
        "blurred": blurred(pixels, inside, BLUR * cells.size),
        "one colour": _one_colour(pixels, inside),
        "out of frame": _shifted(pixels, cells.background, seed),
        "colours inverted": np.where(inside[:, None], 255 - pixels, pixels),
        "red and blue swapped": pixels[:, ::-1].copy(),
    }
    kinds = {kind: Planted(images, cells.places, cells.people) for kind, images in spoiled.items()}
    if not cells.phantom:
        kinds["phantom cells"] = _phantoms(len(cells), cells)
    return kinds | {"digits": _digits(len(cells), cells.size)}


def blurred(pixels: NDArray[np.uint8], inside: NDArray[np.bool_], deviation: float) -> NDArray[np.uint8]:
    """Cells (N, 3, S, S) convolved with a Gaussian; background and rim are left as they are.

    What is around a cell was painted after the photograph, so a microscope out of focus does not blur its edge. The
    rim is a mixture of both, and a new one would be told from any photographed one.

    Args:
        pixels: The cells.
        inside: What is no background, (N, S, S).
        deviation: Standard deviation in pixels.
    """
    inside = interior(inside)
    weight = np.repeat(inside[:, None].astype(float), 3, axis=1)
    sigma = (0, 0, deviation, deviation)
    mean = gaussian_filter(pixels * weight, sigma) / np.maximum(gaussian_filter(weight, sigma), 1e-9)
    return np.where(inside[:, None], mean.round(), pixels).astype(np.uint8)


def anomaly_table(
    detector: Detector, kinds: dict[str, Planted], losses: dict[str, NDArray[np.float64]], confidence: float
) -> pd.DataFrame:
    """How well each score tells each kind from untouched cells.

    Returns:
        One row a kind and score: kind, score, auc, low and high (over people), flagged (share beyond 95 % of the
        validation cells; of untouched cells the false alarms, without an AUC), cells.
    """
    rows: list[dict[str, Any]] = []
    usual = detector.scores(losses[UNTOUCHED])
    for kind, planted in kinds.items():
        flagged = detector.flagged(losses[kind])
        for score, values in detector.scores(losses[kind]).items():
            row = {"kind": kind, "score": score, "flagged": flagged[score], "cells": len(values)}
            if kind != UNTOUCHED:
                people = np.concatenate([kinds[UNTOUCHED].people, planted.people])
                row |= _auc(usual[score], values, people, confidence)
            rows.append(row)
    return pd.DataFrame(rows, columns=["kind", "score", "auc", "low", "high", "flagged", "cells"])


def _auc(
    usual: NDArray[np.float64], values: NDArray[np.float64], people: NDArray[np.str_], confidence: float
) -> dict[str, float]:
    score, truth = np.concatenate([usual, values]), np.repeat([False, True], [len(usual), len(values)])

    def measure(weight: NDArray[np.float64]) -> dict[str, float]:
        if not weight[truth].any() or not weight[~truth].any():  # all were of those who are left out
            return {"auc": float("nan")}
        return {"auc": float(roc_auc_score(truth, score, sample_weight=weight))}

    jackknife = Jackknife(measure, people, confidence)
    return {"auc": jackknife.values["auc"]} | jackknife.share("auc", truth)._asdict()


def interior(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells without their rim, (N, S, S); the border of the image is no rim."""
    rim = max(1, round(RIM * inside.shape[-1]))
    cross = generate_binary_structure(2, 1)[None]
    found: NDArray[np.bool_] = binary_erosion(inside, cross, rim, border_value=1)
    return found


def _one_colour(pixels: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Cells whose every pixel but those of the rim has their mean colour: the smoothest there can be."""
    inside = interior(inside)
    cells = np.where(inside[:, None], pixels, 0)
    mean = cells.sum((2, 3)) / np.maximum(inside.sum((1, 2)), 1)[:, None]
    return np.where(inside[:, None], mean[:, :, None, None].round(), pixels).astype(np.uint8)


def _shifted(pixels: NDArray[np.uint8], background: tuple[int, int, int], seed: int) -> NDArray[np.uint8]:
    """Half of each cell outside the frame, towards a random side."""
    half = pixels.shape[-1] // 2
    canvas = np.empty_like(pixels)
    canvas[:] = np.array(background, np.uint8)[:, None, None]
    for image, shown, side in zip(
        pixels, canvas, np.random.default_rng(seed).integers(4, size=len(pixels)), strict=True
    ):
        np.rot90(shown, side, (1, 2))[:, half:] = np.rot90(image, side, (1, 2))[:, : image.shape[-1] - half]
    return canvas


def _phantoms(number: int, cells: Cells) -> Planted:
    each = -(-number // PHANTOM_PEOPLE)
    people = PhantomParameters(
        infected_people=PHANTOM_PEOPLE // 2, healthy_people=PHANTOM_PEOPLE // 2, cells_per_person=each
    )
    drawn = list(phantom_cells(people))[:number]
    images = [fit(Image.fromarray(cell.image), cells.size, cells.background) for cell in drawn]
    return Planted(np.stack(images), np.arange(number), np.array([f"phantom {cell.person}" for cell in drawn]))


def _digits(number: int, size: int) -> Planted:
    """Handwritten digits, light on dark, of scikit-learn; they tell whether anything works at all."""
    drawn = (load_digits().images[:number] / 16 * 255).astype(np.uint8)
    images = [fit(Image.fromarray(image).convert("RGB"), size) for image in drawn]
    return Planted(np.stack(images), np.arange(len(drawn)), np.array([f"digit {k}" for k in range(len(drawn))]))
