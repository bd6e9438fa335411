"""From a model's signature to the fields of an input form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
}


@dataclass(frozen=True)
class Field:
    """One input of a model; `type` is MLflow's own word for it, `categories` what it may be."""

    name: str
    type: str
    required: bool
    categories: tuple[Any, ...] = ()

    @property
    def kind(self) -> Kind:
        """How to ask for it; an unknown type is asked for as text."""
        return Kind.CHOICE if self.categories else _KINDS.get(self.type, Kind.TEXT)


def to_row(
    fields: Sequence[Field], values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """From what the visitor entered to a JSON-ready input row; empty optional fields are left out.

    Args:
        fields: the model's inputs.
        values: by field name; None or an absent name means that nothing was entered. An empty
            text counts as entered where the field is required.

    Returns:
        the row, and what is wrong with it by field: nothing else may be sent.
    """
    row: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for field in fields:
        value = values.get(field.name)
        if value is None or (value == "" and (field.kind is Kind.JSON or not field.required)):
            if field.required:
                problems[field.name] = "Enter a value: this model needs it."
        elif isinstance(value, datetime):
            row[field.name] = value.isoformat()
        elif field.kind is Kind.JSON:
            try:
                row[field.name] = json.loads(value)
            except ValueError as error:
                problems[field.name] = f"This is not JSON: {error}."
        else:
            row[field.name] = value
    return row, problems
