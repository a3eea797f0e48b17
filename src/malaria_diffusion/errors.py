"""The base of all errors that a user can fix."""


class UserError(ValueError):
    """Something in the data, the parameters or the order of commands; the message says what, where, and what to do.

    A run ends with the message of such an error and no traceback.
    """
