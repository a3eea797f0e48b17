"""Signatures of images, by which near copies are found that pixel by pixel are far from what they copy.

Two, as no one of them feels all that may be done to an image: pixels, which keep what two images blended have of
either, and the spectra of rings about the middle, which do not change where an image is turned, mirrored or moved
(Fourier-Mellin descriptors without their scale, Derrode & Ghorbel 2001). Both are whitened by real images: what most of
them share, such as an outline or a stain, tells no two apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RINGS, ANGLES, FREQUENCIES = 8, 32, 9
REACH = 0.4  # of the side, from the middle to the outermost ring's edge
BLUR = 5  # pixels
DIRECTIONS = 256
# of the mean variance; directions that vary less are noise
RIDGE = 0.01
AT_ONCE = 512


class Signatures:
    """Of members, to which the signatures of other images are compared.

    Args:
        vectors: Their pixels, (M, D), see `nearest.pixel_vectors`.
        members: uint8, (M, 3, S, S).
    """

    def __init__(self, vectors: NDArray[np.float32], members: NDArray[np.uint8]) -> None:
        rings = np.concatenate([ring_spectra(members[k : k + AT_ONCE]) for k in range(0, len(members), AT_ONCE)])
        self._of_pixels, self._of_rings = Whitening(vectors), Whitening(rings)
        self._pixels, self._rings = self._of_pixels(vectors), self._of_rings(rings)

    def nearest(
        self, turned: NDArray[np.float32], cells: NDArray[np.uint8], neighbours: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The member that stands out most, and its distance over the mean of the next nearest ones, for each image.

        Args:
            turned: Pixels of the images, turned and mirrored in T ways, (T, B, D).
            cells: The images, uint8, (B, 3, S, S).
            neighbours: The nearest and those that it is held against.

        Returns:
            Position of the member (B,), and relative distance (B,) by the signature in which it is the less.
        """
        cosines = self._of_rings(ring_spectra(cells)) @ self._rings.T
        by_rings = _standing_out(cosines, neighbours)
        cosines = self._of_pixels(turned[0]) @ self._pixels.T
        for one in turned[1:]:
            np.maximum(cosines, self._of_pixels(one) @ self._pixels.T, out=cosines)
        by_pixels = _standing_out(cosines, neighbours)
        less = by_rings[1] < by_pixels[1]
        return np.where(less, by_rings[0], by_pixels[0]), np.where(less, by_rings[1], by_pixels[1])


class Whitening:
    """Vectors (N, D) to unit vectors (N, d) of which all directions vary alike over those it was fitted to."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        from sklearn.decomposition import PCA

        self._centre = vectors.mean(axis=0)
        pca = PCA(min(DIRECTIONS, *vectors.shape), random_state=0).fit(vectors)
        scale = np.sqrt(pca.explained_variance_ + RIDGE * vectors.var(axis=0).mean())
        self._root = np.divide(pca.components_.T, scale, out=np.zeros_like(pca.components_.T), where=scale > 0)

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """A vector at the centre has no direction and stays 0."""
        white = (vectors - self._centre) @ self._root
        length = np.linalg.norm(white, axis=1, keepdims=True)
        unit: NDArray[np.float32] = np.divide(white, length, out=np.zeros_like(white), where=length > 0)
        return unit


def ring_spectra(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Amplitudes along rings about the centre of what differs from the border, by colour, ring and frequency.

    Args:
        cells: uint8, (B, 3, S, S).

    Returns:
        (B, 3 * 8 * 9).
    """
    import torch
    from torch.nn import functional

    size = cells.shape[-1]
    row, column = centre(cells)
    radius = REACH * size * (np.arange(RINGS) + 0.5) / RINGS
    angle = 2 * np.pi * np.arange(ANGLES) / ANGLES
    x, y = (np.outer(radius, along(angle)) for along in (np.cos, np.sin))
    at = np.stack([column[:, None, None] + x, row[:, None, None] + y], axis=-1) / (size / 2)
    blurred = functional.avg_pool2d(
        torch.from_numpy(cells.astype(np.float32)), BLUR, 1, BLUR // 2, count_include_pad=False
    )
    rings = functional.grid_sample(
        blurred, torch.from_numpy(at.astype(np.float32)), padding_mode="border", align_corners=False
    )
    spectra: NDArray[np.float32] = torch.fft.rfft(rings).abs()[..., :FREQUENCIES].flatten(1).numpy()
    return spectra


def centre(cells: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row and column (B,), from the middle, of the centre of what differs from the border of cells (B, 3, S, S)."""
    away, size = foreground(cells), cells.shape[-1]
    total, places = np.maximum(away.sum(axis=(1, 2)), 1), np.arange(size) - (size - 1) / 2
    row, column = (away.sum(axis=axis) @ places / total for axis in (2, 1))
    return row, column


def foreground(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How far each pixel (B, S, S) of cells, uint8 (B, 3, S, S), is from the median of the border, over colours."""
    border = np.concatenate(
        [cells[..., [0, -1], :].reshape(*cells.shape[:2], -1), *cells.transpose(3, 0, 1, 2)[[0, -1]]], axis=2
    )
    away: NDArray[np.float32] = np.abs(cells - np.median(border, axis=2).astype(np.float32)[..., None, None]).sum(
        axis=1
    )
    return away


def _standing_out(cosines: NDArray[np.float32], neighbours: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of unit vectors' cosines (B, M): the nearest, and its distance over the mean of the next nearest ones."""
    rows = np.arange(len(cosines))[:, None]
    near = np.argpartition(-cosines, neighbours - 1, axis=1)[:, :neighbours]
    near = near[rows, np.argsort(-cosines[rows, near], axis=1, kind="stable")]
    distance = np.sqrt((2 - 2 * cosines[rows, near].astype(np.float64)).clip(0))
    others = distance[:, 1:].mean(axis=1)
    relative = np.divide(distance[:, 0], others, out=np.ones(len(cosines)), where=others > 1e-3)
    return near[:, 0], relative
