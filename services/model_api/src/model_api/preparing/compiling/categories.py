"""The categories that encoders have learnt for a request's columns."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from model_api.model.decoding import Decoder
from model_api.model.untyped import Estimator, Value
from model_api.preparing.compiling.rules import tampered


@dataclass(frozen=True)
class Learnt:
    """The values that one encoder knows for a column of the request.

    Attributes:
        column: its name.
        values: the categories, and the value that an imputer before the encoder replaces.
        strict: whether the encoder refuses any other value.
    """

    column: str
    values: list[Value]
    strict: bool


def learnt(estimator: Estimator, decoder: Decoder) -> Iterator[Learnt]:
    """Yield the values that encoders know, for columns that reach them at most through imputers.

    Only through steps with a known effect. Encoders inside other steps are left out; the model
    itself refuses values that those do not know.
    """
    types = {column.name: column.type for column in decoder.columns}
    names = [column.name for column in decoder.columns]
    for encoder, columns, replaced in _encoders(estimator, names, []):
        if len(columns) != len(encoder.categories_):
            continue
        for name, categories in zip(columns, encoder.categories_, strict=True):
            values = [*categories.tolist(), *replaced]
            kind = str if types[name] == "string" else int
            plain = [v for v in dict.fromkeys(values) if type(v) is kind]
            if types[name] in ("string", "integer", "long") and plain:
                yield Learnt(name, plain, encoder.handle_unknown == "error")


def known_categories(estimator: Estimator, decoder: Decoder) -> dict[str, list[Value]]:
    """Return, by column, the only values that an estimator's encoders take."""
    found: dict[str, list[Any]] = {}
    for one in learnt(estimator, decoder):
        if one.strict:
            kept = found.get(one.column, one.values)
            found[one.column] = [value for value in kept if value in one.values]
    return found


def vocabulary(estimator: Estimator, decoder: Decoder) -> dict[str, list[Value]]:
    """Return, by column, all values that an estimator's encoders know."""
    found: dict[str, list[Any]] = {}
    for one in learnt(estimator, decoder):
        found[one.column] = list(dict.fromkeys([*found.get(one.column, []), *one.values]))
    return found


def _encoders(
    part: Estimator, columns: list[str], replaced: list[Any]
) -> Iterator[tuple[Any, list[str], list[Any]]]:
    """Yield encoders, the columns that they encode, and the values that never reach them."""
    if isinstance(part, str) or part is None or tampered(part):
        return
    if type(part) in (OneHotEncoder, OrdinalEncoder):
        yield part, columns, replaced
    elif type(part) is Pipeline:
        for _, step in part.steps:
            yield from _encoders(step, columns, replaced)
            if (
                type(step) is SimpleImputer
                and not step.add_indicator
                and len(step.statistics_) == len(columns)
            ):
                replaced = [*replaced, step.missing_values]
            elif not (step is None or (isinstance(step, str) and step == "passthrough")):
                return
    elif type(part) is ColumnTransformer and not replaced:
        for name, step, chosen in part.transformers_:
            if isinstance(chosen, str | int):
                continue
            labels = getattr(part, "feature_names_in_", columns)
            places = part._transformer_to_input_indices[name]
            own = [labels[place] for place in places if place < len(labels)]
            if set(own) <= set(columns):
                yield from _encoders(step, own, replaced)
