"""The input of a model's step, and the program made from the steps."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from model_api.model.signature import Column
from model_api.model.untyped import JsonObject
from model_api.preparing.compiling.rules import NotCompiled


@dataclass(frozen=True)
class Seen:
    """The input array of a scikit-learn step, as far as the step's answer depends on it.

    Attributes:
        dtype: the type of its values.
        width: the number of its columns.
        missing: whether values may be NaN.
        sparse: whether it is a sparse matrix.
        raw: the request's columns if they arrive unchanged, as a frame.
    """

    dtype: np.dtype
    width: int
    missing: bool = False
    sparse: bool = False
    raw: tuple[Column, ...] | None = None


@dataclass
class Draft:
    """An unfinished program: see `model_api.model.program.Program`."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    blocks: list[JsonObject] = field(default_factory=list)
    operations: list[list[str]] = field(default_factory=list)

    def keep(self, values: ArrayLike) -> str:
        """Return the key of an array."""
        values = np.asarray(values)
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            raise NotCompiled("what a step has learnt is not finite")
        key = f"a{len(self.arrays)}"
        self.arrays[key] = values
        return key

    def program(self) -> JsonObject:
        """Return the options of the program."""
        return {"blocks": self.blocks, "operations": self.operations}
