"""The variational bound of held-out images, term by term (eq. 7; Ho et al. 2020, eq. 5)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.compute.randomness import Purpose, keyed_generator
from malaria_diffusion.diffusion.config import BoundParameters, Variance
from malaria_diffusion.diffusion.process.loss import bound_term, prior_term
from malaria_diffusion.diffusion.sampling import Denoiser


class Terms(NamedTuple):
    """The bound for one variance of the reverse process, bits per dimension, means over the images.

    Attributes:
        total: L_T + the sum of L_1 to L_{T-1} + L_0.
        standard_error: Of `total`, over people, whose images are alike.
        middle: Sum of L_1 to L_{T-1}, the steps from x_T to x_1.
        reconstruction: L_0, the last step, from x_1 to the 256 grey levels.
        curve: Mean term of a single step in each part of 1 to T - 1, (S,).
    """

    total: float
    standard_error: float
    middle: float
    reconstruction: float
    curve: NDArray[np.float64]


class Bound(NamedTuple):
    """The variational bound, an upper bound of the negative log-likelihood of 8-bit images.

    Attributes:
        prior: L_T, what is left of an image in x_T, bits per dimension; the network has no part in it.
        steps: Middle of each part of 1 to T - 1, (S,), sorted; the steps t themselves where each is a part of its own.
        terms: All else, for each variance, from the same network evaluations.
    """

    prior: float
    steps: NDArray[np.float64]
    terms: dict[Variance, Terms]


@torch.no_grad()
def variational_bound(
    denoiser: Denoiser, cells: Cells, parameters: BoundParameters, device: torch.device, batch_size: int = 64
) -> Bound:
    """Estimate the bound of `cells`, without bias.

    L_0 is evaluated for every image. t = 1 to T - 1 is cut into `parameters.steps` parts; in each of them an image is
    looked at once, at a t drawn there, which stands for the whole part. With T - 1 parts or more that is every t. All
    randomness of image k comes from the stream (seed, k), so the batch size changes nothing.

    Args:
        denoiser: Its network is called in float32 as `network(x_t, t, class_labels=labels).sample`.
        cells: Of two people at least.
        parameters: How many steps, and the seed.
        device: Where to compute.
        batch_size: Images at once.
    """
    images, labels = cells.pixels, cells.classes
    diffusion = denoiser.diffusion.to(device)
    network = denoiser.network.to(device).to(memory_format=torch.channels_last).eval()
    dtype = torch.float32 if device.type == "mps" else torch.float64
    edges = _edges(diffusion.timesteps, parameters.steps)
    prior = np.empty(len(images))
    terms = {variance: np.empty((len(images), len(edges))) for variance in Variance}
    with tqdm(total=len(images) * len(edges), desc="bound", unit="evaluation") as bar:
        for start in range(0, len(images), batch_size):
            rows = slice(start, min(start + batch_size, len(images)))
            streams = [keyed_generator(parameters.seed, Purpose.BOUND, k) for k in range(rows.start, rows.stop)]
            steps = np.stack([[0, *stream.integers(edges[:-1], edges[1:])] for stream in streams], axis=1)
            x_0 = torch.tensor(images[rows], dtype=dtype, device=device) / 127.5 - 1
            classes = torch.tensor(labels[rows], device=device)
            prior[rows] = prior_term(diffusion, x_0).cpu()
            for column, drawn in enumerate(steps):
                epsilon = np.stack([stream.standard_normal(x_0.shape[1:], dtype=np.float32) for stream in streams])
                t = torch.tensor(drawn, device=device)
                x_t = diffusion.q_sample(x_0, t, torch.tensor(epsilon, dtype=dtype, device=device))
                output = network(x_t.float(), t, class_labels=classes).sample.to(dtype)
                for variance in Variance:
                    terms[variance][rows, column] = bound_term(diffusion, output, x_0, x_t, t, variance).cpu()
                bar.update(len(streams))
    weights = np.diff(edges)
    summed = {variance: _summarise(values, prior, weights, cells.people) for variance, values in terms.items()}
    return Bound(float(prior.mean()), (edges[:-1] + edges[1:] - 1) / 2, summed)


def _edges(timesteps: int, parts: int) -> NDArray[np.int64]:
    """Where each part of 1 to T - 1 starts, and T. The parts grow with t: the terms fall like 1 / t, or faster."""
    edges = [1]
    for left in range(min(parts, timesteps - 1), 0, -1):
        edges.append(max(edges[-1] + 1, round(edges[-1] * (timesteps / edges[-1]) ** (1 / left))))
    return np.array(edges)


def _summarise(
    values: NDArray[np.float64], prior: NDArray[np.float64], weights: NDArray[np.int64], people: NDArray[np.str_]
) -> Terms:
    """Terms of each image (N, 1 + S), L_0 first, with the number of steps that each of the others stands for."""
    first, middle = values[:, 0], values[:, 1:] @ weights
    totals = prior + middle + first
    # cluster-robust: what a person's images have in common does not average out over them
    of_person = np.bincount(np.unique(people, return_inverse=True)[1], totals - totals.mean())
    number = len(of_person)
    error = np.sqrt(number / (number - 1) * np.square(of_person).sum()) / len(totals)
    return Terms(float(totals.mean()), float(error), float(middle.mean()), float(first.mean()), values[:, 1:].mean(0))
