"""How far generated images are from real ones, in the space that steers a training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from malaria_diffusion.errors import UserError

CHANNELS = (16, 32, 64)
KEY = 20240622
LIMIT = 5.0
BATCH = 256


class QualityMeasure:
    """Kernel distance of images to given real ones.

    The squared maximum mean discrepancy with the cubic kernel of KID (Binkowski et al. 2018), without bias (it can be
    negative), on the features of a small convolutional network with random weights that are the same everywhere (Naeem
    et al. 2020, section 5.1), standardised by the real images.
    """

    def __init__(self, reference: NDArray[np.uint8]) -> None:
        self._size = reference.shape[-1]
        features = self._raw(reference)
        self._mean, deviation = features.mean(0), features.std(0)
        self._deviation = np.where(deviation > 1e-6 * deviation.max(), deviation, 1.0)
        self._reference = self._standardise(features)
        self._within = _mean_of_others(_kernel(self._reference, self._reference))

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Standardised features, (N, D), each within 5 deviations of the real images' mean."""
        return self._standardise(self._raw(images))

    def distance(self, images: NDArray[np.uint8]) -> float:
        """Kernel distance of uint8 images (N, 3, S, S), N at least 2."""
        features = self.features(images)
        within = _mean_of_others(_kernel(features, features))
        return float(within + self._within - 2 * _kernel(features, self._reference).mean())

    def _standardise(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((features - self._mean) / self._deviation).clip(-LIMIT, LIMIT)

    def _raw(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        if len(images) < 2 or images.shape[1:] != (3, self._size, self._size):
            raise UserError(
                f"found images of shape {images.shape}, expected (N, 3, {self._size}, {self._size}) with N at least 2"
            )
        weights = _weights()
        parts = [_features(images[start : start + BATCH], weights) for start in range(0, len(images), BATCH)]
        return torch.cat(parts).double().numpy()


def nearest_neighbour(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Root mean square difference, in grey values from -1 to 1, of each image from the most similar of `others`."""
    flat = torch.from_numpy(others.reshape(len(others), -1).astype(np.float32) / 127.5)
    nearest = []
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        part = torch.from_numpy(part.reshape(len(part), -1).astype(np.float32) / 127.5)
        squared = part.square().sum(1, keepdim=True) + flat.square().sum(1) - 2 * part @ flat.T
        place = squared.argmin(1)
        nearest.append((part - flat[place]).square().mean(1).sqrt())
    return torch.cat(nearest).double().numpy()


@torch.no_grad()
def _features(images: NDArray[np.uint8], weights: list[Tensor]) -> Tensor:
    """Means and maxima over the image, of the colours and of each level of the network."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float() / 127.5 - 1
    found = [x.mean((2, 3)), x.amax((2, 3))]
    for weight in weights:
        x = functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), weight).abs()
        found += [x.mean((2, 3)), x.amax((2, 3))]
        x = functional.avg_pool2d(x, 2)
    return torch.cat(found, 1)


def _weights() -> list[Tensor]:
    """Orthogonal filters drawn by NumPy, whose streams do not change with versions."""
    generator = np.random.Generator(np.random.Philox(key=KEY))
    weights, channels = [], 3
    for level in CHANNELS:
        drawn, _ = np.linalg.qr(generator.standard_normal((max(level, 9 * channels), min(level, 9 * channels))))
        filters = drawn if level >= 9 * channels else drawn.T
        weights.append(torch.from_numpy(np.ascontiguousarray(filters.reshape(level, channels, 3, 3))).float())
        channels = level
    return weights


def _kernel(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return (one @ other.T / one.shape[1] + 1) ** 3


def _mean_of_others(kernel: NDArray[np.float64]) -> float:
    """Mean over all pairs of different images."""
    count = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))
