"""`lastro-ops molecule` with stand-ins for Ansible, Molecule and podman."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lastro_ops import cli, molecule
from lastro_ops.errors import UsageError
from lastro_ops.project import Project
from wiring import PROJECT

PLAYBOOK = """#!/bin/sh
cd "$(dirname "$0")/../.."
echo "playbook $3" >>calls
state=.lastro/molecule
case $3 in *environment.yml) mkdir -p $state; echo an-image >$state/host-image ;; esac
"""
# A scenario fails, or waits to be ended, where its folder has a file of that name.
MOLECULE = """#!/bin/sh
root=$(cd "$(dirname "$0")/../.." && pwd)
state=$(basename "$MOLECULE_EPHEMERAL_DIRECTORY")
echo "molecule $1 $(basename "$PWD") ${3:-} $state" >>"$root/calls"
[ "$1" != create ] || mkdir -p "$MOLECULE_EPHEMERAL_DIRECTORY/state"
[ "$1" = test ] || exit 0
[ -d "$MOLECULE_EPHEMERAL_DIRECTORY/state" ] || exit 9
echo "INFO     [base > converge] Executing"
echo "a line that only the log has, of $LASTRO_MOLECULE_IMAGE"
echo "=========== 3 passed in 1.50s ============"
[ ! -e "molecule/$3/waits" ] || exec sleep 600
[ ! -e "molecule/$3/fails" ]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A checkout with the scenarios of three roles."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    root = tmp_path / "a checkout"
    for role in ("base", "mlflow", "edge"):
        for scenario in ("default", "alternative"):
            (root / f"ansible/roles/{role}/molecule/{scenario}").mkdir(parents=True)
    (root / "terraform").mkdir()
    shutil.copy(PROJECT / "terraform/services.yml", root / "terraform")
    programs = root / ".venv/bin"
    programs.mkdir(parents=True)
    for name, text in {
        "ansible-playbook": PLAYBOOK,
        "molecule": MOLECULE,
        "podman": "#!/bin/sh\n",
    }.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return Project(root)


def calls(project: Project) -> list[str]:
    """The calls that the stand-ins got."""
    return (project.root / "calls").read_text().splitlines()


DESTROY = "playbook ansible/playbooks/local/destroy.yml"


def test_hosts_are_made_once_and_removed(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["molecule"], project) == 0
    made = calls(project)
    assert made[:4] == [
        DESTROY,
        "playbook tests/molecule/environment.yml",
        "molecule create base  hosts",
        "molecule prepare base  hosts",
    ]
    assert made[-1] == DESTROY
    tests = made[4:-1]
    assert sorted(tests) == [
        "molecule test base alternative lane-0",
        "molecule test base default lane-0",
        "molecule test edge alternative lane-2",
        "molecule test edge default lane-2",
        "molecule test mlflow alternative lane-0",
        "molecule test mlflow default lane-0",
    ]
    # Those of a lane are in order.
    assert [line.split()[2:4] for line in tests if line.endswith("lane-0")] == [
        ["base", "default"],
        ["base", "alternative"],
        ["mlflow", "default"],
        ["mlflow", "alternative"],
    ]
    output = capfd.readouterr().out
    lines = output.splitlines()
    assert f"{'edge (default)':<24} converge" in lines
    assert f"{'edge (default)':<24} 3 passed in 1.50s" in lines
    assert "a line that only the log has" not in output
    log = project.root / ".lastro/molecule-logs/edge-default.log"
    assert "a line that only the log has, of an-image" in log.read_text()
    assert "Molecule: 6 scenarios passed, 0 failed" in output


def test_a_scenario_that_fails_is_named_and_ends_its_role_alone(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    (project.root / "ansible/roles/base/molecule/default/fails").touch()
    assert cli.main(["molecule"], project) == 1
    output = capfd.readouterr()
    made = calls(project)
    assert "molecule test base alternative lane-0" not in made
    assert "molecule test mlflow alternative lane-0" in made
    assert made[-1] == DESTROY
    assert "a line that only the log has" in output.out
    assert "Molecule: 4 scenarios passed, 1 failed" in output.out
    assert output.out.splitlines()[-1].startswith("FAILED  base (default) ")
    said = "lastro-ops molecule: failed: base (default); the logs are in .lastro/molecule-logs\n"
    assert output.err == said


def test_a_role_is_tested_after_the_one_whose_service_it_uses() -> None:
    hosts = molecule.roles_on_hosts(Project(PROJECT))
    assert molecule.lanes_of(hosts, ["dashboard"]) == [["mlflow", "dashboard"], [], []]
    assert molecule.lanes_of(hosts, ["edge", "airflow"]) == [[], ["airflow"], ["edge"]]
    with pytest.raises(UsageError, match="no role 'beer' to test; choose one of: base "):
        molecule.lanes_of(hosts, ["edge", "beer"])


def test_every_role_with_scenarios_is_in_a_lane() -> None:
    roles = {path.parent.name for path in PROJECT.glob("ansible/roles/*/molecule")}
    lanes = molecule.lanes_of(molecule.roles_on_hosts(Project(PROJECT)), [])
    assert {role for lane in lanes for role in lane} == roles


def test_hosts_that_were_kept_are_taken_up_again(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["molecule", "--keep", "edge"], project) == 0
    output = capfd.readouterr().out
    assert re.search("The hosts run on. Next: export .*LASTRO_MOLECULE_IMAGE=an-image ", output)
    assert "LASTRO_MOLECULE_AIRFLOW='[airflow, airflow_worker]'" in output
    (project.root / "calls").unlink()
    assert cli.main(["molecule", "--keep", "edge"], project) == 0
    assert DESTROY not in calls(project)


def test_a_failure_before_the_tests_is_shown_and_the_hosts_are_removed(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    program = project.root / ".venv/bin/ansible-playbook"
    program.write_text(
        f"{PLAYBOOK}case $3 in *environment.yml) echo no such image; exit 4;; esac\n"
    )
    assert cli.main(["molecule"], project) == 1
    output = capfd.readouterr()
    assert "no such image" in output.out
    assert "environment failed; its output is above" in output.err
    assert calls(project)[-1] == DESTROY


def test_a_second_run_is_refused(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "lastro-molecule.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cli.main(["molecule"], project) == 2
    assert "another run of lastro-ops molecule is in progress" in capsys.readouterr().err
    assert not (project.root / "calls").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_ends_its_scenarios_and_removes_the_hosts(
    project: Project, number: signal.Signals
) -> None:
    (project.root / "ansible/roles/mlflow/molecule/default/waits").touch()
    program = "import sys; from pathlib import Path; from lastro_ops import cli, project;"
    program += "sys.exit(cli.main(['molecule', 'mlflow'], project.Project(Path(sys.argv[1]))))"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", program, str(project.root)],
        stdout=subprocess.PIPE,
        text=True,
        # As in a terminal: tests in the background may ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env=os.environ,
    )
    assert process.stdout
    deadline = time.monotonic() + 120
    for line in process.stdout:
        if "3 passed" in line or time.monotonic() > deadline:
            break
    process.send_signal(number)
    process.stdout.read()
    assert process.wait(timeout=120) == 130
    assert calls(project)[-1] == DESTROY
    assert "molecule test mlflow alternative lane-0" not in calls(project)
