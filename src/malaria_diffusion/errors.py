"""The base of all errors that a user can fix."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """A part of a study that may have to be done again; the values are what Kedro's users type."""

    DATA = "data_processing"
    TRAINING = "diffusion"
    SAMPLING = "diffusion --tags sample"
    VALIDATION = "validation"


class UserError(ValueError):
    """Something in the data, the parameters or the order of commands; the message says what, where, and what to do.

    A run ends with the message of such an error and no traceback.

    Attributes:
        stage: What is to be done again, where that is what to do; a Kedro run adds the command to the message.
    """

    def __init__(self, message: str, stage: Stage | None = None) -> None:
        super().__init__(message)
        self.stage = stage
