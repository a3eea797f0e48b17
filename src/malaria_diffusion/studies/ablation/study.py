"""Measure every training of the study of the number of diffusion steps, each once."""

from __future__ import annotations

import json
import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from malaria_diffusion.cells.cells import Cells
from malaria_diffusion.cells.fingerprint import fingerprint_json
from malaria_diffusion.compute.device import resolve_device, resolve_precision
from malaria_diffusion.diffusion.config import NetworkParameters, SamplingParameters, Solver
from malaria_diffusion.diffusion.process.schedule import ScheduleEnds
from malaria_diffusion.diffusion.training.data import TrainingData
from malaria_diffusion.diffusion.training.trainer import load_averaged
from malaria_diffusion.files import whole, write_array
from malaria_diffusion.studies.ablation.measures import Floor, Measurement, Measures, Trained, Yardstick
from malaria_diffusion.studies.ablation.values import Training, values_to_list
from malaria_diffusion.studies.config import AblationParameters

logger = logging.getLogger(__name__)

VERSION = 3  # of what is measured: other measurements are not read
SHOWN = 12  # images of each training, for the eye


class Study:
    """Measurements of trainings, kept in files: what is measured is read, what is not is measured and written.

    The files are named after the training and everything else that the measurements depend on. The last to be written
    is the one with the numbers, so that a measurement that was cut short is made again.
    """

    def __init__(
        self,
        cells: Cells,
        network: NetworkParameters,
        sampling: SamplingParameters,
        images: int,
        folder: Path,
    ) -> None:
        """Prepare to measure.

        Args:
            cells: What was trained on, and who validates.
            network: Of every training.
            sampling: How to generate images; every step is taken, without guidance, and the seed is that of the
                training.
            images: How many of each training.
            folder: Where the measurements are kept.
        """
        self.cells, self.network, self.images, self.folder = cells, network, images, folder
        self.sampling = SamplingParameters(
            **sampling.model_dump()
            | {"solver": Solver.ANCESTRAL, "evaluations": None, "count": images, "guidance": 1.0}
        )
        settings = self.sampling.model_dump(mode="json", exclude={"count", "seed", "device", "batch_size"})
        settings["precision"] = str(resolve_precision(sampling.precision, resolve_device(sampling.device)))
        data = TrainingData.of(cells)
        val_people = sorted({f"{row} {cells.people[row]}" for row in data.val_rows})
        self.name = fingerprint_json([VERSION, images, settings, data.fingerprint, val_people])

    def measurement(self, training: Training, folder: Path) -> Measurement:
        """Of the finished training in `folder`."""
        name = f"{training.identity}-{self.name}"
        numbers, pictures = self.folder / f"{name}.json", self.folder / f"{name}.npy"
        if numbers.exists() and pictures.exists():
            logger.info("%s: measured already", training.value)
            found = json.loads(numbers.read_text())
            return Measurement(Measures(**found["measures"]), ScheduleEnds(**found["ends"]), np.load(pictures))
        size, classes = self.cells.size, len(self.cells.class_names)
        objective = load_averaged(folder, training.process, self.network, training.training, size, classes)
        trained = Trained(objective, training.training, folder)
        sampling = self.sampling.model_copy(update={"seed": training.value.seed})
        measured = self._yardstick.measure(trained, sampling)
        with whole(pictures) as beside:
            write_array(beside, measured.images)
        _write(numbers, {"measures": measured.measures._asdict(), "ends": measured.ends._asdict()})
        return measured

    def floor(self) -> Floor:
        """What real cells score in the place of generated ones."""
        path = self.folder / f"floor-{self.name}.json"
        if path.exists():
            return Floor(**json.loads(path.read_text()))
        floor = self._yardstick.floor
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(path, floor._asdict())
        return floor

    @cached_property
    def _yardstick(self) -> Yardstick:
        return Yardstick(self.cells, self.images)


def tabulate(
    measured: dict[str, Measurement], trainings: list[Training], floor: Floor, parameters: AblationParameters
) -> tuple[pd.DataFrame, NDArray[np.uint8]]:
    """All measurements as one table, with some of the images of each row.

    Args:
        measured: By the training's identity.
        trainings: All of them.
        floor: Beside which they stand.
        parameters: Of the study.

    Returns:
        One row for each scaling, seed and T: what it is, the ends of its schedule, `Measures`, and the floor's numbers
        with the prefix floor_; and uint8 (rows, SHOWN, 3, S, S), classes in equal numbers.
    """
    identities = {training.value: training.identity for training in trainings}
    rows, shown = [], []
    for value, trained in values_to_list(parameters):
        measurement = measured[identities[trained]]
        rows.append(
            {"betas": value.betas.value, "identity": identities[trained], "seed": value.seed}
            | measurement.ends._asdict()
            | {"epochs": parameters.epochs, "images": len(measurement.images)}
            | measurement.measures._asdict()
            | {f"floor_{name}": number for name, number in floor._asdict().items()}
        )
        # evenly spaced, as the classes follow each other
        places = np.linspace(0, len(measurement.images) - 1, SHOWN).round().astype(int)
        shown.append(measurement.images[places])
    return pd.DataFrame(rows), np.stack(shown)


def _write(path: Path, content: dict[str, Any]) -> None:
    with whole(path) as beside:
        beside.write_text(json.dumps(content, indent=1))
