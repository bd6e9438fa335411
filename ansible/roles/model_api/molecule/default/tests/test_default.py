"""The model_api role: nothing without the key, and a prediction of the registry's champion."""

import json
import time
import tomllib
from typing import Any

import pytest
from role_tests import PROJECT, Answer, ServiceContract, ask, wait_until
from testinfra.host import Host

testinfra_hosts = ["podman://lastro-molecule-serving"]

URL = "http://127.0.0.1:8000"
MODEL = "role-test"
KEYS = "/etc/lastro/model_api/keys.json"

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
    units = ("model-api", "model-api-prediction-log", "model-api-follower")
    secrets = ("mlflow_user", "model_api_key")

    def test_the_configuration_reaches_the_process(self, host: Host) -> None:
        environment = self.environment(host)
        assert environment["MLFLOW_TRACKING_URI"] == "http://10.44.0.11:5050"
        assert environment["MODEL_API_ALIASES"] == "champion,challenger"
        assert environment["MODEL_API_MAX_ROWS"] == "1000"

    def test_the_keys_are_for_the_service_only(self, host: Host) -> None:
        file = host.file(KEYS)
        assert (file.user, file.group, file.mode) == ("root", "model_api", 0o640)


@pytest.fixture
def key(cloud: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {cloud['secrets']['model_api_key']}"}


def champion_of(model: dict[str, Any]) -> dict[str, Any]:
    """What `GET /models` says of the champion."""
    return model["aliases"].get("champion", {"version": None})


def predict(host: Host, headers: dict[str, str]) -> Answer:
    """Ask for two predictions."""
    body = {"inputs": [{"x": 4.0}, {"x": 10.0}]}
    return ask(host, f"{URL}/models/{MODEL}/predict", method="POST", headers=headers, body=body)


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

    def serves() -> bool:
        models = ask(host, f"{URL}/models", headers=key).json()["models"]
        return any(model["name"] == MODEL and champion_of(model)["version"] for model in models)

    wait_until(serves, f"{MODEL} to serve")


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
    answer = predict(host, key)
    assert answer.status == 200, answer.text
    assert answer.json()["predictions"] == pytest.approx([9.0, 21.0])
    assert answer.json()["model"]["version"] == "1"


@pytest.mark.usefixtures("champion")
def test_a_new_key_is_taken_without_a_restart(host: Host, key: dict[str, str]) -> None:
    before = host.check_output("cat %s", KEYS)
    pid = host.check_output("systemctl show --value --property=MainPID model-api")
    another = "fedcba9876543210" * 2
    keys = [*json.loads(before), {"name": "another", "key": another}]

    def write(text: str) -> None:
        # As Ansible does: the file is replaced as a whole.
        host.check_output("cp --preserve=mode,ownership %s %s.new", KEYS, KEYS)
        host.check_output("printf %%s %s > %s.new && mv %s.new %s", text, KEYS, KEYS, KEYS)

    bearer = {"Authorization": f"Bearer {another}"}
    assert predict(host, bearer).status == 401
    try:
        write(json.dumps(keys))
        wait_until(lambda: predict(host, bearer).status == 200, "the new key")
        assert predict(host, key).status == 200
    finally:
        write(before)
    wait_until(lambda: predict(host, bearer).status == 401, "the old key to end")
    assert host.check_output("systemctl show --value --property=MainPID model-api") == pid


@pytest.mark.usefixtures("champion")
def test_without_the_follower_predictions_go_on_and_it_comes_back(
    host: Host, key: dict[str, str]
) -> None:
    def follower() -> str:
        return host.check_output("systemctl show --value --property=MainPID model-api-follower")

    before = follower()
    host.check_output("systemctl kill --signal=KILL model-api-follower")
    assert predict(host, key).status == 200
    wait_until(lambda: follower() not in ("0", before), "the follower")
    host.check_output("systemctl reset-failed model-api-follower")
    # After a restart it prepares nothing again: the state names what is prepared.
    prepared = host.check_output("ls /var/lib/model_api/prepared")
    wait_until(lambda: host.service("model-api-follower").is_running, "the follower")
    time.sleep(3)
    assert host.check_output("ls /var/lib/model_api/prepared") == prepared
    assert predict(host, key).status == 200
