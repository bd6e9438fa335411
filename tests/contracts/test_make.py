"""The Makefile, its documentation, and the targets that CI calls."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lastro_ops import cli
from lastro_ops.cli import COMMANDS
from lastro_ops.molecule import roles_on_hosts
from lastro_ops.project import Project
from wiring import PROJECT

MAKEFILE = (PROJECT / "Makefile").read_text()
RULES = re.findall(r"^([a-z][a-z-]*):(?!=)([^\n]*)$", MAKEFILE, re.MULTILINE)
# Targets that only other targets need.
INTERNAL = {"begin", "environment-exists", "has-inventory", "one-machine", "reachable", "running"}
WORKFLOWS = sorted((PROJECT / ".github/workflows").glob("*.yml"))


def make(*arguments: str, folder: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    """Run make; both outputs as text."""
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True)


def test_every_target_is_explained_by_make_help() -> None:
    assert len(RULES) > 10
    explained = make("help").stdout
    for target, rest in RULES:
        if target not in INTERNAL:
            assert re.search(r"## \S", rest), f"{target} has no help text"
            assert re.search(rf"^  {target}\s+\S", explained, re.MULTILINE), target
        else:
            assert "##" not in rest and not re.search(rf"^  {target}\s", explained, re.MULTILINE)


def test_make_help_groups_targets_by_who_uses_them() -> None:
    groups = re.findall(r"^(\w.+)\n((?:  .+\n)+)", make("help").stdout, re.MULTILINE)
    found = {title: re.findall(r"^  (\S+)", lines, re.MULTILINE) for title, lines in groups}
    assert "promote" in found["Work with models and DAGs"]
    assert {"up", "plan", "cost"} <= set(found["Operate an environment"])
    assert {"test", "molecule"} <= set(found["Develop"])


def test_make_without_a_target_prints_the_help() -> None:
    assert make().stdout == make("help").stdout


def test_every_target_is_phony() -> None:
    phony = set(re.findall(r"^\.PHONY: (\S+)", MAKEFILE, re.MULTILINE))
    assert phony == {target for target, _ in RULES}


def test_every_program_of_a_target_exists() -> None:
    playbooks = re.findall(r"ansible/playbooks/\S+\.yml", MAKEFILE)
    scripts = re.findall(r"scripts/[a-z_]+", MAKEFILE)
    assert playbooks and scripts
    for path in [*playbooks, *scripts]:
        assert (PROJECT / path).exists(), path
    for path in scripts:
        assert (PROJECT / path).stat().st_mode & 0o111, f"{path} is not executable"
    commands = re.findall(r"\blastro-ops ([a-z][a-z-]*)", MAKEFILE)
    assert commands and set(commands) <= COMMANDS.keys()


@pytest.mark.parametrize("target", ["up", "configure", "apply", "destroy", "status"])
def test_an_environment_that_does_not_exist_changes_nothing(target: str, tmp_path: Path) -> None:
    # In a copy, where even scripts/setup would leave a trace.
    for name in ("Makefile", "ansible.cfg", "inventory", "terraform/environments", "scripts"):
        source, copy = PROJECT / name, tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, symlinks=True)
        else:
            shutil.copy(source, copy)
    before = sorted(tmp_path.rglob("*"))
    result = make(target, "ENV=prdo", folder=tmp_path)
    assert result.returncode == 2
    assert "There is no environment 'prdo'. Choose one of: dev local" in result.stderr
    assert "terraform/environments/prdo.tfvars" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_callers_value_is_one_word_of_the_shell() -> None:
    given = set(re.findall(r"'\$\(([A-Z_]+)\)'", MAKEFILE)) - {"ENV"}
    assert not given, f'write "$$NAME" for {given}: a quote in it would end the string'
    told = [line for line in MAKEFILE.splitlines() if " -e " in line and "$(" in line]
    assert not [line for line in told if re.search(r"-e \S*\$\([A-Z]", line)], "use the environment"


def test_destroy_requires_the_name() -> None:
    # Whatever `make -n` expands: no line may run before the question.
    text = re.search(r"^destroy:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[1]
    question = text.splitlines()[0]
    assert '"$${CONFIRM:-}" != "$(ENV)"' in question
    assert "exit 2" in question


@pytest.mark.parametrize(
    "document",
    [path for path in sorted(PROJECT.rglob("*.md")) if not {".venv", ".lastro"} & set(path.parts)],
    ids=lambda path: str(path.relative_to(PROJECT)),
)
def test_a_document_names_only_targets_and_files_that_exist(document: Path) -> None:
    text = document.read_text()
    targets = {target for target, _ in RULES}
    # In code only: prose may say "make sure".
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`|^    \S.*$", text, re.DOTALL | re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)\b", code))
    assert named <= targets
    for script in re.findall(r"\bscripts/[a-z_]+", code):
        assert (PROJECT / script).exists(), script
    assert set(re.findall(r"\blastro-ops ([a-z][a-z-]*)", code)) <= COMMANDS.keys()
    for link in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text):
        assert (document.parent / link).exists(), f"link to {link}"


def test_the_readme_exists() -> None:
    assert "make up" in (PROJECT / "README.md").read_text()


# ---- workflows -----------------------------------------------------------------------------


def workflow_jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    """The jobs of a workflow, by name."""
    return yaml.safe_load(workflow.read_text())["jobs"]


JOBS = [
    pytest.param(workflow, job, id=f"{workflow.stem}-{name}")
    for workflow in WORKFLOWS
    for name, job in workflow_jobs(workflow).items()
]
# Which permission a step needs, by the action or the command it is.
NEEDS = {
    "actions/checkout": {"contents": "read"},
    "aws-actions/configure-aws-credentials": {"id-token": "write"},
    "make plan-comment": {"pull-requests": "write"},
    "make drift-issue": {"issues": "write"},
}


def needed(job: dict[str, Any]) -> dict[str, str]:
    """The permissions that the steps of a job need, or those of the workflow that it calls."""
    if "uses" in job:
        called = PROJECT / job["uses"].removeprefix("./")
        return {k: v for part in workflow_jobs(called).values() for k, v in needed(part).items()}
    steps = [step.get("run") or step["uses"].split("@")[0] for step in job["steps"]]
    return {k: v for step in steps for k, v in NEEDS.get(step, {}).items()}


def test_there_are_workflows() -> None:
    names = {workflow.stem for workflow in WORKFLOWS}
    assert names == {"pipeline", "nightly", "deploy", "drift", "operate"}


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_a_workflow_calls_make_and_nothing_else(workflow: Path, job: dict[str, Any]) -> None:
    targets = {target for target, _ in RULES}
    for step in job.get("steps", []):
        if "run" in step:
            # Values come through the environment: in a command, they could be commands.
            assert re.fullmatch(r"make [a-z-]+", step["run"]), step["run"]
            assert step["run"].split()[1] in targets
            assert "shell" not in step and "working-directory" not in step


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_a_job_has_only_the_permissions_that_its_steps_need(
    workflow: Path, job: dict[str, Any]
) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {}
    assert job["permissions"] == needed(job)


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_a_job_that_changes_aws_runs_alone(workflow: Path, job: dict[str, Any]) -> None:
    """Whether a job is of an environment; callers of deploy.yml cover its jobs."""
    text = yaml.safe_dump(job)
    changing = re.search("make (apply-plan|configure|publish-dags|destroy)|deploy.yml", text)
    if workflow.stem == "deploy" or not changing:
        return
    assert re.fullmatch(
        r"environment-(dev|prod|\$\{\{ (matrix|inputs)\.environment \}\})",
        job["concurrency"]["group"],
    )
    assert not job["concurrency"].get("cancel-in-progress")


@pytest.mark.parametrize(("workflow", "job"), JOBS)
def test_artifacts_with_a_plan_are_kept_for_a_day(workflow: Path, job: dict[str, Any]) -> None:
    for step in job.get("steps", []):
        if step.get("uses", "").startswith("actions/upload-artifact"):
            assert step["with"]["retention-days"] == 1
            assert step["with"]["if-no-files-found"] == "error"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_their_commit_and_say_which_version(workflow: Path) -> None:
    uses = re.findall(r"uses: (.+)", workflow.read_text())
    assert uses
    for line in uses:
        ours = re.fullmatch(r"\./(\.github/workflows/\w+\.yml)", line)
        if ours:
            assert (PROJECT / ours[1]).exists()
        else:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*", line), line


def test_every_stage_and_every_role_is_tested_by_the_pipeline(
    capsys: pytest.CaptureFixture[str],
) -> None:
    jobs = workflow_jobs(PROJECT / ".github/workflows/pipeline.yml")
    stages = ["lint", *jobs["test"]["strategy"]["matrix"]["stage"], "molecule"]
    listed = subprocess.run(
        [sys.executable, PROJECT / "tests/run.py", "--list"], capture_output=True, text=True
    )
    assert set(stages) == set(listed.stdout.split())
    roles = {path.parent.name for path in PROJECT.glob("ansible/roles/*/molecule")}
    # The job lint reads them from the catalogue of services.
    assert jobs["molecule"]["needs"] == "lint"
    assert (
        jobs["molecule"]["strategy"]["matrix"]["role"]
        == "${{ fromJSON(needs.lint.outputs.roles) }}"
    )
    assert jobs["lint"]["outputs"]["roles"] == "${{ steps.roles.outputs.roles }}"
    (step,) = (step for step in jobs["lint"]["steps"] if step.get("id") == "roles")
    assert step["run"] == "make molecule-roles"
    assert cli.main(["molecule", "--list"], Project(PROJECT)) == 0
    name, _, value = capsys.readouterr().out.strip().partition("=")
    assert name == "roles"
    assert set(json.loads(value)) == roles


def test_molecule_has_a_host_for_every_role() -> None:
    config = yaml.safe_load((PROJECT / ".config/molecule/config.yml").read_text())
    prefix = "lastro-molecule-"
    named = {host["name"].removeprefix(prefix): host["groups"] for host in config["platforms"]}
    for role, host in roles_on_hosts(Project(PROJECT)).items():
        assert named[host] in ([role], f"${{LASTRO_MOLECULE_{host.upper()}}}"), role


def test_ci_runs_what_people_run() -> None:
    assert "exec make test\n" in (PROJECT / ".ci/run").read_text()
