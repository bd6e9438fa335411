"""The fields of an input form, made from a model's signature."""

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
    """The values that a form field accepts.

    All kinds except `BOOLEAN` and `CHOICE` are entered as text, including numbers and times. A
    browser's own fields round integers beyond 2**53, accept neither NaN nor infinity, and cut
    times to the minute.
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
    """One input of a model; `type` is MLflow's name, `categories` are the known values."""

    name: str
    type: str
    required: bool
    categories: tuple[Json, ...] = ()

    @property
    def kind(self) -> Kind:
        """The kind of form field; text for an unknown type."""
        return Kind.CHOICE if self.categories else _KINDS.get(self.type, Kind.TEXT)


def shown(field: Field, value: Json) -> str:
    """The text for a value in a field that is entered as text; empty for None."""
    if value is None:
        return ""
    if isinstance(value, str) and field.kind is not Kind.JSON:
        return value
    # For a float, Python's JSON is the shortest text that parses to the same float.
    return json.dumps(value)


def options(field: Field, value: Json) -> list[Json]:
    """The options of a field of `Kind.CHOICE` or `Kind.BOOLEAN`.

    An example that is not a known category is added to the options. So is None if the field is
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
    """Convert the visitor's entries to a JSON-ready input row, without empty optional fields.

    Args:
        fields: the model's inputs.
        values: by field name, the text entered or the option chosen; None or an absent name means
            that nothing was entered. An empty text counts as entered if text is required.
        example: the row that the form started with. An unchanged field keeps the example's value.

    Returns:
        The row, and the problem of each invalid field. With a problem, the row must not be sent.
    """
    row: dict[str, Json] = {}
    problems: dict[str, str] = {}
    for field in fields:
        value = values.get(field.name)
        if field.name in example and _is_untouched(field, value, example[field.name]):
            row[field.name] = example[field.name]
        elif value is None or (value == "" and (field.kind is not Kind.TEXT or not field.required)):
            if field.required:
                problems[field.name] = "Enter a value: this model requires it."
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
    """Whether two values are equal and have the same type: 1 and True are different categories."""
    return type(one) is type(other) and one == other


def _parse(field: Field, text: str) -> Json:
    """The value of a text.

    Raises:
        ValueError: the text is invalid; the message says what to enter instead.
    """
    match field.kind:
        case Kind.TEXT:
            return text
        case Kind.JSON:
            try:
                value: Json = json.loads(text)
            except RecursionError:
                raise ValueError("This JSON is nested too deeply.") from None
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
                # Python accepts 1_000, which is likely a typing error.
                return float("" if "_" in text else text)
            except ValueError:
                raise ValueError("Enter a number, such as 0.5 or 1e-3, or NaN.") from None
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("Enter a time, such as 2026-11-24T06:00:00.") from None
    return text
