"""The steps of a pipeline, which are compiled only if all of them are on a list."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from model_api.model.layout import Layout, common_type
from model_api.model.signature import Column
from model_api.model.untyped import Estimator, JsonObject
from model_api.preparing.compiling.drafts import Draft, Seen
from model_api.preparing.compiling.numbers import NUMBERS, all_whole, number_step
from model_api.preparing.compiling.one_hot import one_hot
from model_api.preparing.compiling.rules import NotCompiled, Rule, anything, check, name_of, only


def draft(steps: list[Estimator], layout: Layout) -> tuple[Draft, Seen]:
    """Return the program of a pipeline's transformers, and its predictor's input.

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
        seen = number_step(step, seen, drafted, operations)
    return drafted, seen


def _flat(steps: list[Estimator]) -> Iterator[Estimator]:
    """Yield the steps of nested pipelines, except those that do nothing."""
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


def _check_listed(step: Estimator) -> None:
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
    """Return the input of a step that gets columns of numbers."""
    dtype = common_type(columns)
    if dtype is None:
        raise NotCompiled("some columns of text reach a step that takes numbers")
    if any(column.type == "boolean" and not column.required for column in columns):
        # They become Python objects once one is missing.
        raise NotCompiled("a column of booleans may be null")
    missing = not all(column.required for column in columns)
    return Seen(dtype, len(columns), missing, raw=columns)


def _column_transformer(step: Estimator, layout: Layout, drafted: Draft) -> Seen:
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


def _places(step: Estimator, name: str, layout: Layout) -> list[int]:
    """Return the places in a request of the columns that a part takes."""
    indices = step._transformer_to_input_indices[name]
    names = getattr(step, "feature_names_in_", None)
    if names is None:
        if step.n_features_in_ != len(layout.columns):
            raise NotCompiled("ColumnTransformer takes another number of columns")
        return [int(index) for index in indices]
    places = {label: place for place, label in enumerate(layout.labels)}
    return [places[names[index]] for index in indices]


def _block(
    steps: list[Estimator], places: list[int], layout: Layout, drafted: Draft
) -> tuple[JsonObject, Seen]:
    """Return the block of some columns, and the resulting array."""
    columns = tuple(layout.columns[place] for place in places)
    if any(type(step) is OneHotEncoder for step in steps):
        return one_hot(steps, places, columns)
    seen = _numbers(columns)
    if not steps:
        _check_passed_through(columns)
    operations: list[list[str]] = []
    for step in steps:
        seen = number_step(step, seen, drafted, operations)
    block = {
        "kind": "numbers",
        "places": places,
        # The steps take the common type of these columns, regardless of the request's others.
        "dtype": str(common_type(columns)),
        "operations": operations,
    }
    return block, replace(seen, raw=None)


def _check_passed_through(columns: tuple[Column, ...]) -> None:
    kinds = {column.type for column in columns}
    if "boolean" in kinds and len(kinds) > 1:
        raise NotCompiled("columns of booleans are passed through with others, as objects")
    if all_whole(columns) and not all(column.required for column in columns):
        raise NotCompiled("columns of whole numbers that may be null are passed through")


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
