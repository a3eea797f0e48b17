"""Features of images by a fixed random convolutional network: nothing is downloaded, nothing is learned.

Random embeddings rank generators well where images are far from those of a pretrained network (Naeem et al. 2020,
section 5.1); taking absolute values of filter responses at several scales is the scattering transform's way (Bruna &
Mallat 2013).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

CHANNELS = (16, 32, 64)
AT_ONCE = 256


@torch.inference_mode()
def random_features(images: NDArray[np.uint8], key: int) -> NDArray[np.float64]:
    """Mean and maximum of every channel of images and of each level of the network.

    Args:
        images: uint8, (N, 3, S, S); may be a memory map, read a batch at a time.
        key: Of the network: another key is another space.

    Returns:
        (N, 230), not scaled.
    """
    weights = _weights(key)
    features = np.empty((len(images), 2 * (3 + sum(CHANNELS))))
    for start in range(0, len(images), AT_ONCE):
        x = torch.from_numpy(images[start : start + AT_ONCE].astype(np.float32)) / 127.5 - 1
        pooled = [x.mean((2, 3)), x.amax((2, 3))]
        for weight in weights:
            if len(pooled) > 2:
                x = functional.avg_pool2d(x, 2)
            x = functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), weight).abs()
            pooled += [x.mean((2, 3)), x.amax((2, 3))]
        features[start : start + len(x)] = torch.cat(pooled, dim=1).numpy()
    return features


def _weights(key: int) -> list[torch.Tensor]:
    """The filters of each level, (out, in, 3, 3), orthogonal to each other and of length 1."""
    # NumPy's own stream, which is the same in every version of PyTorch and leaves PyTorch's alone
    generator = np.random.Generator(np.random.Philox(key=key))
    weights = []
    for before, after in zip((3, *CHANNELS[:-1]), CHANNELS, strict=True):
        # unique but for the signs of filters, which absolute values forget
        q, _ = np.linalg.qr(generator.standard_normal((before * 9, after)))
        weights.append(torch.from_numpy(q.T.reshape(after, before, 3, 3).astype(np.float32)))
    return weights
