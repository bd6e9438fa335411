"""The pipeline's own sequence, job by job, against the emulator.

The workflows run unchanged (actions.py), each job in a fresh directory. To them the
environment, which runs, is one in AWS: they come in by Session Manager's SSH (through a
stand-in) and with the credentials of the roles that `make bootstrap` has made.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from actions import Actions, Event, JobFailed
from checkouts import commit, copy_project, git
from github_api import GitHub
from lastro_platform import PROJECT, Platform, wait_for
from published_dags import Dags, dag_source, ended, ran_on, run_path, stopping, task_of, until

SERVICES = ("model_api", "airflow")
REPOSITORY = "acme/ml"
ENVIRONMENT = os.environ.get("LASTRO_ENVIRONMENT", "pipeline")
STAND_IN = "session_stand_in.py"
# The platform's own tests need no test.
TESTED = frozenset({"lint", "test", "molecule"})
MAIN = Event("push")


def root_credentials(platform: Platform) -> dict[str, str]:
    """The environment variables of an administrator of the account."""
    lines = (PROJECT / f".lastro/{ENVIRONMENT}/aws.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def origin(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout as a repository in which the environment is one in AWS."""
    folder = tmp_path_factory.mktemp("origin") / "ml"
    copy_project(folder)
    variables = folder / f"inventory/{ENVIRONMENT}/group_vars/all"
    (variables / "01_one_machine.yml").unlink()
    (variables / "01_aws.yml").symlink_to("../../../common/aws.yml")
    one_machine = yaml.safe_load((PROJECT / "inventory/common/one_machine.yml").read_text())
    kept = (
        "lastro_host_aws_environment",
        "machine_cache_dir",
        "_python_release_cache_dir",
        "edge_certificates",
    )
    endpoint = root_credentials(platform)["AWS_ENDPOINT_URL"]
    settings = {name: one_machine[name] for name in kept} | {
        "lastro_edge_address": platform.edge_address,
        "lastro_aws": {"region": "{{ lastro_region }}", "endpoint_url": endpoint},
        "lastro_database_ca_url": f"file://{PROJECT}/.lastro/{ENVIRONMENT}/database-ca.pem",
        "lastro_session_command": f"{sys.executable} {Path(__file__).with_name(STAND_IN)} %h %p",
    }
    (variables / "settings.yml").write_text(yaml.safe_dump(settings))
    git("init", "--quiet", "--initial-branch=main", folder=folder)
    commit(folder, "The platform")
    return folder


@pytest.fixture(scope="module")
def github() -> Iterator[GitHub]:
    with GitHub(REPOSITORY) as api:
        yield api


@pytest.fixture(scope="module")
def actions(
    platform: Platform, origin: Path, github: GitHub, tmp_path_factory: pytest.TempPathFactory
) -> Actions:
    """GitHub Actions for that repository, in an account that `make bootstrap` has prepared."""
    credentials = root_credentials(platform)
    folder = tmp_path_factory.mktemp("runs")
    checkout = folder / "bootstrap"
    git("clone", "--quiet", str(origin), str(checkout), folder=origin)
    platform.run(
        "env",
        *(f"{name}={value}" for name, value in credentials.items()),
        "make",
        f"--directory={checkout}",
        "bootstrap",
        f"GITHUB_REPOSITORY={REPOSITORY}",
        "AUTO_APPROVE=yes",
    )
    programs = folder / "programs"
    programs.mkdir()
    plugin = programs / "session-manager-plugin"
    # SSH goes through the stand-in and never asks it for more than its version.
    plugin.write_text('#!/bin/sh\n[ "$1" = --version ] && echo 1.2.835.0\n')
    plugin.chmod(0o755)
    iam, sts = platform.aws("iam"), platform.aws("sts")

    def login(role: str) -> dict[str, str]:
        session = sts.assume_role(RoleArn=role, RoleSessionName="GitHubActions")["Credentials"]
        return {
            "AWS_ENDPOINT_URL": credentials["AWS_ENDPOINT_URL"],
            "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
            "AWS_SESSION_TOKEN": session["SessionToken"],
        }

    def trusts(role: str, subject: str) -> bool:
        policy = iam.get_role(RoleName=role.rpartition("/")[2])["Role"]["AssumeRolePolicyDocument"]
        return any(admits(statement, subject) for statement in policy["Statement"])

    return Actions(
        origin=origin,
        folder=folder,
        github=github,
        variables={
            "AWS_ACCOUNT_ID": sts.get_caller_identity()["Account"],
            "AWS_REGION": platform.contract["region"],
        },
        environments={"dev": ENVIRONMENT},
        login=login,
        trusts=trusts,
        programs=programs,
        skipped=TESTED,
        # As EC2 boots new instances and removes destroyed ones.
        after={"make apply-plan": lambda: platform.make("inventory", "machines")},
    )


def admits(statement: dict[str, Any], subject: str) -> bool:
    """Whether a statement of a trust policy admits GitHub's token with this `sub`."""
    claims = {
        "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
        "token.actions.githubusercontent.com:sub": subject,
    }
    assert statement["Effect"] == "Allow"
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    for operator, conditions in statement["Condition"].items():
        for key, patterns in conditions.items():
            values = [patterns] if isinstance(patterns, str) else patterns
            if operator == "StringLike":
                fits = any(fnmatch.fnmatchcase(claims[key], pattern) for pattern in values)
            else:
                assert operator == "StringEquals"
                fits = claims[key] in values
            if not fits:
                return False
    return True


def shell(checkout: Path, *argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a checkout that an earlier job left, as somebody with only ``variables``."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        # No metadata service answers here, and nobody wants to wait for it.
        "AWS_EC2_METADATA_DISABLED": "true",
        **variables,
    }
    return subprocess.run(
        argv,
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


# ---- a pull request -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pull_request(actions: Actions, origin: Path, github: GitHub) -> int:
    """A change of the cloud, of a service and of DAGs, after its pipeline has run."""
    tfvars = origin / f"terraform/environments/{ENVIRONMENT}.tfvars"
    wanted = 'alerts = { emails = ["ops@example.com"] }\npermissions_boundary = "lastro-boundary"\n'
    first = "hosts = {\n"
    before = tfvars.read_text()
    assert before.count(first) == 1
    tfvars.write_text(f"{before.replace(first, first + WORKER)}\n{wanted}")
    settings = origin / f"inventory/{ENVIRONMENT}/group_vars/all/settings.yml"
    settings.write_text(settings.read_text() + "model_api_max_rows: 777\n")
    (origin / "dags/greeting.py").write_text(DAG)
    (origin / "dags/long.py").write_text(dag_source("long", until(MAY_END)))
    commit(origin, "Mail, rows, a greeting, and a host for tasks")
    number = github.open_pull_request()
    ran = actions.run("pipeline.yml", pull_request_event(number))
    assert ran == ["plan", "comment"]
    return number


# All that a host for tasks takes.
WORKER = '  trainer = { instance_type = "t3.small", roles = ["airflow_worker"] }\n'
MAY_END = "/var/lib/airflow_worker/long-may-end"
DAG = """
from datetime import datetime
from airflow.sdk import dag, task

@dag(schedule=None, start_date=datetime(2026, 1, 1))
def greeting():
    @task
    def greet():
        print("hello")
    greet()

greeting()
"""


def pull_request_event(number: int) -> Event:
    head = {"repo": {"full_name": REPOSITORY}}
    return Event("pull_request", {"pull_request": {"number": number, "head": head}})


def of_the_pipeline(github: GitHub, number: int) -> list[str]:
    """The comments that are not a person's."""
    comments = github.comments[number]
    return [comment["body"] for comment in comments if comment["user"]["type"] == "Bot"]


def test_a_pull_request_gets_the_plan_and_its_cost_as_a_comment(
    pull_request: int, github: GitHub
) -> None:
    (body,) = of_the_pipeline(github, pull_request)
    assert re.search(rf"`{ENVIRONMENT}`: \d+ to add, [1-9] to change, 0 to destroy", body)
    assert "ops@example.com" in body
    assert 'aws_instance.host["trainer"]' in body
    assert re.search(r"\d+\.\d\d USD", body)


def test_the_comment_is_updated_in_place(
    pull_request: int, actions: Actions, github: GitHub
) -> None:
    ran = actions.run("pipeline.yml", pull_request_event(pull_request), frozenset({"comment"}))
    assert ran == ["comment"]
    (body,) = of_the_pipeline(github, pull_request)
    assert f"/actions/runs/{actions.number}" in body


def test_without_the_plan_there_is_no_comment(
    pull_request: int, actions: Actions, github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = of_the_pipeline(github, pull_request)
    monkeypatch.setattr(actions, "artifacts", {})
    with pytest.raises(JobFailed, match="no file to show"):
        actions.run("pipeline.yml", pull_request_event(pull_request), frozenset({"comment"}))
    assert of_the_pipeline(github, pull_request) == before


def test_a_fork_gets_no_credentials(actions: Actions, pull_request: int) -> None:
    event = pull_request_event(pull_request)
    event.payload["pull_request"]["head"]["repo"]["full_name"] = "mallory/ml"
    assert actions.run("pipeline.yml", event) == []


# ---- a push to main -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pushed(pull_request: int, actions: Actions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline has run for main. Returns the artifact of the pull request's plan."""
    old = tmp_path_factory.mktemp("old") / "plan"
    shutil.copytree(actions.artifacts[f"plan-{ENVIRONMENT}"], old)
    assert actions.run("pipeline.yml", MAIN) == ["plan", "apply", "configure"]
    return old


def test_main_is_applied(pushed: Path, platform: Platform) -> None:
    found = platform.aws("sns").list_subscriptions()["Subscriptions"]
    assert "ops@example.com" in [subscription["Endpoint"] for subscription in found]


def test_main_is_configured(pushed: Path, platform: Platform) -> None:
    rows = [platform.example()] * 778
    answer = platform.model_api("POST", "models/wine-classifier/predict", json={"inputs": rows})
    assert answer.status_code == 413 or "777" in answer.text


def test_main_is_published(pushed: Path, platform: Platform) -> None:
    listed = platform.aws("s3").list_objects_v2(Bucket=platform.contract["buckets"]["dags"])
    assert "dags/greeting.py" in [item["Key"] for item in listed["Contents"]]


def test_no_secret_is_in_a_log(pushed: Path, platform: Platform, actions: Actions) -> None:
    logs = "\n".join(actions.logs.values())
    assert "PLAY RECAP" in logs
    leaked = [
        f"{service} {key}"
        for service in (*platform.contract["secrets"], "database")
        for key, value in platform.secret(service).items()
        if key != "username" and value in logs
    ]
    assert leaked == []


@pytest.mark.parametrize(
    ("job", "missing", "message"),
    [
        ("apply", "plan", f"there is no artifact plan-{ENVIRONMENT}"),
        ("configure", "inventory", f"there is no artifact inventory-{ENVIRONMENT}"),
    ],
)
def test_a_job_fails_without_what_it_should_have_been_handed(
    pushed: Path,
    actions: Actions,
    monkeypatch: pytest.MonkeyPatch,
    job: str,
    missing: str,
    message: str,
) -> None:
    left = {k: v for k, v in actions.artifacts.items() if not k.startswith(missing)}
    monkeypatch.setattr(actions, "artifacts", left)
    with pytest.raises(JobFailed, match=message):
        event = Event("push", inputs={"environment": ENVIRONMENT})
        actions.run("deploy.yml", event, frozenset({job}))


def test_a_stale_plan_is_refused(pushed: Path, actions: Actions, monkeypatch: Any) -> None:
    monkeypatch.setitem(actions.artifacts, f"plan-{ENVIRONMENT}", pushed)
    with pytest.raises(
        JobFailed, match=rf"saved plan of {ENVIRONMENT} is stale.*Nothing was applied"
    ):
        event = Event("push", inputs={"environment": ENVIRONMENT})
        actions.run("deploy.yml", event, frozenset({"apply"}))


def test_a_pull_request_may_not_apply(actions: Actions) -> None:
    role = f"arn:aws:iam::{actions.variables['AWS_ACCOUNT_ID']}:role/lastro-ci-apply"
    assert actions.trusts(role, f"repo:{REPOSITORY}:ref:refs/heads/main")
    for subject in ("pull_request", "ref:refs/heads/other", "environment:other"):
        assert not actions.trusts(role, f"repo:{REPOSITORY}:{subject}")
    assert not actions.trusts(role, "repo:mallory/ml:ref:refs/heads/main")


# ---- drift ------------------------------------------------------------------------------------


UNIT = "/etc/systemd/system/model-api.service"


def drift_issues(github: GitHub) -> list[dict[str, Any]]:
    return [issue for issue in github.issues.values() if "drifted" in issue.get("title", "")]


@pytest.fixture
def drifted(pushed: Path, platform: Platform, actions: Actions) -> Iterator[dict[str, Any]]:
    """The issue about a unit and a bucket that a hand has changed; at the end they are right."""
    host, s3 = platform.host("model_api"), platform.aws("s3")
    bucket = platform.contract["buckets"]["dags"]
    before = host.check_output(f"grep ^Restart= {UNIT}")

    def versioning(status: str) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})

    host.check_output(f"sed -i 's/^{before}$/Restart=no/' {UNIT}")
    versioning("Suspended")
    by_hand = Event("workflow_dispatch", inputs={"operation": "drift", "environment": ENVIRONMENT})
    try:
        assert actions.run("operate.yml", by_hand) == ["check", "report"]
        (issue,) = drift_issues(actions.github)
        yield issue
    finally:
        versioning("Enabled")
        host.check_output(f"sed -i 's/^Restart=no$/{before}/' {UNIT} && systemctl daemon-reload")


def test_drift_opens_one_issue(drifted: dict[str, Any], actions: Actions, github: GitHub) -> None:
    assert drifted["state"] == "open"
    assert "aws_s3_bucket_versioning" in drifted["body"]
    assert "Restart=no" in drifted["body"]
    # Only the report, from the artifact of the check: it updates the same issue.
    actions.run("drift.yml", Event("schedule"), frozenset({"report"}))
    assert len(drift_issues(github)) == 1


@pytest.mark.full
def test_the_end_of_drift_closes_its_issue(
    drifted: dict[str, Any], platform: Platform, actions: Actions, github: GitHub
) -> None:
    bucket = platform.contract["buckets"]["dags"]
    platform.aws("s3").put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    inputs = {"operation": "reconfigure", "environment": ENVIRONMENT}
    assert actions.run("operate.yml", Event("workflow_dispatch", inputs=inputs)) == ["reconfigure"]
    assert "Restart=no" not in platform.host("model_api").file(UNIT).content_string

    assert actions.run("drift.yml", Event("schedule")) == ["check", "report"]
    issue = github.issues[drifted["number"]]
    assert issue["state"] == "closed"
    assert "Clean again" in github.comments[issue["number"]][-1]["body"]


# ---- bad input ----------------------------------------------------------------------------------


@pytest.fixture
def checkout(pushed: Path, actions: Actions) -> Iterator[Path]:
    """A checkout of main, set up, that may be changed."""
    folder = next(actions.folder.glob("*-apply"))
    yield folder
    git("checkout", "--quiet", ".", folder=folder)


def state_bucket(platform: Platform) -> str:
    return f"lastro-terraform-state-{platform.contract['account_id']}"


def serial(platform: Platform) -> int:
    """The number of Terraform's state, which grows with each change of it."""
    key = f"{ENVIRONMENT}/terraform.tfstate"
    state = platform.aws("s3").get_object(Bucket=state_bucket(platform), Key=key)["Body"].read()
    return json.loads(state)["serial"]


def is_locked(platform: Platform) -> bool:
    """Whether some run holds Terraform's state."""
    lock = f"{ENVIRONMENT}/terraform.tfstate.tflock"
    found = platform.aws("s3").list_objects_v2(Bucket=state_bucket(platform), Prefix=lock)
    return found["KeyCount"] > 0


def test_without_credentials_it_says_so(checkout: Path, actions: Actions) -> None:
    result = shell(checkout, "make", "plan", f"ENV={ENVIRONMENT}", HOME=str(actions.folder))
    assert result.returncode != 0
    assert f"{ENVIRONMENT}: there are no AWS credentials" in result.stderr
    assert "aws sso login" in result.stderr


def test_expired_credentials_are_named(
    checkout: Path, platform: Platform, actions: Actions
) -> None:
    # botocore itself asks for 900 seconds or more.
    sts = platform.aws("sts", parameter_validation=False)
    role = f"arn:aws:iam::{actions.variables['AWS_ACCOUNT_ID']}:role/lastro-ci-plan"
    session = sts.assume_role(RoleArn=role, RoleSessionName="late", DurationSeconds=1)[
        "Credentials"
    ]
    time.sleep(1.5)
    result = shell(
        checkout,
        "make",
        "plan",
        f"ENV={ENVIRONMENT}",
        AWS_ENDPOINT_URL=root_credentials(platform)["AWS_ENDPOINT_URL"],
        AWS_ACCESS_KEY_ID=session["AccessKeyId"],
        AWS_SECRET_ACCESS_KEY=session["SecretAccessKey"],
        AWS_SESSION_TOKEN=session["SessionToken"],
    )
    assert result.returncode != 0
    assert f"{ENVIRONMENT}: the AWS credentials have expired" in result.stderr


def test_a_locked_state_names_who_and_since_when(checkout: Path, platform: Platform) -> None:
    credentials = root_credentials(platform)
    before = serial(platform)
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **credentials}
    other = subprocess.Popen(
        [checkout / ".venv/bin/lastro-ops", "terraform", ENVIRONMENT, "console"],
        cwd=checkout,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for("the other run to lock the state", lambda: is_locked(platform))
        result = shell(checkout, "make", "plan", f"ENV={ENVIRONMENT}", **credentials)
    finally:
        other.communicate(b"exit\n", timeout=60)
    assert result.returncode != 0
    assert re.search(
        rf"the state of {ENVIRONMENT} is locked by \S+@\S+ since \d{{4}}-\d\d-\d\d", result.stderr
    )
    assert serial(platform) == before


def test_credentials_of_another_account_are_refused(checkout: Path, platform: Platform) -> None:
    tfvars = checkout / f"terraform/environments/{ENVIRONMENT}.tfvars"
    tfvars.write_text(f'{tfvars.read_text()}\naccount_id = "999999999999"\n')
    result = shell(checkout, "make", "plan", f"ENV={ENVIRONMENT}", **root_credentials(platform))
    assert result.returncode != 0
    assert f"of the account {platform.contract['account_id']}" in result.stderr
    assert f"terraform/environments/{ENVIRONMENT}.tfvars" in result.stderr


def test_an_instance_type_that_is_not_offered_is_named(checkout: Path, platform: Platform) -> None:
    tfvars = checkout / f"terraform/environments/{ENVIRONMENT}.tfvars"
    text = tfvars.read_text()
    assert "t3.large" in text
    tfvars.write_text(text.replace("t3.large", "t9.large", 1))
    result = shell(checkout, "make", "plan", f"ENV={ENVIRONMENT}", **root_credentials(platform))
    assert result.returncode != 0
    said = " ".join(result.stderr.split())
    assert 'AWS does not offer instance type "t9.large"' in said


# ---- a host for tasks, which came by one line of that change -------------------------------------


@pytest.fixture(scope="module")
def worker(pushed: Path, platform: Platform) -> str:
    """The host on which tasks run now."""
    for dag in ("greeting", "long"):
        wait_for(f"the DAG {dag}", lambda d=dag: platform.airflow("GET", f"dags/{d}").ok)
    return platform.host_of("airflow_worker")


@pytest.mark.see("journal of airflow-worker")
def test_tasks_run_on_the_worker_and_the_platform_knows_it(worker: str, platform: Platform) -> None:
    assert worker != platform.host_of("airflow")
    assert platform.contract["services"]["airflow_worker"]["port"] is None
    assert ran_on(platform, "greeting") == worker
    assert "airflow-worker" in platform.make("status")
    assert "http://" not in platform.make("tunnel", "SERVICE=airflow_worker", check=False)


@pytest.mark.see("journal of airflow-worker")
def test_a_task_ends_also_where_its_worker_is_configured_again(
    worker: str, platform: Platform
) -> None:
    host = platform.host("airflow_worker")
    run, before = platform.trigger("long"), platform.main_pids("airflow_worker")
    wait_for("its task", lambda: task_of(platform, "long", run)["state"] == "running")
    with stopping(host, "airflow-worker", platform, "airflow_worker_concurrency=3"):
        host.check_output(f"touch {MAY_END}")
    assert platform.main_pids("airflow_worker") != before
    assert ended(platform, "long", run) == "success"
    instance = task_of(platform, "long", run)
    assert (instance["try_number"], instance["hostname"]) == (1, worker)
    for line in ("it begins", "it ends"):
        wait_for(f"'{line}' in its log", lambda s=line: s in log_of(platform, "long", run))


@pytest.mark.see("journal of airflow-worker")
def test_a_killed_worker_comes_back_and_trains_the_example(worker: str, platform: Platform) -> None:
    kill = "systemctl kill --signal=KILL airflow-worker"
    platform.host("airflow_worker").check_output(kill)
    assert ran_on(platform, "greeting") == worker
    # The example also has its access to AWS and MLflow, and the environment of the ML code.
    platform.make("prove", "AGAIN=yes")
    newest = {"order_by": "-run_after", "limit": 1}
    (trained,) = platform.airflow("GET", "dags/wine/dagRuns", params=newest).json()["dag_runs"]
    tasks = f"{run_path('wine', trained['dag_run_id'])}/taskInstances"
    instances = platform.airflow("GET", tasks).json()["task_instances"]
    assert len(instances) > 1 and {each["hostname"] for each in instances} == {worker}


@pytest.mark.full
@pytest.mark.see("journal of airflow-scheduler")
def test_without_the_line_tasks_run_on_the_host_of_airflow_again_and_logs_stay(
    worker: str, platform: Platform, dags: Dags
) -> None:
    run = platform.trigger("long")
    assert ended(platform, "long", run) == "success"
    # This checkout's tfvars have no such line, and its dags/ has no such DAG.
    platform.make("up")
    assert "airflow_worker" not in platform.contract["services"]
    dags.write("quick", dag_source("quick"))
    dags.publish()
    wait_for("the DAG", lambda: dags.known("quick"))
    assert ran_on(platform, "quick") == platform.host_of("airflow")
    # Airflow keeps the logs of a worker's tasks.
    assert "it ends" in log_of(platform, "long", run)


# ---- hosts that come and go ---------------------------------------------------------------------


@pytest.fixture
def tfvars() -> Iterator[Path]:
    """The settings of this environment, which are as before at the end."""
    file = PROJECT / f"terraform/environments/{ENVIRONMENT}.tfvars"
    before = file.read_text()
    yield file
    file.write_text(before)


def with_hosts(text: str, hosts: str) -> str:
    """Settings with other hosts."""
    return re.sub(r"^hosts = \{\n.*?^\}\n", hosts, text, count=1, flags=re.DOTALL | re.MULTILINE)


TWO_SERVE = """hosts = {
  all = {
    instance_type = "t3.large"
    roles         = ["mlflow", "airflow", "model_api", "dashboard", "edge"]
  }
  second = { instance_type = "t3.small", roles = ["model_api"] }
}
"""
APART = """hosts = {
  mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
  airflow = { instance_type = "t3.small", roles = ["airflow"] }
  serving = { instance_type = "t3.small", roles = ["model_api", "dashboard", "edge"] }
}
"""


@pytest.mark.full
@pytest.mark.see("journal of model-api")
def test_hosts_of_the_model_api_restart_one_by_one_and_no_request_fails(
    pushed: Path, platform: Platform, tfvars: Path
) -> None:
    tfvars.write_text(with_hosts(tfvars.read_text(), TWO_SERVE))
    platform.make("up")
    names = [platform.contract["hosts"][each]["name"] for each in ("all", "second")]
    hosts = [platform.named_host(name) for name in names]

    def processes() -> list[str]:
        return [host.check_output("systemctl show -p MainPID --value model-api") for host in hosts]

    for endpoint in platform.contract["services"]["model_api"]["endpoints"]:
        ready = f"{endpoint}/health/ready"
        wait_for(ready, lambda url=ready: requests.get(url, timeout=60).status_code == 200)
    body = json.dumps({"inputs": [platform.example()]}).encode()
    headers = {
        "Authorization": f"Bearer {platform.secret('model_api')['bearer_key']}",
        "Content-Type": "application/json",
    }
    path, stop, failed, answered = "/models/wine-classifier/predict", threading.Event(), [], [0]

    def ask() -> None:
        while not stop.is_set():
            answer = platform.visit("model_api", path, method="POST", headers=headers, body=body)
            answered[0] += 1
            if answer.status != 200:
                failed.append((answer.status, answer.data[:200]))

    before = processes()
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            platform.playbook("site.yml", "-e", "model_api_max_rows=55")
            after = processes()
            # Settings that are refused change no host.
            refused = {"model_api_extra_environment": {"MODEL_API_PORT": "none"}}
            said = platform.playbook("site.yml", "-e", json.dumps(refused), check=False)
        finally:
            stop.set()
        for each in asking:
            each.result()
    assert "MODEL_API_PORT" in said and "Nothing was changed" in said
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert processes() == after
    assert answered[0] > 100
    assert failed == []


@pytest.mark.full
def test_one_host_is_replaced_by_three_at_addresses_that_it_had(
    pushed: Path, platform: Platform, tfvars: Path
) -> None:
    tfvars.write_text(with_hosts(tfvars.read_text(), APART))
    platform.make("up")
    assert platform.predict().status_code == 200
    tfvars.write_text(with_hosts(tfvars.read_text(), TWO_SERVE))
    platform.make("up")
    assert platform.predict().status_code == 200


def log_of(platform: Platform, dag: str, run: str) -> str:
    """The log of the only task of a run, from its first try."""
    return platform.airflow("GET", f"{run_path(dag, run)}/taskInstances/work/logs/1").text


# ---- the end ------------------------------------------------------------------------------------


def test_destroy_asks_twice(pushed: Path, platform: Platform, actions: Actions) -> None:
    before = serial(platform)
    operation = {"operation": "destroy", "environment": ENVIRONMENT}
    with pytest.raises(JobFailed, match=f"CONFIRM={ENVIRONMENT}"):
        actions.run("operate.yml", Event("workflow_dispatch", inputs=operation))
    with pytest.raises(
        JobFailed, match=rf"would destroy.*lastro-{ENVIRONMENT}.*Nothing was applied"
    ):
        actions.run(
            "operate.yml", Event("workflow_dispatch", inputs=operation | {"confirm": ENVIRONMENT})
        )
    assert serial(platform) == before


def test_destroy_removes_everything(pushed: Path, platform: Platform, actions: Actions) -> None:
    buckets = platform.contract["buckets"].values()
    inputs = {
        "operation": "destroy",
        "environment": ENVIRONMENT,
        "confirm": ENVIRONMENT,
        "allow_destroy": " ".join([f"lastro-{ENVIRONMENT}", *buckets]),
    }
    assert actions.run("operate.yml", Event("workflow_dispatch", inputs=inputs)) == ["destroy"]
    assert platform.aws("rds").describe_db_instances()["DBInstances"] == []
    named = [bucket["Name"] for bucket in platform.aws("s3").list_buckets()["Buckets"]]
    assert not set(buckets) & set(named)
