"""The one error of this package that a user is meant to read."""


class CellsError(ValueError):
    """The images cannot be used as they are; the message says which, why, and what to do."""
