"""An even sample of rows that arrive in tables, with bounded memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

MAX_ROWS = 20_000
"""Most rows kept for a window: more rows cost time and do not change a verdict."""

MAX_BYTES = 32 << 20
"""Most memory of these rows, in bytes of Arrow."""


class EvenSample:
    """Rows that arrive one table after another, each kept with the same probability.

    Every row has a random key. The rows with the smallest keys are kept, as many as `MAX_ROWS` and
    `MAX_BYTES` allow (Vitter, ACM Transactions on Mathematical Software 11, 1985, on sampling in
    one pass). `below` is the current limit of the keys; `seen` counts all rows.
    """

    def __init__(self, below: float = 1.0) -> None:
        self.below, self.seen = below, 0
        self._parts: list[tuple[pa.Table, np.ndarray]] = []
        self._held = 0

    def add(self, table: pa.Table, keys: np.ndarray) -> None:
        """Take the rows whose key is small enough."""
        self.seen += table.num_rows
        self._keep(table, keys)

    def merge(self, other: EvenSample) -> None:
        """Take the rows of another sample."""
        self.seen += other.seen
        for table, keys in other._parts:
            self._keep(table, keys)

    def table(self) -> pa.Table:
        """The kept rows, in no particular order."""
        self._trim()
        return self._parts[0][0] if self._parts else pa.table({})

    def _keep(self, table: pa.Table, keys: np.ndarray) -> None:
        if (small := keys < self.below).any():
            self._parts.append((table.filter(pa.array(small)), keys[small]))
            self._held += int(small.sum())
        if self._held > 2 * MAX_ROWS or sum(part.nbytes for part, _ in self._parts) > 2 * MAX_BYTES:
            self._trim()

    def _trim(self) -> None:
        if not self._parts:
            return
        table = _concat([table for table, _ in self._parts])
        keys = np.concatenate([keys for _, keys in self._parts])
        count = min(len(keys), MAX_ROWS, int(len(keys) * MAX_BYTES / max(1, table.nbytes)))
        if count < len(keys):
            order = np.argsort(keys)
            self.below = float(keys[order[count]])
            order = order[:count]
            table, keys = table.take(pa.array(order)), keys[order]
        self._parts, self._held = [(table, keys)], len(keys)


def _concat(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of all rows, even if the files have different types for a column.

    The log chooses the type of predictions per file: integers in one file, text in another.
    Different types of numbers become floats; any other mixture becomes text.
    """
    kinds: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for column in table.schema:
            kinds.setdefault(column.name, set()).add(column.type)
    mixed = {name: types for name, types in kinds.items() if len(types) > 1}
    return pa.concat_tables([_unified(table, mixed) for table in tables], promote_options="default")


def _unified(table: pa.Table, mixed: Mapping[str, set[pa.DataType]]) -> pa.Table:
    for name in mixed.keys() & set(table.column_names):
        column = table[name]
        if all(_is_number(kind) for kind in mixed[name]):
            # Rounding large integers is fine: their last digits do not matter for drift.
            column = column.cast(pa.float64(), safe=False)
        else:
            column = pa.array([_text(value) for value in column.to_pylist()], pa.string())
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return any(test(kind) for test in (types.is_integer, types.is_floating, types.is_null))


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, default=str)
