"""How near synthetic cells are to unseen people's, and how much of their variety they have.

Everything works on features (features.embed); nothing here knows the network. Each number has its floor beside it: the
same number for real cells of other people, as many of them, against the same unseen cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from malaria_diffusion.classifier.features import FeatureSpace
from malaria_diffusion.compute.config import DeviceName
from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.bootstrap import Bootstrap, Interval, bootstrap_counts
from malaria_diffusion.statistics.comparison import FEWEST_OF_A_CLASS, beside_floor, compared_groups, in_group
from malaria_diffusion.statistics.kernel_distance import capped, kernel
from malaria_diffusion.statistics.neighbours import FEWEST, Owned, left_out_scores, scored
from malaria_diffusion.statistics.sliced_wasserstein import sliced_wasserstein

MOST_DIMENSIONS = 64
BETTER = {
    "kernel distance": "smaller",
    "Frechet distance": "smaller",
    "sliced Wasserstein distance": "smaller",
    "precision": "larger",
    "recall": "larger",
    "density": "larger",
    "coverage": "larger",
}
SIDES = ("real", "floor", "synthetic")
# variance below this share of the largest is rounding error
NOTHING = 1e-9


class Projection:
    """The first principal components of real cells' features, each of variance 1 over them.

    Whitened, since real cells vary most in stain, from person to person: left as they are, a few such directions
    outweigh all that sets a bad image apart, and the floor is as high as what it is held against. Few components,
    since a covariance of d dimensions takes many more than d images. What real cells do not vary in is not seen.

    Args:
        features: (K, D), of real cells that are not compared; more than 4 a component are needed.
        n: The fewest images that will be compared, of one class and side.

    Attributes:
        dimensions: d, the largest below n / 4 and K / 4, at most 64, and no more than there are directions.

    Raises:
        UserError: too few images, or features that are not finite or do not vary.
    """

    def __init__(self, features: NDArray[np.floating], n: int) -> None:
        from sklearn.decomposition import PCA

        self._width = features.shape[-1]
        self._check(features)
        fewest = min(n, len(features))
        if fewest < FEWEST_OF_A_CLASS:
            raise UserError(
                f"{len(features)} real cells to fit by and {n} of a class to compare; at least {FEWEST_OF_A_CLASS} of "
                "each are needed: raise validation.comparison.n, or give more cells"
            )
        if not np.ptp(features, axis=0).any():
            raise UserError("the features are the same for every real cell, so nothing can be compared by them")
        self.dimensions = min(MOST_DIMENSIONS, (fewest - 1) // 4, self._width)
        while True:
            self._pca = PCA(self.dimensions, whiten=True, svd_solver="covariance_eigh").fit(features.astype(np.float64))
            variances = self._pca.explained_variance_
            directions = int((variances > NOTHING * variances[0]).sum())
            if directions == self.dimensions:
                break
            self.dimensions = directions

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Project features (N, D) to (N, d); points far beyond all real ones are drawn nearer, see `capped`.

        Raises:
            UserError: not of the fitted width, or not finite.
        """
        self._check(features)
        return capped(self._pca.transform(features.astype(np.float64)))

    def _check(self, features: NDArray[np.floating]) -> None:
        if features.ndim != 2 or features.shape[1] != self._width:
            raise UserError(
                f"features of shape {features.shape}, expected (N, {self._width}); embed all sides with one network"
            )
        if not np.isfinite(features).all():
            bad = int((~np.isfinite(features)).any(axis=1).sum())
            raise UserError(f"{bad} of {len(features)} images have features that are not finite")


class ProjectedSpace(NamedTuple):
    """What distances are measured in: cells, seen by a network, on a few components.

    Attributes:
        network: Whose features.
        projection: Fitted on real cells that are not compared.
        device: Where the network runs.
    """

    network: FeatureSpace
    projection: Projection
    device: DeviceName

    def __call__(self, cells: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Cells, uint8 (N, 3, S, S), as points (N, d)."""
        return self.projection(self.network.embed(cells, self.device))


class Side(NamedTuple):
    """Images, and how often each of their owners is drawn in each resample.

    Attributes:
        features: (N, d).
        owner: (N,), 0 to P - 1: the person of a real cell, the image itself of a synthetic one.
        draws: (1 + resamples, P); the first row is all ones, the images as they are.
    """

    features: NDArray[np.float64]
    owner: NDArray[np.intp]
    draws: NDArray[np.float64]


def resampled(features: NDArray[np.floating], people: NDArray[np.str_] | None, bootstrap: Bootstrap) -> Side:
    """Draw owners with replacement.

    Args:
        features: (N, d).
        people: (N,), whose cell it is; None for synthetic images, each of which is drawn for itself.
        bootstrap: How often, by which draws.

    Raises:
        UserError: fewer than two images or people.
    """
    owner = np.arange(len(features)) if people is None else np.unique(people, return_inverse=True)[1]
    count = len(np.unique(owner))
    if count < 2:
        raise UserError(
            f"{len(features)} cells of {count} people; an interval needs 2 people at least: raise "
            "validation.comparison.n or hold out more people"
        )
    counts = np.bincount(owner).astype(float)
    draws = np.ones((1 + bootstrap.resamples, count))
    again = np.arange(1, 1 + bootstrap.resamples)
    while len(again):
        draws[again] = bootstrap_counts(count, len(again), bootstrap.rng)
        again = again[_within(np.outer(counts, counts), draws[again]) == 0]  # one owner alone, who has no pairs
    return Side(np.asarray(features, dtype=np.float64), owner, draws)


def kernel_distances(real: Side, other: Side) -> NDArray[np.float64]:
    """Squared maximum mean discrepancy with KID's cubic kernel (Binkowski et al. 2018, section 4), unbiased in people.

    Within a side only pairs of different owners count, as cells of one person are alike: with their pairs the mean of a
    perfect generator would lie above 0, and the further the fewer people there are. A person drawn twice is one person
    with twice the weight. So resampling adds no distance of its own.

    Returns:
        (1 + resamples,), the distance itself first; 0 on average where synthetic images are new people's cells, and so
        below 0 for some.
    """
    across = _by_owner(_by_owner(kernel(real.features, other.features), real.owner).T, other.owner).T
    pairs = np.outer(np.bincount(real.owner), np.bincount(other.owner))
    between: NDArray[np.float64] = ((real.draws @ across) * other.draws).sum(axis=1)
    between /= ((real.draws @ pairs) * other.draws).sum(axis=1)
    return _mean_within(real) + _mean_within(other) - 2 * between


def frechet_distances(real: Side, other: Side) -> NDArray[np.float64]:
    """Squared Frechet distance of the Gaussians with the images' means and covariances (Heusel et al. 2017, eq. 6).

    It is biased upwards by the number of images, and a resample has fewer different ones than there are: the resamples
    are moved down so that their mean is the distance itself, and cut at 0.

    Returns:
        (1 + resamples,), the distance itself first.

    Raises:
        UserError: 4 d images or fewer on a side, too few for a covariance.
    """
    fewest, dimensions = min(len(real.features), len(other.features)), real.features.shape[1]
    if fewest <= 4 * dimensions:
        raise UserError(
            f"{fewest} images in {dimensions} dimensions; a Frechet distance needs more than {4 * dimensions}: fit the "
            "projection for the fewest images of a class"
        )
    (mean, covariance), (other_mean, other_covariance) = _moments(real), _moments(other)
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))[:, None, :]) @ vectors.transpose(0, 2, 1)
    shared = np.sqrt(np.linalg.eigvalsh(root @ other_covariance @ root).clip(0)).sum(axis=1)
    traces = np.trace(covariance + other_covariance, axis1=1, axis2=2)
    distances: NDArray[np.float64] = np.square(mean - other_mean).sum(axis=1) + traces - 2 * shared
    return _about_the_first(distances)


def sliced_wasserstein_distances(real: Side, other: Side) -> NDArray[np.float64]:
    """Sliced Wasserstein distance, see `sliced_wasserstein`; biased by the number of images as a Frechet distance is.

    Returns:
        (1 + resamples,), the distance itself first; resamples are moved as those of `frechet_distances`.
    """
    weights = (side.draws[:, side.owner] for side in (real, other))
    return _about_the_first(sliced_wasserstein(real.features, other.features, *weights))


DISTANCES = {
    "kernel distance": kernel_distances,
    "Frechet distance": frechet_distances,
    "sliced Wasserstein distance": sliced_wasserstein_distances,
}


def fidelity_table(
    features: Mapping[str, NDArray[np.floating]],
    cells: dict[str, pd.DataFrame],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Every distance and score of synthetic against unseen real cells, beside its floor.

    Args:
        features: For "real" (unseen people), "floor" (training people) and "synthetic", (N, d), see `Projection`.
        cells: For each side one row an image, with the columns label and person (unused for synthetic ones).
        bootstrap: Of the distances: of people for real cells, of images for synthetic ones. The scores' intervals leave
            out people and groups of images instead, at the same confidence, see `neighbours.scored`.

    Returns:
        One row for each metric and group (see `compared_groups`): better ("smaller" or "larger"), n (images a side),
        value, floor, and difference (value less floor, for the same unseen people), each with _low and _high.

    Raises:
        UserError: sides that differ in classes, in images of a class or in dimensions; features that are not finite;
            too few images or people.
    """
    groups = _groups(features, cells)
    rows: list[dict[str, Any]] = []
    for group in tqdm(groups, desc="measuring fidelity", unit="group"):
        sides = {}
        for side in SIDES:
            chosen = in_group(cells[side]["label"], group)
            people = None if side == "synthetic" else cells[side].loc[chosen, "person"].to_numpy(dtype=str)
            sides[side] = resampled(features[side][chosen], people, bootstrap)
        found: dict[str, Sequence[tuple[float, Interval]]] = {}
        for metric, distances in DISTANCES.items():
            synthetic, floor = (distances(sides["real"], sides[side]) for side in ("synthetic", "floor"))
            draws = (synthetic, floor, synthetic - floor)
            found[metric] = [(float(drawn[0]), bootstrap.interval(drawn[1:])) for drawn in draws]
        real, floors, made = (Owned(sides[side].features, sides[side].owner) for side in SIDES)
        of_synthetic, of_floor = (left_out_scores(real, other) for other in (made, floors))
        found |= scored(of_synthetic, of_floor, bootstrap.confidence)
        for metric, better in BETTER.items():
            about = {"metric": metric, "group": group, "better": better, "n": len(real.features)}
            rows.append(about | beside_floor(found[metric]))
    order = list(BETTER)
    rows.sort(key=lambda row: order.index(row["metric"]))
    return pd.DataFrame(rows)


def _groups(features: Mapping[str, NDArray[np.floating]], cells: dict[str, pd.DataFrame]) -> list[str]:
    """See `compared_groups`; every side must have as many of each class."""
    counts = {side: cells[side]["label"].value_counts().sort_index().to_dict() for side in SIDES}
    if any(counts[side] != counts["real"] for side in SIDES):
        raise UserError(f"the sides differ in the number of cells of each class: {counts}; choose as many of each")
    for side in SIDES:
        found = features[side]
        if found.ndim != 2 or found.shape != (len(cells[side]), features["real"].shape[1]):
            raise UserError(
                f"the features of {side} are {found.shape}, expected ({len(cells[side])}, "
                f"{features['real'].shape[1]}); project all sides with one Projection"
            )
        if not np.isfinite(found).all():
            raise UserError(f"the features of {side} are not all finite")
    return compared_groups(cells["real"]["label"], FEWEST)


def _by_owner(values: NDArray[np.float64], owner: NDArray[np.intp]) -> NDArray[np.float64]:
    """Rows (N, ...) summed for each owner."""
    total = np.zeros((owner.max() + 1, *values.shape[1:]))
    np.add.at(total, owner, values)
    return total


def _within(sums: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over pairs of different owners (P, P), for each draw."""
    found: NDArray[np.float64] = ((draws @ (sums - np.diag(np.diag(sums)))) * draws).sum(axis=1)
    return found


def _mean_within(side: Side) -> NDArray[np.float64]:
    """Mean kernel over pairs of images of different owners of one side, for each draw."""
    sums = _by_owner(_by_owner(kernel(side.features, side.features), side.owner).T, side.owner)
    counts = np.bincount(side.owner).astype(float)
    return _within(sums, side.draws) / _within(np.outer(counts, counts), side.draws)


def _moments(side: Side) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (R, d) and covariance (R, d, d) for each draw."""
    x = side.features
    count = (side.draws @ np.bincount(side.owner))[:, None]
    mean = side.draws @ _by_owner(x, side.owner) / count
    products = _by_owner((x[:, :, None] * x[:, None, :]).reshape(len(x), -1), side.owner)
    second = (side.draws @ products).reshape(-1, x.shape[1], x.shape[1])
    outer = mean[:, :, None] * mean[:, None, :]
    return mean, (second - count[:, :, None] * outer) / (count[:, :, None] - 1)


def _about_the_first(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Resampled distances, which follow the distance itself, moved so that it is their mean, and cut at 0."""
    if len(distances) > 1:
        distances[1:] -= distances[1:].mean() - distances[0]
    return distances.clip(0)
