"""Draws rows to try a model: near its input example, at its trees' thresholds, and far away."""

import unicodedata
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np

from model_api.model.batch import Batch
from model_api.model.decoding import Decoder
from model_api.model.signature import Column
from model_api.model.untyped import Estimator, Value

ROWS = 1000
# The largest drawn number: 32 bits can hold it, and 64 bits its square.
_FARTHEST = 1e30


def draw(
    decoder: Decoder,
    example: Batch,
    estimator: Estimator = None,
    vocabulary: dict[str, list[Value]] | None = None,
) -> dict[str, Batch]:
    """Return batches of some thousand rows in total, by what is special about them.

    Args:
        decoder: the model's decoder.
        example: the model's input example.
        estimator: its scaler and its trees give the range of its inputs.
        vocabulary: by column, the values that an encoder knows.
    """
    vocabulary = vocabulary or {}
    random = np.random.default_rng(20261124)
    if decoder.tensors:
        return _draw_tensors(decoder, example, random)
    if decoder.layout.dtype is not None:
        return _draw_numbers(decoder, example, estimator, random)
    columns = list(zip(*example.tuples(), strict=True))
    batches = {}
    for kind in ("near", "wild", "round"):
        drawn = [
            _draw_column(column, list(values), vocabulary.get(column.name), kind, random)
            for column, values in zip(decoder.columns, columns, strict=True)
        ]
        batches[kind] = Batch(
            decoder.layout, ROWS, list(zip(*drawn, strict=True)), params=example.params
        )
    return batches


def _draw_numbers(
    decoder: Decoder, example: Batch, estimator: Estimator, random: np.random.Generator
) -> dict[str, Batch]:
    seen = example.array().astype(np.float64)
    matrices = _matrices(seen, estimator, random)
    batches = {}
    for kind, matrix in matrices.items():
        columns = [
            _fitted(column, matrix[:, place], random)
            for place, column in enumerate(decoder.columns)
        ]
        values = list(zip(*columns, strict=True))
        batches[kind] = Batch(decoder.layout, len(values), values, params=example.params)
    return batches


def _draw_tensors(
    decoder: Decoder, example: Batch, random: np.random.Generator
) -> dict[str, Batch]:
    tensors = example.tensors() or {}
    batches = {}
    for kind in ("near", "wild", "round"):
        drawn = {}
        for spec in decoder.tensors:
            given = tensors[spec.name]
            if spec.shape[0] != -1 or given.dtype.kind not in "fiu":
                return {}
            flat = given.reshape(len(given), -1).astype(np.float64)
            matrix = _matrices(flat, None, random)[kind]
            if given.dtype.kind in "iu":
                bounds = np.iinfo(given.dtype)
                matrix = np.rint(matrix).clip(max(bounds.min, -(2**53)), min(bounds.max, 2**53))
            drawn[spec.name] = matrix.astype(given.dtype).reshape(-1, *given.shape[1:])
        batches[kind] = Batch(decoder.layout, ROWS, tensors=drawn, params=example.params)
    return batches


def _matrices(
    seen: np.ndarray, estimator: Estimator, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return rows of numbers of each kind.

    Args:
        seen: (rows, columns) the example's values, NaN if missing.
        estimator: see ``draw``.
    """
    seen = np.where(np.isfinite(seen), seen, 0.0)
    width = seen.shape[1]
    centre, spread = _range(seen, estimator)
    base = seen[random.integers(0, len(seen), ROWS)]
    near = np.where(
        random.random((ROWS, 1)) < 0.5,
        base + random.normal(size=(ROWS, width)) * spread * 0.5,
        centre + random.normal(size=(ROWS, width)) * spread * 1.5,
    )
    far = random.choice([-1.0, 1.0], (ROWS, width)) * 10 ** random.uniform(-3, 4, (ROWS, width))
    wild = np.where(random.random((ROWS, width)) < 0.1, 0.0, centre + far * spread)
    matrices = {"near": near, "wild": wild, "round": near.round(1)}
    edges = _edges(estimator, near, random)
    if edges is not None:
        matrices["edges"] = edges
    return {kind: matrix.clip(-_FARTHEST, _FARTHEST) for kind, matrix in matrices.items()}


def _range(seen: np.ndarray, estimator: Estimator) -> tuple[np.ndarray, np.ndarray]:
    """Return each column's centre and spread, from the first scaler, or else from the example."""
    first = _first_step(estimator)
    width = seen.shape[1]
    mean: Any
    scale: Any
    low: Any
    high: Any
    mean, scale = getattr(first, "mean_", None), getattr(first, "scale_", None)
    if np.shape(mean) == (width,) == np.shape(scale):
        return np.asarray(mean), np.abs(scale)
    low, high = getattr(first, "data_min_", None), getattr(first, "data_max_", None)
    if np.shape(low) == (width,) == np.shape(high):
        return (np.asarray(low) + high) / 2, (np.asarray(high) - low) / 2
    centre = seen.mean(axis=0)
    spread = seen.std(axis=0)
    return centre, np.where(spread > 0, spread, np.maximum(np.abs(centre) * 0.3, 0.1))


def _edges(
    estimator: Estimator, near: np.ndarray, random: np.random.Generator
) -> np.ndarray | None:
    """Return rows whose values are thresholds of the trees, and the next numbers around them."""
    found = thresholds(last_step(estimator))
    if not found:
        return None
    drawn = near.copy()
    inverse = _inverse(estimator)
    if inverse is not None:
        moved = _forward(estimator, inverse, near)
        if moved is None or moved.shape != near.shape:
            return None
        drawn = moved
    for place, values in found.items():
        if place >= drawn.shape[1] or not len(values):
            continue
        chosen = random.choice(values, len(drawn))
        narrow = chosen.astype(np.float32)
        neighbours = np.stack(
            [
                chosen,
                np.nextafter(chosen, -np.inf),
                np.nextafter(chosen, np.inf),
                np.nextafter(narrow, np.float32(-np.inf)).astype(np.float64),
                np.nextafter(narrow, np.float32(np.inf)).astype(np.float64),
            ]
        )
        picked = neighbours[random.integers(0, len(neighbours), len(drawn)), np.arange(len(drawn))]
        keep = random.random(len(drawn)) < 0.3
        drawn[:, place] = np.where(keep, drawn[:, place], picked)
    return drawn if inverse is None else inverse(drawn)


def thresholds(estimator: Estimator) -> dict[int, np.ndarray]:
    """Return the thresholds of an estimator's trees, by the place of their column."""
    gathered: dict[int, list[np.ndarray]] = {}

    def add(features: np.ndarray, values: np.ndarray) -> None:
        for place in np.unique(features[features >= 0]):
            gathered.setdefault(int(place), []).append(values[features == place])

    for tree in trees(estimator):
        if hasattr(tree, "tree_"):
            add(tree.tree_.feature, tree.tree_.threshold)
        elif hasattr(tree, "nodes"):
            inner = tree.nodes[tree.nodes["is_leaf"] == 0]
            add(inner["feature_idx"].astype(int), inner["num_threshold"])
    booster = booster_of(estimator)
    if booster is not None:
        names = list(booster.feature_names or []) if hasattr(booster, "feature_names") else None
        table = booster.trees_to_dataframe()
        columns = ("Feature", "Split") if "Feature" in table else ("split_feature", "threshold")
        names = names if names else (booster.feature_name() if names is None else None)
        inner = table[table[columns[1]].notna()]
        for name, rows in inner.groupby(columns[0]):
            place = names.index(name) if names and name in names else int(str(name).lstrip("f"))
            gathered[place] = [rows[columns[1]].to_numpy(np.float64)]
    return {
        place: values[np.isfinite(values)]
        for place, parts in gathered.items()
        if len(values := np.unique(np.concatenate(parts)))
    }


def trees(estimator: Estimator) -> list[Estimator]:
    """Return all trees that scikit-learn grew in an estimator."""
    if hasattr(estimator, "tree_"):
        return [estimator]
    if hasattr(estimator, "_predictors"):
        return [tree for stage in estimator._predictors for tree in stage]
    grown = getattr(estimator, "estimators_", None)
    if grown is None:
        return []
    return [tree for part in np.ravel(np.array(grown, object)) for tree in trees(part)]


def nodes(estimator: Estimator) -> int:
    """Return the number of nodes of all trees that scikit-learn grew in an estimator."""
    return sum(
        tree.tree_.node_count if hasattr(tree, "tree_") else len(tree.nodes)
        for tree in trees(estimator)
    )


def booster_of(estimator: Estimator) -> Estimator:
    """Return the core of an XGBoost or LightGBM model; None for any other."""
    if hasattr(estimator, "trees_to_dataframe"):
        return estimator
    if hasattr(estimator, "get_booster"):
        return estimator.get_booster()
    return getattr(estimator, "booster_", None)


def _first_step(estimator: Estimator) -> Estimator:
    steps = getattr(estimator, "steps", None)
    return steps[0][1] if steps else None


def last_step(estimator: Estimator) -> Estimator:
    """Return the predictor of a pipeline; any other estimator is returned unchanged."""
    steps = getattr(estimator, "steps", None)
    return steps[-1][1] if steps else estimator


def _inverse(estimator: Estimator) -> Callable[[np.ndarray], np.ndarray] | None:
    steps = getattr(estimator, "steps", None)
    if not steps or len(steps) < 2:
        return None

    def inverse(rows: np.ndarray) -> np.ndarray:
        for _, step in reversed(steps[:-1]):
            rows = step.inverse_transform(rows)
        return rows

    return inverse


def _forward(
    estimator: Estimator, inverse: Callable[[np.ndarray], np.ndarray], rows: np.ndarray
) -> np.ndarray | None:
    try:
        moved = np.asarray(estimator[:-1].transform(rows), np.float64)
        return moved if np.allclose(inverse(moved), rows, rtol=1e-6) else None
    except Exception:
        # A step cannot be inverted, or needs a frame.
        return None


# ---- columns of any type ------------------------------------------------------------------------


def _fitted(column: Column, values: np.ndarray, random: np.random.Generator) -> list[Any]:
    """Return the numbers in the column's type, some of them missing if that is allowed."""
    match column.type:
        case "boolean":
            fitted: list[Any] = (values > np.median(values)).tolist()
        case "integer" | "long":
            if column.categories:
                fitted = [column.categories[i % len(column.categories)] for i in range(len(values))]
            else:
                most = 2**31 - 1 if column.type == "integer" else 2**53
                fitted = np.rint(values).clip(-most, most).astype(np.int64).tolist()
        case "float":
            fitted = values.astype(np.float32).astype(np.float64).tolist()
        case _:
            fitted = values.tolist()
    if not column.nullable:
        return fitted
    missing = random.random(len(fitted)) < 0.1
    return [None if m else v for m, v in zip(missing.tolist(), fitted, strict=True)]


# Texts that a model is unlikely to know.
_WORDS = [
    "",
    " ",
    "never seen",
    "nan",
    "None",
    "NA",
    "?",
    "-999",
    "0",
    "\u00e9t\u00e9",
    "\u6771\u4eac",
    "\u0645\u0631\u062d\u0628\u0627",
]


def _like(word: str) -> list[str]:
    """Return texts that differ from a word only by easily overlooked details."""
    return [word.swapcase(), f"{word} ", f" {word}", unicodedata.normalize("NFD", word), word[:1]]


def _draw_column(
    column: Column,
    seen: list[Any],
    known: list[Any] | None,
    kind: str,
    random: np.random.Generator,
) -> list[Any]:
    present = [value for value in seen if value is not None]
    if column.numeric and present and known is None:
        numbers = np.array(present, np.float64).reshape(-1, 1)
        return _fitted(column, _matrices(numbers, None, random)[kind][:, 0], random)
    pool: list[Any] = list(column.categories or known or present)
    if column.type == "string" and column.categories is None and kind != "near":
        pool += [like for word in pool[:200] for like in _like(word)] + _WORDS
    if column.type in ("integer", "long") and column.categories is None and kind == "wild":
        pool += [0, -1, 2**31 - 1]
    if column.type == "datetime":
        pool = [v + timedelta(hours=float(h)) for v in present for h in random.normal(0, 1e4, 20)]
    if not column.required:
        pool.append(None)
    if not pool:
        raise ValueError(f"the input example has no value of column {column.name!r}")
    return [pool[i] for i in random.integers(0, len(pool), ROWS)]
