"""From a model's signature to the fields of an input form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from dashboard.untyped import Json


class Kind(StrEnum):
    """What a form field lets the visitor enter.

    All but `BOOLEAN` and `CHOICE` are entered as text, numbers and times included: a browser's own
    fields round integers beyond 2**53, know no NaN or infinity, and cut times to the minute.
    """

    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TEXT = "text"
    CHOICE = "choice"
    MOMENT = "moment"
    JSON = "json"


_KINDS = {
    "double": Kind.NUMBER,
    "float": Kind.NUMBER,
    "integer": Kind.INTEGER,
    "long": Kind.INTEGER,
    "boolean": Kind.BOOLEAN,
    "datetime": Kind.MOMENT,
    "array": Kind.JSON,
    "object": Kind.JSON,
    "map": Kind.JSON,
    "any": Kind.JSON,
}

_WHOLE = re.compile(r"[+-]?[0-9]{1,4000}")


@dataclass(frozen=True)
class Field:
    """One input of a model; `type` is MLflow's own word for it, `categories` what it may be."""

    name: str
    type: str
    required: bool
    categories: tuple[Json, ...] = ()

    @property
    def kind(self) -> Kind:
        """How to ask for it; an unknown type is asked for as text."""
        return Kind.CHOICE if self.categories else _KINDS.get(self.type, Kind.TEXT)


def shown(field: Field, value: Json) -> str:
    """The text that stands for a value in a field that is entered as text; empty for None."""
    if value is None:
        return ""
    if isinstance(value, str) and field.kind is not Kind.JSON:
        return value
    # For a float Python's JSON has the shortest text that gives the same float again.
    return json.dumps(value)


def options(field: Field, value: Json) -> list[Json]:
    """What a field of `Kind.CHOICE` or `Kind.BOOLEAN` lets the visitor choose.

    An example that is no known category is one more choice, and so is None where the field is
    optional or the example has no value.
    """
    found: list[Json] = [True, False] if field.kind is Kind.BOOLEAN else list(field.categories)
    if not field.required or value is None:
        found.insert(0, None)
    if not any(same(value, option) for option in found):
        found.insert(0, value)
    return found


def to_row(
    fields: Sequence[Field],
    values: Mapping[str, Json],
    example: Mapping[str, Json] = MappingProxyType({}),
) -> tuple[dict[str, Json], dict[str, str]]:
    """From what the visitor entered to a JSON-ready input row; empty optional fields are left out.

    Args:
        fields: the model's inputs.
        values: by field name, the text entered or the option chosen; None or an absent name means
            that nothing was entered. An empty text counts as entered where text is required.
        example: the row the form began with. A field left as it was gives the example's own value.

    Returns:
        the row, and what is wrong with it by field: nothing else may be sent.
    """
    row: dict[str, Json] = {}
    problems: dict[str, str] = {}
    for field in fields:
        value = values.get(field.name)
        if field.name in example and _is_untouched(field, value, example[field.name]):
            row[field.name] = example[field.name]
        elif value is None or (value == "" and (field.kind is not Kind.TEXT or not field.required)):
            if field.required:
                problems[field.name] = "Enter a value: this model needs it."
        elif field.kind in (Kind.BOOLEAN, Kind.CHOICE):
            row[field.name] = value
        else:
            assert isinstance(value, str)
            try:
                row[field.name] = _parse(field, value)
            except (ValueError, RecursionError) as error:
                problems[field.name] = str(error)
    return row, problems


def _is_untouched(field: Field, entered: Json, example: Json) -> bool:
    if field.kind in (Kind.BOOLEAN, Kind.CHOICE):
        return same(entered, example)
    return (entered or "") == shown(field, example)


def same(one: Json, other: Json) -> bool:
    """Whether two values are equal and of one type: 1 and True are not the same category."""
    return type(one) is type(other) and one == other


def _parse(field: Field, text: str) -> Json:
    """The value that a text stands for; ValueError says what to enter instead."""
    match field.kind:
        case Kind.TEXT:
            return text
        case Kind.JSON:
            try:
                value: Json = json.loads(text)
            except RecursionError:
                raise ValueError("This is nested too deeply.") from None
            except ValueError as error:
                raise ValueError(f"This is not JSON: {error}.") from None
            return value
    text = text.strip()
    if text == "null":
        return None
    match field.kind:
        case Kind.INTEGER:
            if not _WHOLE.fullmatch(text):
                raise ValueError("Enter a whole number, such as 42.")
            return int(text)
        case Kind.NUMBER:
            try:
                # Python reads 1_000, which nobody means here.
                return float("" if "_" in text else text)
            except ValueError:
                raise ValueError("Enter a number, such as 0.5 or 1e-3, or NaN.") from None
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("Enter a time, such as 2026-11-24T06:00:00.") from None
    return text
