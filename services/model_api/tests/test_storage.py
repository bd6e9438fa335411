"""Files that a reader sees complete or not at all."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileSelector

from model_api.common.storage import locate, put, writing

TABLE = pa.table({"a": [1.0, 2.0]})


def test_a_file_has_its_name_only_once_it_is_whole(tmp_path: Path) -> None:
    system, root = locate(f"file://{tmp_path}/log")
    path = f"{root}/day/1.parquet"
    before = pa.BufferOutputStream()
    pq.write_table(TABLE.slice(0, 1), before)
    put(system, path, before.getvalue())
    with writing(system, path) as sink:
        pq.write_table(TABLE, sink)
        sink.flush()
        assert Path(path).read_bytes() == before.getvalue()
        # Readers of the folder ignore a file that is being written.
        assert ds.dataset(root, filesystem=system, format="parquet").files == [path]
        found = system.get_file_info(FileSelector(root, recursive=True))
        assert [info.path for info in found if info.path.endswith(".parquet")] == [path]
    assert ds.dataset(root, filesystem=system, format="parquet").to_table() == TABLE
    assert os.listdir(f"{root}/day") == ["1.parquet"]


def test_a_file_that_was_not_finished_leaves_nothing(tmp_path: Path) -> None:
    system, root = locate(f"file://{tmp_path}/log")
    with pytest.raises(KeyError), writing(system, f"{root}/1.parquet") as sink:
        sink.write(b"half")
        raise KeyError
    assert os.listdir(root) == []
