"""The base of all errors that a user can fix."""

from __future__ import annotations

from enum import StrEnum


class Remedy(StrEnum):
    """What is most often to be done, or done again; the values are what Kedro's users give to `kedro run`."""

    IMAGES = "--params raw_cells=PATH"
    OTHER_PLACE = "--params synthetic_images=PATH"
    DATA = "--pipeline data_processing"
    TRAINING = "--pipeline diffusion"
    SAMPLING = "--pipeline diffusion --tags sample"
    GENERATION = "--pipelines data_processing,diffusion"
    DATASET_FIGURE = "--nodes data_processing.draw_dataset"
    CLASSIFIER = "--pipeline validation --to-outputs yolo_classifier"
    BOUND = "--pipeline diffusion --nodes diffusion.draw_process,diffusion.measure_bound,diffusion.draw_bound"
    VALIDATION = "--pipeline validation"


class UserError(ValueError):
    """Something in the data, the parameters or the order of commands; the message says what, where, and what to do.

    A run ends with the message of such an error and no traceback.

    Attributes:
        remedy: What is to be done, where a Kedro run has an option or a command for it and adds it to the message.
    """

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy
