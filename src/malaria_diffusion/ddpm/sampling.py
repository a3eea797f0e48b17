"""Generate images: Algorithm 2 of Ho et al. 2020, and the fast solvers of diffusers on the same betas."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from malaria_diffusion.ddpm.device import resolve_device, resolve_precision
from malaria_diffusion.ddpm.keyed import Purpose, keyed_generator
from malaria_diffusion.ddpm.parameters import SamplingParameters, Solver
from malaria_diffusion.ddpm.process import GaussianDiffusion
from malaria_diffusion.errors import UserError

# steps even in log-SNR: even ones in t leave a last step so large that it averages fine texture away
FAST_SETTINGS = {"use_exponential_sigmas": True}


def labels_to_sample(count: int | dict[str, int], class_names: list[str]) -> NDArray[np.int64]:
    """The class of each image to generate, (N,), class after class.

    Raises:
        ValueError: a class is asked for that the model does not know.
    """
    per_class = count if isinstance(count, dict) else dict.fromkeys(class_names, count)
    unknown = sorted(set(per_class) - set(class_names))
    if unknown:
        raise UserError(f"diffusion.sampling.count asks for {unknown}, but the classes are {class_names}")
    return np.repeat(np.arange(len(class_names)), [per_class.get(name, 0) for name in class_names])


def check_evaluations(parameters: SamplingParameters, timesteps: int) -> None:
    """Raise ValueError if a solver is asked for more evaluations than the process has steps."""
    if parameters.evaluations is not None and parameters.evaluations > timesteps:
        raise UserError(f"diffusion.sampling.evaluations is {parameters.evaluations}, at most T = {timesteps}")


@torch.no_grad()
def sample(
    network: nn.Module,
    diffusion: GaussianDiffusion,
    labels: NDArray[np.int64],
    size: int,
    parameters: SamplingParameters,
    progress: bool = True,
) -> NDArray[np.uint8]:
    """Generate one image for each of `labels`.

    All randomness of image k comes from the stream (seed, k), so neither the batch size nor the number of images
    changes it.

    Returns:
        uint8, (N, 3, size, size), RGB.
    """
    images = np.empty((len(labels), 3, size, size), dtype=np.uint8)
    evaluations = parameters.evaluations or diffusion.timesteps
    with tqdm(
        total=len(labels) * (evaluations + 1), desc=f"sampling ({parameters.solver})", unit="step", disable=not progress
    ) as bar:
        for start in range(0, len(labels), parameters.batch_size):
            part = labels[start : start + parameters.batch_size]
            for state in _states(network, diffusion, part, start, size, parameters):
                x_t = state
                bar.update(len(part))
            if not bool(x_t.isfinite().all()):
                raise UserError(f"images {start} to {start + len(part) - 1} are not finite; set precision to float32")
            images[start : start + len(part)] = to_uint8(x_t).cpu().numpy()
    return images


@torch.no_grad()
def sample_states(
    network: nn.Module,
    diffusion: GaussianDiffusion,
    labels: NDArray[np.int64],
    size: int,
    parameters: SamplingParameters,
) -> list[Tensor]:
    """Every state on the way of one batch: pure noise first, the images last; (N, 3, size, size) each."""
    return list(_states(network, diffusion, labels, 0, size, parameters))


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as grey levels 0 to 255, rounded."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def fast_solver(
    diffusion: GaussianDiffusion, solver: Solver, evaluations: int
) -> DPMSolverMultistepScheduler | UniPCMultistepScheduler:
    """diffusers' scheduler for `solver` on this process's own betas, set to `evaluations` steps."""
    kind = {Solver.DPM_SOLVER: DPMSolverMultistepScheduler, Solver.UNIPC: UniPCMultistepScheduler}[solver]
    scheduler = kind(
        num_train_timesteps=diffusion.timesteps,
        trained_betas=diffusion.schedule.betas.numpy(),
        prediction_type=diffusion.prediction.value,
        **FAST_SETTINGS,
    )
    scheduler.set_timesteps(evaluations)
    return scheduler


def _states(
    network: nn.Module,
    diffusion: GaussianDiffusion,
    labels: NDArray[np.int64],
    first: int,
    size: int,
    parameters: SamplingParameters,
) -> Iterator[Tensor]:
    """Walk the reverse process of images `first`, `first` + 1, ... and yield each state."""
    check_evaluations(parameters, diffusion.timesteps)
    device = resolve_device(parameters.device)
    dtype = resolve_precision(parameters.precision, device)
    network = network.to(device, memory_format=torch.channels_last).eval()
    streams = [keyed_generator(parameters.seed, Purpose.IMAGE, first + row) for row in range(len(labels))]
    classes = torch.from_numpy(labels).to(device)

    def noise() -> Tensor:
        drawn = [stream.standard_normal((3, size, size), dtype=np.float32) for stream in streams]
        return torch.from_numpy(np.stack(drawn)).to(device)

    def evaluate(x_t: Tensor, step: int) -> tuple[Tensor, Tensor]:
        t = torch.full((len(x_t),), step, device=device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            output = network(x_t, t, class_labels=classes).sample
        return output.float(), t

    x_t = noise()
    yield x_t
    if parameters.solver is Solver.ANCESTRAL:
        for step in reversed(range(diffusion.timesteps)):
            output, t = evaluate(x_t, step)
            z = noise() if step > 0 else torch.zeros_like(x_t)
            x_t = diffusion.p_step(output, x_t, t, z)
            yield x_t
    else:
        scheduler = fast_solver(diffusion, parameters.solver, parameters.evaluations)
        for step in scheduler.timesteps:
            output, _ = evaluate(x_t, int(step))
            x_t = scheduler.step(output, step, x_t).prev_sample
            yield x_t
