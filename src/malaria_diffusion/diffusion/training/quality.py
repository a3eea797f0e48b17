"""How far generated images are from real ones: the kernel distance by which training picks its weights, and recall.

The features are those of a fixed random network, see statistics.random_network.

This space steers the training. Whatever is reported of its result must come from another one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.kernel_distance import capped, kernel
from malaria_diffusion.statistics.neighbours import neighbour_scores
from malaria_diffusion.statistics.random_network import random_features

# of the network; distances in another one are other numbers
KEY = 2018
AT_ONCE = 256


class QualityMeasure:
    """Distances from the images `reference`, uint8, (M, 3, S, S), in a space made by `typical` ones.

    Cells differ more in stain than in all that sets a bad image apart from a good one; whitening by typical cells
    makes up for it.

    Args:
        reference: What images are compared with.
        typical: Other images that say what is usual, uint8, (K, 3, S, S), of many people: were the reference to say it,
            few people's stains would be taken for all.

    Raises:
        UserError: fewer than two images on a side, or not images.
    """

    def __init__(self, reference: NDArray[np.uint8], typical: NDArray[np.uint8]) -> None:
        self._shape = (3, *reference.shape[-1:] * 2)
        self._check(reference)
        self._check(typical)
        raw = random_features(typical, KEY)
        self._centre, deviation = raw.mean(axis=0), raw.std(axis=0)
        # divided by its rounding errors, a feature that does not vary would outweigh all others
        self._deviation = np.where(deviation > 1e-9, deviation, np.inf)
        standard = (raw - self._centre) / self._deviation
        eigenvalues, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
        # as large as the eigenvalues' sampling errors, lest directions that K images cannot tell from none be blown up
        ridge = raw.shape[1] / len(raw)
        # the symmetric root: unlike the eigenvectors it is unique
        root = (vectors / np.sqrt(eigenvalues + ridge)) @ vectors.T
        self._whitening = root / (np.sqrt(np.square(standard @ root).mean()) or 1.0)
        self._reference = self.features(reference)
        self._within_reference = _mean_kernel(self._reference)

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The features of `images`, uint8, (N, 3, S, S): (N, D), of mean square 1 over typical ones."""
        white: NDArray[np.float64] = (random_features(images, KEY) - self._centre) / self._deviation @ self._whitening
        return capped(white)

    def distance(self, images: NDArray[np.uint8]) -> float:
        """Squared maximum mean discrepancy between `images`, uint8, (N, 3, S, S), and the reference.

        The kernel is that of KID, and so is the estimate: 0 on average over samples of one set of images, and so below
        0 for some (Binkowski et al. 2018, section 4).

        Raises:
            UserError: fewer than two images, or not of the reference's shape.
        """
        self._check(images)
        features = self.features(images)
        across = _mean_kernel(features, self._reference)
        return self._within_reference + _mean_kernel(features) - 2 * across

    def recall(self, images: NDArray[np.uint8]) -> float:
        """Share of the reference that lies among `images`, uint8, (N, 3, S, S); see `neighbour_scores`.

        Where a generator leaves out what it finds difficult, this falls while its images may look the better.

        Raises:
            UserError: too few images, here or in the reference, to have neighbours.
        """
        return neighbour_scores(self._reference, self.features(images))["recall"]

    def _check(self, images: NDArray[np.uint8]) -> None:
        if len(images) < 2 or images.shape[1:] != self._shape or images.dtype != np.uint8:
            raise UserError(
                f"a distance needs at least 2 images, uint8, (N, {', '.join(map(str, self._shape))}); found "
                f"{images.dtype}, {images.shape}"
            )


def nearest_in_pixels(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Distance (N,) from each image to the nearest of `others`, uint8, root mean square over pixels in [-1, 1]."""
    x, y = images.reshape(len(images), -1).astype(np.float64), others.reshape(len(others), -1)
    nearest = np.full(len(x), np.inf)
    for start in range(0, len(y), AT_ONCE):
        part = y[start : start + AT_ONCE].astype(np.float64)
        # found by the expanded square, which is fast, and then measured by the difference, which is exact
        found = part[(np.square(part).sum(axis=1) - 2 * x @ part.T).argmin(axis=1)]
        nearest = np.minimum(nearest, np.sqrt(np.square(x - found).mean(axis=1)))
    return nearest / 127.5


def _mean_kernel(x: NDArray[np.float64], y: NDArray[np.float64] | None = None) -> float:
    """Mean kernel over all pairs of rows, or of rows of `x` and other rows of it."""
    others, total = x if y is None else y, 0.0
    for start in range(0, len(x), AT_ONCE):
        values = kernel(x[start : start + AT_ONCE], others)
        total += values.sum() - (0 if y is not None else np.trace(values, start))
    return float(total / (len(x) * (len(others) - (y is None))))
