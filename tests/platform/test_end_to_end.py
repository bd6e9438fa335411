"""The platform end to end, in its own environment.

It is brought up from nothing, used, broken, and brought back.

The tests run in order; each leaves the platform as it found it.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from checkouts import copy_project
from lastro_platform import PROJECT, FirstUp, Platform, listeners, wait_for, wait_until
from published_dags import Dags, dag_source, ended, stopping, task_of, until

SERVICES = ("airflow", "mlflow", "model_api")


def test_up_ends_with_a_prediction(platform: Platform, first_up: FirstUp) -> None:
    output = first_up.output
    assert re.search(
        r"A prediction by a model that Airflow trained.*\n"
        r"\s+\[.+\] by wine-classifier version 1 \(run \w+\)",
        output,
    )
    for service, entry in platform.contract["services"].items():
        if entry["public_name"]:
            assert platform.public_url(service) in output


def test_up_says_where_the_time_went(first_up: FirstUp) -> None:
    last = first_up.output.rstrip().splitlines()[-1]
    took = r"\d+:\d\d"
    parts = rf"set-up {took}, AWS API {took}, Terraform {took}, machines {took}, configure {took}"
    assert re.fullmatch(
        rf"That took {took} min: {parts}, publish {took}, train and predict {took}", last
    )


def test_hosts_copy_the_environments_that_were_built_ahead(first_up: FirstUp) -> None:
    assert not re.search(r"^changed .*: Install the locked packages", first_up.output, re.M)


def test_the_model_is_the_one_that_airflow_trained(platform: Platform) -> None:
    run = platform.predict().json()["model"]["run_id"]
    found = platform.mlflow("GET", "runs/get", params={"run_id": run}).json()["run"]
    assert found["info"]["status"] == "FINISHED"
    assert found["info"]["artifact_uri"].startswith("mlflow-artifacts:")
    assert (
        platform.airflow("GET", "dags/wine/dagRuns", params={"state": "success"}).json()[
            "total_entries"
        ]
        == 1
    )


def test_artifacts_are_in_their_bucket(platform: Platform) -> None:
    keys = [
        item["Key"]
        for item in platform.aws("s3").list_objects_v2(
            Bucket=platform.contract["buckets"]["artifacts"]
        )["Contents"]
    ]
    assert any(key.endswith("MLmodel") for key in keys)
    assert any(key.endswith(".png") for key in keys)


def test_a_batch_is_scored_as_requests_are(platform: Platform) -> None:
    example = platform.example()
    rows = [{name: value * factor for name, value in example.items()} for factor in (1, 0.7, 1.4)]
    lines = [
        ",".join(("id", *example)),
        *(",".join(map(str, (i, *rows[i].values()))) for i in range(3)),
    ]
    s3, bucket = platform.aws("s3"), platform.contract["buckets"]["artifacts"]
    s3.put_object(Bucket=bucket, Key="batch/in/wines/a.csv", Body="\n".join(lines).encode())
    try:
        run = platform.trigger("batch_score", source="in/wines", target="out")
        assert ended(platform, "batch_score", run) == "success"
        written = platform.objects("batch/out/")
        version = platform.champion()
        [prefix] = {key.rpartition("/")[0] for key in written}
        own = f"version={version}/run={re.sub(r'[^A-Za-z0-9._-]', '-', run)}-"
        assert prefix.startswith(f"batch/out/model=wine-classifier/{own}")
        assert written.keys() == {
            f"{prefix}/{name}" for name in ("part-00000.parquet", "_lineage.json", "_SUCCESS")
        }
        scored = platform.parquet(written[f"{prefix}/part-00000.parquet"])
        assert [row["prediction"] for row in scored] == platform.predict(*rows).json()[
            "predictions"
        ]
        assert [(row["id"], row["model_version"]) for row in scored] == [
            (str(i), version) for i in range(3)
        ]
        lineage = json.loads(written[f"{prefix}/_lineage.json"])
        assert (lineage["version"], lineage["alias"], lineage["rows"]) == (version, "champion", 3)
        logged = platform.mlflow("GET", "runs/get", params={"run_id": lineage["mlflow_run_id"]})
        assert logged.json()["run"]["info"]["status"] == "FINISHED"
    finally:
        for key in platform.objects("batch/"):
            s3.delete_object(Bucket=bucket, Key=key)


@dataclass
class Logged:
    """A prediction of two equal rows, and its records in S3."""

    row: dict[str, Any]
    predictions: list[Any]
    entries: list[dict[str, Any]]


@pytest.fixture(scope="module")
def logged(platform: Platform) -> Logged:
    """A prediction that the log has."""
    row = platform.example()
    answer = platform.predict(row, row)
    request = answer.headers["x-request-id"]

    def entries() -> list[dict[str, Any]]:
        return [
            found
            for key, content in platform.objects("predictions/model=wine-classifier/").items()
            if f"/version={platform.champion()}/" in key
            for found in platform.parquet(content)
            if found["request_id"] == request
        ]

    return Logged(row, answer.json()["predictions"], wait_for("the logged prediction", entries))


def test_predictions_are_logged_in_s3(logged: Logged) -> None:
    found = [(entry["row"], entry["prediction"]) for entry in logged.entries]
    assert found == list(enumerate(logged.predictions))
    assert all(logged.row.items() <= entry.items() for entry in logged.entries)


# The texts of each page of the dashboard, once it has drawn everything.
SAID = {
    "dashboard-overview": ("serves v", "Latest runs", "Healthy", "scheduler", "Readable"),
    "dashboard-experiments": ("Parallel coordinates", "have a value on every axis"),
    "dashboard-models": ("serves v", "agrees with scikit-learn", "Who promoted what"),
    "dashboard-try": ("Prediction", "champion, version", "The same from a shell"),
    "dashboard-drift": ("Last day", "logged row", "held-out rows"),
    "dashboard-pipelines": ("Success", "Tick one to see its tasks", "Tasks of"),
}


@pytest.mark.parametrize(("page", "said"), SAID.items())
def test_a_page_of_the_dashboard_in_a_browser(
    screenshots: Path, page: str, said: tuple[str, ...]
) -> None:
    text = (screenshots / f"{page}.txt").read_text()
    assert [part for part in said if part not in text] == []
    assert not re.search(r"Traceback|right now|is unavailable|not set up", text)


@pytest.fixture(scope="module")
def screenshots(
    platform: Platform, logged: Logged, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with an image and the text of each page in a browser, after a prediction."""
    folder = tmp_path_factory.mktemp("screenshots")
    (folder / "expected.json").write_text(json.dumps(SAID))
    platform.run("lastro-ops", "screenshots", platform.environment, str(folder))
    return folder


def test_verify(platform: Platform) -> None:
    platform.make("verify")


def test_a_second_up_changes_nothing(platform: Platform) -> None:
    output = platform.make("up")
    assert f"{platform.environment}: nothing to change" in output
    changes = platform.changes(output)
    assert changes and not any(changes.values()), changes
    assert not re.search(r"^changed ", output, re.M)
    # The check for drift finds none.
    checked = platform.changes(platform.playbook("site.yml", "--check"))
    assert checked and not any(checked.values()), checked


def test_nothing_listens_beyond_this_machine(platform: Platform, first_up: FirstUp) -> None:
    assert listeners() - first_up.listeners == set()


def test_no_secret_is_left_in_state_inventory_or_journal(platform: Platform) -> None:
    bucket = f"lastro-terraform-state-{platform.contract['account_id']}"
    state = (
        platform.aws("s3")
        .get_object(Bucket=bucket, Key=f"{platform.environment}/terraform.tfstate")["Body"]
        .read()
        .decode()
    )
    texts = {
        "Terraform's state": state,
        "the contract": (
            PROJECT / f"inventory/{platform.environment}/group_vars/all/platform.json"
        ).read_text(),
    }
    for service in ("mlflow", "airflow", "model_api"):
        texts[f"the journal of {service}'s host"] = (
            platform.host(service).run("journalctl --no-pager -o cat").stdout
        )
    secrets = {
        (name, key): value
        for name in (*platform.contract["secrets"], "database")
        for key, value in platform.secret(name).items()
        if key != "username"
    }
    login = f"admin:{secrets['mlflow', 'admin_password']}".encode()
    secrets["mlflow", "the header of basic authentication"] = base64.b64encode(login).decode()
    assert [
        (where, what)
        for where, text in texts.items()
        for what, value in secrets.items()
        if value in text
    ] == []


@pytest.fixture(scope="class")
def configure(platform: Platform) -> Iterator[Callable[..., str]]:
    """`site.yml` with other settings than the inventory's, which come back at the end."""
    yield lambda **settings: platform.playbook("site.yml", "-e", json.dumps(settings))
    platform.playbook("site.yml")


class TestReconfiguration:
    """`site.yml` restarts and repairs only the services whose settings changed."""

    def test_a_changed_variable_restarts_only_its_service_and_an_edited_unit_is_repaired(
        self, platform: Platform, configure: Callable[..., str]
    ) -> None:
        services = platform.services
        before = {service: platform.main_pids(service) for service in services}
        unit = "/etc/systemd/system/dashboard.service"
        edit = "s/^NoNewPrivileges=true/NoNewPrivileges=false/"
        platform.host("dashboard").check_output(f"sed -i {edit} {unit}")

        configure(model_api_max_rows=5)

        after = {service: platform.main_pids(service) for service in services}
        assert {service for service in services if before[service] != after[service]} == {
            "model_api",
            "dashboard",
        }
        assert "NoNewPrivileges=true" in platform.host("dashboard").file(unit).content_string
        answer = platform.predict(*[platform.example()] * 6)
        assert answer.status_code in (413, 422) and "5" in answer.json()["detail"]

    def test_a_training_survives_a_reconfiguration(
        self, platform: Platform, configure: Callable[..., str], dags: Dags
    ) -> None:
        host, may_end = platform.host("airflow"), "/var/lib/airflow/slow-may-end"
        dags.write("slow", dag_source("slow", until(may_end)))
        dags.publish()
        wait_for("the DAG", lambda: dags.known("slow"))
        run = platform.trigger("slow")
        wait_for("its task", lambda: task_of(platform, "slow", run)["state"] == "running")
        before = platform.main_pids("airflow")

        settings = {"airflow_settings": {"AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "7"}}
        # It ends when the scheduler has been told to stop and the API server has just restarted.
        with stopping(host, "airflow-scheduler", platform, json.dumps(settings)):
            host.check_output(f"touch {may_end}")

        after = platform.main_pids("airflow")
        assert [unit for unit in before if before[unit] == after[unit]] == []
        assert ended(platform, "slow", run) == "success"
        assert task_of(platform, "slow", run)["try_number"] == 1
        # The settings of that one run are as in the inventory again.
        assert platform.predict(*[platform.example()] * 6).status_code == 200

    def test_settings_that_the_release_refuses_change_nothing(self, platform: Platform) -> None:
        settings = {"dashboard_extra_environment": {"DASHBOARD_LOGIN_IDLE_HOURS": "forever"}}
        before = self._dashboard(platform)
        output = self._configure_dashboard(platform, **settings)
        assert "of dashboard rejects its settings. Nothing was changed" in output
        assert "DASHBOARD_LOGIN_IDLE_HOURS" in output
        assert self._dashboard(platform) == before

    @pytest.mark.full
    def test_a_release_whose_page_raises_is_taken_back(
        self, platform: Platform, tmp_path: Path
    ) -> None:
        copy_project(tmp_path)
        (tmp_path / ".venv").symlink_to(PROJECT / ".venv")
        page = tmp_path / "services/dashboard/src/dashboard/views/models.py"
        page.write_text(page.read_text() + "\nraise RuntimeError\n")
        before = self._dashboard(platform)["release"]
        output = self._configure_dashboard(
            platform,
            lastro_project_dir=str(tmp_path),
            lastro_state=str(PROJECT / ".lastro" / platform.environment),
            _service_ready_timeout=20,
        )
        assert "the previous release runs again" in output
        assert "Models raises" in output
        assert self._dashboard(platform)["release"] == before
        login = "admin", platform.secret("mlflow")["admin_password"]

        def answer() -> str:
            # Its process has just been started.
            try:
                return platform.ask("dashboard", "/health/ready", auth=login).text
            except requests.ConnectionError as error:
                return str(error)

        wait_until(
            "the dashboard to be ready", answer, lambda text: text.startswith("Ready: every page")
        )

    @staticmethod
    def _configure_dashboard(platform: Platform, **settings: Any) -> str:
        limit = f"localhost,{platform.host_of('dashboard')}"
        arguments = ("--limit", limit, "-e", json.dumps(settings))
        return platform.playbook("site.yml", *arguments, check=False)

    @staticmethod
    def _dashboard(platform: Platform) -> dict[str, Any]:
        host = platform.host("dashboard")
        return {
            "release": host.check_output("readlink /opt/lastro/dashboard/current"),
            "environment": host.file("/etc/lastro/dashboard.env").content_string,
            "process": platform.main_pids("dashboard"),
        }


def test_dags_follow_their_bucket_and_a_broken_one_keeps_its_last_good_version(
    platform: Platform, dags: Dags
) -> None:
    def tags(dag: str) -> set[str]:
        answer = platform.airflow("GET", f"dags/{dag}")
        return (
            {tag["name"] for tag in answer.json()["tags"]} if answer.status_code == 200 else set()
        )

    good = dag_source("one").replace("catchup=False", 'catchup=False, tags=["first"]')
    dags.write("one", good)
    dags.write("two", dag_source("two"))
    dags.publish()
    wait_for("the new DAGs", lambda: tags("one") == {"first"} and dags.known("two"))

    dags.write("one", good.replace("first", "second"))
    dags.write("two", "import a_module_that_is_not_there\n")
    output = dags.publish(check=False)
    assert (
        "dags/two.py" in output
        and "a_module_that_is_not_there" in output
        and "last good version" in output
    )
    wait_for("the changed DAG", lambda: tags("one") == {"second"})
    assert dags.known("two")
    assert platform.airflow("GET", "importErrors").json()["total_entries"] == 0

    dags.restore()
    wait_for("the deleted DAGs to go", lambda: not dags.known("one") and not dags.known("two"))
    assert platform.changes(dags.restore()) == dict.fromkeys(
        (platform.host_of("airflow"), "localhost"), 0
    )


def add_version(platform: Platform, like: str, source: str | None = None) -> str:
    """Register the run of a version once more, or something else of that run; its number."""
    version = platform.mlflow(
        "GET", "model-versions/get", params={"name": "wine-classifier", "version": like}
    ).json()["model_version"]
    new = {"name": "wine-classifier", "run_id": version["run_id"]}
    if source is None:
        model_id = version["source"].removeprefix("models:/")
        new |= {"source": version["source"], "model_id": model_id}
    else:
        run = platform.mlflow("GET", "runs/get", params={"run_id": version["run_id"]}).json()["run"]
        new |= {"source": f"{run['info']['artifact_uri']}/{source}"}
    answer = platform.mlflow("POST", "model-versions/create", json=new)
    assert answer.status_code == 200, answer.text
    return answer.json()["model_version"]["version"]


@pytest.fixture
def first(platform: Platform) -> Iterator[str]:
    """The version that is champion, and is so again at the end."""
    version = platform.champion()
    yield version
    if platform.champion() != version:
        platform.make("promote", "MODEL=wine-classifier", f"VERSION={version}")


def test_promotion_rollback_and_a_version_that_cannot_serve(platform: Platform, first: str) -> None:
    model = "MODEL=wine-classifier"
    again = add_version(platform, first)
    broken = add_version(platform, first, "nowhere")

    output = platform.make("promote", model, f"VERSION={again}", "USER_NAME=ana")
    assert f"wine-classifier version {again} serves as champion" in output
    assert platform.predict().json()["model"]["version"] == again

    output = " ".join(platform.make("promote", model, f"VERSION={broken}", check=False).split())
    assert f"does not serve version {broken} of wine-classifier" in output
    assert f"Version {again} is still served" in output and f"make rollback {model}" in output
    assert platform.predict().json()["model"]["version"] == again

    platform.make("rollback", model)
    assert platform.champion() == again
    # Back to the version before the test; a missing version changes nothing.
    refused = platform.make("promote", model, "VERSION=99", check=False)
    assert "has no version 99" in refused and f"{first}, {again}, {broken}" in refused
    platform.make("promote", model, f"VERSION={first}")
    registered = platform.mlflow(
        "GET", "registered-models/get", params={"name": "wine-classifier"}
    ).json()["registered_model"]
    tags = {tag["key"]: tag["value"] for tag in registered["tags"]}
    keys = sorted(key for key in tags if key.startswith("lastro.history.champion/"))
    history = [json.loads(tags[key]) for key in keys]
    assert [entry["version"] for entry in history][-5:] == [first, again, broken, again, first]
    assert [entry["back"] for entry in history][-5:] == [False, False, False, True, False]
    assert history[-4]["by"] == "ana"
    assert history[-5]["by"].startswith("airflow: ")


def test_without_the_follower_predictions_go_on_and_it_comes_back(platform: Platform) -> None:
    host, example = platform.host("model_api"), platform.example()
    before = platform.main_pids("model_api")
    host.run("systemctl kill --signal=KILL model-api-follower")
    assert platform.predict(example).status_code == 200
    wait_for(
        "the follower",
        lambda: (
            platform.main_pids("model_api")["model-api-follower"]
            not in ("0", before["model-api-follower"])
        ),
    )
    assert platform.main_pids("model_api")["model-api"] == before["model-api"]


def test_a_registry_that_is_away_stops_no_prediction_nor_a_restart(platform: Platform) -> None:
    example = platform.example()
    try:
        platform.host("mlflow").run("systemctl stop mlflow")
        wait_for("the follower to notice", lambda: _listing(platform)["registry_error"])
        assert platform.predict(example).status_code == 200
        platform.host("model_api").run("systemctl restart model-api-follower model-api")
        wait_for("the model API", lambda: _answers(platform))
        # The prepared version is enough.
        wait_for("the model", lambda: platform.predict(example).status_code == 200)
        wait_for("the follower", lambda: _listing(platform)["registry_error"])
        ready = requests.get(f"{platform.url('model_api')}/health/ready", timeout=10)
        assert ready.status_code == 200
    finally:
        platform.host("mlflow").run("systemctl start mlflow")
    wait_for("the registry", lambda: _listing(platform)["registry_error"] is None)
    assert platform.predict(example).status_code == 200


def _listing(platform: Platform) -> dict:
    return platform.model_api("GET", "models").json()


def _answers(platform: Platform) -> bool:
    try:
        return requests.get(f"{platform.url('model_api')}/health/live", timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        (lambda row: row.pop("alcohol"), 422, "alcohol"),
        (lambda row: row.update(vintage=1998), 422, "vintage"),
        (lambda row: row.update(alcohol="strong"), 422, "alcohol"),
    ],
)
def test_a_bad_row_is_named(platform: Platform, change, status: int, named: str) -> None:
    row = platform.example()
    change(row)
    answer = platform.predict(platform.example(), row)
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert named in answer.text


def test_an_unknown_model_and_too_many_rows_are_named(platform: Platform) -> None:
    unknown = platform.model_api("POST", "models/beer/predict", json={"inputs": [{}]})
    assert (
        unknown.status_code == 404
        and "beer" in unknown.json()["detail"]
        and "wine-classifier" in unknown.json()["detail"]
    )
    many = platform.predict(*[platform.example()] * 1001)
    assert many.status_code in (413, 422) and "1000" in many.json()["detail"]


def test_a_colleague_logs_in_everywhere(platform: Platform) -> None:
    output = platform.make("user", "NAME=ana")
    password = re.search(r"Login of ana, shown only once: password (\S+)", output)[1]
    assert (
        platform.mlflow(
            "GET", "experiments/search", user="ana", password=password, params={"max_results": 1}
        ).status_code
        == 200
    )
    assert platform.airflow_token("ana", password)
    assert (
        platform.mlflow(
            "GET",
            "experiments/search",
            user="ana",
            password="wrong-password",
            params={"max_results": 1},
        ).status_code
        == 401
    )
    refused = platform.make("user", "NAME=admin", check=False)
    assert "NAME is 'admin'" in refused


def test_a_database_that_does_not_answer_stops_the_play_before_anything_changes(
    platform: Platform,
) -> None:
    server = {"host": "10.43.255.99", "port": 5432, "user": "x", "password": "x"}
    output = platform.playbook(
        "site.yml", "-e", json.dumps({"databases_server": server}), check=False
    )
    assert "10.43.255.99:5432 is unreachable" in output
    assert not any(platform.changes(output).values())


@pytest.fixture
def brought_back(platform: Platform) -> Iterator[None]:
    """The environment runs at the end, also where a test has stopped it and failed."""
    yield
    if not all(container_runs(name) for name in containers(platform)):
        platform.make("up")


def containers(platform: Platform) -> list[str]:
    """The containers of the environment."""
    hosts = (platform.host_of(service) for service in ("mlflow", "airflow", "model_api"))
    prefix = f"{platform.contract['project']}-{platform.environment}"
    return [*hosts, f"{prefix}-database", f"{prefix}-aws"]


def container_runs(name: str) -> bool:
    """Whether a container runs, by podman."""
    inspect = ["podman", "container", "inspect", "--format={{.State.Running}}", name]
    return subprocess.run(inspect, capture_output=True, text=True).stdout.strip() == "true"


@pytest.mark.parametrize(
    "how", ["kill -9 of everything", pytest.param("down", marks=pytest.mark.full)]
)
def test_all_data_and_services_come_back(platform: Platform, brought_back: None, how: str) -> None:
    before = platform.memory()
    if how == "down":
        platform.make("down")
        assert [name for name in containers(platform) if container_runs(name)] == []
    else:
        subprocess.run(["podman", "kill", "--signal=KILL", *containers(platform)], check=True)
    output = platform.make("up")
    assert "A prediction" in output
    assert platform.memory() == before
    # The services of an unchanged host are left alone, also if it has just been started.
    configured = output[output.index("Configuring the hosts") :]
    assert not re.search(r"^changed ", configured, re.M)


def test_destroy_asks_for_the_name(platform: Platform) -> None:
    output = platform.make("destroy", check=False)
    assert f"CONFIRM={platform.environment}" in output
    assert platform.predict().status_code == 200
