"""Rows against a signature."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array, TensorSpec

from model_api.schema import Column, InvalidRows, RowSchema, SchemaError


def schema(type_: DataType, required: bool = True) -> RowSchema:
    return RowSchema([Column("x", type_, required)])


@pytest.mark.parametrize(
    ("type_", "value", "dtype"),
    [
        (DataType.double, 1.5, "float64"),
        (DataType.double, 2, "float64"),
        (DataType.float, 0.25, "float32"),
        (DataType.long, 2**62, "int64"),
        (DataType.integer, -7, "int32"),
        (DataType.boolean, True, "bool"),
        (DataType.string, "x", "str"),
        (DataType.datetime, "2026-11-24T06:00:00", "datetime64[ns]"),
    ],
)
def test_values_arrive_with_the_signatures_type(type_: DataType, value: Any, dtype: str) -> None:
    frame = schema(type_).frame([{"x": value}])
    assert str(frame["x"].dtype) == dtype
    assert frame["x"].iloc[0] == (pd.Timestamp(value) if type_ is DataType.datetime else value)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (DataType.double, True),
        (DataType.double, "1.5"),
        (DataType.double, None),
        (DataType.double, float("nan")),
        (DataType.double, float("inf")),
        (DataType.long, 1.0),
        (DataType.long, True),
        (DataType.long, 2**63),
        (DataType.integer, 2**31),
        (DataType.boolean, 1),
        (DataType.string, 1),
        (DataType.datetime, 0),
        (DataType.datetime, "yesterday"),
    ],
)
def test_values_of_another_type_are_refused_with_row_and_field(type_: DataType, value: Any) -> None:
    good = schema(type_)
    with pytest.raises(InvalidRows) as refused:
        good.frame([{"x": value}])
    [error] = refused.value.errors
    assert (error["row"], error["field"]) == (0, "x")
    assert error["detail"]


def test_each_fault_is_named() -> None:
    two = RowSchema([Column("a", DataType.double, True), Column("b", DataType.double, True)])
    with pytest.raises(InvalidRows) as refused:
        two.frame([{"a": 1, "b": 2}, {"a": "x", "c": 3}, 4])
    assert refused.value.count == 4
    assert refused.value.errors == [
        {"row": 1, "field": "a", "detail": "Input should be a valid number, not 'x'"},
        {"row": 1, "field": "b", "detail": "is missing"},
        {"row": 1, "field": "c", "detail": "is not an input of this model"},
        {
            "row": 2,
            "field": None,
            "detail": "must be an object with one value for each field, not 4",
        },
    ]


def test_a_long_list_of_faults_is_cut_but_counted() -> None:
    with pytest.raises(InvalidRows) as refused:
        schema(DataType.double).frame([{"x": "y" * 1000}] * 500)
    assert refused.value.count == 500
    assert len(refused.value.errors) == 20
    assert len(refused.value.errors[0]["detail"]) < 120


def test_columns_that_are_not_required_take_null_and_absence() -> None:
    columns = [
        Column("d", DataType.double, False),
        Column("n", DataType.long, False),
        Column("s", DataType.string, False),
        Column("b", DataType.boolean, False),
    ]
    frame = RowSchema(columns).frame([{"d": None, "n": 1}, {"d": 1.5, "s": "x", "b": True}])
    assert list(frame.columns) == ["d", "n", "s", "b"]
    assert np.isnan(frame["d"].iloc[0])
    assert np.isnan(frame["n"].iloc[1])
    assert frame["s"].isna().tolist() == [True, False]
    assert frame["b"].isna().tolist() == [True, False]


def test_columns_come_in_the_signatures_order() -> None:
    two = RowSchema([Column("a", DataType.double, True), Column("b/c d", DataType.double, True)])
    frame = two.frame([{"b/c d": 2, "a": 1}])
    assert frame.to_dict("list") == {"a": [1.0], "b/c d": [2.0]}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (None, "no signature"),
        (Schema([TensorSpec(np.dtype("float64"), (-1, 4))]), "no names"),
        (Schema([ColSpec(DataType.double)]), "no names"),
        (Schema([ColSpec(Array(DataType.double), "x")]), "column 'x'"),
        (Schema([ColSpec(DataType.binary, "x")]), "column 'x'"),
    ],
)
def test_signatures_without_scalar_columns_are_refused(inputs: Schema, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        RowSchema.from_signature(inputs)
