"""The steps that may be compiled, each with the parameters under which it may, and how."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)

from model_api.layout import Layout, common_type
from model_api.signature import Column


class NotCompiled(Exception):
    """A model that may not be compiled; the message says which part of it, and why."""


# ---- what a list of permitted parameters is made of ----------------------------------------------

type Rule = Callable[[Any], bool]


def anything(value: Any) -> bool:
    """Permit a parameter that changes no answer, or one whose effect is in what was learnt."""
    return True


def only(*permitted: Any) -> Rule:
    """Permit these values alone."""
    return lambda value: any(type(value) is type(one) and value == one for one in permitted)


def is_nan(value: Any) -> bool:
    """Permit NaN alone."""
    return isinstance(value, float) and value != value


def check(step: Any, rules: Mapping[str, Rule]) -> None:
    """Raise NotCompiled unless the step is as its library made it, and its parameters are listed.

    A parameter without a rule is refused: a newer release of the library may have brought it.
    """
    if reason := tampered(step):
        raise NotCompiled(f"{name_of(step)} {reason}")
    for name, value in step.get_params(deep=False).items():
        rule = rules.get(name)
        if rule is None or not rule(value):
            raise NotCompiled(f"{name_of(step)} with {name}={str(value)[:40]} is not compiled")


def tampered(step: Any) -> str | None:
    """Return how a step differs from what its class does in its library; None if it does not."""
    kind = type(step)
    for name in vars(step):
        if callable(getattr(kind, name, None)):
            return f"has a {name} of its own"
    outputs = vars(step).get("_sklearn_output_config", {})
    if not set(outputs.values()) <= {None, "default"}:
        return "has an output of its own, by set_output"
    for base in kind.__mro__[:-1]:
        library = base.__module__.partition(".")[0]
        for name, member in vars(base).items():
            if isinstance(member, FunctionType) and _library(member) != library:
                return f"has a {name} that is not {library}'s"
    return None


def _library(function: FunctionType) -> str:
    return function.__globals__.get("__name__", "").partition(".")[0]


def name_of(step: Any) -> str:
    """Return the name of a step's class."""
    return type(step).__name__


# ---- what a step sees ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """The array that a step of scikit-learn takes, as far as its answer depends on it.

    Attributes:
        dtype: of its values.
        width: how many columns it has.
        missing: whether values may be NaN.
        sparse: whether it is a sparse matrix.
        raw: the request's columns where they come as they are, as a frame.
    """

    dtype: np.dtype
    width: int
    missing: bool = False
    sparse: bool = False
    raw: tuple[Column, ...] | None = None


@dataclass
class Draft:
    """A program in the making: see `model_api.program.Program`."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    operations: list[list[str]] = field(default_factory=list)

    def keep(self, values: Any) -> str:
        """Return the key of an array."""
        values = np.asarray(values)
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            raise NotCompiled("what a step has learnt is not finite")
        key = f"a{len(self.arrays)}"
        self.arrays[key] = values
        return key

    def program(self) -> dict[str, Any]:
        """Return the options of the program."""
        return {"blocks": self.blocks, "operations": self.operations}


def draft(steps: list[Any], layout: Layout) -> tuple[Draft, Seen]:
    """Return the program of a pipeline's transformers, and what its predictor sees.

    Raises:
        NotCompiled: a step is not on the list.
    """
    drafted = Draft()
    steps = list(_flat(steps))
    for step in steps:
        _check_listed(step)
    if steps and type(steps[0]) is ColumnTransformer:
        seen = _column_transformer(steps.pop(0), layout, drafted)
        operations = drafted.operations
    elif steps and layout.columns and layout.dtype is None:
        places = list(range(len(layout.columns)))
        block, seen = _block(steps, places, layout, drafted)
        drafted.blocks.append(block)
        return drafted, seen
    else:
        seen = _everything(layout)
        operations = []
        drafted.blocks.append(
            {
                "kind": "numbers",
                "places": None,
                "dtype": str(layout.dtype),
                "operations": operations,
            }
        )
    for step in steps:
        seen = _number_step(step, seen, drafted, operations)
    return drafted, seen


def _flat(steps: list[Any]) -> Iterator[Any]:
    """Yield the steps of pipelines in pipelines, but for those that do nothing."""
    for step in steps:
        if type(step) is Pipeline:
            check(step, PIPELINE)
            yield from _flat([part for _, part in step.steps])
        elif step is None or step == "passthrough":
            continue
        elif type(step) is FunctionTransformer:
            check(step, IDENTITY)
        else:
            yield step


def _check_listed(step: Any) -> None:
    if type(step) not in NUMBERS and type(step) not in (ColumnTransformer, OneHotEncoder):
        raise NotCompiled(f"{name_of(step)} is not on the list of what is compiled")


def _everything(layout: Layout) -> Seen:
    if layout.tensors:
        if len(layout.tensors) != 1 or len(layout.tensors[0].shape) != 2:
            raise NotCompiled("only rows of one dimension are compiled")
        [tensor] = layout.tensors
        if tensor.dtype not in (np.float32, np.float64, np.int32, np.int64):
            raise NotCompiled(f"a tensor of type {tensor.dtype} is not compiled")
        return Seen(tensor.dtype, tensor.shape[1], missing=False)
    if layout.dtype is None:
        raise NotCompiled("its columns are not all numbers")
    return _numbers(layout.columns)


def _numbers(columns: tuple[Column, ...]) -> Seen:
    """Return what a step sees of columns of numbers."""
    dtype = common_type(columns)
    if dtype is None:
        raise NotCompiled("some columns of text reach a step that takes numbers")
    if any(column.type == "boolean" and not column.required for column in columns):
        # Python's own objects, once one is missing.
        raise NotCompiled("a column of booleans may be null")
    missing = not all(column.required for column in columns)
    return Seen(dtype, len(columns), missing, raw=columns)


# ---- numbers -------------------------------------------------------------------------------------


def _number_step(step: Any, seen: Seen, drafted: Draft, operations: list[list[str]]) -> Seen:
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
    step: Any, seen: Seen, drafted: Draft, operations: list[list[str]], before: Seen
) -> Seen:
    # It rounds what it has learnt to the type of its rows first.
    if step.with_mean:
        operations.append(["subtract", drafted.keep(step.mean_.astype(seen.dtype))])
    if step.with_std:
        operations.append(["divide", drafted.keep(step.scale_.astype(seen.dtype))])
    return seen


def _min_max(
    step: Any, seen: Seen, drafted: Draft, operations: list[list[str]], before: Seen
) -> Seen:
    operations.append(["multiply", drafted.keep(step.scale_)])
    operations.append(["add", drafted.keep(step.min_)])
    if step.clip:
        low, high = np.asarray(step.feature_range, seen.dtype)
        operations.append(["clip", drafted.keep(low), drafted.keep(high)])
    return seen


def _max_abs(
    step: Any, seen: Seen, drafted: Draft, operations: list[list[str]], before: Seen
) -> Seen:
    operations.append(["divide", drafted.keep(step.scale_)])
    if step.clip:
        low, high = np.asarray([-1.0, 1.0], seen.dtype)
        operations.append(["clip", drafted.keep(low), drafted.keep(high)])
    return seen


def _robust(
    step: Any, seen: Seen, drafted: Draft, operations: list[list[str]], before: Seen
) -> Seen:
    if step.with_centering:
        operations.append(["subtract", drafted.keep(step.center_)])
    if step.with_scaling:
        operations.append(["divide", drafted.keep(step.scale_)])
    return seen


def _impute(
    step: Any, seen: Seen, drafted: Draft, operations: list[list[str]], before: Seen
) -> Seen:
    if step.strategy in ("most_frequent", "constant") and before.dtype.kind != "f":
        # These strategies leave whole numbers what they are, or refuse them.
        raise NotCompiled(f"SimpleImputer with strategy={step.strategy} takes whole numbers")
    if before.raw is not None and _all_whole(before.raw) and step.strategy == "constant":
        raise NotCompiled("SimpleImputer with strategy=constant takes whole numbers")
    if step._fit_dtype.kind != "f" or step._fill_dtype != seen.dtype:
        raise NotCompiled("SimpleImputer was fitted on numbers of another type")
    operations.append(["fill", drafted.keep(step.statistics_.astype(seen.dtype))])
    return replace(seen, missing=False)


def _all_whole(columns: tuple[Column, ...]) -> bool:
    return all(column.type in ("boolean", "integer", "long") for column in columns)


# ---- columns -------------------------------------------------------------------------------------


def _column_transformer(step: Any, layout: Layout, drafted: Draft) -> Seen:
    check(step, COLUMNS)
    if not layout.columns:
        raise NotCompiled("ColumnTransformer takes tensors")
    seen = []
    for name, part, chosen in step.transformers_:
        if isinstance(part, str) and part == "drop":
            continue
        steps = list(_flat([part]))
        for one in steps:
            _check_listed(one)
        if np.isscalar(chosen):
            raise NotCompiled(f"ColumnTransformer gives {name} one column alone")
        places = _places(step, name, layout)
        if not places:
            continue
        block, found = _block(steps, places, layout, drafted)
        drafted.blocks.append(block)
        seen.append(found)
    if not seen:
        raise NotCompiled("ColumnTransformer has no columns")
    missing = any(one.missing for one in seen)
    dtype = np.result_type(*(one.dtype for one in seen))
    sparse = bool(step.sparse_output_)
    return Seen(dtype, sum(one.width for one in seen), missing, sparse)


def _places(step: Any, name: str, layout: Layout) -> list[int]:
    """Return where in a request the columns are that a part takes."""
    indices = step._transformer_to_input_indices[name]
    names = getattr(step, "feature_names_in_", None)
    if names is None:
        if step.n_features_in_ != len(layout.columns):
            raise NotCompiled("ColumnTransformer takes another number of columns")
        return [int(index) for index in indices]
    places = {label: place for place, label in enumerate(layout.labels)}
    return [places[names[index]] for index in indices]


def _block(
    steps: list[Any], places: list[int], layout: Layout, drafted: Draft
) -> tuple[dict[str, Any], Seen]:
    """Return the block of some columns, and the array that comes of it."""
    columns = tuple(layout.columns[place] for place in places)
    if any(type(step) is OneHotEncoder for step in steps):
        return _categories(steps, places, columns)
    seen = _numbers(columns)
    if not steps:
        _check_passed_through(columns)
    operations: list[list[str]] = []
    for step in steps:
        seen = _number_step(step, seen, drafted, operations)
    block = {
        "kind": "numbers",
        "places": places,
        # The steps take the common type of the columns, whichever others the request has.
        "dtype": str(common_type(columns)),
        "operations": operations,
    }
    return block, replace(seen, raw=None)


def _check_passed_through(columns: tuple[Column, ...]) -> None:
    kinds = {column.type for column in columns}
    if "boolean" in kinds and len(kinds) > 1:
        raise NotCompiled("columns of booleans are passed through with others, as objects")
    if _all_whole(columns) and not all(column.required for column in columns):
        raise NotCompiled("columns of whole numbers that may be null are passed through")


def _categories(
    steps: list[Any], places: list[int], columns: tuple[Column, ...]
) -> tuple[dict[str, Any], Seen]:
    *imputers, encoder = steps
    if type(encoder) is not OneHotEncoder or len(imputers) > 1:
        raise NotCompiled("OneHotEncoder is neither alone nor behind a SimpleImputer")
    check(encoder, ONE_HOT)
    fills: list[Any] = [None] * len(columns)
    if imputers:
        fills = _text_fills(imputers[0], columns)
    if len(encoder.categories_) != len(columns):
        raise NotCompiled("OneHotEncoder takes another number of columns")
    tables, width = [], 0
    dropped = encoder._drop_idx_after_grouping
    for place, (column, learnt) in enumerate(zip(columns, encoder.categories_, strict=True)):
        values = _learnt(column, learnt.tolist(), imputed=bool(imputers))
        drop = None if dropped is None else dropped[place]
        at, free = [], width
        for index in range(len(values)):
            at.append(-1 if index == drop else free)
            free += index != drop
        tables.append([values, at])
        width = free
    block = {
        "kind": "categories",
        "places": places,
        "tables": tables,
        "width": width,
        "strict": encoder.handle_unknown == "error",
        "fills": fills,
    }
    return block, Seen(np.dtype(np.float64), width, sparse=bool(encoder.sparse_output))


def _learnt(column: Column, values: list[Any], imputed: bool) -> list[Any]:
    """Return the categories that an encoder has learnt of a column, a missing value as None."""
    if column.type == "string":
        plain = [value for value in values if isinstance(value, str)]
        rest = [value for value in values if not isinstance(value, str)]
        # In a frame's column of text what is missing is NaN.
        if len(rest) > 1 or not all(map(is_nan, rest)) or (rest and rest[0] is not values[-1]):
            raise NotCompiled("OneHotEncoder has learnt categories that are not text")
        return plain + [None] * len(rest)
    if column.type in ("integer", "long") and column.required and not imputed:
        if all(type(value) is int for value in values):
            return values
        raise NotCompiled("OneHotEncoder has learnt categories that are not whole numbers")
    raise NotCompiled(f"OneHotEncoder takes a column of type {column.type}")


def _text_fills(step: Any, columns: tuple[Column, ...]) -> list[Any]:
    if type(step) is not SimpleImputer:
        raise NotCompiled(f"{name_of(step)} before OneHotEncoder is not compiled")
    check(step, IMPUTE)
    if step._fit_dtype.kind != "O" or any(column.type != "string" for column in columns):
        raise NotCompiled("SimpleImputer before OneHotEncoder takes more than text")
    fills = step.statistics_.tolist()
    if len(fills) != len(columns) or not all(isinstance(value, str) for value in fills):
        raise NotCompiled("SimpleImputer has not learnt a text for each column")
    return fills


# ---- the list ------------------------------------------------------------------------------------

type Writer = Callable[[Any, Seen, Draft, list[list[str]], Seen], Seen]

PIPELINE: dict[str, Rule] = {
    "steps": anything,
    "memory": anything,
    "verbose": anything,
    "transform_input": only(None),
}
IDENTITY: dict[str, Rule] = {
    "func": only(None),
    "inverse_func": only(None),
    "validate": only(False),
    "accept_sparse": anything,
    "check_inverse": anything,
    "feature_names_out": anything,
    "kw_args": only(None),
    "inv_kw_args": only(None),
}
COLUMNS: dict[str, Rule] = {
    "transformers": anything,
    "remainder": anything,
    "sparse_threshold": anything,
    "n_jobs": anything,
    "transformer_weights": only(None),
    "verbose": anything,
    "verbose_feature_names_out": anything,
}
IMPUTE: dict[str, Rule] = {
    # Only null is missing: a value that stands for it reaches the original.
    "missing_values": is_nan,
    "strategy": only("mean", "median", "most_frequent", "constant"),
    "fill_value": anything,
    "copy": anything,
    "add_indicator": only(False),
    "keep_empty_features": only(False),
}
ONE_HOT: dict[str, Rule] = {
    "categories": anything,
    "drop": anything,
    "sparse_output": anything,
    "dtype": only(np.float64),
    "handle_unknown": only("error", "ignore"),
    # Rare categories share a column.
    "min_frequency": only(None),
    "max_categories": only(None),
    "feature_name_combiner": anything,
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
