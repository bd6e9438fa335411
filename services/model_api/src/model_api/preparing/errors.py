"""The error of a preparation."""


class PrepareError(RuntimeError):
    """A version is not fit to serve; the message is one sentence that says why."""
