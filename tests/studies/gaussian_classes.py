"""Cells of Gaussian classes and their exact denoiser, for tests of the generative classifier."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from scipy.special import log_softmax
from torch import nn

from malaria_diffusion.compute.device import Compute
from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion
from malaria_diffusion.diffusion.process.schedule import linear_schedule
from malaria_diffusion.diffusion.sampling import Denoiser
from malaria_diffusion.studies.generative.classifier import GenerativeClassifier
from malaria_diffusion.studies.generative.config import GenerativeParameters

from ..toys import toy

SIDE, DEVIATION = 4, 0.25
PROCESS = GaussianDiffusion(linear_schedule(1000, 1e-4, 0.02))
CPU = Compute(torch.device("cpu"), torch.float32)
PARAMETERS = GenerativeParameters(
    cells=200, validation_cells=200, log_snrs=[-3, -1, 0, 1, 3], draws=2, looks=6, give_up=0.02, maps=2,
    anomalies={"cells": 60, "draws": 1}, shift={"cells": 20, "hues": [], "saturations": [], "blurs": []},
    low_data={"shares": [1.0], "images": 1, "steps": 4, "seed": 0},
    batch_size=64, precision="float32", device="cpu", seed=0,
)  # fmt: skip


class Exact(nn.Module):
    """The exact denoiser of classes that are Gaussian: independent pixels, one mean a class, one deviation."""

    def __init__(self, means):
        super().__init__()
        self.means, self.asked = torch.tensor(means).float(), 0

    def forward(self, x_t, t, class_labels):
        self.asked += len(x_t)
        bars = PROCESS.schedule.alpha_bars[t].float().view(-1, 1, 1, 1)
        mean = self.means[class_labels]
        noise = (1 - bars).sqrt() * (x_t - bars.sqrt() * mean) / (bars * DEVIATION**2 + 1 - bars)
        return SimpleNamespace(sample=noise)


def class_means(number):
    """Far enough apart that most cells are told apart, near enough that some are not."""
    return 0.12 * np.random.default_rng(3).normal(size=(number, 3, SIDE, SIDE))


def gaussian_cells(number, classes, seed=0, people=20):
    rng = np.random.default_rng(seed)
    labels = np.arange(number) % classes
    images = class_means(classes)[labels] + DEVIATION * rng.normal(size=(number, 3, SIDE, SIDE))
    table = pd.DataFrame(
        {
            "label": [f"class {label}" for label in labels],
            "person": [f"{seed} {k // 2 % people}" for k in range(number)],
            "split": np.where(np.arange(number) < number // 2, "val", "test"),
            "audit": False,
            "smear": "",
        }
    )
    pixels = (127.5 * (images + 1)).round().clip(0, 255).astype(np.uint8)
    return toy(pixels, table, classes=[f"class {label}" for label in range(classes)])


def bayes(pixels, classes):
    """Log-probabilities of the classes, (N, K)."""
    apart = (pixels / 127.5 - 1)[:, None] - class_means(classes)
    return log_softmax(-(apart**2).sum((2, 3, 4)) / (2 * DEVIATION**2), axis=1)


def denoiser_of(classes, null_class=None):
    return Denoiser(Exact(class_means(classes)), PROCESS, SIDE, null_class)


def fitted(classes, **changes):
    cells = gaussian_cells(800, classes)
    model = GenerativeClassifier.of_denoiser(
        denoiser_of(classes), cells, PARAMETERS.model_copy(update={"validation_cells": 400} | changes)
    )
    return model, cells.part("test")
