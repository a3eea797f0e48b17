"""Generate images: Algorithm 2 of Ho et al. 2020, and the fast solvers of diffusers on the same betas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from malaria_diffusion.compute.device import resolve_device, resolve_precision
from malaria_diffusion.compute.distributed import Processes, join_processes
from malaria_diffusion.compute.randomness import Purpose, keyed_generator
from malaria_diffusion.diffusion.config import Clipping, SamplingParameters, Solver
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.errors import UserError

# Where the fast solvers begin at the latest, as sqrt((1 - alpha_bar) / alpha_bar): the end of the linear schedule. From
# the end of the cosine one, 20,000, steps even in log-SNR would be spent where there is nothing to be seen.
SIGMA_MAX = 160.0


def solver_config(diffusion: GaussianDiffusion, clipping: Clipping) -> dict[str, Any]:
    """The process and how to walk it back, in the words of diffusers' schedulers; each takes what it knows."""
    last = float(diffusion.schedule.alpha_bars[-1])
    return {
        "num_train_timesteps": diffusion.timesteps,
        "trained_betas": diffusion.schedule.betas.tolist(),
        "prediction_type": diffusion.prediction.value,
        # steps even in log-SNR: even ones in t leave a last step so large that it averages fine texture away
        "use_exponential_sigmas": True,
        "sigma_max": SIGMA_MAX if (1 - last) / last > SIGMA_MAX**2 else None,
        # of solvers with even steps in t: the first is the noisiest
        "timestep_spacing": "trailing",
        # clipping to [-1, 1] is thresholding with a largest value of 1, diffusers' default
        "clip_sample": False,
        "thresholding": clipping is not Clipping.NONE,
    }


def labels_to_sample(count: int | dict[str, int], class_names: list[str]) -> NDArray[np.int64]:
    """The class of each image to generate, (N,), class after class.

    Raises:
        UserError: a class is asked for that the model does not know.
    """
    per_class = count if isinstance(count, dict) else dict.fromkeys(class_names, count)
    unknown = sorted(set(per_class) - set(class_names))
    if unknown:
        raise UserError(f"diffusion.sampling.count asks for {unknown}, but the classes are {class_names}")
    return np.repeat(np.arange(len(class_names)), [per_class.get(name, 0) for name in class_names])


def check_sampling(
    parameters: SamplingParameters, timesteps: int, null_class: int | None, has_guide: bool = False
) -> None:
    """Find out before any work whether a model can do what is asked.

    Raises:
        UserError: more evaluations than the process has steps, or guidance of a network that always needs the class and
            has no guide.
    """
    if parameters.evaluations is not None and parameters.evaluations > timesteps:
        raise UserError(f"diffusion.sampling.evaluations is {parameters.evaluations}, at most T = {timesteps}")
    if parameters.guidance != 1 and null_class is None and not has_guide:
        raise UserError(
            f"diffusion.sampling.guidance is {parameters.guidance}, but this network was trained with the class always "
            "told, and no earlier weights were kept to guide by: use 1, or train with "
            "diffusion.training.label_dropout above 0 (0.1, say) or with diffusion.training.guide_epochs"
        )


class Denoiser(NamedTuple):
    """What sampling needs to know of a network.

    Attributes:
        network: As of `build_network`.
        diffusion: The process it was trained for.
        size: Side of the images in pixels.
        null_class: The class that stands for none, if the network knows one.
        grey: The network was trained on grey images: the mean of the three channels goes into each of them.
        guide: The network early in its training, to guide by; without one, `network` without the class guides.
    """

    network: nn.Module
    diffusion: GaussianDiffusion
    size: int
    null_class: int | None = None
    grey: bool = False
    guide: nn.Module | None = None


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    labels: NDArray[np.int64],
    parameters: SamplingParameters,
    progress: bool = True,
    processes: Processes | None = None,
) -> NDArray[np.uint8]:
    """Generate one image for each of `labels`; several processes share the work and all get the result.

    All randomness of image k comes from the stream (seed, k), so neither the batch size, nor the number of images or
    processes changes it.

    Args:
        denoiser: What generates.
        labels: Class of each image, (N,).
        parameters: How.
        progress: Show a bar.
        processes: Who shares the work; all of this run unless given.

    Returns:
        uint8, (N, 3, size, size), RGB.

    Raises:
        UserError: see `check_sampling`, or images are not finite.
    """
    processes = processes or join_processes(resolve_device(parameters.device))
    mine, size = processes.share(len(labels)), denoiser.size
    images = np.empty((len(mine), 3, size, size), dtype=np.uint8)
    evaluations = parameters.evaluations or denoiser.diffusion.timesteps
    with tqdm(
        total=len(mine) * (evaluations + 1),
        desc=f"sampling ({parameters.solver})",
        unit="step",
        disable=not (progress and processes.is_main),
    ) as bar:
        for start in range(mine.start, mine.stop, parameters.batch_size):
            part = range(start, min(start + parameters.batch_size, mine.stop))
            for state in reverse_states(denoiser, labels, part, parameters):
                x_t = state
                bar.update(len(part))
            if not bool(x_t.isfinite().all()):
                raise UserError(f"images {part.start} to {part.stop - 1} are not finite; set precision to float32")
            images[part.start - mine.start : part.stop - mine.start] = to_uint8(x_t, denoiser.grey).cpu().numpy()
    return processes.concatenate(images)


@torch.no_grad()
def sample_states(denoiser: Denoiser, labels: NDArray[np.int64], parameters: SamplingParameters) -> list[Tensor]:
    """Every state on the way of one batch: pure noise first, the images last; (N, 3, size, size) each."""
    return list(reverse_states(denoiser, labels, range(len(labels)), parameters))


def to_uint8(images: Tensor, grey: bool = False) -> Tensor:
    """Images (N, 3, S, S) in [-1, 1] as levels 0 to 255, rounded; if `grey`, each channel is the mean of all."""
    if grey:
        images = images.mean(dim=1, keepdim=True).expand_as(images)
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def fast_solver(
    diffusion: GaussianDiffusion, solver: Solver, evaluations: int, clipping: Clipping
) -> DPMSolverMultistepScheduler | UniPCMultistepScheduler:
    """diffusers' scheduler for `solver` on this process's own betas, set to `evaluations` steps."""
    config = solver_config(diffusion, clipping)
    scheduler: DPMSolverMultistepScheduler | UniPCMultistepScheduler
    if solver is Solver.DDIM:
        # DPM-Solver++ of order 1 is DDIM (Lu et al. 2022, section 4); diffusers' class of that name goes wrong unless
        # `evaluations` divides T
        scheduler = ddim = DPMSolverMultistepScheduler.from_config(config, solver_order=1, use_exponential_sigmas=False)
        steps = range(evaluations, 0, -1)
        ddim.set_timesteps(timesteps=[round(diffusion.timesteps * step / evaluations) - 1 for step in steps])
    else:
        kind = UniPCMultistepScheduler if solver is Solver.UNIPC else DPMSolverMultistepScheduler
        if solver is Solver.SDE_DPM_SOLVER:
            config["algorithm_type"] = "sde-dpmsolver++"
        scheduler = kind.from_config(config)
        scheduler.set_timesteps(evaluations)
    scheduler.set_begin_index(0)  # found by the first timestep otherwise, which may occur twice
    return scheduler


def reverse_states(
    denoiser: Denoiser, all_labels: NDArray[np.int64], indices: range, parameters: SamplingParameters
) -> Iterator[Tensor]:
    """Walk the reverse process of the images `indices` and yield each state."""
    network, diffusion, size, null_class, _, guide = denoiser
    check_sampling(parameters, diffusion.timesteps, null_class, guide is not None)
    device = resolve_device(parameters.device)
    dtype = resolve_precision(parameters.precision, device)
    network = network.to(device).to(memory_format=torch.channels_last).eval()
    guide = network if guide is None else guide.to(device).to(memory_format=torch.channels_last).eval()
    diffusion = diffusion.to(device)
    streams = [keyed_generator(parameters.seed, Purpose.IMAGE, index) for index in indices]
    labels = torch.as_tensor(all_labels[indices.start : indices.stop].copy(), device=device)  # may be read-only

    def noise() -> Tensor:
        drawn = [stream.standard_normal((3, size, size), dtype=np.float32) for stream in streams]
        return torch.from_numpy(np.stack(drawn)).to(device)

    weaker = labels if null_class is None else torch.full_like(labels, null_class)

    def call(which: nn.Module, x_t: Tensor, t: Tensor, classes: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            output: Tensor = which(x_t, t, class_labels=classes).sample.float()
        return output

    def evaluate(x_t: Tensor, step: int) -> tuple[Tensor, Tensor]:
        t = torch.full((len(x_t),), step, device=device)
        if parameters.guidance == 1:
            return call(network, x_t, t, labels), t
        # Ho & Salimans 2022, eq. 6 with w + 1 as the scale, and Karras et al. 2024, eq. 3, if there is a guide; all
        # predictions are affine in each other, so any will do
        away_from = call(guide, x_t, t, weaker)
        if parameters.guidance == 0:
            return away_from, t
        return away_from + parameters.guidance * (call(network, x_t, t, labels) - away_from), t

    x_t = noise()
    yield x_t
    if parameters.evaluations is None:  # so with the ancestral solver, and with no other
        for step in reversed(range(diffusion.timesteps)):
            output, t = evaluate(x_t, step)
            z = noise() if step > 0 else torch.zeros_like(x_t)
            x_t = diffusion.p_step(output, x_t, t, z, parameters.variance, parameters.clipping)
            yield x_t
    else:
        scheduler = fast_solver(diffusion, parameters.solver, parameters.evaluations, parameters.clipping)
        for step in scheduler.timesteps:
            output, _ = evaluate(x_t, int(step))
            fresh: dict[str, Any] = {"variance_noise": noise()} if parameters.solver is Solver.SDE_DPM_SOLVER else {}
            x_t = scheduler.step(output, step, x_t, return_dict=False, **fresh)[0]
            yield x_t
