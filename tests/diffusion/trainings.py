"""Trainings on toy data, and what they leave on disk; as a script, some of them in a process of its own."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from malaria_diffusion.diffusion.config import (
    NetworkParameters,
    ProcessParameters,
    SamplingParameters,
    TrainingParameters,
)
from malaria_diffusion.diffusion.training import trainer as training
from malaria_diffusion.diffusion.training.checkpoint import load_progress, load_tensors
from malaria_diffusion.diffusion.training.data import TrainingData
from malaria_diffusion.errors import UserError

SIZE = 8
STEPS = 8  # an epoch, with the data and batch size of the fixtures
# everything at once that draws numbers, keeps state or follows a schedule
RICH = {
    "process": {"schedule": "learned"},
    "network": {"dropout": 0.2},
    "accumulation": 2,
    "loss": "bound",
    "label_dropout": 0.2,
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "decay_epochs": 1000,
}
# and everything that is kept beside it by other means
MODERN = {
    "network": {"patch_size": 2, "attention_sides": []},
    "label_dropout": 0.2,
    "optimizer": "muon",
    "ema_decay": [0.5, 0.9],
    "quarter_turns": True,
    "timestep_draw": "stratified",
    "log_snr_deviation": 2.0,
    "decay_epochs": 1000,
}


def toy_data() -> TrainingData:
    """48 discs of 8 px, half of them dark and half bright: 32 to train on, 8 to watch, 8 never to be looked at."""
    generator = np.random.default_rng(0)
    labels = np.arange(48) % 2
    rows, columns = np.mgrid[:SIZE, :SIZE]
    disc = (rows - 3) ** 2 + (columns - 4) ** 2 < 9
    level = np.where(labels, 220, 60)[:, None, None, None] + generator.normal(0, 10, (48, 3, 1, 1))
    cells = np.clip(disc * level, 0, 255).astype(np.uint8)
    return TrainingData(cells, labels, np.arange(0, 32), np.arange(32, 40), 2, "toy cells")


class Noting(np.ndarray):
    """Cells that note which of them are asked for: `cells.view(Noting)`, then `asked`."""

    def __array_finalize__(self, other):
        self.asked = getattr(other, "asked", [])

    def __getitem__(self, rows):
        self.asked.append(np.array(rows))
        return np.asarray(self)[rows]


def state_of(folder):
    return load_tensors(folder / training.CHECKPOINT), load_progress(folder / training.CHECKPOINT)


def same_table(one, other):
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def differences(one, other):
    """Names of the tensors and facts in which two trainings' files differ in a single bit; wall time left out."""
    (tensors, progress), (tensors_, progress_) = state_of(one), state_of(other)
    for folder, all_tensors, facts in ((one, tensors, progress), (other, tensors_, progress_)):
        del facts["seconds"]
        if (folder / training.BEST).exists():
            best = training.load_best_weights(folder)
            all_tensors |= {f"best.{name}": tensor for name, tensor in best.weights.items()}
            facts |= {"best": (best.epoch, best.kernel_distance)}
    assert tensors.keys() == tensors_.keys()
    names = {name for name in tensors if not torch.equal(tensors[name], tensors_[name])}
    return names | {name for name in progress.keys() | progress_.keys() if progress[name] != progress_[name]}


def weights_of(folder, prefix="weights.network."):
    tensors = state_of(folder)[0]
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def farthest(one, other):
    """Largest difference of two trainings' weights, averaged or not.

    Attention does not feel its keys' bias: the gradient is rounding alone, and Adam blows it up to whole steps.
    """
    tensors, tensors_ = (state_of(folder)[0] for folder in (one, other))
    return max(
        (tensors[name] - tensors_[name]).abs().max().item()
        for name in tensors
        if not name.startswith("optimizer.") and not name.endswith("to_k.bias")
    )


def _refuse(path, tensors, progress):
    raise AssertionError(f"only the main process writes, and this one wrote {path}")


def main():
    """Do the jobs of a JSON file: train, or sample, and put down what this process was told."""
    job_file = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job_file["threads"])
    for name, value in job_file["constants"].items():
        setattr(training, name, value)
    for job in job_file["jobs"]:
        process = ProcessParameters(**job["process"])
        network = NetworkParameters(**job["network"])
        parameters = TrainingParameters(**job["training"])
        folder = Path(job["folder"])
        rank = training.join_processes(torch.device("cpu")).index
        if rank:
            training.save_checkpoint = _refuse
        folder.mkdir(parents=True, exist_ok=True)
        try:
            history = training.train(toy_data(), process, network, parameters, folder)
        except UserError as error:
            (folder / f"error {rank}").write_text(str(error))
            continue
        history.to_json(folder / f"history {rank}", double_precision=15)
        if "sampling" in job:
            from malaria_diffusion.diffusion.sampling import Denoiser, sample
            from malaria_diffusion.diffusion.training.objective import Objective

            objective = Objective(process, network, parameters, SIZE, 2, torch.float32)
            objective.load_state_dict(training.load_best_weights(folder).weights)
            with torch.no_grad():
                diffusion = objective.diffusion
            sampling, labels = SamplingParameters(**job["sampling"]), np.arange(7) % 2
            images = sample(Denoiser(objective.network, diffusion, SIZE, objective.null_class), labels, sampling)
            np.save(folder / f"images {rank}.npy", images)


if __name__ == "__main__":
    main()
