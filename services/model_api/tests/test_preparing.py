"""A version is prepared, or refused with one sentence that says why."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from mlflow.types.schema import (
    AnyType,
    Array,
    ColSpec,
    Map,
    Object,
    Property,
    Schema,
    TensorSpec,
)
from saved_models import TARGET, Everything, Wrong, X, save
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from model_api.downloading import download
from model_api.downloading.download import read_downloaded
from model_api.model.compatibility import check_compatible
from model_api.model.decoding import Decoder
from model_api.model.manifest import VersionError
from model_api.model.version import open_version
from model_api.preparing import generating
from model_api.preparing.errors import PrepareError
from model_api.preparing.prepare import prepare_downloaded
from model_api.preparing.requirements import check_requirements

SKLEARN = installed("scikit-learn")
PIN = (
    "if only the examples differ, log every version with one signature, such as"
    " infer_signature(X.astype('float64'), y) of rows with a gap"
)
MAJOR, MINOR, PATCH = SKLEARN.split(".")[:3]


def prepared(saved: Path, folder: Path) -> dict[str, Any]:
    return prepare_downloaded(saved, folder, name="m", version="7", run_id="run")


def linear(folder: Path, **options: Any) -> Path:
    two = X[["hue", "ash"]]
    return save(folder, LinearRegression().fit(two, X["alcohol"]), two[:3], **options)


@pytest.fixture(scope="module")
def _saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linear(tmp_path_factory.mktemp("linear") / "saved")


@pytest.fixture
def saved(_saved: Path, tmp_path: Path) -> Path:
    """A saved model that the test may change: a copy, because saving one takes a second."""
    return shutil.copytree(_saved, tmp_path / "saved")


def refused(saved: Path, folder: Path) -> str:
    with pytest.raises(PrepareError) as error:
        prepared(saved, folder / "ready")
    # No partial files are left behind.
    assert [path.name for path in folder.iterdir()] == ["saved"]
    reason = str(error.value)
    assert "\n" not in reason
    return reason


def test_a_prepared_version_knows_itself(saved: Path, tmp_path: Path) -> None:
    manifest = prepared(saved, tmp_path / "ready")
    assert manifest == json.loads((tmp_path / "ready" / "manifest.json").read_text())
    version = open_version(tmp_path / "ready")
    assert (version.name, version.number, version.run_id) == ("m", "7", "run")
    assert version.example == X[["hue", "ash"]][:3].to_dict("records")
    assert version.describe()["signature"]["inputs"] == [
        {"type": "double", "name": "hue", "required": True},
        {"type": "double", "name": "ash", "required": True},
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ready", "saved"]
    assert {"model/MLmodel", "model/model.pkl"} < set(manifest["files"])


def test_it_may_be_prepared_again(saved: Path, tmp_path: Path) -> None:
    prepared(saved, tmp_path / "ready")
    (tmp_path / "ready" / "leftover").touch()
    prepared(saved, tmp_path / "ready")
    assert not (tmp_path / "ready" / "leftover").exists()


def test_a_version_without_signature_is_refused(tmp_path: Path) -> None:
    linear(tmp_path / "saved", signature=False)
    assert refused(tmp_path / "saved", tmp_path).startswith("it has no signature: log it with")


def without_example(path: Path, model: Any, columns: pd.DataFrame) -> Path:
    """Save a model as autolog does: with only a signature."""
    mlflow.sklearn.save_model(
        model,
        str(path),
        signature=infer_signature(columns, X["alcohol"]),
        serialization_format="cloudpickle",
        pip_requirements=["numpy"],
    )
    return path


def test_a_version_without_example_serves_with_only_its_signature(tmp_path: Path) -> None:
    two = X[["hue", "ash"]]
    saved = without_example(tmp_path / "saved", LinearRegression().fit(two, X["alcohol"]), two)
    prepare_downloaded(saved, tmp_path / "v", name="m", version="1", run_id=None)
    listed = open_version(tmp_path / "v").describe()
    assert listed["example"] == [{"hue": 1.0, "ash": 1.0}]
    assert listed["example_note"].startswith("made from the signature: log the model with input_ex")


def test_a_version_without_example_that_needs_one_is_told_how_to_log_it(tmp_path: Path) -> None:
    text = pd.DataFrame({"colour": ["red", "blue"] * (len(X) // 2)})
    model = make_pipeline(OneHotEncoder(), LinearRegression()).fit(text, X["alcohol"])
    reason = refused(without_example(tmp_path / "saved", model, text), tmp_path)
    assert reason.startswith("it has no input example, and fails on a row made from its signature")
    assert "autolog(log_input_examples=True)" in reason


@pytest.mark.parametrize(
    "signature",
    [
        Schema([ColSpec("double"), ColSpec("long")]),
        Schema([ColSpec(kind, kind) for kind in ("boolean", "float", "binary", "datetime")]),
        Schema([ColSpec(Array("string"), "a"), ColSpec(Map("double"), "m")]),
        Schema([ColSpec(Object([Property("k", "integer")]), "o"), ColSpec(AnyType(), "x", False)]),
        Schema([TensorSpec(np.dtype("float32"), (-1, 2, 3))]),
        Schema(
            [TensorSpec(np.dtype("int64"), (-1, 2), "a"), TensorSpec(np.dtype("str"), (-1,), "b")]
        ),
    ],
)
def test_a_row_made_from_a_signature_fits_it(signature: Schema) -> None:
    decoder = Decoder(signature.to_dict())
    assert decoder.decode(generating.request(decoder).encode(), 1).rows == 1


def test_a_truncated_artifact_is_refused(saved: Path, tmp_path: Path) -> None:
    model = saved / "model.pkl"
    model.write_bytes(model.read_bytes()[:-20])
    assert refused(saved, tmp_path).startswith("it does not load: ")


@pytest.mark.parametrize("file", ["model.pkl", "MLmodel", "serving_input_example.json"])
def test_a_missing_file_is_refused(saved: Path, tmp_path: Path, file: str) -> None:
    (saved / file).unlink()
    assert refused(saved, tmp_path).startswith("it")


def test_a_version_that_raises_on_load_is_refused(saved: Path, tmp_path: Path) -> None:
    (saved / "model.pkl").write_bytes(
        b"cbuiltins\nexec\n(Vraise RuntimeError('no licence found')\ntR."
    )
    assert refused(saved, tmp_path) == "it does not load: no licence found"


def test_a_version_whose_module_is_missing_is_refused(saved: Path, tmp_path: Path) -> None:
    (saved / "model.pkl").write_bytes(b"cno_such_package\nModel\n.")
    assert refused(saved, tmp_path).startswith("it needs the package 'no_such_package', which is")


def test_a_wrong_number_of_predictions_is_refused(tmp_path: Path) -> None:
    example = pd.DataFrame({"x": [1.0, 2.0]})
    save(tmp_path / "saved", Wrong(), example, infer_signature(example, [1.0]))
    assert refused(tmp_path / "saved", tmp_path) == (
        "it answers the 2 row(s) of its input example with 1 predictions"
    )


def test_a_version_that_fails_on_its_example_is_refused(tmp_path: Path) -> None:
    example = pd.DataFrame({"x": [1.0, 2.0]})
    save(tmp_path / "saved", Everything(), example, infer_signature(example, [1.0]))
    assert refused(tmp_path / "saved", tmp_path) == "it fails on its own input example: 'at'"


def test_other_requirements_are_refused(saved: Path, tmp_path: Path) -> None:
    (saved / "requirements.txt").write_text("scikit-learn==0.24.2\n")
    assert refused(saved, tmp_path) == (
        f"it needs scikit-learn==0.24.2, but {SKLEARN} is installed here: train it with"
        f" scikit-learn {SKLEARN}, or serve it where scikit-learn==0.24.2 is installed"
    )


@pytest.mark.parametrize(
    ("line", "remark"),
    [
        (f"scikit-learn=={SKLEARN}", None),
        (f"scikit_learn=={MAJOR}.{MINOR}.99", "it was made with scikit-learn"),
        ("mlflow==3.1.0", "it was made with mlflow==3.1.0"),
        ("xgboost>=3", None),
        ("psutil==7.0.0", "predictions have no use for it"),
        ("no-such-package==1; sys_platform == 'win32'", None),
        ("--index-url https://example.com", None),
        ("# scikit-learn==0.1", None),
        ("", None),
    ],
)
def test_small_differences_in_requirements_are_noted(line: str, remark: str | None) -> None:
    remarks = check_requirements(f"numpy\n{line}\n")
    assert len(remarks) == (remark is not None)
    assert remark is None or remark in remarks[0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"scikit-learn=={MAJOR}.{int(MINOR) - 1}.0", "train it with scikit-learn " + SKLEARN),
        ("scikit-learn<1", "it needs scikit-learn<1, but"),
        ("no-such-package==1.0", "it needs no-such-package==1.0, of which none is installed"),
        ("xgboost==1.7.0", "it needs xgboost==1.7.0, but"),
    ],
)
def test_large_differences_in_requirements_are_refused(line: str, reason: str) -> None:
    with pytest.raises(PrepareError) as error:
        check_requirements(f"numpy\n{line}\n")
    assert reason in str(error.value)


def test_a_version_prepared_by_another_release_is_not_opened(saved: Path, tmp_path: Path) -> None:
    manifest = prepared(saved, tmp_path / "ready") | {"format": 0}
    (tmp_path / "ready" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(VersionError, match="another release"):
        open_version(tmp_path / "ready")


GAPPED = X[["hue", "ash", "alcohol"]].copy()
GAPPED.iloc[::7, 0] = np.nan


@pytest.mark.parametrize("inferred", ["from the example", "from rows without a gap"])
def test_a_classifier_whose_example_has_a_gap_serves(tmp_path: Path, inferred: str) -> None:
    model = HistGradientBoostingClassifier(max_iter=5).fit(GAPPED, TARGET)
    rows = GAPPED if inferred == "from the example" else GAPPED.dropna()
    signature = infer_signature(rows, model.predict(rows))
    saved = save(tmp_path / "saved", model, GAPPED[:9], signature)
    manifest = prepared(saved, tmp_path / "ready")
    # The other columns are required, and accept null as well.
    assert {"ash", "alcohol"} <= set(manifest["gaps"])
    version = open_version(tmp_path / "ready")
    batch = version.decoder.decode(manifest["request"].encode(), 100)
    answer = json.loads(b"{%b}" % version.predict(batch, probabilities=True))
    assert answer["predictions"] == model.predict(GAPPED[:9]).tolist()
    expected = model.predict_proba(GAPPED[:9])
    found = [[row[str(name)] for name in model.classes_] for row in answer["probabilities"]]
    assert np.allclose(found, expected)


def test_a_gap_in_the_example_that_the_model_refuses_is_reported(tmp_path: Path) -> None:
    whole = GAPPED.dropna()
    model = LogisticRegression(max_iter=9999).fit(whole, TARGET[whole.index])
    saved = save(tmp_path / "saved", model, GAPPED[:2], infer_signature(whole, [1]))
    with pytest.raises(PrepareError, match="fails on its own input example"):
        prepared(saved, tmp_path / "ready")


def test_classes_of_one_name_have_no_probabilities(tmp_path: Path) -> None:
    model = LogisticRegression(max_iter=9999).fit(X[["hue", "ash"]], TARGET)
    model.classes_ = np.array([0, "0", 1], dtype=object)
    saved = save(tmp_path / "saved", model, X[["hue", "ash"]][:4], None)
    assert prepared(saved, tmp_path / "ready")["classes"] is None


# ---- the command --------------------------------------------------------------------------------


def run(module: str, *arguments: object, registry: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": str(registry),
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }
    command = [sys.executable, "-m", f"model_api.{module}", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_commands_download_and_prepare_a_registered_version(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    registry = tmp_path / "registry"
    client = mlflow.MlflowClient(str(registry), str(registry))
    client.create_registered_model("wine")
    client.create_model_version("wine", str(saved))
    digests = []
    for reason in (None, "it needs no-such-package==1.0, of which"):
        folder = tmp_path / f"ready-{reason is None}"
        folder.mkdir()
        downloaded = run("downloading", "wine", "1", folder, registry=registry)
        assert downloaded.returncode == 0, downloaded.stderr
        digests.append(read_downloaded(folder).digest)
        done = run("preparing", "wine", "1", "", folder, registry=registry)
        if reason is None:
            assert done.returncode == 0, done.stderr
            assert open_version(folder).name == "wine"
            (saved / "requirements.txt").write_text("no-such-package==1.0\n")
        else:
            assert done.returncode == 1
            assert done.stderr.splitlines()[-1].startswith(reason)
    assert digests[0] != digests[1], "changed files have the same digest"
    # The registered files are unchanged.
    assert sorted(path.name for path in saved.iterdir()) == sorted(
        path.name for path in (tmp_path / "ready-True/model").iterdir()
    )


@pytest.mark.parametrize(
    ("address", "tracking", "own"),
    [
        ("mlflow-artifacts:/1/models/m-1/artifacts", "http://mlflow:5000", True),
        ("mlflow-artifacts://mlflow:5000/1/models", "http://mlflow:5000", True),
        ("mlflow-artifacts://evil:5000/1/models", "http://mlflow:5000", False),
        ("http://evil/mlflow-artifacts/artifacts/x", "http://mlflow:5000", False),
        ("http://mlflow:5000@evil/mlflow-artifacts/artifacts/x", "http://mlflow:5000", False),
        ("s3://another-bucket/model", "http://mlflow:5000", False),
        ("ftp://evil/model", "http://mlflow:5000", False),
        ("/etc", "http://mlflow:5000", False),
        ("file:///etc", "http://mlflow:5000", False),
        ("/srv/registry/model", "/srv/registry", True),
        ("file:///srv/registry/model", "/srv/registry", True),
        ("s3://bucket/model", "/srv/registry", False),
    ],
)
def test_only_mlflows_own_artifacts_are_downloaded(address: str, tracking: str, own: bool) -> None:
    assert download._is_of(address, tracking) is own


# ---- compatibility ------------------------------------------------------------------------------


def manifest(*columns: tuple[Any, ...], **more: Any) -> dict[str, Any]:
    inputs = [
        {"name": name, "type": kind, "required": not optional} for name, kind, *optional in columns
    ]
    return {"signature": {"inputs": inputs, "params": None}, "categories": {}, "gaps": []} | more


SERVING = manifest(("a", "long"), ("b", "string"), ("c", "float", True))


@pytest.mark.parametrize(
    "new",
    [
        SERVING,
        manifest(("a", "double"), ("b", "string"), ("c", "double", True)),
        manifest(("a", "long"), ("b", "string"), ("c", "float", True), ("new", "long", True)),
        manifest(("a", "long", True), ("b", "string", True), ("c", "float", True)),
    ],
)
def test_wider_signatures_are_compatible(new: dict[str, Any]) -> None:
    assert check_compatible(new, SERVING) is None


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (
            manifest(("a", "long"), ("b", "string"), ("c", "float", True), ("d", "long")),
            "it requires the column 'd', which requests do not send",
        ),
        (
            manifest(("a", "long"), ("b", "string")),
            "it no longer takes the column 'c', which requests send",
        ),
        (
            manifest(("a", "integer"), ("b", "string"), ("c", "float", True)),
            f"its column 'a' takes integer, the serving version's long: {PIN}",
        ),
        (
            manifest(("a", "long"), ("b", "string"), ("c", "float")),
            f"it requires the column 'c', which requests may leave out: {PIN}",
        ),
        (
            manifest(("b", "string"), ("a", "long"), ("c", "float", True)),
            "its columns come in another order, which requests that send lists rely on",
        ),
        (
            SERVING | {"categories": {"b": ["x"]}},
            "its column 'b' takes only values that it has seen",
        ),
    ],
)
def test_narrower_signatures_are_not_compatible(new: dict[str, Any], reason: str) -> None:
    assert check_compatible(new, SERVING) == reason


def test_a_retrained_model_that_answers_null_serves_although_its_example_had_no_gap() -> None:
    required = manifest(("a", "long"), ("b", "string"), ("c", "float"))
    assert check_compatible(required | {"gaps": ["c"]}, SERVING) is None
    # The earlier version took fractions, so a signature with only whole numbers is narrower.
    whole = manifest(("a", "long"), ("b", "string"), ("c", "long", True))
    assert str(check_compatible(whole, SERVING)).startswith(
        "its column 'c' takes long, the serving version's float: if only the examples differ,"
    )


def test_fewer_categories_are_not_compatible() -> None:
    serving = SERVING | {"categories": {"b": ["x", "y"]}}
    assert check_compatible(SERVING | {"categories": {"b": ["y", "x", "z"]}}, serving) is None
    assert check_compatible(SERVING | {"categories": {"b": ["x"]}}, serving) == (
        "its column 'b' no longer takes 'y'"
    )
    assert check_compatible(SERVING, serving) is None


def test_tensors_and_parameters_are_also_compared() -> None:
    def tensor(shape: list[int], params: Any = None) -> dict[str, Any]:
        spec = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": shape}}
        return {"signature": {"inputs": [spec], "params": params}, "categories": {}}

    assert check_compatible(tensor([-1, 3]), tensor([-1, 3])) is None
    assert "shape [-1, 4]" in str(check_compatible(tensor([-1, 4]), tensor([-1, 3])))
    assert "tensors" in str(check_compatible(tensor([-1, 3]), SERVING))
    params = [{"name": "k", "type": "double", "default": 1.0, "shape": None}]
    assert check_compatible(tensor([-1, 3], params), tensor([-1, 3])) is None
    assert check_compatible(tensor([-1, 3]), tensor([-1, 3], params)) == (
        "it no longer takes the parameter 'k'"
    )
