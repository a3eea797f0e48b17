"""Another stain, another focus: both classifiers on cells whose colours and sharpness are changed in known steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.questions.distributions.measure import foreground
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.studies.generative.anomalies import blurred
from malaria_diffusion.studies.generative.config import ShiftParameters
from malaria_diffusion.studies.generative.panel import Panel, accuracies, judged_table

HUE, SATURATION, BLUR = "hue", "saturation", "blur"
UNCHANGED = {HUE: 0.0, SATURATION: 1.0, BLUR: 0.0}


def shift_table(
    panel: Panel, cells: Cells, parameters: ShiftParameters, comparison: ComparisonParameters
) -> pd.DataFrame:
    """Accuracy of every judge at every step.

    Args:
        panel: The judges.
        cells: Of test people.
        parameters: The steps.
        comparison: Confidence of the intervals, and what is background.

    Returns:
        One row a change, step and judge: change ("hue", "saturation", "blur"), amount, classifier, accuracy, low and
        high (over people), cells. What is unchanged (hue 0, saturation 1, blur 0) is in all three.
    """
    rows: list[dict[str, Any]] = []

    def judge(pixels: NDArray[np.uint8]) -> dict[str, dict[str, float]]:
        return dict(accuracies(judged_table(panel.judge(pixels, cells.places), cells, None), comparison.confidence))

    pixels = np.array(cells.pixels)
    inside = foreground(pixels, cells.background, comparison.foreground_threshold)
    unchanged = judge(pixels)
    found = [(change, amount, unchanged) for change, amount in UNCHANGED.items()]
    changes = list(_changes(pixels, inside, parameters))
    found += [(change, amount, judge(changed)) for change, amount, changed in tqdm(changes, desc="shift", unit="step")]
    for change, amount, judged in sorted(found, key=lambda step: (list(UNCHANGED).index(step[0]), step[1])):
        for name, measured in judged.items():
            row = {"change": change, "amount": amount, "classifier": name, "accuracy": measured["value"]}
            rows.append(row | {"low": measured["low"], "high": measured["high"], "cells": len(cells)})
    return pd.DataFrame(rows)


def _changes(
    pixels: NDArray[np.uint8], inside: NDArray[np.bool_], parameters: ShiftParameters
) -> Iterator[tuple[str, float, NDArray[np.uint8]]]:
    import torch
    from torchvision.transforms.functional import adjust_hue, adjust_saturation

    images = torch.from_numpy(pixels)
    for amount in parameters.hues:
        yield HUE, amount, adjust_hue(images, amount).numpy()
    for amount in parameters.saturations:
        yield SATURATION, amount, adjust_saturation(images, amount).numpy()
    for amount in parameters.blurs:
        yield BLUR, amount, blurred(pixels, inside, amount / 1000 * pixels.shape[-1])
