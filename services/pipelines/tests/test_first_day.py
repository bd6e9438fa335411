"""The code of docs/first-day.md, with a real MLflow server and the model API's preparation."""

import re
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from model_api.downloading.download import download
from model_api.model.version import open_version
from model_api.preparing.prepare import prepare

DOCUMENT = Path(__file__).parents[3] / "docs/first-day.md"


def test_models_logged_by_the_document_serve(
    tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    namespace: dict[str, Any] = {}
    mlflow.set_tracking_uri(tracking)
    try:
        for block in blocks:
            exec(compile(block, str(DOCUMENT), "exec"), namespace)
        assert {column.type.name for column in namespace["signature"].inputs} == {"double"}
        assert MlflowClient().get_model_version_by_alias("ana-wine", "champion").version == "1"
        for name in ("ana-wine", "ana-wine-auto"):
            folder = tmp_path / name
            folder.mkdir()
            run = download(name, "1", folder).run_id
            prepare(folder, name=name, version="1", run_id=run, compiled=False)
            version = open_version(folder)
            assert version.manifest["example_note"] is None
            assert len(version.predict_frame(namespace["X"])) == len(namespace["X"])
    finally:
        mlflow.sklearn.autolog(disable=True)
        mlflow.set_tracking_uri(None)
