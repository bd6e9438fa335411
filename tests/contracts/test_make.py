"""The Makefile, its documentation, and what CI calls of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from wiring import PROJECT

MAKEFILE = (PROJECT / "Makefile").read_text()
RULES = re.findall(r"^([a-z][a-z-]*):(?!=)([^\n]*)$", MAKEFILE, re.MULTILINE)
# What other targets need, and nobody calls.
INTERNAL = {"environment-exists"}
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


def test_make_alone_explains() -> None:
    assert make().stdout == make("help").stdout


def test_every_target_is_phony() -> None:
    phony = set(re.findall(r"^\.PHONY: (\S+)", MAKEFILE, re.MULTILINE))
    assert phony == {target for target, _ in RULES}


def test_what_a_target_runs_exists() -> None:
    playbooks = re.findall(r"ansible/playbooks/\S+\.yml", MAKEFILE)
    scripts = re.findall(r"scripts/[a-z_]+", MAKEFILE)
    assert playbooks and scripts
    for path in [*playbooks, *scripts]:
        assert (PROJECT / path).exists(), path
    for path in scripts:
        assert (PROJECT / path).stat().st_mode & 0o111, f"{path} is not executable"


@pytest.mark.parametrize("target", ["up", "configure", "apply", "destroy", "status"])
def test_an_environment_that_does_not_exist_changes_nothing(target: str, tmp_path: Path) -> None:
    # In a copy of its own, where even scripts/setup would leave a trace.
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
    assert "There is no environment 'prdo'. Choose of: dev local prod test" in result.stderr
    assert "terraform/environments/prdo.tfvars" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_to_destroy_asks_for_the_name() -> None:
    # Whatever `make -n` expands: no line may run before the question.
    text = re.search(r"^destroy:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[1]
    question = text.splitlines()[0]
    assert '"$(CONFIRM)" != "$(ENV)"' in question
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
    for link in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text):
        assert (document.parent / link).exists(), f"link to {link}"


def test_the_readme_exists() -> None:
    assert "make up" in (PROJECT / "README.md").read_text()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_make_and_nothing_else(workflow: Path) -> None:
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    targets = {target for target, _ in RULES}
    for step in (step for job in jobs.values() for step in job.get("steps", [])):
        if "run" in step:
            commands = step["run"].strip().splitlines()
            assert all(re.fullmatch(r"make [a-z-]+( \w+=\S+)*", line) for line in commands)
            assert {line.split()[1] for line in commands} <= targets


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_nothing_that_a_job_does_not_ask_for(workflow: Path) -> None:
    data = yaml.safe_load(workflow.read_text())
    assert data["permissions"] == {}
    for name, job in data["jobs"].items():
        assert isinstance(job["permissions"], dict), f"{name} has to list its permissions"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_their_commit_and_say_which_version(workflow: Path) -> None:
    uses = re.findall(r"uses: (.+)", workflow.read_text())
    assert uses
    for line in uses:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*", line), line


def test_ci_runs_what_people_run() -> None:
    assert "exec make test\n" in (PROJECT / ".ci/run").read_text()
