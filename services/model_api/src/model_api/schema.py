"""The rows that a model takes: its MLflow signature, compiled once into a validator."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from mlflow.types import DataType, Schema
from pydantic_core import CoreSchema, SchemaValidator, ValidationError
from pydantic_core import core_schema as cs

_ERRORS_SHOWN = 20

# Strict: whole numbers only where the model takes whole numbers, no booleans or texts as numbers.
_VALIDATORS: dict[DataType, CoreSchema] = {
    DataType.boolean: cs.bool_schema(strict=True),
    DataType.integer: cs.int_schema(strict=True, ge=-(2**31), le=2**31 - 1),
    DataType.long: cs.int_schema(strict=True, ge=-(2**63), le=2**63 - 1),
    DataType.float: cs.float_schema(strict=True, allow_inf_nan=False),
    DataType.double: cs.float_schema(strict=True, allow_inf_nan=False),
    DataType.string: cs.str_schema(strict=True),
    DataType.datetime: cs.chain_schema([cs.str_schema(strict=True), cs.datetime_schema()]),
}
_DTYPES: dict[DataType, Any] = {
    DataType.boolean: np.bool_,
    DataType.integer: np.int32,
    DataType.long: np.int64,
    DataType.float: np.float32,
    DataType.double: np.float64,
    DataType.string: "str",
    DataType.datetime: "datetime64[ns]",
}
# numpy's booleans and whole numbers have no missing value.
_DTYPES_WITH_NULL: dict[DataType, Any] = {
    DataType.boolean: object,
    DataType.integer: np.float64,
    DataType.long: np.float64,
}


class SchemaError(ValueError):
    """The signature is not one that rows of a table can be checked against."""


class InvalidRows(ValueError):
    """Rows do not fit the signature.

    Attributes:
        errors: one ``{"row", "field", "detail"}`` per fault, the first 20; ``row`` counts from 0,
            ``field`` is None where the row itself is at fault.
        count: how many faults there are.
    """

    def __init__(self, errors: list[dict[str, Any]], count: int) -> None:
        self.errors = errors
        self.count = count
        super().__init__("; ".join(f"row {e['row']}, {e['field']}: {e['detail']}" for e in errors))


@dataclass(frozen=True)
class Column:
    """One input of a model. A column that is not required may be null or left out."""

    name: str
    type: DataType
    required: bool


class RowSchema:
    """Checks rows and turns them into the frame that the model takes."""

    def __init__(self, columns: list[Column]) -> None:
        self.columns = columns
        fields = {}
        for column in columns:
            value = _VALIDATORS[column.type]
            fields[column.name] = cs.typed_dict_field(
                value if column.required else cs.nullable_schema(value), required=column.required
            )
        row = cs.typed_dict_schema(fields, extra_behavior="forbid", strict=True)
        self._validator = SchemaValidator(cs.list_schema(row, strict=True))

    @classmethod
    def from_signature(cls, inputs: Schema | None) -> "RowSchema":
        """Compile the inputs of a model's signature.

        Raises:
            SchemaError: there are none, they have no names, or a type is not a scalar.
        """
        if inputs is None:
            raise SchemaError("the model has no signature: log it with signature=infer_signature()")
        if inputs.is_tensor_spec() or not inputs.has_input_names():
            raise SchemaError(
                "the model's inputs have no names: log it with a DataFrame's signature"
            )
        columns = []
        for spec in inputs.inputs:
            if not isinstance(spec.type, DataType) or spec.type not in _VALIDATORS:
                raise SchemaError(
                    f"column {spec.name!r} is of type {spec.type}; served are only "
                    + ", ".join(kind.name for kind in _VALIDATORS)
                )
            columns.append(Column(spec.name, spec.type, spec.required))
        return cls(columns)

    def frame(self, rows: list[Any]) -> pd.DataFrame:
        """Return the rows as a frame with the signature's columns, order and dtypes.

        Args:
            rows: parsed JSON, one object a row.

        Raises:
            InvalidRows: a row is no object, or lacks a field, has one too many or of a wrong type.
        """
        try:
            valid = self._validator.validate_python(rows)
        except ValidationError as error:
            shown = error.errors(include_url=False, include_context=False)[:_ERRORS_SHOWN]
            raise InvalidRows([_explain(e) for e in shown], error.error_count()) from None
        return pd.DataFrame({column.name: _series(column, valid) for column in self.columns})

    def describe(self) -> list[dict[str, Any]]:
        """Return name, type and requiredness of each column, as JSON."""
        return [
            {"name": column.name, "type": column.type.name, "required": column.required}
            for column in self.columns
        ]


def _series(column: Column, rows: list[dict[str, Any]]) -> pd.Series:
    values = [row.get(column.name) for row in rows]
    dtype = _DTYPES[column.type]
    if not column.required and None in values:
        dtype = _DTYPES_WITH_NULL.get(column.type, dtype)
    if column.type is DataType.datetime:
        return pd.Series(pd.to_datetime(values, utc=True)).dt.tz_localize(None).astype(dtype)
    return pd.Series(values, dtype=dtype)


def _explain(error: Any) -> dict[str, Any]:
    row, field = (*error["loc"], None)[:2]
    match error["type"]:
        case "missing":
            detail = "is missing"
        case "dict_type":
            detail = (
                f"must be an object with one value for each field, not {_short(error['input'])}"
            )
        case "extra_forbidden":
            detail = "is not an input of this model"
        case _:
            detail = f"{error['msg']}, not {_short(error['input'])}"
    return {"row": row, "field": field, "detail": detail}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
