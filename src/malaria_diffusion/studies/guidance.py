"""Which scale of classifier-free guidance to sample with.

It is chosen by distance to and recall of validation people's cells, never by how many synthetic cells a classifier
recognises as intended: that share rises with guidance while variety is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.neighbours import FEWEST

if TYPE_CHECKING:
    from malaria_diffusion.diffusion.config import SamplingParameters
    from malaria_diffusion.diffusion.model import DiffusionModel

# the share of the least guided images' recall that a scale must keep
KEPT_RECALL = 0.9


def guidance_table(
    model: DiffusionModel,
    guidances: Sequence[float],
    labels: NDArray[np.int64],
    sampling: SamplingParameters,
    reference: Cells,
    typical: NDArray[np.uint8],
) -> pd.DataFrame:
    """Sample at each scale of guidance, with the same noise, and measure what comes out.

    Both measures are taken class by class, so that a class drawn like another counts as far away, and in the space
    that also steers the training (diffusion.training.quality): what is reported of the result comes from another one.

    Args:
        model: Trained with label dropout, or with a guide.
        guidances: Scales to try, 1 (none) or more: less ignores the class, which neither measure sees well.
        labels: Class of each image to generate at every scale, (N,).
        sampling: How to sample; its own guidance is not used.
        reference: Validation people's cells.
        typical: Training people's cells, uint8, (K, 3, S, S), see `QualityMeasure`.

    Returns:
        One row for each scale: guidance, kernel_distance and recall (k = 5), means over classes.

    Raises:
        UserError: a model with neither label dropout nor a guide, or too few cells of a class.
    """
    from malaria_diffusion.diffusion.training.quality import QualityMeasure

    null_class = model.lineage.null_class
    if null_class is None and model.guide is None:
        raise UserError(
            "this network was trained with the class always told, and no earlier weights were kept to guide by, so "
            "there is no guidance to choose: train with diffusion.training.label_dropout above 0 (0.1, say) or with "
            "diffusion.training.guide_epochs"
        )
    measures = {}
    for label in np.unique(labels):
        name = model.lineage.class_names[label]
        if (found := int((reference.classes == label).sum())) < FEWEST:
            raise UserError(
                f"{found} validation cells of class {name!r} to choose the guidance by, {FEWEST} are needed: give more "
                "people"
            )
        if (found := int((labels == label).sum())) < FEWEST:
            raise UserError(
                f"guidance.images gives {found} images of class {name!r}, {FEWEST} are needed: ask for "
                f"{FEWEST * len(model.lineage.class_names)} at least"
            )
        measures[label] = QualityMeasure(reference[reference.classes == label].pixels, typical)
    rows = []
    for scale in guidances:
        chosen = sampling.model_copy(update={"guidance": float(scale)})
        images = model.sample(labels, chosen)
        distances, recalls = [], []
        for label, measure in measures.items():
            drawn = images[labels == label]
            distances.append(measure.distance(drawn))
            recalls.append(measure.recall(drawn))
        rows.append({"guidance": float(scale), "kernel_distance": np.mean(distances), "recall": np.mean(recalls)})
    return pd.DataFrame(rows)


def choose_guidance(table: pd.DataFrame) -> float:
    """The scale of the smallest kernel distance among those that keep 9 tenths of the smallest scale's recall.

    Not of the best recall: images that are guided too far lie far apart, so that the neighbourhoods between them, by
    which recall goes, hold every cell (Naeem et al. 2020, section 2.2). Of equal distances the smallest scale is taken.

    Args:
        table: See `guidance_table`.
    """
    least = table.sort_values("guidance")["recall"].iloc[0]
    kept = table[table["recall"] >= KEPT_RECALL * least]
    return float(kept.sort_values(["kernel_distance", "guidance"])["guidance"].iloc[0])
