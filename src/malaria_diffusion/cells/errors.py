"""The one error of this package that a user is meant to read."""

from malaria_diffusion.errors import UserError


class CellsError(UserError):
    """The images cannot be used as they are; the message says which, why, and what to do."""
