"""`lastro-ops` as its callers run it: arguments, environment, messages and exit statuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.config
import pytest
import yaml
from lastro_ops import aws, cli, drift, reachable
from lastro_ops.access import authorize
from lastro_ops.errors import OpsError
from lastro_ops.locks import locks
from lastro_ops.project import CHECKOUT, Project
from lastro_ops.terraform import environment as terraform_environment
from lastro_ops.terraform import state_region
from lastro_ops.terraform.process import Output, Terraform
from wiring import CONTRACT, PROJECT

OPS = PROJECT / "services/ops/src/lastro_ops"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A checkout with an environment on one machine and one in AWS, both with a contract."""
    for name in ("local", "prod"):
        variables = tmp_path / f"inventory/{name}/group_vars/all"
        variables.mkdir(parents=True)
        (variables / "environment.yml").write_text("lastro_region: eu-west-1\n")
        platform = CONTRACT | {"environment": name}
        (variables / "platform.json").write_text(json.dumps({"platform": platform}))
        tfvars = tmp_path / f"terraform/environments/{name}.tfvars"
        tfvars.parent.mkdir(parents=True, exist_ok=True)
        tfvars.touch()
    (tmp_path / "inventory/local/group_vars/all/01_one_machine.yml").touch()
    (tmp_path / "terraform/.terraform.lock.hcl").touch()
    return Project(tmp_path)


# ---- one way to fail ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "lastro-ops: the following arguments are required: COMMAND"),
        (["cots"], "lastro-ops: argument COMMAND: invalid choice: 'cots'"),
        (["cost"], "lastro-ops cost: the following arguments are required: ENV"),
        (["cost", "prod", "--oops"], "unrecognized arguments: --oops"),
        (["cost", "prod", "--format=pdf"], "lastro-ops cost: argument --format: invalid choice"),
        (["terraform", "prod"], "lastro-ops terraform: give a command for prod: plan, apply"),
        (["authorize", "prod", "1"], "lastro-ops authorize: HOURS is '1'; choose 2 to 24"),
        (["authorize", "prod", "ten"], "lastro-ops authorize: HOURS is 'ten'; choose 2 to 24"),
        (["github", "issue", "prod"], "the following arguments are required: FILE"),
        (["bootstrap", "eu-west-1"], "lastro-ops bootstrap: give a command for the account"),
    ],
)
def test_wrong_arguments_exit_with_2_and_one_line(
    project: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert cli.main(arguments, project) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert said in output.err
    assert len(output.err.splitlines()) == 1


@pytest.mark.parametrize("command", ["terraform", "cost", "drift", "tunnel", "screenshots"])
def test_an_unknown_environment_is_named_with_the_known_ones(
    project: Project, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert cli.main([command, "prdo", "airflow"][: 3 if command == "tunnel" else 2], project) == 1
    said = f"lastro-ops {command}: there is no environment 'prdo'. Choose one of: local, prod\n"
    assert capsys.readouterr().err == said


def test_an_environment_without_a_contract_says_which_command_writes_it(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.root / "inventory/prod/group_vars/all/platform.json").unlink()
    assert cli.main(["tunnel", "prod", "airflow"], project) == 1
    assert "`make inventory ENV=prod` writes it" in capsys.readouterr().err


def test_an_environment_of_this_machine_that_does_not_run_says_so(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["terraform", "local", "plan"], project) == 1
    said = "lastro-ops terraform: the AWS API of local does not run on this machine."
    assert capsys.readouterr().err == f"{said} make up ENV=local\n"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: lastro-ops {command}" in capsys.readouterr().out


# ---- as it is called ------------------------------------------------------------------------


def test_a_command_without_aws_imports_no_client_of_it() -> None:
    """`make` runs several of them; boto3 takes longer to import than they to run."""
    program = "import sys; from lastro_ops import cli; cli.parser('tunnel');"
    program += "sys.exit('boto3' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", program]).returncode == 0


def playbook_calls() -> Iterator[tuple[str, list[str]]]:
    """Every task of a playbook that runs our tools: its name, and the arguments."""

    def tasks(entries: Any) -> Iterator[dict[str, Any]]:
        for entry in entries or []:
            yield entry
            for part in ("pre_tasks", "tasks", "post_tasks", "block", "rescue", "always"):
                yield from tasks(entry.get(part))

    for file in sorted((PROJECT / "ansible/playbooks").rglob("*.yml")):
        entries = yaml.safe_load(file.read_text())
        for task in tasks(entries if isinstance(entries, list) else []):
            argv = (task.get("ansible.builtin.command") or {}).get("argv", [])
            if "lastro_ops" in argv:
                yield f"{file.stem}: {task['name']}", argv


def test_playbooks_pass_arguments_that_the_commands_take() -> None:
    calls = list(playbook_calls())
    assert {argv[4] for _, argv in calls} == {"authorize", "terraform", "bootstrap"}
    values = {"lastro_environment": "prod", "lastro_access_hours": "12", "bootstrap_region": "x"}
    for name, (python, *argv) in calls:
        # Whatever folder Ansible is in, that folder's modules are not ours.
        assert (python, *argv[:3]) == ("{{ ansible_playbook_python }}", "-P", "-m", "lastro_ops")
        filled = [re.sub(r"\{\{ (\w+) \}\}", lambda of: values[of[1]], each) for each in argv[3:]]
        options = cli.parser(filled[0]).parse_args(filled)
        assert options.run, name


def test_ssh_runs_the_proxy_command_without_this_environment(tmp_path: Path) -> None:
    """SSH passes it to a shell, with the PATH and the folder of the user who started it."""
    text = (PROJECT / "inventory/common/aws.yml").read_text()
    command = yaml.safe_load(text)["lastro_session_command"]
    for name, value in {
        "{{ ansible_playbook_python }}": sys.executable,
        "{{ lastro_region }}": "eu-west-1",
        "%h": "i-0123456789abcdef0",
        "%p": "22",
    }.items():
        assert name in command
        command = command.replace(name, value)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    result = subprocess.run(
        ["/bin/sh", "-c", f"exec {command}"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    # It has read its arguments, and looked for the plugin or for credentials.
    assert result.returncode == 1
    assert re.match(
        "lastro-ops session: (session-manager-plugin is not|there are no AWS cred)", result.stderr
    ), result.stderr


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `ssh` that writes its arguments to a file; the file."""
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{shlex.quote(str(tmp_path / "argv"))}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "argv"


def run_ops(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a separate process, for commands that become another program."""
    program = "import sys; from pathlib import Path; from lastro_ops import cli, project;"
    program += "sys.exit(cli.main(sys.argv[2:], project.Project(Path(sys.argv[1]))))"
    return subprocess.run(
        [sys.executable, "-P", "-c", program, str(project.root), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def test_a_tunnel_becomes_ssh_with_the_configuration_of_make_access(
    project: Project, ssh: Path
) -> None:
    result = run_ops(project, "tunnel", "--", "prod", "airflow", "34567")
    assert result.returncode == 0, result.stderr
    assert "airflow of prod: http://127.0.0.1:34567." in result.stdout
    host = next(
        name for name, its in sorted(CONTRACT["hosts"].items()) if "airflow" in its["roles"]
    )
    address, port = CONTRACT["hosts"][host]["private_ip"], CONTRACT["services"]["airflow"]["port"]
    assert ssh.read_text().splitlines() == [
        *("-F", f"{project.root}/.lastro/prod/ssh_config"),
        *("-o", "ExitOnForwardFailure=yes", "-N", "-L", f"127.0.0.1:34567:{address}:{port}"),
        CONTRACT["hosts"][host]["name"],
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prod", "beer"], "SERVICE is 'beer'. Choose one of: "),
        (["prod", ""], "SERVICE is ''. Choose one of: "),
        (["prod", "--direct"], "SERVICE is '--direct'. Choose one of: "),
        (["prod", "airflow", "80"], "PORT is '80'. Choose a port from 1024 to 65535"),
        (["prod", "airflow", "-8080"], "PORT is '-8080'. Choose a port from 1024 to 65535"),
    ],
)
def test_a_service_or_port_that_cannot_be_opened_is_refused(
    project: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert cli.main(["tunnel", "--", *arguments], project) == 1
    assert said in capsys.readouterr().err


def test_on_one_machine_a_tunnel_prints_the_address(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tunnel", "--direct", "--", "local", "model-api"], project) == 0
    assert "model_api of local opens directly: http://" in capsys.readouterr().out


# ---- the AWS API ----------------------------------------------------------------------------


@pytest.fixture
def emulator(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A port of this machine at which the AWS API of `local` is expected; nobody answers yet."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_REGION", "of-the-test")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        file = project.environment("local").state / "aws.env"
        file.parent.mkdir(parents=True)
        file.write_text(f"AWS_ENDPOINT_URL=http://127.0.0.1:{port.getsockname()[1]}\n")
        yield port
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]


def test_an_emulator_that_answers_is_reachable(
    project: Project, emulator: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    emulator.listen()
    asked = []

    def answer() -> None:
        connection, _ = emulator.accept()
        asked.append(connection.recv(4096).split(b"\r\n")[0])
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    assert cli.main(["reachable", "local"], project) == 0
    thread.join()
    assert asked == [b"GET /health HTTP/1.1"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("state", ["closed", "silent"])
def test_an_emulator_that_is_away_is_said_to_be_in_one_line(
    project: Project,
    emulator: socket.socket,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    state: str,
) -> None:
    if state == "silent":
        emulator.listen()
        monkeypatch.setattr(reachable, "SECONDS", 0.1)
    assert cli.main(["reachable", "local"], project) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "lastro-ops reachable: local is not running: the AWS API of this machine is unreachable"
    )
    assert ("refused" if state == "closed" else "timed out") in said
    assert said.endswith("make up ENV=local\n") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "prod: there are no AWS credentials here"),
        ("AKIAEXAMPLEEXAMPLE12", "prod: Could not connect to the endpoint URL"),
    ],
)
def test_aws_that_is_away_is_said_to_be_in_one_line(
    project: Project,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    key: str,
    said: str,
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    # Where nobody listens; of the standard ports nobody may choose this one.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_REGION", "of-the-test")
    if key:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    patience = botocore.config.Config(retries={"total_max_attempts": 1})
    monkeypatch.setattr(aws, "PATIENCE", patience)
    assert cli.main(["reachable", "prod"], project) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"lastro-ops reachable: {said}")
    assert error.count("\n") == 1


# ---- Terraform ------------------------------------------------------------------------------


def test_other_arguments_reach_terraform_as_they_are(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `lastro-ops terraform prod state rm -dry-run ...` of docs/aws.md."""
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(terraform_environment.EnvironmentTerraform, "initialise", lambda self: None)
    monkeypatch.setattr(
        Terraform, "replace_this_process", lambda self, *arguments: ran.append(arguments)
    )
    monkeypatch.setenv("AWS_REGION", "elsewhere")
    for arguments in (["output", "-json"], ["state", "rm", "-dry-run", "a.b"], ["-version"]):
        assert cli.main(["terraform", "prod", *arguments], project) == 0
    assert ran == [("output", "-json"), ("state", "rm", "-dry-run", "a.b"), ("-version",)]
    assert os.environ["AWS_REGION"] == "eu-west-1"


def test_an_environment_of_this_machine_reaches_no_account(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project.environment("local").state / "aws.env"
    file.parent.mkdir(parents=True)
    file.write_text("AWS_ENDPOINT_URL=http://10.0.0.1:4566\nAWS_ACCESS_KEY_ID=x=y\n")
    monkeypatch.setenv("AWS_PROFILE", "of-the-company")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-company")
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.setenv(name, "")
    project.environment("local").enter_aws()
    assert {name: value for name, value in os.environ.items() if name.startswith("AWS_")} == {
        "AWS_ENDPOINT_URL": "http://10.0.0.1:4566",
        "AWS_ACCESS_KEY_ID": "x=y",
        "AWS_REGION": "eu-west-1",
    }


def test_terraform_gets_its_variables_from_one_place(tmp_path: Path) -> None:
    """A caller that sets one of them itself would miss the next."""
    own = Terraform(CHECKOUT, "terraform", tmp_path, "eu-west-1").variables
    assert own.keys() == {
        "TF_CLI_CONFIG_FILE",
        "TF_DATA_DIR",
        "TF_INPUT",
        "TF_IN_AUTOMATION",
        "TF_VAR_region",
    }
    for file in [*OPS.rglob("*.py"), *(PROJECT / "scripts").iterdir(), PROJECT / "Makefile"]:
        if file.is_file() and file != OPS / "terraform/process.py":
            assert "TF_CLI_CONFIG_FILE" not in file.read_text(), file


def test_a_plan_that_destroys_data_is_refused_with_3(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALLOW_DESTROY", raising=False)
    terraform = terraform_environment.EnvironmentTerraform(project.environment("prod"))
    gone = {"actions": ["delete"], "before": {"identifier": "lastro-prod"}, "after": None}
    plan: Any = {"resource_changes": [{"type": "aws_db_instance", "change": gone}]}
    with pytest.raises(OpsError, match="ALLOW_DESTROY='lastro-prod'") as refused:
        terraform.apply_saved(plan)
    assert refused.value.status == 3


@pytest.mark.parametrize(
    ("asked", "there", "printed"),
    [("", None, "eu-west-1"), ("", "eu-north-1", "eu-north-1"), ("us-east-1", None, "us-east-1")],
)
def test_the_states_have_one_region(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    there: str | None,
    printed: str,
) -> None:
    found = ("111122223333", "a-bucket", there)
    monkeypatch.setattr(state_region.aws, "state_bucket", lambda region: found)
    assert cli.main(["state-region", "--", asked]) == 0
    assert capsys.readouterr().out == f"{printed}\n"


def test_another_region_than_that_of_the_states_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ("111122223333", "a-bucket", "eu-north-1")
    monkeypatch.setattr(state_region.aws, "state_bucket", lambda region: found)
    assert cli.main(["state-region", "us-east-1"]) == 1
    assert "REGION is us-east-1, but the state of account 111122223333 is in eu-north-1" in (
        capsys.readouterr().err
    )


# ---- drift ----------------------------------------------------------------------------------

CLEAN = "host1  : ok=10   changed=0    unreachable=0"


@pytest.mark.parametrize(
    ("summary", "recap", "report"),
    [
        ("### `prod`: nothing to change", CLEAN, ""),
        ("### `prod`: 1 to add", CLEAN, "Terraform's plan is not empty."),
        (
            "### `prod`: nothing to change",
            "host1  : ok=10   changed=3    unreachable=0",
            "`site.yml` would change the hosts (host1: 3).",
        ),
    ],
)
def test_drift_is_reported_and_is_no_error(
    project: Project, monkeypatch: pytest.MonkeyPatch, summary: str, recap: str, report: str
) -> None:
    environment = project.environment("prod")

    def shown(_: Project, *argv: str) -> str:
        if "terraform" in argv:
            environment.plan.mkdir(parents=True)
            (environment.plan / "summary.md").write_text(f"{summary}\n")
            (environment.plan / "tfplan").touch()
            return ""
        assert argv[1:] == ("-i", "inventory/prod", "site.yml", "--check", "--diff")
        return recap

    monkeypatch.setattr(drift, "shown", shown)
    assert cli.main(["drift", "prod"], project) == 0
    written = (environment.state / "drift.md").read_text()
    assert written.startswith(report) and bool(written) == bool(report)
    assert not (environment.plan / "tfplan").exists()


def test_drift_fails_when_a_question_has_no_answer(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    # Its Terraform cannot plan an environment that this checkout does not have.
    (project.root / "terraform/environments/nowhere.tfvars").touch()
    assert cli.main(["drift", "nowhere"], project) == 1
    output = capfd.readouterr()
    assert "there is no environment 'nowhere'" in output.out
    assert "terraform nowhere plan ended with 1; see above" in output.err


# ---- the way in -----------------------------------------------------------------------------


def test_a_key_is_used_again_for_the_same_hosts_and_an_hour(tmp_path: Path) -> None:
    access = {"valid_until": "20990101000000Z", "hosts": ["i-1", "i-2"]}
    (tmp_path / "access.json").write_text(json.dumps(access))
    hosts = {"i-2": "b", "i-1": "a"}
    assert authorize.still_good(tmp_path, hosts) is None, "the key itself is missing"
    (tmp_path / "ssh_key").touch()
    assert authorize.still_good(tmp_path, hosts) == "20990101000000Z"
    assert authorize.still_good(tmp_path, hosts | {"i-3": "c"}) is None
    (tmp_path / "access.json").write_text(json.dumps(access | {"valid_until": "20200101000000Z"}))
    assert authorize.still_good(tmp_path, hosts) is None


# ---- the package ----------------------------------------------------------------------------


def test_every_lock_is_resolved_by_make_lock() -> None:
    files = [lock.file for lock in locks(PROJECT)]
    assert len(files) == len(set(files))
    there = {str(file.relative_to(PROJECT)) for file in (PROJECT / "locks").rglob("*.txt")}
    assert set(files) == there | {"requirements.txt"}


def test_a_lock_is_resolved_after_those_that_constrain_it() -> None:
    resolved: set[str] = set()
    for lock in locks(PROJECT):
        assert set(lock.constraints) <= resolved, lock.file
        resolved.add(lock.file)


def test_no_module_is_longer_than_400_lines() -> None:
    for file in OPS.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 400, file


def test_output_keeps_both_streams_of_terraform_in_order(tmp_path: Path) -> None:
    program = tmp_path / ".venv/bin/terraform"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$TF_IN_AUTOMATION$1"; echo error >&2; exit 7\n')
    program.chmod(0o755)
    output = Terraform(Project(tmp_path), "terraform", tmp_path).stream("plan")
    assert output == Output(7, f"1-chdir={tmp_path}/terraform\nerror\n", "")
