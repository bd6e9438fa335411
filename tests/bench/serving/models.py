"""Make the models of the bench, the same files for every server, and put them in a registry.

Run with the model API's environment: models.py save FOLDER, or models.py register FOLDER URI COPIES
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

FOREST_TYPES = ["sklearn.tree._tree.Tree"]


def wine() -> tuple[pd.DataFrame, pd.Series]:
    """178 wines of 3 kinds, each by 13 numbers; scikit-learn's own copy."""
    data = load_wine(as_frame=True)
    return data.data, data.target


def save(folder: Path) -> None:
    """Write ``linear``, ``linear-2`` and ``forest``; ``broken``, cut short; and the wines."""
    frame, target = wine()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "wine.json").write_text(frame.to_json(orient="split", index=False))
    models = {
        "linear": LogisticRegression(max_iter=10_000),
        "linear-2": LogisticRegression(max_iter=10_000, C=0.1),
        "forest": RandomForestClassifier(n_estimators=100, random_state=0),
    }
    for name, model in models.items():
        model.fit(frame, target)
        mlflow.sklearn.save_model(
            model,
            folder / name,
            signature=infer_signature(frame, model.predict(frame)),
            input_example=frame.head(3),
            pip_requirements=["scikit-learn"],
            skops_trusted_types=FOREST_TYPES,
        )
    shutil.copytree(folder / "linear", folder / "broken")
    cut = max((folder / "broken").glob("model.*"), key=lambda file: file.stat().st_size)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])


def register(folder: Path, uri: str, copies: int) -> None:
    """Register the linear model (1, 2, and 3: broken) and the forest.

    Args:
        folder: as made by `save`.
        uri: of an MLflow server.
        copies: how many models of each kind, ``linear-0`` and so on.
    """
    mlflow.set_tracking_uri(uri)
    with mlflow.start_run() as run:
        for name in ("linear", "linear-2", "broken", "forest"):
            mlflow.log_artifacts(str(folder / name), name)
    source = f"runs:/{run.info.run_id}"
    for kind, versions in {
        "linear": ("linear", "linear-2", "broken"),
        "forest": ("forest",),
    }.items():
        for copy in range(copies):
            for version in versions:
                mlflow.register_model(f"{source}/{version}", f"{kind}-{copy}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["save", folder]:
            save(Path(folder))
        case ["register", folder, uri, copies]:
            register(Path(folder), uri, int(copies))
