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

# Models whose code looks for a way out: one while it is loaded, one while it predicts.
HOSTILE = """
import mlflow
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

class Hostile(mlflow.pyfunc.PythonModel):
    def __init__(self, when):
        self.when = when

    def attack(self):
        import glob, os, socket, threading
        got = []
        def attempt(what, function):
            try:
                found = function()
            except BaseException:
                return
            if found:
                got.append(f"{what} ({found!r:.60})")
        for path in (
            "/etc/lastro/model_api.env", "/etc/lastro/model_api/keys.json", "/etc/passwd",
            "/var/lib/model_api/state.json", "/run/model-api/rates", "/run/model-api-runners",
            "/proc/1/environ",
        ):
            attempt(path, lambda: os.stat(path))
        attempt("environ", lambda: [n for n in os.environ if n.startswith(("MLFLOW_TR", "AWS"))])
        attempt("processes", lambda: glob.glob("/proc/[0-9]*"))
        for address in (
            ("169.254.169.254", 80), ("10.44.0.11", 5050), ("10.44.255.4", 4566), ("1.1.1.1", 443),
            ("127.0.0.1", 8000),
        ):
            attempt(f"{address}", lambda: socket.create_connection(address, 3))
        attempt("10 GB", lambda: bytearray(10 * 2**30)[:1])
        attempt("writing", lambda: open("/usr/hostile", "w"))
        attempt("setuid", lambda: os.setuid(0) or "root")
        started, over = [], threading.Event()
        def bomb():
            threading.stack_size(65536)
            while len(started) < 2000:
                thread = threading.Thread(target=over.wait)
                thread.start()
                started.append(thread)
            return "2000 threads"
        attempt("a bomb", bomb)
        over.set()
        for thread in started:
            thread.join()
        return f"it started {len(started) > 50} and got {got}"

    def load_context(self, context):
        if self.when == "loading":
            raise RuntimeError(self.attack())

    def predict(self, context, model_input, params=None):
        return [self.attack()] * len(model_input)

mlflow.set_experiment("role-test-hostile")
for when in ("loading", "predicting"):
    with mlflow.start_run():
        logged = mlflow.pyfunc.log_model(
            name="model", python_model=Hostile(when), registered_model_name=f"hostile-{when}",
            signature=ModelSignature(
                Schema([ColSpec("double", "x")]), Schema([ColSpec("string")])))
    mlflow.MlflowClient().set_registered_model_alias(f"hostile-{when}", "champion", "1")
"""


class TestService(ServiceContract):
    service = "model_api"
    units = ("model-api", "model-api-prediction-log", "model-api-runners", "model-api-follower")
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


def register(host: Host, program: str) -> None:
    """Run a program that registers a model, with the service's own login."""
    host.check_output(
        "systemd-run --quiet --wait --pipe --collect --uid=model_api"
        " --property=EnvironmentFile=/etc/lastro/model_api.env"
        " --property=PrivateTmp=yes --setenv=HOME=/tmp --setenv=GIT_PYTHON_REFRESH=quiet"
        " --working-directory=/tmp"
        " /opt/lastro/model_api/current/venv/bin/python -c %s",
        program,
    )


@pytest.fixture
def champion(host: Host, key: dict[str, str]) -> None:
    """A model of y = 2x + 1, registered, served."""
    served = f"{URL}/models/{MODEL}/predict"
    if ask(host, served, method="POST", headers=key, body={"inputs": [{"x": 0.0}]}).status == 404:
        register(host, REGISTER)

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


@pytest.mark.usefixtures("champion")
def test_hostile_models_get_nothing_and_nobody_else_notices(
    host: Host, key: dict[str, str]
) -> None:
    nothing = "it started True and got []"
    pids = host.check_output("systemctl show --value --property=MainPID model-api")
    register(host, HOSTILE)

    def champions() -> dict[str, dict[str, Any]]:
        assert ask(host, f"{URL}/health/ready").status == 200
        models = ask(host, f"{URL}/models", headers=key).json()["models"]
        return {model["name"]: champion_of(model) for model in models}

    def failure() -> str | None:
        champion = champions().get("hostile-loading", {})
        return (champion.get("failure") or {}).get("reason")

    wait_until(failure, "the one that attacks while it is loaded to be refused")
    assert failure() == f"it does not load: {nothing}"

    def serves() -> bool:
        return bool(champions().get("hostile-predicting", {}).get("version"))

    wait_until(serves, "the one that attacks while it predicts to serve")
    served = f"{URL}/models/hostile-predicting/predict"
    answer = ask(host, served, method="POST", headers=key, body={"inputs": [{"x": 0.0}]})
    assert (answer.status, answer.json()["predictions"]) == (200, [nothing]), answer.text
    assert predict(host, key).status == 200
    assert host.check_output("systemctl show --value --property=MainPID model-api") == pids
