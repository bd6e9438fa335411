"""From a model's signature to the fields of an input form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

LARGEST_INTEGER = 2**53 - 1
"""Browsers hold no larger integer exactly."""


class Kind(StrEnum):
    """What a form field lets the visitor enter."""

    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TEXT = "text"
    MOMENT = "moment"


_KINDS = {
    "double": Kind.NUMBER,
    "float": Kind.NUMBER,
    "integer": Kind.INTEGER,
    "long": Kind.INTEGER,
    "boolean": Kind.BOOLEAN,
    "datetime": Kind.MOMENT,
}


@dataclass(frozen=True)
class Field:
    """One input of a model; `type` is MLflow's own word for it."""

    name: str
    type: str
    required: bool

    @property
    def kind(self) -> Kind:
        """How to ask for it; an unknown type is asked for as text."""
        return _KINDS.get(self.type, Kind.TEXT)


def to_row(fields: Sequence[Field], values: dict[str, Any]) -> dict[str, Any]:
    """A JSON-ready input row from what the visitor entered; empty optional fields are left out.

    Args:
        fields: the model's inputs.
        values: by field name; None or an absent name means that nothing was entered. An empty
            text counts as entered where the field is required.

    Raises:
        ValueError: required fields are empty; one line names each.
    """
    row = {field.name: values.get(field.name) for field in fields}
    missing = [field.name for field in fields if field.required and row[field.name] is None]
    if missing:
        raise ValueError("\n".join(f"{name} is empty: this model needs it." for name in missing))
    optional = {field.name for field in fields if not field.required}
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
        if name not in optional or value not in (None, "")
    }
