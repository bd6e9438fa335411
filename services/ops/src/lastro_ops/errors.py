"""The one way to fail."""

from __future__ import annotations


class OpsError(Exception):
    """A command cannot do its work.

    The command line prints the message on standard error, after the name of the command, and exits
    with `status`. The message names the input and says what to do.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class UsageError(OpsError):
    """The arguments are wrong: exit status 2."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=2)
