"""Bodies that both contracts read alike."""

from typing import Any, NamedTuple

import msgspec

from model_api.model.answers import encode
from model_api.model.batch import Batch
from model_api.model.decoding import Decoder, Reader
from model_api.model.manifest import Manifest
from model_api.model.signature import column_type, list_of, struct_of
from model_api.model.untyped import JsonObject

# There is a decoder for each order of columns, including those that the model does not have.
_UNKNOWN_FAST = 200


class Rows(NamedTuple):
    """Rows that were read without MLflow; ``body`` has them in the strict contract's format."""

    batch: Batch
    body: bytes


class CommonReader(Reader):
    """Takes only bodies that MLflow's server takes as well, and reads as the strict contract does.

    MLflow leaves out a column that a row lacks, and converts null to the column's type: only for
    floats this is NaN. So every column must be present, and only floats may be null. It ignores
    columns of a frame that the model does not have.
    """

    def __init__(self, decoder: Decoder, manifest: Manifest) -> None:
        inputs = manifest["signature"]["inputs"]
        gaps = [c.name for c in decoder.columns if c.nullable and c.type in ("float", "double")]
        super().__init__(
            [entry | {"required": True} for entry in inputs],
            decoder.params,
            manifest["categories"],
            gaps,
        )
        # As in the comparison of engines: columns that may lack a value are floats in an array.
        self.layout = decoder.layout
        self._frame: msgspec.json.Decoder[Any] | None = None
        if self.records is not None and self.named:
            names = [column.name for column in self.columns]
            row = struct_of(names, list(map(column_type, self.columns)), closed=False)
            self._frame = msgspec.json.Decoder(list_of(row))
        # MLflow gives all columns without names the type of the first.
        self._lists_alike = bool(self.tensors) or (
            not self.named and len({column.type for column in self.columns}) == 1
        )

    def common(self, body: bytes) -> Rows | None:
        """Return the rows; None or a decoding error if the contracts read the body differently."""
        if body.lstrip()[:1] != b"{":
            return None
        name, content, given = self.opened(body)
        if given:
            return None
        params = self.parameters(None)
        if name == "dataframe_split":
            split = self.split.decode(content)
            if self.tensors or not self._split_alike(split):
                return None
            batch = self.read_split(content, params)
            more = len(split.columns or ()) > len(self.columns)
            return Rows(batch, strict_body(batch, None) if more else body)
        if content[:1] == b"{":
            by_column = name == "inputs" and self.named and self.by_column is not None
            return Rows(self.read_columns(content, params), body) if by_column else None
        records = content[1:].lstrip()[:1] == b"{"
        if records and (self.tensors or not self.named):
            return None
        if not records and (name == "dataframe_records" or not self._lists_alike):
            return None
        try:
            return Rows(self.read_list(content, params), body)
        except msgspec.ValidationError:
            if name != "dataframe_records" or self._frame is None:
                raise
        values = self._frame.decode(content)
        batch = Batch(self.layout, len(values), self.times(values), params=params)
        return Rows(batch, strict_body(batch, None))

    def _types_in_order(self, names: tuple[str, ...]) -> list[Any]:
        if len(names) > len(self.names) + _UNKNOWN_FAST:
            raise ValueError("more columns than a decoder is made for")
        types = {column.name: column_type(column) for column in self.columns}
        return [types.get(name, Any) for name in names]

    def _split_alike(self, split: Any) -> bool:
        if (split.columns is not None) != self.named:
            return False
        # A model made of Python code may read the index.
        return split.index is None or split.index == list(range(len(split.index)))


def strict_body(batch: Batch, params: JsonObject | None) -> bytes:
    """Return a body of the strict contract with the rows of a batch."""
    tensors = batch.tensors()
    if tensors is not None:
        nested = {name: tensor.tolist() for name, tensor in tensors.items()}
        rows = nested.get(None, nested)
    else:
        columns = batch.columns()
        table = zip(*columns.values(), strict=True)
        rows = [dict(zip(columns, row, strict=True)) for row in table]
    # MLflow puts numpy's numbers into objects.
    return encode({"inputs": rows} | ({"params": params} if params else {}))
