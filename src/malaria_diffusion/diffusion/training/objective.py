"""What is trained: the network, a learned schedule if asked for, and the loss of both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from malaria_diffusion.diffusion.config import (
    Loss,
    NetworkParameters,
    ProcessParameters,
    ScheduleKind,
    TrainingParameters,
)
from malaria_diffusion.diffusion.network.compiled import quick_attention
from malaria_diffusion.diffusion.network.unet import PatchUNet, build_network
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.process.loss import prior_term, training_loss
from malaria_diffusion.diffusion.process.schedule import LearnedSchedule, schedule_from_parameters
from malaria_diffusion.diffusion.sampling import Denoiser
from malaria_diffusion.diffusion.training.data import Batch
from malaria_diffusion.errors import UserError


class Objective(nn.Module):
    """The loss of training samples as a function of all weights.

    Attributes:
        network: The U-Net.
        schedule: The learned schedule, None if it is fixed.
        null_class: The class that stands for none, None if the class is always told.
    """

    def __init__(
        self,
        process: ProcessParameters,
        network: NetworkParameters,
        training: TrainingParameters,
        size: int,
        num_classes: int,
        precision: torch.dtype,
    ) -> None:
        super().__init__()
        if process.schedule is ScheduleKind.LEARNED and training.loss is not Loss.BOUND:
            raise UserError(
                "diffusion.process.schedule 'learned' needs diffusion.training.loss 'bound', found "
                f"{training.loss.value!r}: the other losses are smallest for a schedule without noise"
            )
        self.network = build_network(network, size, num_classes, unconditional=training.label_dropout > 0)
        self.null_class = num_classes if training.label_dropout else None
        initial = schedule_from_parameters(process)
        self.schedule = LearnedSchedule(initial) if process.schedule is ScheduleKind.LEARNED else None
        self._fixed, self._prediction = initial, process.prediction
        self._loss, self._precision = training.loss, precision

    @property
    def diffusion(self) -> GaussianDiffusion:
        """The process, on the network's device; of a learned schedule as it is now."""
        if self.schedule is not None:
            return GaussianDiffusion(self.schedule(), self._prediction)
        device = self.network.device
        if self._fixed.betas.device != device:
            self._fixed = self._fixed.to(device)
        return GaussianDiffusion(self._fixed, self._prediction)

    def denoiser(self, size: int, grey: bool, guide: PatchUNet | None = None) -> Denoiser:
        """What sampling needs to know of the network as it is now."""
        return Denoiser(self.network, self.diffusion, size, self.null_class, grey, guide)

    def forward(self, batch: Batch) -> Tensor:
        """Loss of each sample, (B,), see `training_loss`; the bound with L_T, so that a schedule learns its end."""
        x_0, device = batch.x_0, batch.t.device
        diffusion = self.diffusion
        x_t = diffusion.q_sample(x_0, batch.t, batch.epsilon)
        mixed = torch.autocast(device.type, self._precision, enabled=self._precision != torch.float32)
        with quick_attention(device), mixed:
            output = self.network(x_t, batch.t, class_labels=batch.labels).sample
        loss = training_loss(diffusion, output.float(), x_0, x_t, batch.t, batch.epsilon, self._loss)
        return loss + prior_term(diffusion, x_0) if self._loss is Loss.BOUND else loss
