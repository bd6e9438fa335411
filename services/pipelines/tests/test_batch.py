"""Batches against a real MLflow server, in folders and in the emulator's S3."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from aws_emulator import KEYS, Emulator
from mlflow import MlflowClient
from mlflow.models import infer_signature
from model_api.common.storage import locate
from model_api.model.version import open_version
from model_api.preparing.prepare import prepare_downloaded
from sklearn.linear_model import LinearRegression

from lastro_pipelines import batch
from lastro_pipelines.files import BatchError

RUN = "scheduled__2026-11-24T00:00:00+00:00"


@pytest.fixture(scope="module")
def model(mlflow_url: str) -> str:
    """A registered model whose version 1, the champion, answers 2a + n, and version 2 0."""
    client = MlflowClient(mlflow_url, mlflow_url)
    name = f"sum-{uuid4().hex[:8]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
        mlflow.set_tracking_uri(mlflow_url)
        mlflow.set_experiment(name)
        rows = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "n": [1, 0, 2, 5]})
        for factor in (1, 0):
            fitted = LinearRegression().fit(rows, factor * (2 * rows["a"] + rows["n"]))
            with mlflow.start_run():
                mlflow.sklearn.log_model(
                    fitted,
                    name="model",
                    registered_model_name=name,
                    signature=infer_signature(rows, fitted.predict(rows)),
                    input_example=rows.head(2),
                    pip_requirements=["scikit-learn"],
                    serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_SKOPS,
                )
        client.set_registered_model_alias(name, "champion", "1")
    mlflow.set_tracking_uri(None)
    return name


class Bench:
    """The files of a test, and the model that scores them."""

    def __init__(self, url: str, model: str) -> None:
        self.model = model
        self.source, self.target = f"{url}/in", f"{url}/out"
        self.experiment = f"batch-{uuid4().hex[:8]}"
        self.client = MlflowClient()

    def put(self, name: str, table: pa.Table | str, **options: Any) -> None:
        system, path = locate(f"{self.source}/{name}")
        if system.type_name == "local":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        with system.open_output_stream(path) as sink:
            if isinstance(table, str):
                sink.write(table.encode())
            else:
                pq.write_table(table, sink, **options)

    def score(self, run_id: str = RUN, **changes: Any) -> dict[str, Any]:
        where = {"source": self.source, "target": self.target, "experiment": self.experiment}
        scored = batch.score(run_id, **{"model": self.model} | where | changes)
        return json.loads(json.dumps(scored))

    def written(self, below: str | None = None) -> dict[str, bytes]:
        system, path = locate(below or self.target)
        selector = pa.fs.FileSelector(path, recursive=True, allow_not_found=True)
        content = {}
        for info in system.get_file_info(selector):
            if info.is_file:
                with system.open_input_stream(info.path) as file:
                    content[info.path.removeprefix(f"{path}/")] = file.read()
        return content

    def rows(self, folder: str) -> pd.DataFrame:
        system, path = locate(folder)
        return ds.dataset(path, filesystem=system, format="parquet").to_table().to_pandas()

    def runs(self) -> list[Any]:
        experiment = self.client.get_experiment_by_name(self.experiment)
        return list(self.client.search_runs([experiment.experiment_id]))


@pytest.fixture
def bench(tracking: str, model: str, tmp_path: Path) -> Bench:
    return Bench(f"file://{tmp_path}", model)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    emulator = Emulator(tmp_path_factory.mktemp("aws"), port)
    emulator.start()
    emulator.make_bucket("artifacts")
    yield emulator
    emulator.stop()


@pytest.fixture
def s3(tracking: str, model: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in (emulator.environment | KEYS).items():
        monkeypatch.setenv(name, value)
    return Bench(f"s3://artifacts/{uuid4().hex[:8]}", model)


def test_files_in_s3_are_scored_and_their_lineage_is_recorded(s3: Bench) -> None:
    s3.put("b/two.parquet", pa.table({"n": pa.array([3], pa.int32()), "a": [1.5], "id": [7]}))
    s3.put("a.csv", 'id,a,n\nx,1.0,2\n"y\nz",2.5,1\n')
    s3.put("_hidden/c.csv", "a,n\n9,9\n")
    s3.put("notes.txt", "not a table")
    scored = s3.score()
    folder = scored["output"]
    assert folder == (
        f"{s3.target}/model={s3.model}/version=1/run=scheduled__2026-11-24T00-00-00-00-00-5e675d27"
    )
    written = s3.written(folder)
    assert written.keys() == {
        "part-00000.parquet",
        "part-00001.parquet",
        "_lineage.json",
        "_SUCCESS",
    }
    first = pq.read_table(pa.BufferReader(written["part-00000.parquet"]))
    assert first.column_names == ["id", "a", "n", "prediction", "model_version"]
    assert first["id"].to_pylist() == ["x", "y\nz"]
    assert first["prediction"].to_pylist() == pytest.approx([4.0, 6.0])
    second = pq.read_table(pa.BufferReader(written["part-00001.parquet"])).to_pylist()
    assert second == [
        {"n": 3, "a": 1.5, "id": 7, "prediction": pytest.approx(6.0), "model_version": "1"}
    ]

    lineage = json.loads(written["_lineage.json"])
    assert scored == lineage | {"output": folder}
    version = s3.client.get_model_version(s3.model, "1")
    told = {"model": s3.model, "version": "1", "alias": "champion", "run_id": version.run_id}
    assert told.items() <= lineage.items()
    assert (lineage["source"], lineage["pipeline_run_id"]) == (s3.source, RUN)
    assert lineage["started"] <= lineage["finished"]
    etags = [file.pop("etag") for file in lineage["files"]]
    assert all(len(etag) >= 32 for etag in etags)
    sizes = {name: len(content) for name, content in s3.written(s3.source).items()}
    assert lineage["files"] == [
        {
            "path": f"{s3.source.removeprefix('s3://')}/{name}",
            "size": sizes[name],
            "rows": rows,
            "output": output,
        }
        for name, rows, output in (
            ("a.csv", 2, "part-00000.parquet"),
            ("b/two.parquet", 1, "part-00001.parquet"),
        )
    ]

    [run] = s3.runs()
    assert (run.info.status, run.info.run_id) == ("FINISHED", lineage["mlflow_run_id"])
    assert (
        run.data.params.items() >= {"model": s3.model, "version": "1", "source": s3.source}.items()
    )
    assert (run.data.metrics["rows"], run.data.metrics["files"]) == (3, 2)
    assert run.data.tags["pipeline_run_id"] == RUN


def test_a_repeated_batch_replaces_only_its_own_folder(bench: Bench) -> None:
    bench.put("a.csv", "a,n\n1,1\n")
    bench.put("b.csv", "a,n\n2,2\n")
    # Its name differs only in punctuation.
    other_run = bench.score(RUN.replace(":", "-"))
    other_version = bench.score(version="2")
    assert other_version["alias"] is None
    assert list(bench.rows(other_version["output"])["prediction"]) == pytest.approx([0.0, 0.0])
    first = bench.score()
    before = bench.written()
    locate(bench.source)[0].delete_file(f"{locate(bench.source)[1]}/b.csv")
    second = bench.score()
    after = bench.written()
    own = first["output"].removeprefix(f"{bench.target}/")
    assert second["output"] == first["output"]
    assert {name for name in before if before[name] != after.get(name)} == {
        f"{own}/part-00001.parquet",
        f"{own}/_lineage.json",
    }
    assert before.keys() - after.keys() == {f"{own}/part-00001.parquet"}
    assert bench.rows(second["output"])["prediction"].to_list() == pytest.approx([3.0])
    assert other_run["output"] != first["output"]


def test_a_failed_attempt_leaves_no_success_marker(bench: Bench) -> None:
    bench.put("a.csv", "a,n\n1,1\n")
    folder = bench.score()["output"]
    bench.put("b.csv", "a,n\n1,1\n1,2\n1,many\n")
    with pytest.raises(BatchError, match=r"b\.csv.*Row #4.*'many'"):
        bench.score()
    assert not {"_SUCCESS", "_lineage.json"} & bench.written(folder).keys()
    assert sorted(run.info.status for run in bench.runs()) == ["FAILED", "FINISHED"]


def test_a_missing_value_is_named_by_file_column_and_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastro_pipelines.files._ROWS", 10)
    values = [1.0] * 25
    bench.put("a.parquet", pa.table({"a": values, "n": [1] * 25}))
    bench.put("b.parquet", pa.table({"a": [*values[:23], None, 1.0], "n": [1] * 25}))
    with pytest.raises(BatchError, match=r"b\.parquet: column 'a', row 23: must not be missing"):
        bench.score()
    # The file that was half scored has no output.
    assert [name.rpartition("/")[2] for name in bench.written()] == ["part-00000.parquet"]


def test_a_file_that_was_half_scored_is_not_in_s3(
    s3: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastro_pipelines.files._ROWS", 10)
    s3.put("a.parquet", pa.table({"a": [1.0] * 25, "n": [1] * 25}))
    s3.put("b.parquet", pa.table({"a": [*[1.0] * 23, None, 1.0], "n": [1] * 25}))
    with pytest.raises(BatchError, match=r"b\.parquet: column 'a', row 23"):
        s3.score()
    assert [name.rpartition("/")[2] for name in s3.written()] == ["part-00000.parquet"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no .csv or .parquet file below file:"),
        ({"x.csv": "a\n1\n"}, r"x\.csv: column 'n' is missing, which version 1 of 'sum-.*has 'a'"),
        ({"x.csv": "a,n,a\n1,1,1\n"}, r"x\.csv: column 'a' appears more than once"),
        ({"x.csv": "a,n,prediction\n1,1,1\n"}, r"x\.csv: column 'prediction'.*Rename it"),
        ({"x.csv": ""}, r"x\.csv cannot be read: .*[Ee]mpty"),
        ({"x.csv": "a,n\n1,1\n1\n"}, r"x\.csv.*Row #3.*Expected 2 columns, got 1"),
        ({"x.csv": "a,n\n1,1.5\n"}, r"x\.csv.*Row #2.*1\.5"),
        ({"x.parquet": "a,n\n"}, r"x\.parquet cannot be read: .*[Pp]arquet"),
    ],
)
def test_files_that_cannot_be_scored_are_named(
    bench: Bench, files: dict[str, str], message: str
) -> None:
    bench.put("good.txt", "so that the folder is there")
    for name, content in files.items():
        bench.put(name, content)
    with pytest.raises(BatchError, match=message):
        bench.score()


def test_an_invalid_source_or_model_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for target in (bench.source, f"{bench.source}/out", bench.source.removesuffix("/in")):
        with pytest.raises(BatchError, match="overlap"):
            bench.score(target=target)
    with pytest.raises(BatchError, match="'beer' has no version with the alias 'champion'"):
        bench.score(model="beer")
    with pytest.raises(BatchError, match=r"version 9 of 'sum-.*' cannot be used"):
        bench.score(version="9")
    with pytest.raises(BatchError, match=r"'in' is not a valid address.*set LASTRO_BATCH_URL"):
        bench.score(source="in")
    with pytest.raises(BatchError, match="'gs://x/in' is neither s3://"):
        bench.score(source="gs://x/in")
    monkeypatch.setenv("LASTRO_BATCH_URL", bench.source.removesuffix("/in"))
    with pytest.raises(BatchError, match=r"'in/\.\./\.\./x' is not a valid address"):
        bench.score(source="in/../../x")
    bench.put("a.csv", "a,n\n1,1\n")
    assert bench.score(source="in", target="out")["rows"] == 1


def test_memory_does_not_grow_with_the_files(bench: Bench) -> None:
    rows = 600_000
    random = np.random.default_rng(0)
    # One row group: a reader that takes whole row groups would hold all of it.
    table = pa.table({"a": random.random(rows), "n": random.integers(0, 2**60, rows)})
    size = table.nbytes
    bench.put("a.parquet", table, row_group_size=rows)
    del table
    pool = pa.system_memory_pool()  # a pool that the others have not used: its peak is its own
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        assert bench.score()["rows"] == rows
    finally:
        pa.set_memory_pool(before)
    assert 0 < pool.max_memory() < size / 2


def test_a_model_of_any_name_is_found_and_scored(bench: Bench) -> None:
    [version] = bench.client.search_model_versions(f"name = '{bench.model}' and version_number = 1")
    source = bench.client.get_model_version_download_uri(version.name, version.version)
    model_id = source.split("/")[-2]
    bench.put("a.csv", "a,n\n1,1\n")
    for name in ('L\'Oréal "crédito" {{ ds }}', "a&b=c?d#e@f", "two\nlines \\", "模型  "):
        bench.client.create_registered_model(name)
        bench.client.create_model_version(name, f"models:/{model_id}", model_id=model_id)
        bench.client.set_registered_model_alias(name, "champion", "1")
        # By the same search as `make promote` and the dashboard.
        condition = f"name IN ({json.dumps(name, ensure_ascii=False)})"
        assert [v.name for v in bench.client.search_model_versions(condition)] == [name]
        first, again = bench.score(model=name), bench.score(model=name)
        assert bench.rows(first["output"])["prediction"].to_list() == pytest.approx([3.0])
        assert first["output"] == again["output"]


class _Describe(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        return {
            "hour": model_input["at"].dt.hour.to_numpy(),
            "note": ["none" if pd.isna(note) else note for note in model_input["note"]],
            "k": [None if meta is None else meta["k"] for meta in model_input["meta"]],
        }


def test_times_gaps_and_structs_score_as_over_http(tmp_path: Path) -> None:
    at = [pd.Timestamp("2026-07-02 03:04:05"), pd.Timestamp("2026-01-02 04:05:06")]
    example = pd.DataFrame({"at": at, "note": ["a", None], "meta": [{"k": 0.5}, None]})
    inputs = mlflow.types.Schema(
        [
            mlflow.types.ColSpec("datetime", "at"),
            mlflow.types.ColSpec("string", "note", required=False),
            mlflow.types.ColSpec(
                mlflow.types.schema.Object([mlflow.types.schema.Property("k", "double")]),
                "meta",
                required=False,
            ),
        ]
    )
    mlflow.pyfunc.save_model(
        tmp_path / "model",
        python_model=_Describe(),
        signature=mlflow.models.ModelSignature(inputs),
        input_example=example,
        pip_requirements=["pandas"],
    )
    prepare_downloaded(
        tmp_path / "model", tmp_path / "v", name="m", version="1", run_id=None, compiled=False
    )
    version = open_version(tmp_path / "v")
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.csv").write_text("at,note\n2026-07-02T03:04:05Z,\n2026-07-02 03:04:05,NA\n")
    zoned = pa.array([t.tz_localize("Europe/Lisbon") for t in at])
    notes = pa.array(["é", None]).dictionary_encode()
    metas = pa.array([{"k": 0.5}, None])
    pq.write_table(pa.table({"at": zoned, "note": notes, "meta": metas}), source / "b.parquet")
    batch._score_all(version, f"file://{source}", f"file://{tmp_path}/out")
    first, second = (pq.read_table(f) for f in sorted((tmp_path / "out").glob("part-*")))
    assert first["prediction"].to_pylist() == [
        {"hour": 3, "note": "none", "k": None},
        {"hour": 3, "note": "NA", "k": None},
    ]
    assert second["prediction"].to_pylist() == [
        {"hour": 2, "note": "é", "k": 0.5},
        {"hour": 4, "note": "none", "k": None},
    ]

    wrong = pa.table({"at": pa.array([1], pa.duration("s"))})
    pq.write_table(wrong, source / "c.parquet")
    message = r"c\.parquet: column 'at' has the type duration\[s\], but the model takes datetime"
    with pytest.raises(BatchError, match=message):
        batch._score_all(version, f"file://{source}", f"file://{tmp_path}/out")
