"""A model must be loaded with the same library versions that saved it."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

LOCKS = Path(__file__).parents[3] / "locks"


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", lock.read_text(), re.M))


def test_training_and_serving_pin_the_same_versions() -> None:
    training, serving = pins(LOCKS / "pipelines.txt"), pins(LOCKS / "model_api.txt")
    shared = training.keys() & serving.keys()
    assert {"mlflow-skinny", "scikit-learn", "numpy", "scipy", "pandas", "skops"} <= shared
    assert {n: serving[n] for n in shared} == {n: training[n] for n in shared}


def test_the_client_is_not_newer_than_the_server() -> None:
    client = pins(LOCKS / "model_api.txt")["mlflow-skinny"]
    servers = [pins(lock)["mlflow"] for lock in (LOCKS / "mlflow").glob("*.txt")]
    assert client in servers


@pytest.mark.parametrize("name", ["fastapi", "mlflow-skinny", "pydantic", "scikit-learn", "skops"])
def test_installed_versions_match_the_lock(name: str) -> None:
    assert version(name) == pins(LOCKS / "model_api.txt")[name]
