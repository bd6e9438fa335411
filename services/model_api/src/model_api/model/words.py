"""How messages quote what others chose: names, values, and the errors of a model's own code."""

import json
import math


def clean(name: str) -> str:
    """Return a name that can be written as UTF-8, and is not endless."""
    return name[:200].encode("utf-8", "backslashreplace").decode()


def short(value: object) -> str:
    """Return a value as a message quotes it: not endless, and writable as UTF-8."""
    match value:
        case None | True | False:
            return json.dumps(value)
        case str():
            text = ascii(value[:60]) if not value[:60].isprintable() else repr(value[:60])
            return text if len(value) <= 60 else f"{text[:57]}..."
        case list():
            return "a list"
        case dict():
            return "an object"
        case float() if math.isnan(value):
            return "NaN"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, not too long, or the error's kind."""
    lines = str(error).strip().splitlines()
    line = lines[0].strip() if lines else ""
    text = line[:300] if line else type(error).__name__
    return text.encode("utf-8", "backslashreplace").decode()
