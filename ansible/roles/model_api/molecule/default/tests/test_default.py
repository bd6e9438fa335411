"""The model_api role: nothing without the key, and a prediction of the registry's champion."""

import time
import tomllib
from typing import Any

import pytest
from role_tests import PROJECT, ServiceContract, ask
from testinfra.host import Host

testinfra_hosts = ["podman://lastro-molecule-serving"]

URL = "http://127.0.0.1:8000"
MODEL = "role-test"

# Runs in the service's own environment, which can read what it can write.
REGISTER = """
import mlflow, pandas
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression
x = pandas.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
model = LinearRegression().fit(x, [1.0, 3.0, 5.0, 7.0])
mlflow.set_experiment("role-test-model")
with mlflow.start_run():
    logged = mlflow.sklearn.log_model(
        model, name="model", registered_model_name="role-test", input_example=x.head(1),
        signature=infer_signature(x, model.predict(x)))
mlflow.MlflowClient().set_registered_model_alias("role-test", "champion", "1")
"""


class TestService(ServiceContract):
    service = "model_api"
    units = ("model-api",)
    secrets = ("mlflow_user", "model_api_key")

    def test_the_configuration_reaches_the_process(self, host: Host) -> None:
        environment = self.environment(host)
        assert environment["MLFLOW_TRACKING_URI"] == "http://10.44.0.11:5050"
        assert environment["MODEL_API_ALIAS"] == "champion"
        assert environment["MODEL_API_MAX_ROWS"] == "1000"


@pytest.fixture
def key(cloud: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {cloud['secrets']['model_api_key']}"}


@pytest.fixture
def champion(host: Host, key: dict[str, str]) -> None:
    """A model of y = 2x + 1, registered, served."""
    served = f"{URL}/models/{MODEL}/predict"
    if ask(host, served, method="POST", headers=key, body={"inputs": [{"x": 0.0}]}).status == 404:
        host.check_output(
            "systemd-run --quiet --wait --pipe --collect --uid=model_api"
            " --property=EnvironmentFile=/etc/lastro/model_api.env"
            " --property=PrivateTmp=yes --setenv=HOME=/tmp --setenv=GIT_PYTHON_REFRESH=quiet"
            " --working-directory=/tmp"
            " /opt/lastro/model_api/current/venv/bin/python -c %s",
            REGISTER,
        )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        models = ask(host, f"{URL}/models", headers=key).json()["models"]
        if any(model["name"] == MODEL and model["version"] for model in models):
            return
        time.sleep(0.5)
    pytest.fail(f"{MODEL} is not served: {models}")


def test_is_ready(host: Host) -> None:
    assert ask(host, f"{URL}/health/ready").status == 200


def test_reports_the_version_of_its_source(host: Host) -> None:
    project = tomllib.loads((PROJECT / "services/model_api/pyproject.toml").read_text())
    answer = ask(host, f"{URL}/health/live").json()
    assert answer["version"] == project["project"]["version"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_nobody_gets_in_without_the_key(host: Host, headers: dict[str, str]) -> None:
    assert ask(host, f"{URL}/models", headers=headers).status == 401
    predict = f"{URL}/models/{MODEL}/predict"
    assert ask(host, predict, method="POST", headers=headers, body={"inputs": []}).status == 401


@pytest.mark.usefixtures("champion")
def test_predicts_with_the_champion(host: Host, key: dict[str, str]) -> None:
    answer = ask(
        host,
        f"{URL}/models/{MODEL}/predict",
        method="POST",
        headers=key,
        body={"inputs": [{"x": 4.0}, {"x": 10.0}]},
    )
    assert answer.status == 200, answer.text
    assert answer.json()["predictions"] == pytest.approx([9.0, 21.0])
    assert answer.json()["model"]["version"] == "1"
