"""The columns or tensors of a model's rows, for both readers and engines."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from model_api.model.signature import SCALARS, Column, Tensor


@dataclass(frozen=True)
class Layout:
    """The columns or the tensors of a signature, in its order; one of the two is empty.

    ``named`` says whether they have names.
    """

    columns: tuple[Column, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    named: bool = True

    @cached_property
    def labels(self) -> list[str | int]:
        """The columns' names in a frame."""
        if self.named:
            return [column.label for column in self.columns]
        return list(range(len(self.columns)))

    @cached_property
    def dtype(self) -> np.dtype | None:
        """The type of all rows as one array; None if there is no such array."""
        if self.tensors:
            return self.tensors[0].dtype if len(self.tensors) == 1 else None
        return common_type(self.columns)

    @cached_property
    def filled(self) -> list[int]:
        """The places of required columns in which the model nevertheless answers null."""
        return [
            place
            for place, column in enumerate(self.columns)
            if column.required and column.fills_gaps
        ]

    @cached_property
    def uniform(self) -> bool:
        """Whether all columns have one type and no nulls: the common case, and the fast one."""
        return self.dtype is not None and all(
            column.required and SCALARS[column.type][1] == self.dtype for column in self.columns
        )

    @cached_property
    def long(self) -> bool:
        """Whether there may be 64-bit integers, which doubles cannot hold."""
        return any(column.type == "long" for column in self.columns)


def common_type(columns: tuple[Column, ...]) -> np.dtype | None:
    """Return the type that holds all values of the columns; None if some are not numbers."""
    if not all(column.numeric for column in columns):
        return None
    types = [
        SCALARS[column.type][1]
        if column.required or column.type in ("float", "double")
        else np.float64
        for column in columns
    ]
    return np.result_type(*types)
