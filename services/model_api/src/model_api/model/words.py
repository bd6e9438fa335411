"""Quotes foreign text in messages: names, values, and errors of a model's own code."""

import json
import math


def clean(name: str) -> str:
    """Return a name that is valid UTF-8 and not too long."""
    return name[:200].encode("utf-8", "backslashreplace").decode()


def short(value: object) -> str:
    """Return a value as a message quotes it: valid UTF-8 and not too long."""
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
    """Return the first line of an error's message, shortened, or the error's type."""
    lines = str(error).strip().splitlines()
    line = lines[0].strip() if lines else ""
    text = line[:300] if line else type(error).__name__
    return text.encode("utf-8", "backslashreplace").decode()
