"""A model's signature, compiled once into decoders of valid request bodies."""

import re
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import astuple

from model_api.model.batch import Batch, as_tensor
from model_api.model.checking import checked_parameter, parse_datetime
from model_api.model.errors import InvalidBody
from model_api.model.faults import Names
from model_api.model.layout import Layout
from model_api.model.signature import (
    NESTED,
    SignatureError,
    column_of,
    column_type,
    fits_struct,
    list_of,
    struct_of,
    tensor_of,
    tensor_type,
    tuple_of,
)
from model_api.model.untyped import JsonObject, RuntimeType, Value
from model_api.model.words import clean, short

FORMATS = ("inputs", "instances", "dataframe_records", "dataframe_split")

_FIRST_OF_LIST = re.compile(rb"\s*\[\s*(.)", re.DOTALL)


class Reader:
    """A signature, compiled into decoders of msgspec: reads valid requests.

    Args:
        inputs: ``signature.inputs`` as MLflow writes it, parsed.
        params: ``signature.params``, likewise.
        categories: by column, the only values that the model takes.
        gaps: names of required columns in which the model nevertheless answers null.

    Attributes:
        layout: the columns or tensors of the rows.
        columns: the layout's columns; empty for tensors.
        tensors: the layout's tensors; empty for columns.

    Raises:
        SignatureError: the signature has no inputs, or one of an unknown type.
    """

    def __init__(
        self,
        inputs: list[JsonObject],
        params: list[JsonObject] | None = None,
        categories: dict[str, list[Value]] | None = None,
        gaps: Collection[str] = (),
    ) -> None:
        if not inputs:
            raise SignatureError("the signature has no inputs")
        known = categories or {}
        self.params = params or []
        self.named = inputs[0].get("name") is not None
        if inputs[0]["type"] == "tensor":
            self.layout = Layout((), tuple(map(tensor_of, inputs)), self.named)
        else:
            columns = [column_of(i, entry, known, gaps) for i, entry in enumerate(inputs)]
            self.layout = Layout(tuple(columns), (), self.named)
        self.columns, self.tensors = self.layout.columns, self.layout.tensors
        # The default names of pandas' columns, which MLflow leaves out.
        self.unsent = list(range(len(self.columns)))
        self._texts: list[int] = []
        self.nullable = any(column.nullable for column in self.columns)
        self.nested = any(column.type in NESTED for column in self.columns)
        self.names = Names(column.name for column in self.columns)
        if len(self.names) != len(self.columns):
            raise SignatureError("two columns have the same name as text: rename one")
        self._envelope = msgspec.json.Decoder(_Envelope)
        self.split = msgspec.json.Decoder(Split)
        # Input without a decoder is read the slow way.
        self.row_type: RuntimeType = None
        self.lists: msgspec.json.Decoder[Value] | None = None
        self.records: msgspec.json.Decoder[Value] | None = None
        self.by_column: msgspec.json.Decoder[Value] | None = None
        self._compile()

    # ---- what it is -----------------------------------------------------------------------------

    def _compile(self) -> None:
        if self.tensors:
            types = [tensor_type(tensor) for tensor in self.tensors]
            self.lists = msgspec.json.Decoder(types[0]) if len(types) == 1 else None
            tensors = [tensor.name for tensor in self.tensors]
            if self.named and all(map(fits_struct, tensors)):
                self.by_column = msgspec.json.Decoder(struct_of(tensors, types))
            return
        if self.nested:
            return
        values = [column_type(column) for column in self.columns]
        self.row_type = tuple_of(values)
        self.lists = msgspec.json.Decoder(list_of(self.row_type))
        names = [column.name for column in self.columns]
        if all(map(fits_struct, names)):
            required = [column.required for column in self.columns]
            self.records = msgspec.json.Decoder(list_of(struct_of(names, values, required)))
            self.by_column = msgspec.json.Decoder(struct_of(names, list(map(list_of, values))))
        self._texts = [i for i, c in enumerate(self.columns) if c.type == "datetime"]
        # Clients use few different orders of columns.
        self.lists_of = lru_cache(maxsize=16)(self._compile_order)

    def _compile_order(
        self, names: tuple[str, ...]
    ) -> tuple[msgspec.json.Decoder[Any], Callable[[Any], tuple[Any, ...]]]:
        """Return a decoder of rows in this order of columns, and a function that reorders them."""
        places = {name: place for place, name in enumerate(names)}
        if len(places) != len(names):
            raise ValueError("a column is there twice")
        if any(c.required and c.name not in places for c in self.columns):
            raise ValueError("a column is missing")
        decoder = msgspec.json.Decoder(list_of(tuple_of(self._types_in_order(names))))
        order = [places.get(column.name) for column in self.columns]
        return decoder, lambda row: tuple([None if i is None else row[i] for i in order])

    def _types_in_order(self, names: tuple[str, ...]) -> list[Any]:
        """Return the types of a row's values; ValueError if there are unknown columns."""
        if not self.names >= set(names):
            raise ValueError("not the columns of the signature")
        types = {column.name: column_type(column) for column in self.columns}
        return [types[name] for name in names]

    def read(self, body: bytes) -> Batch:
        """Return the rows of a body; raise any error of decoding if it is invalid."""
        if not self.params and body[:1] == b"[":
            return self.read_list(body)
        if body.lstrip()[:1] == b"[":
            return self.read_list(body, self.parameters(None))
        name, content, given = self.opened(body)
        params = self.parameters(given)
        if name == "dataframe_split":
            return self.read_split(content, params)
        if content[:1] == b"{" and name == "inputs" and self.by_column is not None:
            return self.read_columns(content, params)
        return self.read_list(content, params)

    def opened(self, body: bytes) -> tuple[str, bytes, JsonObject | None]:
        """Return the format of a body that is an object, its content, and the parameters."""
        envelope = self._envelope.decode(body)
        [name] = [name for name in FORMATS if getattr(envelope, name) is not msgspec.UNSET]
        return name, bytes(getattr(envelope, name)), envelope.params

    def read_list(self, content: bytes, params: JsonObject | None = None) -> Batch:
        """Return the rows of a list of objects, of lists, or of a tensor's rows."""
        if self.tensors:
            if self.lists is None:
                raise ValueError("several tensors have names")
            tensor = self.tensors[0]
            array = as_tensor(tensor, self.lists.decode(content))
            return Batch(self.layout, len(array), tensors={tensor.name: array}, params=params)
        first = _FIRST_OF_LIST.match(content)
        decoder = self.lists if first is not None and first[1] == b"[" else self.records
        if decoder is None:
            raise ValueError("nested columns and odd names are read the slow way")
        values = decoder.decode(content)
        return Batch(self.layout, len(values), self.times(values), params=params)

    def read_split(self, content: bytes, params: JsonObject | None) -> Batch:
        """Return the rows of ``dataframe_split``."""
        split = self.split.decode(content)
        names = split.columns
        if self.tensors or not self.named or (names or self.unsent) == self.layout.labels:
            return self.read_list(bytes(split.data), params)
        if names is None or self.nested:
            raise ValueError("columns are missing, or are read the slow way")
        decoder, reorder = self.lists_of(tuple(self.as_text(names)))
        values = list(map(reorder, decoder.decode(split.data)))
        return Batch(self.layout, len(values), self.times(values), params=params)

    def as_text(self, names: list[Value]) -> list[Value]:
        """Return the names; those that are numbers in the model, as in pandas, become text."""
        return [str(name) if name in self.layout.labels else name for name in names]

    def read_columns(self, content: bytes, params: JsonObject | None) -> Batch:
        """Return the rows of an object that has a list for each column, or a tensor by name."""
        if self.by_column is None:
            raise ValueError("odd names are read the slow way")
        found = astuple(self.by_column.decode(content))
        if self.tensors:
            arrays = {
                tensor.name: as_tensor(tensor, value)
                for tensor, value in zip(self.tensors, found, strict=True)
            }
            [rows] = {len(array) for array in arrays.values()}
            return Batch(self.layout, rows, tensors=arrays, params=params)
        values = list(zip(*found, strict=True))
        return Batch(self.layout, len(values), self.times(values), params=params)

    def times(self, values: Sequence[Value]) -> Sequence[Value]:
        """Return the rows with times where the signature has them; ValueError if one is invalid."""
        if not self._texts:
            return values
        rows = [list(astuple(v) if isinstance(v, msgspec.Struct) else v) for v in values]
        for place in self._texts:
            for row in rows:
                row[place] = None if row[place] is None else parse_datetime(row[place])
        return rows

    def parameters(self, given: Value) -> JsonObject | None:
        """Return a request's parameters with the defaults; InvalidBody says what is wrong."""
        if not self.params and not given:
            return None
        given = {} if given is None else given
        if not isinstance(given, dict):
            raise InvalidBody(f"params must be an object, not {short(given)}")
        specs = {spec["name"]: spec for spec in self.params}
        if unknown := given.keys() - specs.keys():
            known = f"it takes {', '.join(specs)}" if specs else "it takes none"
            raise InvalidBody(f"params: {clean(min(unknown))} is not one of this model; {known}")
        checked = {}
        for name, spec in specs.items():
            if name not in given:
                checked[name] = spec.get("default")
                continue
            try:
                checked[name] = checked_parameter(spec, given[name])
            except ValueError as error:
                raise InvalidBody(f"params: {name} {error}") from None
        return checked


class _Envelope(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    inputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    instances: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    dataframe_records: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    dataframe_split: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    params: JsonObject | None = None


class Split(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The content of ``dataframe_split``."""

    data: msgspec.Raw
    columns: list[str | int] | None = None
    index: list[Value] | None = None
