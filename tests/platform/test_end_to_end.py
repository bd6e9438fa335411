"""The platform end to end, in an environment of its own.

It is brought up from nothing, used, broken, and brought back.

The tests run in order; each leaves the platform as it found it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from lastro_platform import PROJECT, FirstUp, Platform, listeners, wait_for

SERVICES = ("airflow", "mlflow", "model_api")


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    """A copy of dags/ to change."""
    return Path(
        shutil.copytree(
            PROJECT / "dags", tmp_path / "dags", ignore=shutil.ignore_patterns("__pycache__")
        )
    )


def publish(platform: Platform, folder: Path, check: bool = True) -> str:
    """`make publish-dags` of another folder."""
    return platform.playbook(
        "ansible/playbooks/publish_dags.yml", "-e", f"dags_dir={folder}", check=check
    )


def dag_source(name: str, body: str = "pass", schedule: str = "None") -> str:
    """A DAG file with one task."""
    return textwrap.dedent(f'''
        from datetime import datetime
        from airflow.sdk import dag, task

        @dag(dag_id="{name}", schedule={schedule}, start_date=datetime(2026, 1, 1), catchup=False)
        def build():
            @task
            def work():
                {body}
            work()

        build()
    ''')


def run_path(dag: str, run: str) -> str:
    """Where Airflow's API has a run of a DAG."""
    return f"dags/{dag}/dagRuns/{requests.utils.quote(run, safe='')}"


def task_of(platform: Platform, dag: str, run: str) -> dict[str, Any]:
    """The one task of a run."""
    answer = platform.airflow("GET", f"{run_path(dag, run)}/taskInstances")
    (instance,) = answer.json()["task_instances"]
    return instance


def ended(platform: Platform, dag: str, run: str, seconds: float = 120) -> str:
    """How a run ended."""
    wait_for(
        f"the end of a run of {dag}",
        lambda: platform.run_state(dag, run) in ("success", "failed"),
        seconds,
    )
    return platform.run_state(dag, run)


def test_up_ends_with_a_prediction(platform: Platform, first_up: FirstUp) -> None:
    output = first_up.output
    assert re.search(
        r"A prediction, from a model that Airflow trained.*\n"
        r"\s+\[.+\] by wine-classifier version 1 \(run \w+\)",
        output,
    )
    for service in ("dashboard", "mlflow", "airflow", "model_api"):
        assert platform.public_url(service) in output


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
        wait_for(
            "the batch",
            lambda: platform.run_state("batch_score", run) in ("success", "failed"),
            180,
        )
        assert platform.run_state("batch_score", run) == "success"
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


def test_predictions_are_logged_in_s3(platform: Platform) -> None:
    row = platform.example()
    answer = platform.predict(row, row)
    predictions, request = answer.json()["predictions"], answer.headers["x-request-id"]

    def logged() -> list[dict[str, Any]]:
        return [
            found
            for key, content in platform.objects("predictions/model=wine-classifier/").items()
            if f"/version={platform.champion()}/" in key
            for found in platform.parquet(content)
            if found["request_id"] == request
        ]

    found = wait_for("the logged prediction", logged)
    assert [(entry["row"], entry["prediction"]) for entry in found] == list(enumerate(predictions))
    assert all(row.items() <= entry.items() for entry in found)


@pytest.mark.parametrize(
    ("page", "said"),
    {
        "dashboard-overview": ("serves v", "Latest runs", "Healthy", "scheduler", "Readable"),
        "dashboard-experiments": ("Parallel coordinates", "have a value on every axis"),
        "dashboard-models": ("serves v", "agrees with scikit-learn", "Who promoted what"),
        "dashboard-try": ("Prediction", "champion, version", "The same from a shell"),
        "dashboard-drift": ("Last day", "of at least 200"),
        "dashboard-pipelines": ("Success", "Tick one to see its tasks", "Tasks of"),
    }.items(),
)
def test_a_page_of_the_dashboard_in_a_browser(
    screenshots: Path, page: str, said: tuple[str, ...]
) -> None:
    text = (screenshots / f"{page}.txt").read_text()
    assert [part for part in said if part not in text] == []
    assert not re.search(r"Traceback|right now|is away|not set up", text)


@pytest.fixture(scope="module")
def screenshots(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what each page looks like and says, in a browser."""
    folder = tmp_path_factory.mktemp("screenshots")
    platform.run("scripts/screenshots", platform.environment, str(folder))
    return folder


def test_verify(platform: Platform) -> None:
    platform.make("verify")


def test_terraform_has_nothing_to_change(platform: Platform) -> None:
    platform.run(
        "scripts/terraform", platform.environment, "plan", "-detailed-exitcode", "-no-color"
    )


def test_a_second_up_changes_nothing(platform: Platform) -> None:
    output = platform.make("up")
    assert f"{platform.environment}: nothing to change" in output
    changes = platform.changes(output)
    assert changes and not any(changes.values()), changes
    assert not re.search(r"^changed ", output, re.M)
    # What asks for drift finds none.
    checked = platform.changes(platform.playbook("site.yml", "--check"))
    assert checked and not any(checked.values()), checked


def test_nothing_listens_beyond_this_machine(platform: Platform, first_up: FirstUp) -> None:
    bridge = platform.contract["hosts"]["mlflow"]["private_ip"].rsplit(".", 2)[0] + ".0.1"
    new = {
        address for address in listeners() - first_up.listeners if not address.startswith(bridge)
    }
    assert new == set()


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
        "the contract": (PROJECT / "inventory/test/group_vars/all/platform.json").read_text(),
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


def test_a_changed_variable_restarts_only_what_depends_on_it_and_an_edited_unit_is_repaired(
    platform: Platform,
) -> None:
    services = ("mlflow", "airflow", "model_api", "dashboard")
    before = {service: platform.main_pids(service) for service in services}
    unit = "/etc/systemd/system/dashboard.service"
    platform.host("dashboard").run(f"sed -i s/^NoNewPrivileges=true/NoNewPrivileges=false/ {unit}")

    platform.playbook("site.yml", "-e", "model_api_max_rows=5")

    after = {service: platform.main_pids(service) for service in services}
    assert {service for service in services if before[service] != after[service]} == {
        "model_api",
        "dashboard",
    }
    assert "NoNewPrivileges=true" in platform.host("dashboard").file(unit).content_string
    answer = platform.predict(*[platform.example()] * 6)
    assert answer.status_code in (413, 422) and "5" in answer.json()["detail"]
    platform.playbook("site.yml")
    assert platform.predict(*[platform.example()] * 6).status_code == 200


def test_a_training_survives_a_reconfiguration(platform: Platform, dags: Path) -> None:
    (dags / "slow.py").write_text(dag_source("slow", "import time; time.sleep(45)"))
    publish(platform, dags)
    wait_for("the DAG", lambda: platform.airflow("GET", "dags/slow").status_code == 200)
    run = platform.trigger("slow")
    wait_for("its task", lambda: task_of(platform, "slow", run)["state"] == "running")
    before = platform.main_pids("airflow")["airflow-scheduler"]

    platform.playbook(
        "site.yml",
        "-e",
        json.dumps({"airflow_settings": {"AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "7"}}),
    )

    assert platform.main_pids("airflow")["airflow-scheduler"] != before
    assert ended(platform, "slow", run) == "success"
    assert task_of(platform, "slow", run)["try_number"] == 1
    platform.playbook("site.yml")


def test_dags_follow_their_bucket_and_a_broken_one_keeps_its_last_good_version(
    platform: Platform, dags: Path
) -> None:
    def tags(dag: str) -> set[str]:
        answer = platform.airflow("GET", f"dags/{dag}")
        return (
            {tag["name"] for tag in answer.json()["tags"]} if answer.status_code == 200 else set()
        )

    good = dag_source("one").replace("catchup=False", 'catchup=False, tags=["first"]')
    (dags / "one.py").write_text(good)
    (dags / "two.py").write_text(dag_source("two"))
    publish(platform, dags)
    wait_for("the new DAG", lambda: tags("one") == {"first"})

    (dags / "one.py").write_text(good.replace("first", "second"))
    (dags / "two.py").write_text("import a_module_that_is_not_there\n")
    output = publish(platform, dags, check=False)
    assert (
        "dags/two.py" in output
        and "a_module_that_is_not_there" in output
        and "last good version" in output
    )
    wait_for("the changed DAG", lambda: tags("one") == {"second"})
    assert platform.airflow("GET", "dags/two").json()["is_stale"] is False
    assert platform.airflow("GET", "importErrors").json()["total_entries"] == 0

    publish(platform, PROJECT / "dags")
    wait_for(
        "the deleted DAGs to go",
        lambda: all(
            platform.airflow("GET", f"dags/{dag}").status_code == 404
            or platform.airflow("GET", f"dags/{dag}").json()["is_stale"]
            for dag in ("one", "two", "slow")
        ),
    )
    assert platform.changes(publish(platform, PROJECT / "dags")) == dict.fromkeys(
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


def test_promotion_rollback_and_a_version_that_cannot_serve(platform: Platform) -> None:
    model = "MODEL=wine-classifier"
    first = platform.champion()
    again = add_version(platform, first)
    broken = add_version(platform, first, "nowhere")

    output = platform.make("promote", model, f"VERSION={again}", "USER_NAME=ana")
    assert f"wine-classifier version {again} serves as champion" in output
    assert platform.predict().json()["model"]["version"] == again

    output = " ".join(platform.make("promote", model, f"VERSION={broken}", check=False).split())
    assert f"does not serve version {broken} of wine-classifier" in output
    assert f"Version {again} serves on" in output and f"make rollback {model}" in output
    assert platform.predict().json()["model"]["version"] == again

    platform.make("rollback", model)
    assert platform.champion() == again
    # The way back to what was before the test; a version that is not there changes nothing.
    refused = platform.make("promote", model, "VERSION=99", check=False)
    assert "has no version 99" in refused and f"{first}, {again}, {broken}" in refused
    platform.make("promote", model, f"VERSION={first}")
    registered = platform.mlflow(
        "GET", "registered-models/get", params={"name": "wine-classifier"}
    ).json()["registered_model"]
    tags = {tag["key"]: tag["value"] for tag in registered["tags"]}
    history = json.loads(tags["lastro.history.champion"])
    assert [entry["version"] for entry in history][-5:] == [first, again, broken, again, first]
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
        time.sleep(5)
        assert platform.predict(example).status_code == 200
        platform.host("model_api").run("systemctl restart model-api-follower model-api")
        wait_for("the model API", lambda: _answers(platform))
        # What was prepared is enough.
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
    password = re.search(r"Login of ana, shown this once: password (\S+)", output)[1]
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
    assert "10.43.255.99:5432" in output and "does not answer" in output
    assert not any(platform.changes(output).values())


@pytest.mark.parametrize("how", ["kill -9 of everything", "down"])
def test_everything_comes_back(platform: Platform, how: str) -> None:
    def memory() -> dict[str, object]:
        """All that must outlive it."""
        runs = platform.mlflow(
            "POST", "runs/search", json={"experiment_ids": ["1"], "max_results": 100}
        ).json()["runs"]
        # Beside MLflow's lie predictions, which come as they are made.
        objects = platform.aws("s3").list_objects_v2(
            Bucket=platform.contract["buckets"]["artifacts"], Prefix="mlflow/"
        )["Contents"]
        return {
            "runs": sorted(run["info"]["run_id"] for run in runs),
            "champion": platform.champion(),
            "artifacts": sorted((item["Key"], item["ETag"]) for item in objects),
            "dag runs": sorted(
                run["dag_run_id"]
                for run in platform.airflow("GET", "dags/wine/dagRuns").json()["dag_runs"]
            ),
            "secrets": {
                service: platform.secret(service) for service in platform.contract["secrets"]
            },
            "hosts": platform.contract["hosts"],
        }

    before = memory()
    if how == "down":
        platform.make("down")
        assert (
            subprocess.run(
                ["podman", "ps", "-q", "--filter=label=lastro.environment=test"],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            == ""
        )
    else:
        names = [
            *(platform.host_of(service) for service in ("mlflow", "airflow", "model_api")),
            "lastro-test-database",
            "lastro-test-aws",
        ]
        subprocess.run(["podman", "kill", "--signal=KILL", *names], check=True)
    output = platform.make("up")
    assert "A prediction" in output
    assert memory() == before
    # What an unchanged host runs is left alone, also when it has just been started.
    configured = output[output.index("Configuring the hosts") :]
    assert not re.search(r"^changed ", configured, re.M)


@contextlib.contextmanager
def a_worker(platform: Platform) -> Iterator[str]:
    """The environment with a worker, and without it again.

    It comes and goes by one line of the environment's tfvars. Yields what `make up` said.
    """
    tfvars = PROJECT / f"terraform/environments/{platform.environment}.tfvars"
    before = tfvars.read_text()
    first = "hosts = {\n"
    assert before.count(first) == 1
    line = '  trainer = { instance_type = "t3.small", roles = ["airflow_worker"] }\n'
    tfvars.write_text(before.replace(first, first + line))
    try:
        yield platform.make("up")
    except Exception:
        # Its host is gone when the journals of a failed test are printed.
        platform.make("logs", "SERVICE=airflow_worker", check=False)
        raise
    finally:
        tfvars.write_text(before)
        platform.make("up")


def ran_on(platform: Platform, dag: str, seconds: float = 120) -> str:
    """Run a DAG of one task; the host that ran it."""
    run = platform.trigger(dag)
    assert ended(platform, dag, run, seconds) == "success"
    return task_of(platform, dag, run)["hostname"]


def test_tasks_run_on_workers_while_there_are_any_and_then_on_the_host_of_airflow_again(
    platform: Platform, dags: Path
) -> None:
    (dags / "quick.py").write_text(dag_source("quick"))
    body = "import time; print('it begins'); time.sleep(60); print('it ends')"
    (dags / "long.py").write_text(dag_source("long", body))

    def offer() -> None:
        # `make up` publishes what the project has.
        publish(platform, dags)
        for path in ("dags/quick", "dags/long"):
            wait_for(
                path, lambda p=path: platform.airflow("GET", p).json().get("is_stale") is False
            )

    offer()
    alone = ran_on(platform, "quick")

    with a_worker(platform) as output:
        offer()
        worker = platform.host_of("airflow_worker")
        assert ", 0 to destroy" in output and worker != alone
        assert platform.contract["services"]["airflow_worker"]["port"] is None
        assert ran_on(platform, "quick") == worker
        platform.make("verify")
        assert "airflow-worker" in platform.make("status")
        assert "http://" not in platform.make("tunnel", "SERVICE=airflow_worker", check=False)
        changes = platform.changes(platform.playbook("site.yml"))
        assert worker in changes and not any(changes.values()), changes

        # A task that runs may end, also where its worker is configured anew.
        run, before = platform.trigger("long"), platform.main_pids("airflow_worker")
        wait_for("its task", lambda: task_of(platform, "long", run)["state"] == "running")
        platform.playbook("site.yml", "-e", "airflow_worker_concurrency=3")
        assert platform.main_pids("airflow_worker") != before
        assert ended(platform, "long", run) == "success"
        instance = task_of(platform, "long", run)
        assert (instance["try_number"], instance["hostname"]) == (1, worker)
        log = f"{run_path('long', run)}/taskInstances/work/logs/1"
        for line in ("it begins", "it ends"):
            wait_for(f"'{line}' in its log", lambda s=line: s in platform.airflow("GET", log).text)

        kill = "systemctl kill --signal=KILL airflow-worker"
        platform.host("airflow_worker").check_output(kill)
        assert ran_on(platform, "quick", 180) == worker

        # What the example needs of AWS, MLflow and the pipelines' environment is there, too.
        platform.make("prove", "AGAIN=yes")
        newest = {"order_by": "-run_after", "limit": 1}
        (trained,) = platform.airflow("GET", "dags/wine/dagRuns", params=newest).json()["dag_runs"]
        tasks = f"{run_path('wine', trained['dag_run_id'])}/taskInstances"
        instances = platform.airflow("GET", tasks).json()["task_instances"]
        assert len(instances) > 1 and {each["hostname"] for each in instances} == {worker}

    assert "airflow_worker" not in platform.contract["services"]
    offer()
    assert ran_on(platform, "quick") == alone
    # The log of what a worker ran is Airflow's, and stays.
    assert "it ends" in platform.airflow("GET", log).text
    publish(platform, PROJECT / "dags")


def test_destroy_asks_for_the_name(platform: Platform) -> None:
    output = platform.make("destroy", check=False)
    assert "CONFIRM=test" in output
    assert platform.predict().status_code == 200
