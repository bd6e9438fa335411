"""Whether an engine answers as the original does, from their answers to the same rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_api.model.batch import Batch
from model_api.model.engines import Engine
from model_api.model.untyped import Prediction, Value

# The largest difference of probabilities from the original's: the last bits of 32.
PROBABILITY_TOLERANCE = 1e-6
RELATIVE_TOLERANCE = 1e-6
# Fewer rows prove too little, and so do columns with fewer values.
FEWEST_ROWS = 500
FEWEST_VALUES = 100


@dataclass
class Answers:
    """The original's answer to one batch; table has its probabilities, if it provides them."""

    batch: Batch
    predictions: Prediction
    table: np.ndarray | None


class Disagreement(Exception):
    """A candidate answers differently from the original; the message says how."""


def agree(engine: Engine, answers: list[Answers], classes: list[Value] | None) -> str:
    """Compare an engine's answers with the original's.

    Returns:
        how well they agree, as the end of a sentence.

    Raises:
        Disagreement: they do not.
        Exception: the engine cannot answer.
    """
    farthest, numbers = 0.0, False
    usual = _usual([_plain(known.predictions) for known in answers])
    for known in answers:
        if known.table is not None:
            found, table = engine.predict_both(known.batch)
            if table.shape != known.table.shape:
                raise Disagreement(f"probabilities of shape {table.shape}")
            distance = float(np.abs(table - known.table).max(initial=0))
            if not distance <= PROBABILITY_TOLERANCE:
                raise Disagreement(f"probabilities differ by up to {distance:.1g}")
            farthest = max(farthest, distance)
            _compare_labels(found, known, engine.indexed, classes)
            _compare_labels(engine.predict(known.batch), known, engine.indexed, classes)
            continue
        found = engine.predict(known.batch)
        apart = _distance(_plain(found), _plain(known.predictions), usual)
        if apart is None:
            continue
        numbers = True
        farthest = max(farthest, apart)
    if classes is not None:
        return f"labels equal, probabilities {_within(farthest)}"
    return f"numbers {_within(farthest)}" if numbers else "answers equal"


def _within(distance: float) -> str:
    return "equal" if distance == 0 else f"within {distance:.1g}"


def _compare_labels(found: Any, known: Answers, indexed: bool, classes: list[Value] | None) -> None:
    labels = np.asarray(classes)[found] if indexed else np.asarray(found)
    different = int((labels != np.asarray(known.predictions)).sum())
    if different:
        raise Disagreement(f"{different} of {known.batch.rows} labels differ")


def enough(answers: list[Answers], vocabulary: dict[str, list[Value]]) -> None:
    """Raise Disagreement unless the compared rows are many, and varied in each column.

    Args:
        answers: the answers that were compared.
        vocabulary: by column, all values that an encoder has learnt.
    """
    rows = sum(answer.batch.rows for answer in answers)
    if rows < FEWEST_ROWS:
        raise Disagreement(f"only {rows} rows to compare on")
    seen: dict[str, set[Any]] = {}
    for answer in answers:
        for name, values in _columns(answer.batch):
            seen.setdefault(name, set()).update(values)
    kinds = {column.name: column.type for column in answers[0].batch.layout.columns}
    for name, values in seen.items():
        needed = 2 if kinds.get(name) == "boolean" else FEWEST_VALUES
        if name in vocabulary:
            needed = min(needed, len(vocabulary[name]))
        if len(values - {None}) < needed:
            raise Disagreement(f"only {len(values - {None})} values of {name!r} to compare on")


def _columns(batch: Batch) -> Iterable[tuple[str, Iterable[Any]]]:
    tensors = batch.tensors()
    if tensors is None:
        names = [column.name for column in batch.layout.columns]
        return zip(names, zip(*batch.tuples(), strict=True), strict=True)
    flat = [tensor.reshape(len(tensor), -1).T.tolist() for tensor in tensors.values()]
    return [(str(place), values) for columns in flat for place, values in enumerate(columns)]


def _usual(answers: list[Any]) -> Any:
    """Return the usual size of numbers in answers, by name if they have names."""
    if isinstance(answers[0], dict):
        return {name: _usual([answer[name] for answer in answers]) for name in answers[0]}
    if answers[0].dtype.kind != "f":
        return 0.0
    sizes = [np.abs(answer[np.isfinite(answer)]) for answer in answers]
    return float(np.median([size.mean() for size in sizes if size.size] or [0.0]))


def _distance(ours: Any, theirs: Any, usual: Any) -> float | None:
    """Return the largest relative distance of numbers; None if others are equal."""
    if isinstance(theirs, dict):
        if not isinstance(ours, dict) or ours.keys() != theirs.keys():
            raise Disagreement("other outputs")
        distances = [_distance(ours[name], theirs[name], usual[name]) for name in theirs]
        return max((d for d in distances if d is not None), default=None)
    if ours.shape != theirs.shape:
        raise Disagreement(f"answers of shape {ours.shape}, not {theirs.shape}")
    if ours.dtype.kind != "f" or theirs.dtype.kind != "f":
        different = int((ours != theirs).sum())
        if different:
            raise Disagreement(f"{different} of {ours.size} answers differ")
        return None
    finite = np.isfinite(theirs)
    if (np.isfinite(ours) != finite).any():
        raise Disagreement("answers that are not finite differ")
    ours, theirs = ours[finite].astype(np.float64), theirs[finite].astype(np.float64)
    # An answer that is small compared with the usual one is a difference of large numbers.
    scale = np.abs(theirs) + usual
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(ours == theirs, 0.0, np.abs(ours - theirs) / scale)
    distance = float(relative.max(initial=0))
    if not distance <= RELATIVE_TOLERANCE:
        raise Disagreement(f"numbers differ by up to {distance:.1g} of themselves")
    return distance


def _plain(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: np.asarray(values) for name, values in answer.items()}
    if hasattr(answer, "to_dict") and hasattr(answer, "columns"):
        return {str(name): answer[name].to_numpy() for name in answer.columns}
    if isinstance(answer, list) and answer and isinstance(answer[0], dict):
        return {str(name): np.asarray([row[name] for row in answer]) for name in answer[0]}
    return np.asarray(answer)
