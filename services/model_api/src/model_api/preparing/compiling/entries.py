"""The entries of the list of models that may be compiled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model_api.model.engines import COMPILED_TREELITE
from model_api.model.untyped import Estimator, JsonObject
from model_api.preparing.compiling import trees
from model_api.preparing.compiling.drafts import Seen
from model_api.preparing.compiling.rules import (
    NotCompiled,
    Rule,
    anything,
    check,
    name_of,
    tampered,
)


@dataclass
class Predictor:
    """A compiled model without its steps.

    Attributes:
        engine: the name of the engine that computes it.
        options: the engine's, see `model_api.model.engines`; without the program.
        arrays: the arrays that the engine reads.
        write: writes the engine's other files into a folder.
        narrow: whether each column of the request is rounded to 32 bits separately.
    """

    engine: str
    options: JsonObject
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    write: Callable[[Path], None] = lambda folder: None
    narrow: bool = False


type Rules = dict[str, Rule] | None
type Build = Callable[[Any, Seen], Predictor]
type Entry = tuple[Rules, Build]
"""For a class of models: the rules for its parameters, None if it has none, and its compiler."""


def permitted(model: Estimator, entries: Mapping[type, Entry]) -> Build | None:
    """Return the function that compiles a model; None if its class is not among the entries.

    Raises:
        NotCompiled: the model has parameters that the entry does not permit.
    """
    entry = entries.get(type(model))
    if entry is None:
        return None
    rules, build = entry
    if rules is not None:
        check(model, rules)
    elif reason := tampered(model):
        raise NotCompiled(f"{name_of(model)} {reason}")
    return build


def training(names: str) -> dict[str, Rule]:
    """Return rules for parameters that matter only during training."""
    return dict.fromkeys(names.split(), anything)


def by_treelite(model: Estimator, how: JsonObject, dtype: str, narrow: bool = False) -> Predictor:
    """Return the predictor of a model whose trees treelite sums.

    Args:
        model: treelite's model.
        how: the engine's options, without those of the files.
        dtype: the type of the rows.
        narrow: see `Predictor`.
    """
    trees.start_with_base(model)

    def write(folder: Path) -> None:
        model.serialize(folder / COMPILED_TREELITE)

    options = {"bounded": False} | how | {"trees": COMPILED_TREELITE, "dtype": dtype}
    return Predictor("treelite", options, write=write, narrow=narrow)
