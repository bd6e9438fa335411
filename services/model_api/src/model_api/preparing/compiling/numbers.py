"""The steps that take numbers: the parameters with which each may be compiled, and how."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from model_api.model.signature import Column
from model_api.model.untyped import Estimator
from model_api.preparing.compiling.drafts import Draft, Seen
from model_api.preparing.compiling.rules import (
    NotCompiled,
    Rule,
    anything,
    check,
    is_nan,
    name_of,
    only,
)


def number_step(step: Estimator, seen: Seen, drafted: Draft, operations: list[list[str]]) -> Seen:
    """Add the operations of a step that takes numbers; return the next step's input.

    Raises:
        NotCompiled: the step is not on the list, or has another input.
    """
    if type(step) not in NUMBERS:
        raise NotCompiled(f"{name_of(step)} is not compiled where it is")
    rules, write = NUMBERS[type(step)]
    check(step, rules)
    if seen.sparse:
        raise NotCompiled(f"{name_of(step)} takes a sparse matrix")
    if step.n_features_in_ != seen.width:
        raise NotCompiled(f"{name_of(step)} takes {step.n_features_in_} columns, not {seen.width}")
    dtype = seen.dtype if seen.dtype.kind == "f" else np.dtype(np.float64)
    operations.append(["finite"])
    after = write(step, replace(seen, dtype=dtype), drafted, operations, seen)
    return replace(after, raw=None)


def _standard(
    step: Estimator, seen: Seen, drafted: Draft, operations: list[list[str]], before: Seen
) -> Seen:
    # It first rounds the values that it has learnt to the type of its rows.
    if step.with_mean:
        operations.append(["subtract", drafted.keep(step.mean_.astype(seen.dtype))])
    if step.with_std:
        operations.append(["divide", drafted.keep(step.scale_.astype(seen.dtype))])
    return seen


def _min_max(
    step: Estimator, seen: Seen, drafted: Draft, operations: list[list[str]], before: Seen
) -> Seen:
    operations.append(["multiply", drafted.keep(step.scale_)])
    operations.append(["add", drafted.keep(step.min_)])
    if step.clip:
        low, high = np.asarray(step.feature_range, seen.dtype)
        operations.append(["clip", drafted.keep(low), drafted.keep(high)])
    return seen


def _max_abs(
    step: Estimator, seen: Seen, drafted: Draft, operations: list[list[str]], before: Seen
) -> Seen:
    operations.append(["divide", drafted.keep(step.scale_)])
    if step.clip:
        low, high = np.asarray([-1.0, 1.0], seen.dtype)
        operations.append(["clip", drafted.keep(low), drafted.keep(high)])
    return seen


def _robust(
    step: Estimator, seen: Seen, drafted: Draft, operations: list[list[str]], before: Seen
) -> Seen:
    if step.with_centering:
        operations.append(["subtract", drafted.keep(step.center_)])
    if step.with_scaling:
        operations.append(["divide", drafted.keep(step.scale_)])
    return seen


def _impute(
    step: Estimator, seen: Seen, drafted: Draft, operations: list[list[str]], before: Seen
) -> Seen:
    if step.strategy in ("most_frequent", "constant") and before.dtype.kind != "f":
        # These strategies leave whole numbers unchanged, or refuse them.
        raise NotCompiled(f"SimpleImputer with strategy={step.strategy} takes whole numbers")
    if before.raw is not None and all_whole(before.raw) and step.strategy == "constant":
        raise NotCompiled("SimpleImputer with strategy=constant takes whole numbers")
    if step._fit_dtype.kind != "f" or step._fill_dtype != seen.dtype:
        raise NotCompiled("SimpleImputer was fitted on numbers of another type")
    operations.append(["fill", drafted.keep(step.statistics_.astype(seen.dtype))])
    return replace(seen, missing=False)


def all_whole(columns: tuple[Column, ...]) -> bool:
    """Tell whether all columns have whole numbers or booleans."""
    return all(column.type in ("boolean", "integer", "long") for column in columns)


type Writer = Callable[[Any, Seen, Draft, list[list[str]], Seen], Seen]


IMPUTE: dict[str, Rule] = {
    # Only null counts as missing: other values that count as missing need the original.
    "missing_values": is_nan,
    "strategy": only("mean", "median", "most_frequent", "constant"),
    "fill_value": anything,
    "copy": anything,
    "add_indicator": only(False),
    "keep_empty_features": only(False),
}
NUMBERS: dict[type, tuple[dict[str, Rule], Writer]] = {
    StandardScaler: ({"copy": anything, "with_mean": anything, "with_std": anything}, _standard),
    MinMaxScaler: ({"feature_range": anything, "copy": anything, "clip": anything}, _min_max),
    MaxAbsScaler: ({"copy": anything, "clip": anything}, _max_abs),
    RobustScaler: (
        {
            "with_centering": anything,
            "with_scaling": anything,
            "quantile_range": anything,
            "copy": anything,
            "unit_variance": anything,
        },
        _robust,
    ),
    SimpleImputer: (IMPUTE, _impute),
}
