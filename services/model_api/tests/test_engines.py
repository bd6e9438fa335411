"""Engines answer as MLflow's own server does, for every model and format."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc.scoring_server import _parse_json_data, predictions_to_json
from saved_models import KINDS, LABELS, MIXED, X

from model_api.http.problems import from_request_error
from model_api.model.answers import plain
from model_api.model.batch import Batch
from model_api.model.engines import LinearEngine, open_engine
from model_api.model.errors import RequestError
from model_api.model.invocations import Invocations
from model_api.model.manifest import MANIFEST
from model_api.model.pace import Pace
from model_api.model.schema import body_schema
from model_api.model.version import Version, open_version
from model_api.preparing.compiling.compare import Answers, Disagreement, agree
from model_api.preparing.prepare import prepare_downloaded

COMPILED = {
    "logistic": "numpy",
    "pipeline": "numpy",
    "forest": "onnx",
    "boosting": "onnx",
    "histograms": "treelite",
    "scaled-forest": "onnx",
    "xgboost-pipeline": "treelite",
    "multi-output": "numpy",
    "array": "numpy",
    "mixed": "numpy",
    "skops": "numpy",
}


class Kinds:
    """Each kind of model, saved, prepared and opened when a test first needs it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.versions: dict[str, Version] = {}

    def folder(self, kind: str) -> Path:
        """Return its prepared folder."""
        folder = self.root / kind / "ready"
        if not folder.exists():
            saved = KINDS[kind](self.root / kind / "saved")
            prepare_downloaded(saved, folder, name=kind, version="3", run_id="r")
        return folder

    def __getitem__(self, kind: str) -> Version:
        if kind not in self.versions:
            self.versions[kind] = open_version(self.folder(kind))
        return self.versions[kind]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Kinds:
    return Kinds(tmp_path_factory.mktemp("kinds"))


def ours(version: Version, body: bytes, probabilities: bool = False) -> dict[str, Any]:
    batch = version.decoder.decode(body, 10_000)
    return json.loads(b"{%b}" % version.predict(batch, probabilities))


def of_mlflow(version: Version, body: bytes) -> Any:
    """Return the answer of MLflow's own scoring server."""
    from io import StringIO

    model = mlflow.pyfunc.load_model(str(version.folder / "model"))
    parsed = _parse_json_data(body.decode(), model.metadata, model.metadata.get_input_schema())
    answer = StringIO()
    predictions_to_json(model.predict(parsed.data, params=parsed.params), answer)
    return json.loads(answer.getvalue())["predictions"]


def assert_same(found: Any, known: Any) -> None:
    if isinstance(known, dict):
        assert found.keys() == known.keys()
        for name in known:
            assert_same(found[name], known[name])
    elif isinstance(known, list) and known and isinstance(known[0], dict | list):
        assert len(found) == len(known)
        for one, other in zip(found, known, strict=True):
            assert_same(one, other)
    elif np.asarray(known).dtype.kind == "f":
        np.testing.assert_allclose(found, known, rtol=1e-5, atol=1e-5)
    else:
        assert found == known


@pytest.mark.parametrize("kind", KINDS)
def test_the_input_example_is_answered_as_by_mlflow(kinds: Kinds, kind: str) -> None:
    version = kinds[kind]
    body = version.manifest["request"].encode()
    assert_same(ours(version, body)["predictions"], of_mlflow(version, body))


@pytest.mark.parametrize("kind", COMPILED)
def test_models_are_compiled_where_that_agrees(kinds: Kinds, kind: str) -> None:
    version = kinds[kind]
    assert version.engine == COMPILED[kind], version.engine_note
    assert "agrees with scikit-learn on" in version.engine_note
    assert not version.describe()["engine_note"].startswith("served by")


@pytest.mark.parametrize("kind", ["logistic", "forest", "xgboost", "lightgbm", "boosting"])
def test_rows_that_the_model_never_saw_are_answered_as_by_the_original(
    kinds: Kinds, kind: str
) -> None:
    version = kinds[kind]
    random = np.random.default_rng(7)
    rows = (
        X.sample(500, replace=True, random_state=7)
        + random.normal(size=(500, 13)) * X.std().to_numpy()
    )
    body = json.dumps({"dataframe_split": rows.round(2).to_dict("split")}).encode()
    answer = ours(version, body, probabilities=True)
    assert answer["predictions"] == of_mlflow(version, body)
    original = mlflow.pyfunc.load_model(str(version.folder / "model")).get_raw_model()
    table = pd.DataFrame(answer["probabilities"])
    assert list(table.columns) == [str(label) for label in original.classes_]
    np.testing.assert_allclose(table, original.predict_proba(rows.round(2)), atol=1e-5)
    assert table.to_numpy().max() <= 1


@pytest.mark.parametrize("kind", ["logistic", "mixed", "onnx", "xgboost"])
@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "inputs", "instances"])
def test_each_format_is_answered_as_by_mlflow(kinds: Kinds, kind: str, form: str) -> None:
    version = kinds[kind]
    frame = (MIXED if kind == "mixed" else X)[::20]
    content: Any = frame.to_dict("records")
    if form == "dataframe_split":
        content = frame[frame.columns[::-1]].to_dict("split")
    elif form == "inputs":
        content = frame.to_dict("list")
    body = json.dumps({form: content}).encode()
    assert_same(ours(version, body)["predictions"], of_mlflow(version, body))


@pytest.mark.parametrize("form", ["inputs", "instances"])
def test_tensors_are_answered_as_by_mlflow(kinds: Kinds, form: str) -> None:
    body = json.dumps({form: X.to_numpy()[::20].tolist()}).encode()
    assert ours(kinds["array"], body)["predictions"] == of_mlflow(kinds["array"], body)


def test_parameters_reach_the_model(kinds: Kinds) -> None:
    version = kinds["params"]
    assert ours(version, b'{"inputs":[{"text":"abc"}],"params":{"factor":10}}')["predictions"] == [
        30
    ]
    assert ours(version, b'[{"text":"abc"}]')["predictions"] == [6]


def test_a_frame_is_answered_without_json(kinds: Kinds) -> None:
    frame = X[::20]
    labels = kinds["forest"].predict_frame(frame)
    assert labels.tolist() == LABELS[::20].tolist()
    assert kinds["mixed"].predict_frame(MIXED[::20]).shape == (9,)
    with pytest.raises(ValueError, match="'hue'"):
        kinds["forest"].predict_frame(frame.drop(columns="hue"))
    with pytest.raises(ValueError, match=r"'hue', row 20:"):
        kinds["logistic"].predict_frame(frame.assign(hue=[1.0, None, *frame["hue"][2:]]))


@pytest.mark.parametrize("kind", ["forest", "xgboost", "onnx"])
def test_gaps_are_answered_as_by_mlflow(kinds: Kinds, kind: str) -> None:
    version = kinds[kind]
    assert version.manifest["gaps"] == list(X.columns)
    assert version.manifest["engine_fills_gaps"]
    rows = rows_with_gaps()
    body = json.dumps({"dataframe_records": rows}).encode()
    # JSON has no NaN, but MLflow writes it.
    expected = plain(of_mlflow(version, body))
    assert ours(version, body)["predictions"] == expected
    frame = pd.DataFrame(rows).astype(float)
    assert plain(version.predict_frame(frame)) == expected


def test_an_engine_that_fills_gaps_differently_gives_no_probabilities_for_them(
    kinds: Kinds, tmp_path: Path
) -> None:
    version = changed(kinds.folder("forest"), tmp_path / "otherwise", engine_fills_gaps=False)
    rows = rows_with_gaps()
    body = json.dumps({"dataframe_records": rows}).encode()
    assert ours(version, body)["predictions"] == of_mlflow(version, body)
    with pytest.raises(RequestError, match="fill the gaps") as refused:
        version.predict(version.decoder.decode(body, 100), probabilities=True)
    assert refused.value.kind == "no-probabilities"
    # Without a gap, the compiled model answers with probabilities.
    whole = json.dumps({"dataframe_records": rows[:1]}).encode()
    assert version.predict(version.decoder.decode(whole, 100), probabilities=True)


def test_null_in_an_optional_column_is_not_a_gap(kinds: Kinds, tmp_path: Path) -> None:
    # The comparison of engines included such rows, and the example may be one.
    folder = kinds.folder("forest")
    signature = json.loads((folder / MANIFEST).read_text())["signature"]
    for column in signature["inputs"]:
        column["required"] = column["name"] not in ("proline", "flavanoids")
    version = changed(folder, tmp_path / "v", engine_fills_gaps=False, signature=signature)
    body = json.dumps({"dataframe_records": rows_with_gaps()}).encode()
    batch = version.decoder.decode(body, 100)
    assert not version.by_original(batch)
    assert b"probabilities" in version.predict(batch, probabilities=True)
    rows = [row | {"hue": None} for row in rows_with_gaps()]
    batch = version.decoder.decode(json.dumps({"dataframe_records": rows}).encode(), 100)
    assert version.by_original(batch)


def rows_with_gaps() -> list[dict[str, Any]]:
    """Some rows of ``X``, all but the first without two of their values."""
    rows = json.loads(X[::20].to_json(orient="records"))
    for row in rows[1:]:
        row["proline"] = row["flavanoids"] = None
    return rows


@pytest.mark.parametrize("kind", ["forest", "histograms", "xgboost", "logistic"])
def test_a_model_compiled_by_the_previous_release_is_answered_by_the_original(
    kinds: Kinds, tmp_path: Path, kind: str
) -> None:
    made = {"format": 1, "engine": "onnx", "options": {"file": "compiled-float32.onnx"}}
    later = "gaps", "engine_fills_gaps", "type_hints", "example_note"
    version = changed(kinds.folder(kind), tmp_path / "before", *later, **made)
    rows = X[::20].to_dict("records")
    body = json.dumps({"dataframe_records": rows}).encode()
    answer = ours(version, body, probabilities=version.classes is not None)
    assert answer["predictions"] == of_mlflow(version, body)
    assert version.describe()["engine"] == "pyfunc"
    assert Invocations(version).decode(body, 100) is None, "whether it has type hints is not known"
    gap = json.dumps([rows[0] | {"hue": None}]).encode()
    with pytest.raises(RequestError, match="must not be null"):
        ours(version, gap)


def changed(prepared: Path, folder: Path, *without: str, **manifest: Any) -> Version:
    """Open a prepared version with a changed manifest, and without some of its files."""
    shutil.copytree(prepared, folder)
    known = json.loads((folder / MANIFEST).read_text()) | manifest
    kept = {name: value for name, value in known.items() if name not in without}
    (folder / MANIFEST).write_text(json.dumps(kept))
    if "options" in manifest:
        for file in folder.glob("compiled.*"):
            file.unlink()
    return open_version(folder)


def test_a_gap_is_accepted_only_where_the_model_answers_it(kinds: Kinds) -> None:
    assert kinds["logistic"].manifest["gaps"] == []
    assert kinds["xgboost"].manifest["gaps"] == list(X.columns)
    assert kinds["xgboost"].manifest["engine_fills_gaps"]
    row = X[:1].to_dict("records")[0] | {"hue": None}
    with pytest.raises(RequestError, match="must not be null"):
        ours(kinds["logistic"], json.dumps([row]).encode())
    assert len(ours(kinds["xgboost"], json.dumps([row]).encode())["predictions"]) == 1
    del row["hue"]
    with pytest.raises(RequestError, match="is missing"):
        ours(kinds["xgboost"], json.dumps([row]).encode())


def test_an_unseen_category_is_named_with_row_and_field(kinds: Kinds) -> None:
    rows = MIXED[:3].to_dict("records")
    rows[2]["origin"] = "moon"
    with pytest.raises(RequestError) as refused:
        ours(kinds["mixed"], json.dumps(rows).encode())
    [error] = refused.value.members["errors"]
    assert (error["row"], error["field"]) == (2, "origin")
    assert "'north', 'south'" in error["detail"]
    schema = json.dumps(body_schema(kinds["mixed"].decoder))
    assert '"enum": ["north", "south", "\\u00e9"]' in schema


def test_a_value_that_only_the_model_refuses_is_named_with_row_and_field(kinds: Kinds) -> None:
    version = kinds["custom-step"]
    assert version.engine == "sklearn"
    rows = X[:5].to_dict("records")
    rows[3]["hue"] = -4.0
    with pytest.raises(RequestError) as refused:
        ours(version, json.dumps(rows).encode())
    problem = from_request_error(refused.value)
    assert (problem.status, problem.kind) == (422, "invalid-rows")
    [error] = refused.value.members["errors"]
    assert (error["row"], error["field"]) == (3, "hue")
    assert "NaN" in error["detail"]


def test_values_that_trees_cannot_hold_are_refused_as_by_scikit_learn(kinds: Kinds) -> None:
    rows = X[:2].to_dict("records")
    rows[1]["hue"] = 1e39
    with pytest.raises(RequestError) as refused:
        ours(kinds["forest"], json.dumps(rows).encode())
    assert refused.value.members["errors"][0]["row"] == 1
    assert refused.value.members["errors"][0]["field"] == "hue"


def test_an_error_of_the_model_itself_is_not_blamed_on_the_rows(
    kinds: Kinds, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = open_version(kinds.folder("logistic"))

    def broken(batch: Batch) -> Any:
        raise ConnectionError("its database is away")

    monkeypatch.setattr(version._engine, "predict", broken)
    with pytest.raises(ConnectionError):
        ours(version, version.manifest["request"].encode())


def test_models_without_probabilities_say_so(kinds: Kinds) -> None:
    version = kinds["multi-output"]
    assert version.classes is None
    with pytest.raises(RequestError, match="does not provide probabilities"):
        ours(version, version.manifest["request"].encode(), probabilities=True)


def test_non_finite_numbers_become_null(kinds: Kinds, monkeypatch: pytest.MonkeyPatch) -> None:
    version = open_version(kinds.folder("multi-output"))
    answers = np.array([[np.nan, 1.0], [np.inf, -np.inf]])
    monkeypatch.setattr(version._engine, "predict", lambda batch: answers)
    batch = version.decoder.decode(json.dumps(X[:2].to_dict("records")).encode(), 10)
    assert version.predict(batch) == b'"predictions":[[null,1.0],[null,null]]'


def test_more_rows_are_expected_to_take_longer(kinds: Kinds) -> None:
    forest, logistic = (open_version(kinds.folder(kind)) for kind in ("forest", "logistic"))
    assert 0 < forest.seconds(1) < forest.seconds(1000)
    assert logistic.seconds(1000) < forest.seconds(1000)


@pytest.mark.parametrize("kind", ["params", "everything", "custom-step"])
def test_code_that_came_with_a_model_is_never_expected_to_be_fast(kinds: Kinds, kind: str) -> None:
    assert kinds[kind].seconds(1) == math.inf


def test_a_prediction_that_takes_longer_than_measured_corrects_the_measurement() -> None:
    pace = Pace(0.001, 0.001)
    assert pace.seconds(9) == pytest.approx(0.01)
    pace.took(9, 0.005)
    assert pace.seconds(9) == pytest.approx(0.01)
    pace.took(9, 0.3)
    assert pace.seconds(9) == pytest.approx(0.3)
    assert pace.seconds(1) == pytest.approx(0.06)
    # Some fast predictions among slow ones change nothing; a series of fast ones does.
    for _ in range(5):
        for seconds in (0.3, *[0.01] * 10):
            pace.took(9, seconds)
    assert pace.seconds(9) == pytest.approx(0.3)
    for seconds in (0.3, *[0.2, 0.01, 0.04, 0.01] * 4):
        pace.took(9, seconds)
    assert pace.seconds(9) == pytest.approx(0.01)


def test_a_model_that_took_no_time_to_measure_can_be_found_slow() -> None:
    pace = Pace(0, 0)
    assert pace.seconds(1000) < 0.0001
    pace.took(1, 0.3)
    assert pace.seconds(1) == pytest.approx(0.3)


@pytest.mark.parametrize("kind", ["forest", "histograms", "mixed"])
def test_a_compiled_model_needs_no_library_of_its_training(kinds: Kinds, kind: str) -> None:
    program = (
        "import sys; from pathlib import Path; from model_api.model.version import open_version;"
        "open_version(Path(sys.argv[1]));"
        "print([m for m in ('sklearn', 'pandas', 'mlflow', 'onnx', 'pyarrow')"
        " if m in sys.modules])"
    )
    command = [sys.executable, "-c", program, str(kinds.folder(kind))]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# ---- a compiled model that answers differently is not used --------------------------------------


def test_a_compiled_model_that_answers_differently_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = LinearEngine._raw

    def swapped(self: LinearEngine, batch: Batch) -> np.ndarray:
        table = run(self, batch)
        # Wrong for one row in thousands, which is not in the example.
        table[-1] = table[-1][::-1] if len(table) > 500 else table[-1]
        return table

    monkeypatch.setattr(LinearEngine, "_raw", swapped)
    saved = KINDS["logistic"](tmp_path / "saved")
    manifest = prepare_downloaded(saved, tmp_path / "ready", name="x", version="1", run_id=None)
    assert manifest["engine"] == "sklearn"
    assert "not compiled (probabilities differ" in manifest["engine_note"]
    assert not list((tmp_path / "ready").glob("compiled*"))
    assert ours(open_version(tmp_path / "ready"), manifest["request"].encode())


def test_numbers_may_differ_by_rounding_only(kinds: Kinds) -> None:
    version = kinds["multi-output"]
    engine = open_engine(version.engine, version.folder, version.manifest["options"])
    batch = version.decoder.decode(version.manifest["request"].encode(), 10)
    known = engine.predict(batch)
    near = [Answers(batch, known * (1 + 1e-7), None)]
    assert agree(engine, near, None).startswith("numbers within")
    with pytest.raises(Disagreement, match="numbers differ"):
        agree(engine, [Answers(batch, known * 1.001, None)], None)
