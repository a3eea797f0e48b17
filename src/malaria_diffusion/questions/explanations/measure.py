"""What in a cell speaks for its class: SHAP attributions, and whether they lie on a mask, of dark spots say.

Explained are the log-odds of the positive class, or of each cell's own. Probabilities are 0 or 1 to many digits for
most cells, so that hiding half of a spot would hardly change them; log-odds keep what each part contributes.

Hidden pixels of a cell take its own typical colour, the median over its foreground: a cell without its spot is clean
cytoplasm. Black holes would be new edges, and a blur would keep the spot's stain. The background stays.

Hiding changes anything only where a colour is unlike the typical one, so even random weights may put more credit there
than elsewhere. Attributions tell of what was learned as far as they exceed those (Adebayo et al. 2018).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.classifier.predictor import Predictor
from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.descriptors.describe import dark_mask
from malaria_diffusion.questions.distributions.measure import foreground
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.comparison import spread_rows

MASKER = "hidden pixels take the cell's median colour"
DIFFERENCE = "real - synthetic"
COLUMNS = [
    "side",
    "label",
    "network",
    "cells",
    "units",
    "without_mask",
    "without_attribution",
    "mask_share",
    "ratio",
]
AT_ONCE = 64  # images a call; parts are chosen after each call, so it changes the attributions a little
LEAST = 1e-30  # probabilities below it count as it


class Question(NamedTuple):
    """What is asked about cells.

    Attributes:
        background: RGB of what is around a cell.
        threshold: See `foreground`.
        positive_class: What speaks for it; None: for each cell's own class.
        cells: So many of each class, at most.
        evaluations: Images the classifier is asked about for each.
        seed: Of the masks.
    """

    background: tuple[int, int, int]
    threshold: int
    positive_class: str | None
    cells: int
    evaluations: int
    seed: int


class ExplainedCells(NamedTuple):
    """Cells of one side and what explains them.

    Attributes:
        cells: uint8, (N, 3, S, S).
        foreground: bool, (N, S, S).
        masks: Where the finding is, or may be, bool, (N, S, S).
        trained: Attributions of the trained classifier, (N, S, S).
        random: Those of the same architecture with random weights, (N, S, S).
        labels: (N,), class names.
        units: (N,), what is resampled: the person of a real cell, a name of its own for a synthetic one.
        rows: (N,), where the cells are in the set that they are of.
    """

    cells: NDArray[np.uint8]
    foreground: NDArray[np.bool_]
    masks: NDArray[np.bool_]
    trained: NDArray[np.float32]
    random: NDArray[np.float32]
    labels: NDArray[np.str_]
    units: NDArray[np.str_]
    rows: NDArray[np.int64]


class Localisation(NamedTuple):
    """How much of a cell's attribution lies on its mask.

    Attributes:
        attribution: Share of the attribution on the mask, (N,), 0 to 1; 0 where there is no attribution.
        area: The mask's share of the foreground, (N,), 0 to 1; 0 where there is no foreground.
        has_mask: (N,).
        has_attribution: (N,).
    """

    attribution: NDArray[np.float64]
    area: NDArray[np.float64]
    has_mask: NDArray[np.bool_]
    has_attribution: NDArray[np.bool_]


def choose(labels: NDArray[np.str_], units: NDArray[np.str_], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Rows of at most `count` cells of each class, as many of each, of as many people as there are, by class."""
    names, numbers = np.unique(labels, return_counts=True)
    chosen, count = [], min(count, numbers.min())
    for label in names:
        rows = rng.permutation(np.flatnonzero(labels == label))
        chosen.append(spread_rows(rows, units[rows], count))
    return np.concatenate(chosen)


def explain(
    predict: Callable[[NDArray[np.uint8]], NDArray[np.floating]],
    cells: NDArray[np.uint8],
    positive: int | NDArray[np.int64],
    question: Question,
) -> NDArray[np.float32]:
    """Attribution of each pixel, its channels together, to the log-odds of the positive class.

    They are Owen values, Shapley values over the halves of the cell, their halves and so on (Lundberg & Lee 2017;
    `shap.PartitionExplainer`). What matters most is halved first; a part that is left whole shares its value evenly
    among its pixels. A cell's attributions sum to its log-odds less those of the same cell with all pixels hidden, and
    depend on no other cell.

    Args:
        predict: From cells to class probabilities, (N, classes).
        cells: uint8, (N, 3, S, S), RGB.
        positive: Number of the explained class, one for all cells or one for each, (N,).
        question: What of the cell is hidden, by how many images a cell, about, and what breaks ties between parts that
            matter equally.

    Returns:
        float32, (N, S, S), in nats; 0 on the background, and all 0 for a cell with less than two foreground pixels.

    Raises:
        UserError: fewer than 10 evaluations, no such class, or probabilities that are not finite.
    """
    background, threshold, evaluations = question.background, question.threshold, question.evaluations
    if evaluations < 10:
        raise UserError(f"a cell cannot be explained by {evaluations} evaluations; at least 10 are needed")
    explained_class = np.broadcast_to(positive, len(cells))
    inside = foreground(cells, background, threshold)
    attributions = np.zeros(inside.shape, dtype=np.float32)
    with _shap() as shap:
        for row in tqdm(range(len(cells)), desc="explaining", unit="cell", disable=len(cells) < 2):
            if inside[row].sum() < 2:
                continue
            np.random.seed(question.seed)  # noqa: NPY002  (shap's own source of random numbers)
            masker = _TypicalColour(cells[row], inside[row])
            of_class = partial(log_odds, positive=int(explained_class[row]))
            explainer = shap.PartitionExplainer(lambda images, ask=of_class: ask(predict(images)), masker)
            shown = np.ones(masker.shape)
            explained = explainer(shown, max_evals=evaluations, batch_size=AT_ONCE, silent=True)
            attributions[row, inside[row]] = explained.values[0]
    return attributions


def log_odds(probabilities: NDArray[np.floating], positive: int) -> NDArray[np.float64]:
    """Log-odds (N,) of one class from probabilities (N, classes).

    Raises:
        UserError: no such class, or probabilities that are not finite.
    """
    if not 0 <= positive < probabilities.shape[1] or not np.isfinite(probabilities).all():
        raise UserError(
            f"expected finite probabilities of the class {positive} and others; found the classes "
            f"0..{probabilities.shape[1] - 1}, finite: {bool(np.isfinite(probabilities).all())}"
        )
    # 1 - p would be 0 where p rounds to 1
    others: NDArray[np.float64] = np.delete(probabilities, positive, axis=1).sum(axis=1, dtype=np.float64)
    own = probabilities[:, positive].astype(np.float64)
    return np.log(np.maximum(own, LEAST)) - np.log(np.maximum(others, LEAST))


def localisation(
    attributions: NDArray[np.floating], masks: NDArray[np.bool_], inside: NDArray[np.bool_]
) -> Localisation:
    """How much of each cell's positive attribution lies on its mask, and how large that is; all (N, S, S)."""
    if not attributions.shape == masks.shape == inside.shape:
        raise UserError(
            f"attributions {attributions.shape}, masks {masks.shape} and foregrounds {inside.shape} differ in shape"
        )
    masks = masks & inside
    positive = np.where(inside, np.maximum(attributions, 0), 0).astype(np.float64)
    total, pixels, marked = positive.sum((1, 2)), inside.sum((1, 2)), masks.sum((1, 2))
    return Localisation(
        attribution=np.divide((positive * masks).sum((1, 2)), total, out=np.zeros(len(total)), where=total > 0),
        area=marked / np.maximum(pixels, 1),
        has_mask=marked > 0,
        has_attribution=total > 0,
    )


def explain_some(
    cells: Cells, trained: Predictor, random: list[Predictor], question: Question, rng: np.random.Generator
) -> ExplainedCells:
    """Choose some of the cells and explain the answers of the trained classifier and of random ones to them.

    Args:
        cells: Of one side.
        trained: The classifier.
        random: Of the same architecture; each explains some cells, so that the ratio holds the chance of weights.
        question: What is asked.
        rng: Source of the choice.
    """
    background, threshold, positive_class, most = question[:4]
    chosen = cells[choose(cells.labels, cells.people, most, rng)]
    shown = chosen.pixels
    asked = chosen.labels if positive_class is None else [positive_class] * len(chosen)
    positive = np.array([cells.class_names.index(name) for name in asked])
    by_chance = np.empty((len(shown), *shown.shape[-2:]), np.float32)
    for number, network in enumerate(random):
        part = slice(number, None, len(random))
        if len(shown[part]):
            by_chance[part] = explain(network, shown[part], positive[part], question)
    return ExplainedCells(
        shown,
        foreground(shown, background, threshold),
        dark_mask(shown, background, threshold),
        explain(trained, shown, positive, question),
        by_chance,
        chosen.labels,
        chosen.people,
        chosen.places,
    )


def results_table(sides: dict[str, ExplainedCells], bootstrap: Bootstrap) -> pd.DataFrame:
    """The localisation ratio of each side and class, trained and with random weights, and real less synthetic.

    The ratio is the mean share of the positive attribution on the mask over the mean share of the mask's area: 1 if
    attribution ignores the mask, 1 / mask_share if all of it lies there. Cells without a mask or without positive
    attribution are left out. For random weights both signs count, as neither class is the positive one to them.

    Args:
        sides: "real" and "synthetic".
        bootstrap: Of people for real cells and of images for synthetic ones.

    Returns:
        One row for each side, class and network with any cell left: side, label, network ("trained" or "random"),
        cells (those in the ratio), units (people or images), without_mask, without_attribution, mask_share, ratio, low
        and high (NaN where there is one unit alone). Then the rows of side "real - synthetic": mask_share and ratio are
        differences, counts are sums. No row at all if no cell has both a mask and positive attribution.
    """
    rows, drawn = [], {}
    for side, explained in sides.items():
        for label in np.unique(explained.labels):
            for network in ("trained", "random"):
                chosen = explained.labels == label
                attributions = explained.trained if network == "trained" else np.abs(explained.random)
                found = localisation(attributions[chosen], explained.masks[chosen], explained.foreground[chosen])
                used = found.has_mask & found.has_attribution
                if not used.any():
                    continue
                shares = np.stack([found.attribution, found.area], axis=1)[used]
                units, owner = np.unique(explained.units[chosen][used], return_inverse=True)
                of_unit = np.zeros((len(units), 2))
                np.add.at(of_unit, owner, shares)
                times = bootstrap.counts(len(units))
                # one alone, however often it is drawn, tells nothing of others
                drawn[side, label, network] = _ratio(times @ of_unit) if len(units) > 1 else np.full(len(times), np.nan)
                rows.append(
                    {
                        "side": side,
                        "label": label,
                        "network": network,
                        "cells": int(used.sum()),
                        "units": len(units),
                        "without_mask": int((~found.has_mask).sum()),
                        "without_attribution": int((found.has_mask & ~found.has_attribution).sum()),
                        "mask_share": float(shares[:, 1].mean()),
                        "ratio": float(_ratio(shares.sum(axis=0))),
                    }
                )
    of_group = {(row["side"], row["label"], row["network"]): row for row in rows}
    for real in [row for row in rows if row["side"] == "real"]:
        group = real["label"], real["network"]
        if (synthetic := of_group.get(("synthetic", *group))) is not None:
            counts = {key: real[key] + synthetic[key] for key in real if isinstance(real[key], int)}
            values = {key: real[key] - synthetic[key] for key in ("mask_share", "ratio")}
            rows.append(real | counts | values | {"side": DIFFERENCE})
            drawn[DIFFERENCE, *group] = drawn["real", *group] - drawn["synthetic", *group]
    table = pd.DataFrame(rows, columns=COLUMNS)
    bounds = [
        bootstrap.interval(drawn[key]) for key in zip(table["side"], table["label"], table["network"], strict=True)
    ]
    return table.assign(low=[low for low, _ in bounds], high=[high for _, high in bounds])


def _ratio(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return shares[..., 0] / shares[..., 1]


class _TypicalColour:
    """What shap asks for an image of which only some foreground pixels are shown."""

    immutable_outputs = True  # else shap copies every image

    def __init__(self, cell: NDArray[np.uint8], inside: NDArray[np.bool_]) -> None:
        self.cell, self.inside = cell, inside
        self.colour = np.median(cell[:, inside], axis=1).round().astype(np.uint8)
        self.shape = (1, int(inside.sum()))
        self.clustering = _halves(np.argwhere(inside))

    def __call__(self, shown: NDArray[np.bool_], *_: Any) -> tuple[NDArray[np.uint8]]:
        hidden = self.inside.copy()
        hidden[self.inside] = ~shown
        return (np.where(hidden, self.colour[:, None, None], self.cell)[None],)


def _halves(points: NDArray[np.intp]) -> NDArray[np.float64]:
    """Points (M, 2) halved across the longer side until single, as scipy's linkage matrix (M - 1, 4)."""
    merges: list[tuple[int, int, int, int]] = []

    def split(members: NDArray[np.intp]) -> int:
        if len(members) == 1:
            return int(members[0])
        axis = np.ptp(points[members], axis=0).argmax()
        order = members[np.argsort(points[members, axis], kind="stable")]
        left, right = split(order[: len(order) // 2]), split(order[len(order) // 2 :])
        merges.append((left, right, 1, len(members)))
        return len(points) + len(merges) - 1

    split(np.arange(len(points)))
    return np.array(merges, dtype=np.float64)


@contextmanager
def _shap() -> Iterator[Any]:
    """Shap, imported without its warnings, and numpy's global random numbers as they were afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import shap
    before = np.random.get_state()  # noqa: NPY002
    try:
        yield shap
    finally:
        np.random.set_state(before)  # noqa: NPY002
