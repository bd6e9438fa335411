"""Why a process failed, in a sentence."""

import signal

_LONGEST = 500


def ending(status: int, said: str) -> str:
    """Return why a process failed.

    Args:
        status: the process's exit status, as subprocess reports it. bubblewrap reports a signal
            that killed its program as shells do: 128 plus the signal's number.
        said: the last line of its output.
    """
    number = -status if status < 0 else status - 128
    if number == signal.SIGKILL:
        return "its process was killed: does the host have enough memory?"
    if number in {*signal.Signals}:
        return f"its process died of {signal.Signals(number).name}"
    return said[-_LONGEST:] or f"its process ended with status {status} and no output"
