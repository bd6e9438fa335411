"""A model's MLflow signature: its columns and tensors, and their types in msgspec and JSON."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import GenericAlias
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from model_api.model.untyped import JsonObject, RuntimeType, Value

FLOAT32_MAX = float(np.finfo(np.float32).max)
INT32, INT64 = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1)
_Float32 = Annotated[float, msgspec.Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
_Integer = Annotated[int, msgspec.Meta(ge=INT32[0], le=INT32[1])]
_Long = Annotated[int, msgspec.Meta(ge=INT64[0], le=INT64[1])]
# MLflow's names of types: the type for msgspec, numpy's type, the JSON schema.
SCALARS: dict[str, tuple[RuntimeType, RuntimeType, JsonObject]] = {
    "boolean": (bool, np.bool_, {"type": "boolean"}),
    "integer": (
        _Integer,
        np.int32,
        {"type": "integer", "minimum": INT32[0], "maximum": INT32[1]},
    ),
    "long": (_Long, np.int64, {"type": "integer", "minimum": INT64[0], "maximum": INT64[1]}),
    "float": (
        _Float32,
        np.float32,
        {"type": "number", "minimum": -FLOAT32_MAX, "maximum": FLOAT32_MAX},
    ),
    "double": (float, np.float64, {"type": "number"}),
    "string": (str, np.object_, {"type": "string"}),
    "binary": (bytes, np.object_, {"type": "string", "contentEncoding": "base64"}),
    "datetime": (str, np.dtype("datetime64[ns]"), {"type": "string", "format": "date-time"}),
}
NUMERIC = ("boolean", "integer", "long", "float", "double")
NESTED = ("array", "object", "map", "any")


class SignatureError(ValueError):
    """The signature does not allow checking requests."""


@dataclass(frozen=True)
class Column:
    """One input of a model; ``type`` is MLflow's name of its type.

    A column that is not required may be null or missing. ``categories``, only for text and whole
    numbers, are the only values that the model takes. ``fills_gaps`` says that the model answers
    null here although the signature requires a value.
    """

    name: str
    type: str
    required: bool = True
    categories: tuple[Value, ...] | None = None
    spec: JsonObject = field(default_factory=dict)
    fills_gaps: bool = False

    @property
    def nullable(self) -> bool:
        """Whether it may contain null."""
        return self.fills_gaps or not self.required

    @cached_property
    def known(self) -> frozenset[Value]:
        """The categories, for look-ups."""
        return frozenset(self.categories or ())

    @property
    def label(self) -> str | int:
        """Its name in a frame: a number if the model was trained with one."""
        label: str | int = self.spec.get("name", self.name)
        return label

    @property
    def numeric(self) -> bool:
        """Whether it contains numbers or booleans."""
        return self.type in NUMERIC


@dataclass(frozen=True)
class Tensor:
    """One tensor input of a model; -1 in its shape is any length, and name may be None."""

    name: str | None
    dtype: np.dtype
    shape: tuple[int, ...]


def column_of(
    place: int, entry: JsonObject, categories: dict[str, list[Value]], gaps: Collection[str] = ()
) -> Column:
    """Return a column from MLflow's JSON; SignatureError if its type is unknown."""
    kind = entry["type"]
    if kind not in SCALARS and kind not in NESTED:
        raise SignatureError(f"input {entry.get('name', place)!r} is of the unknown type {kind!r}")
    name = entry.get("name")
    if not isinstance(name, str | int | None):
        raise SignatureError(
            f"a column has the name {name!r}: give the columns names that are text"
        )
    # pandas numbers the columns of a frame made from an array; JSON's names are text.
    name = str(place if name is None else name)
    known = categories.get(name)
    return Column(
        name,
        kind,
        entry.get("required", True),
        None if known is None else tuple(known),
        entry,
        name in gaps,
    )


def tensor_of(entry: JsonObject) -> Tensor:
    """Return a tensor from MLflow's JSON; SignatureError if JSON cannot hold it."""
    spec = entry["tensor-spec"]
    dtype = np.dtype(spec["dtype"])
    if dtype.kind not in "biufUSO":
        raise SignatureError(f"a tensor of type {dtype} cannot be written as JSON")
    return Tensor(entry.get("name"), dtype, tuple(spec["shape"]))


def fits_struct(name: str | None) -> bool:
    """Tell whether msgspec supports a field of that name: one without escapes in JSON."""
    return name is not None and not any(c in '"\\' or c < " " for c in name)


def struct_of(
    names: Sequence[str | None],
    types: list[RuntimeType],
    required: list[bool] | None = None,
    closed: bool = True,
) -> RuntimeType:
    """Return a struct with a field for each name; any name is possible.

    A ``closed`` one refuses fields with other names; otherwise they are ignored.
    """
    required = required or [True] * len(names)
    # msgspec requires fields without a default first; astuple keeps the signature's order.
    fields = [
        (f"f{i}", kind) if needed else (f"f{i}", kind, None)
        for i, (kind, needed) in enumerate(zip(types, required, strict=True))
    ]
    return msgspec.defstruct(
        "Row",
        fields,
        rename={f"f{i}": name for i, name in enumerate(names) if name is not None},
        forbid_unknown_fields=closed,
        kw_only=True,
        gc=False,
    )


def list_of(kind: RuntimeType) -> RuntimeType:
    """Return the type of lists of a type made at runtime."""
    return GenericAlias(list, (kind,))


def tuple_of(kinds: Iterable[RuntimeType]) -> RuntimeType:
    """Return the type of tuples of types made at runtime."""
    return GenericAlias(tuple, tuple(kinds))


def column_type(column: Column) -> RuntimeType:
    """Return the type that msgspec decodes one value of a column to."""
    kind = SCALARS[column.type][0]
    if column.categories:
        kind = Literal[column.categories]
    return kind | None if column.nullable else kind


def tensor_type(tensor: Tensor) -> RuntimeType:
    """Return the type that msgspec decodes a tensor to: lists of lists."""
    kind: Any = str
    if tensor.dtype.kind == "b":
        kind = bool
    elif tensor.dtype.kind == "f":
        kind = float
    elif tensor.dtype.kind in "iu":
        bounds = np.iinfo(tensor.dtype)
        kind = Annotated[int, msgspec.Meta(ge=int(bounds.min), le=min(int(bounds.max), INT64[1]))]
    elif tensor.dtype.kind == "O":
        kind = Any
    for _ in tensor.shape:
        kind = list_of(kind)
    return kind


def param_type(spec: JsonObject) -> str:
    """Return MLflow's name of a parameter's type."""
    return spec.get("type") or spec.get("dtype") or "any"
