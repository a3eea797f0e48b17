"""Ultralytics' classification trainer on an array of cells, stripped of what it would do unasked.

Imported only inside `classifier`'s private ultralytics.
"""

import json
import math
import shutil
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm
from ultralytics.data.augment import classify_transforms
from ultralytics.models.yolo.classify import ClassificationTrainer, ClassificationValidator
from ultralytics.nn.tasks import ClassificationModel
from ultralytics.utils.torch_utils import strip_optimizer

from malaria_diffusion.classifier.augmentation import augment, prepare, symmetries
from malaria_diffusion.classifier.checkpoint import read_checkpoint, read_model, transfer_weights
from malaria_diffusion.classifier.config import ClassifierParameters, Recipe
from malaria_diffusion.classifier.data import ClassifierData
from malaria_diffusion.compute.config import DeviceName
from malaria_diffusion.compute.device import resolve_device, resolve_precision
from malaria_diffusion.errors import UserError
from malaria_diffusion.files import whole

AT_ONCE = 256  # cells; bounds memory, does not change the result
_BAR_FROM = 4096  # cells; predicting fewer takes too short a time for a progress bar


def train(
    data: ClassifierData,
    parameters: ClassifierParameters,
    folder: Path,
    weights: Path | None,
    run: str,
    on_epoch: Callable[[dict[str, float]], None],
) -> tuple[Path, pd.DataFrame]:
    """Train; see `classifier.train_classifier`. `run` names what may be resumed."""
    last, best, finished = folder / "weights" / "last.pt", folder / "weights" / "best.pt", folder / "finished.json"
    kept = {"best": best, "last": last}[parameters.kept_epoch]
    killed, done = None, dict[str, Any](history=[], effective={})
    if finished.is_file():
        done = json.loads(finished.read_text())
    elif (killed := _killed_run(last, best, run, parameters.epochs)) is not None:
        done = killed["train_results"]
    for record in done["history"]:
        on_epoch(record)
    if finished.is_file():
        return kept, _history(**done)
    if len(done["history"]) < parameters.epochs:  # else it was killed before its record
        trainer = CellTrainer(data, Recipe(parameters, folder, weights), run, killed, on_epoch)
        trainer.train()
        done = trainer.read_results_csv()
    for checkpoint in (best, last):  # of what only a resume needs
        with whole(checkpoint) as beside:
            strip_optimizer(checkpoint, str(beside))
    with whole(finished) as beside:
        beside.write_text(json.dumps(done))
    return kept, _history(**done)


@torch.inference_mode()
def load_predictor(
    checkpoint: Path,
    device: DeviceName,
    test_time_augmentation: bool | None,
    typical: NDArray[np.uint8] | None = None,
    seed: int = 0,
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Class probabilities; see `classifier.load_predictor`, and with `typical` cells `classifier.random_classifier`."""
    model, arguments = read_model(checkpoint)
    place, classes, size = resolve_device(device), len(model.names), arguments["imgsz"]
    averaged = arguments.get("augment", False) if test_time_augmentation is None else test_time_augmentation
    if typical is not None:
        model = _randomised(model, prepare(torch.from_numpy(np.array(typical)), size), seed)
    model = model.fuse(verbose=False).eval().to(place).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def predict(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
        probabilities = np.empty((len(cells), classes), np.float32)
        hidden = len(cells) < _BAR_FROM
        with tqdm(total=len(cells), desc="Classifying", unit="cell", mininterval=1, disable=hidden) as bar:
            for start in range(0, len(cells), AT_ONCE):
                batch = torch.from_numpy(np.array(cells[start : start + AT_ONCE])).to(place)
                images = prepare(batch, size)
                views = symmetries(images) if averaged else [images]
                mean = torch.stack([model(view)[0] for view in views]).mean(dim=0)
                probabilities[start : start + len(batch)] = mean.cpu().numpy()
                bar.update(len(batch))
        return probabilities

    return predict


def _randomised(model: ClassificationModel, images: Tensor, seed: int) -> ClassificationModel:
    """The architecture with new weights; batch normalisation is fitted to `images`, else the output hardly varies."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = ClassificationModel(model.yaml, nc=len(model.names), verbose=False)
    for module in fresh.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics of these images alone
    fresh.train()(images)
    return fresh


@torch.inference_mode()
def embed(checkpoint: Path, cells: NDArray[np.uint8], image_size: int, device: DeviceName) -> NDArray[np.float32]:
    """What the head's linear layer is given; see `features.embed`."""
    model, _ = read_model(checkpoint)
    head, place = model.model[-1], resolve_device(device)
    features = np.empty((len(cells), head.linear.in_features), np.float32)
    head.linear = torch.nn.Identity()  # so that what goes into it comes out in place of the logits
    model = model.fuse(verbose=False).eval().to(place)
    with tqdm(total=len(cells), desc="Embedding", unit="cell", mininterval=1, disable=len(cells) < _BAR_FROM) as bar:
        for start in range(0, len(cells), AT_ONCE):
            batch = torch.from_numpy(np.array(cells[start : start + AT_ONCE])).to(place)
            features[start : start + len(batch)] = model(prepare(batch, image_size))[1].cpu().numpy()
            bar.update(len(batch))
    return features


class CellDataset(Dataset[dict[str, Tensor]]):
    """Some rows of the cells, a batch at a time; shuffled and augmented where there is a seed.

    All that is random in an epoch is drawn at its start from (seed, epoch), so that it depends neither on the batch
    size nor on what ran before (a resumed run shuffles as the uninterrupted one).
    """

    def __init__(
        self, data: ClassifierData, rows: NDArray[np.integer], parameters: ClassifierParameters | None
    ) -> None:
        """Take the rows; with parameters, they are shuffled and augmented as these say."""
        self.cells, self.labels = data.cells, torch.from_numpy(data.labels.astype(np.int64))
        self.all_rows, self.parameters = rows, parameters
        self.number = len(rows) if parameters is None else data.epoch_cells or len(rows)
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Draw the order and the augmentations of an epoch (from 0)."""
        self.rows = self.all_rows[(epoch * self.number + np.arange(self.number)) % len(self.all_rows)]
        self.order = np.arange(len(self.rows))
        if self.parameters is not None:
            rng = np.random.default_rng((self.parameters.seed, epoch))
            self.order = rng.permutation(len(self.rows))
            self.flips = torch.from_numpy(rng.random((3, len(self.rows))) < (0.5 if self.parameters.flips else 0))
            tints = rng.standard_normal((len(self.rows), 3), dtype=np.float32)
            self.gains = torch.from_numpy(np.exp(np.float32(self.parameters.colour) * tints))

    def __len__(self) -> int:
        """Cells in an epoch."""
        return len(self.rows)

    def __getitems__(self, places: list[int]) -> dict[str, Tensor]:
        """A batch, by places in the order of this epoch."""
        items = self.order[places]
        batch = {"img": torch.from_numpy(np.array(self.cells[self.rows[items]])), "cls": self.labels[self.rows[items]]}
        if self.parameters is not None:
            batch |= {"flips": self.flips[:, items], "gains": self.gains[items]}
        return batch


class CellValidator(ClassificationValidator):
    """Validation on prepared cells, judged by accuracy alone."""

    def preprocess(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Move a batch to the device and prepare it."""
        batch = super().preprocess(batch)
        images = prepare(batch["img"], self.args.imgsz)
        return batch | {"img": images.contiguous(memory_format=torch.channels_last)}

    def get_stats(self) -> dict[str, float]:
        """Ultralytics' figures, but its fitness would also count the accuracy among the first five guesses."""
        stats = super().get_stats()
        return stats | {"fitness": stats["metrics/accuracy_top1"]}


class CellTrainer(ClassificationTrainer):
    """Ultralytics' loop, optimizer, averaging and checkpoints on our cells, augmentations and settings."""

    # ultralytics' annotations of these hold only before the training has begun
    model: Any
    metrics: Any
    optimizer: Any
    tloss: Any

    def __init__(
        self,
        data: ClassifierData,
        recipe: Recipe,
        run: str,
        killed: dict[str, Any] | None,
        on_epoch: Callable[[dict[str, float]], None],
    ) -> None:
        """Set ultralytics up; `killed` is the checkpoint of the run to go on with."""
        parameters, folder, weights = recipe
        self.source, self.parameters, self.weights, self.killed = data, parameters, weights, killed
        self.on_epoch = on_epoch
        self.history: list[dict[str, float]] = []
        self.effective: dict[str, Any] = {}
        self.bar: tqdm[NoReturn] | None = None
        threads, device = torch.get_num_threads(), resolve_device(parameters.device)
        self.mixed = resolve_precision(parameters.precision, device) == torch.bfloat16
        if self.mixed and device.type != "cpu" and resolve_precision("auto", device) != torch.bfloat16:
            raise UserError(
                f"`validation.classifier.precision` is bfloat16, which {device} has not; set it to auto or float32."
            )
        super().__init__(
            overrides={
                "model": f"{parameters.architecture}.yaml",
                "save_dir": str(folder),
                "device": str(device),
                "imgsz": parameters.image_size,
                "epochs": parameters.epochs,
                "patience": 0,  # never stops early
                "batch": parameters.batch_size,
                "nbs": parameters.batch_size,  # else gradients accumulate to 64 cells, and weight decay is rescaled
                "optimizer": parameters.optimizer,
                "lr0": parameters.learning_rate,
                "lrf": parameters.final_learning_rate_fraction,
                "momentum": parameters.momentum,
                "weight_decay": parameters.weight_decay,
                "warmup_epochs": parameters.warmup_epochs,
                "warmup_momentum": parameters.momentum,  # else it starts elsewhere
                "warmup_bias_lr": 0.0,  # else biases start at 0.1, above the learning rate
                "seed": parameters.seed,
                "workers": 0,
                "augment": parameters.test_time_augmentation,  # ultralytics' name of it; the checkpoint carries it
                "close_mosaic": 0,  # else it reloads for an augmentation of detection
                "amp": "bf16" if self.mixed and device.type != "cpu" else False,
                "plots": False,
            }
        )
        torch.set_num_threads(threads)  # ultralytics may have raised it above what the user allows
        self.args.name = run  # every checkpoint carries the name of what it may be resumed for

    # What ultralytics would do unasked

    def run_callbacks(self, event: str) -> None:
        """Call ours only: trackers, usage events and the like are never told anything."""
        ours: dict[str, Callable[[], object]] = {
            "on_train_start": self._start,
            "on_train_epoch_start": lambda: self.train_loader.dataset.start_epoch(self.epoch),
            "on_train_batch_end": self._show_batch,
            "teardown": self._close_bar,
        }
        ours.get(event, lambda: None)()

    def final_eval(self) -> None:
        """Nothing: each checkpoint has been validated in its epoch, and `train` strips them."""

    def _build_train_pipeline(self) -> None:
        if self.optimizer is not None:  # ultralytics is about to halve the batch and carry on
            raise UserError(
                f"Training the classifier at batch size {self.parameters.batch_size} and image size "
                f"{self.parameters.image_size} takes more memory than {self.device} has; lower "
                "`validation.classifier.batch_size` or `validation.classifier.image_size`."
            )
        super()._build_train_pipeline()

    def _handle_nan_recovery(self, epoch: int) -> bool:
        for kind, loss in (("training", self.tloss["loss"]), ("validation", self.metrics["val/loss"])):
            if not math.isfinite(loss):  # ultralytics would retry with other weights, or carry on
                raise UserError(
                    f"The classifier's training diverged: in epoch {epoch + 1} the {kind} loss became {float(loss)}, "
                    "expected a finite number; lower `validation.classifier.learning_rate`, or set "
                    "`validation.classifier.precision` to float32."
                )
        return False

    def build_optimizer(self, *arguments: Any, **options: Any) -> torch.optim.Optimizer:
        """Theirs, in one call for all weights where PyTorch has that; a network this small waits for the calls."""
        optimizer: torch.optim.Optimizer = super().build_optimizer(*arguments, **options)
        for group in optimizer.param_groups:
            if "fused" in group:
                group["fused"] = True
        return optimizer

    # What it reads and where it starts

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Resume when there is a killed run; ultralytics would look for one itself and unpickle it."""
        self.resume = self.killed is not None

    def get_dataset(self) -> dict[str, Any]:
        """The data in ultralytics' terms, where `train` and `val` would be folders."""
        names = self.source.class_names
        return {
            "train": self.source.train_rows,
            "val": self.source.val_rows,
            "names": dict(enumerate(names)),
            "nc": len(names),
            "channels": 3,
        }

    def get_dataloader(
        self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> DataLoader[dict[str, Tensor]]:
        """Batches of the given rows, which `get_dataset` puts where ultralytics has paths."""
        training = mode == "train"
        dataset = CellDataset(self.source, dataset_path, self.parameters if training else None)
        if not training:  # so that the checkpoint also works with ultralytics' own predictor
            self.model.transforms = classify_transforms(self.args.imgsz)
        return DataLoader(
            dataset,
            batch_size,
            collate_fn=lambda batch: batch,  # the dataset makes whole batches
            drop_last=training and len(dataset) % batch_size == 1,  # batch normalisation cannot take a single cell
        )

    def setup_model(self) -> dict[str, Any] | None:
        """Build the model, from scratch, from the initial weights or from the killed run."""
        names = self.data["names"]
        self.model = ClassificationModel(f"{self.parameters.architecture}.yaml", nc=len(names), verbose=False)
        if self.killed is not None:
            self.model.load_state_dict(self.killed["ema"].float().state_dict())
        elif self.weights is not None:
            transfer_weights(self.weights, self.model, self.parameters.architecture)
        self.model.to(memory_format=torch.channels_last)
        return self.killed

    def preprocess_batch(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Move a training batch to the device, prepare it and augment it."""
        batch = {name: value.to(self.device) for name, value in batch.items()}
        self.batch_length = len(batch["cls"])
        images = prepare(batch["img"], self.args.imgsz)
        images = augment(images, batch.pop("flips"), batch.pop("gains"))
        if self.mixed and self.device.type == "cpu":  # ultralytics knows it on GPUs only; its own context ends this
            torch.set_autocast_dtype("cpu", torch.bfloat16)
            torch.set_autocast_enabled("cpu", True)
        return batch | {"img": images.contiguous(memory_format=torch.channels_last)}

    def get_validator(self) -> CellValidator:
        """Our validator."""
        return CellValidator(self.test_loader, self.save_dir, args=copy(self.args))

    # What it says and keeps

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Add an epoch to the history; ultralytics saves the checkpoints right after."""
        self.history.append(
            {
                "epoch": self.epoch + 1,
                "train_loss": float(self.tloss["loss"]),
                "val_loss": self.metrics["val/loss"],
                "val_accuracy": self.metrics["metrics/accuracy_top1"],
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "images_seen": (self.epoch + 1) * self._images_per_epoch(),
            }
        )
        self.on_epoch(self.history[-1])

    def read_results_csv(self) -> dict[str, Any]:
        """The record of the training so far, which ultralytics stores in every checkpoint."""
        return {"history": self.history, "effective": self.effective}

    def save_model(self) -> bool:
        """As ultralytics, which would write in place: a kill or a full disk would take the last whole epoch with it."""
        last, best = self.last, self.best
        with whole(last) as self.last:
            self.best = self.last
            super().save_model()
        self.last, self.best = last, best
        if self.best_fitness == self.fitness:
            _copy(last, best)
        return True

    def _images_per_epoch(self) -> int:
        loader = self.train_loader
        return len(loader) * loader.batch_size if loader.drop_last else len(loader.dataset)

    def _start(self) -> None:
        if self.killed is not None:
            self.history = self.killed["train_results"]["history"]
        self.amp = False  # validation in single precision; training goes by args.amp
        group = self.optimizer.param_groups[0]
        self.effective = {
            "optimizer": type(self.optimizer).__name__,
            "learning_rate": group["initial_lr"],
            "momentum": group["betas"][0] if "betas" in group else group["momentum"],
            "weight_decay": group["weight_decay"],
            "batch_size": self.train_loader.batch_size * self.accumulate,
            "images_per_epoch": self._images_per_epoch(),
            "device": str(self.device),
            "precision": "bfloat16" if self.mixed else "float32",
        }
        per_epoch = self._images_per_epoch()
        self.bar = tqdm(
            desc="Training the classifier",
            total=self.epochs * per_epoch,
            initial=self.start_epoch * per_epoch,
            unit="image",
            mininterval=1,
        )

    def _show_batch(self) -> None:
        if self.bar is not None and self.bar.update(self.batch_length):  # it was time to show it
            self.bar.set_postfix(epoch=f"{self.epoch + 1}/{self.epochs}", loss=f"{float(self.tloss['loss']):.4f}")

    def _close_bar(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _history(history: list[dict[str, float]], effective: dict[str, Any]) -> pd.DataFrame:
    frame = pd.DataFrame(history)
    frame.attrs["effective"] = effective
    return frame


def _copy(checkpoint: Path, place: Path) -> None:
    with whole(place) as beside:
        shutil.copyfile(checkpoint, beside)


def _killed_run(last: Path, best: Path, run: str, epochs: int) -> dict[str, Any] | None:
    """The last whole checkpoint of an unfinished run of this name, None where there is nothing to go on with.

    Where the last is damaged it is the best, which takes its place.
    """
    for place, other in ((last, best), (best, last)):
        try:
            checkpoint = read_checkpoint(place)
        except (OSError, ValueError):  # none, or damaged
            continue
        history = checkpoint["train_results"].get("history", ())
        unfinished = checkpoint["optimizer"] is not None or len(history) == epochs
        if history and unfinished and checkpoint["train_args"].get("name") == run:
            # it may have been killed between writing the two
            if place == best or checkpoint["best_fitness"] == checkpoint["train_metrics"]["fitness"]:
                _copy(place, other)
            return checkpoint
    return None
