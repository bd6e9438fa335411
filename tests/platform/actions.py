"""Runs the workflows of .github/workflows without GitHub, as far as they use GitHub Actions.

Each job runs in a directory of its own, with nothing but what its steps put there: a clone at
`actions/checkout`, what an earlier job uploaded at `actions/download-artifact`, the credentials of
a role at `aws-actions/configure-aws-credentials`. A job gets a token that may do no more than the
job's permissions, and a role only if the role trusts the identity that GitHub would give the job.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from github_api import GitHub
from lastro_platform import cause

# The variables of a runner itself; a job gets all others from its steps.
RUNNER_VARIABLES = ("HOME", "LANG", "UV_CACHE_DIR", "SSL_CERT_FILE", "PIP_CERT")
EXPRESSION = re.compile(r"\$\{\{(.+?)\}\}")


class JobFailed(AssertionError):
    """A step of a job has failed; the message begins with why and ends with its log."""


class Context(dict):
    """A context of expressions: a missing member is empty, as in GitHub's."""

    def __getattr__(self, name: str) -> Any:
        value = self.get(name.replace("-", "_"), self.get(name))
        return Context(value) if isinstance(value, dict) else value


def evaluate(expression: str, contexts: dict[str, Any]) -> Any:
    """The value of an expression, without the braces around it."""
    code = expression.replace("&&", " and ").replace("||", " or ").strip()
    code = re.sub(r"!(?!=)", " not ", code).strip()
    functions = {
        "fromJSON": json.loads,
        "format": lambda text, *values: text.format(*values),
        "cancelled": lambda: False,
    }
    names = {name: Context(value) for name, value in contexts.items()}
    return eval(code, {"__builtins__": {}} | functions, names)


def fill(value: Any, contexts: dict[str, Any]) -> Any:
    """A value of a workflow with its expressions replaced."""
    if isinstance(value, dict):
        return {key: fill(item, contexts) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, contexts) for item in value]
    if not isinstance(value, str):
        return value
    if whole := EXPRESSION.fullmatch(value):
        return evaluate(whole[1], contexts)
    return EXPRESSION.sub(lambda found: str(evaluate(found[1], contexts) or ""), value)


@dataclass
class Event:
    """An event in the repository.

    Attributes:
        name: `push`, `pull_request`, `schedule` or `workflow_dispatch`.
        payload: what GitHub says of it.
        inputs: of a dispatch.
    """

    name: str
    payload: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """The end of the `sub` of a token that a job without an environment gets."""
        return "pull_request" if self.name == "pull_request" else "ref:refs/heads/main"


@dataclass
class Actions:
    """GitHub Actions for one repository.

    Attributes:
        origin: the repository.
        folder: where jobs get their directories.
        github: the API that jobs call.
        variables: `vars`, as its settings have them.
        environments: environment of the workflows -> the one that stands in for it. Jobs of
            other environments are left out.
        login: role ARN -> the environment variables of a session of it.
        trusts: whether a role's trust policy admits a subject.
        programs: a folder of programs that the runner's image has.
        skipped: jobs that count as passed without being run.
        after: what happens elsewhere once a step with this command has succeeded.
    """

    origin: Path
    folder: Path
    github: GitHub
    variables: dict[str, str]
    environments: dict[str, str]
    login: Callable[[str], dict[str, str]]
    trusts: Callable[[str, str], bool]
    programs: Path
    skipped: frozenset[str] = frozenset()
    after: dict[str, Callable[[], object]] = field(default_factory=dict)
    artifacts: dict[str, Path] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    number: int = 0

    # ---- workflows ---------------------------------------------------------------------------
    def run(self, workflow: str, event: Event, only: frozenset[str] = frozenset()) -> list[str]:
        """Run a workflow, or ``only`` some of its jobs; the names of those that ran.

        Raises:
            JobFailed: a job failed; those that need it were not run.
        """
        self.number += 1
        return list(self._workflow(workflow, event, event.inputs, only))

    def _workflow(
        self, workflow: str, event: Event, inputs: dict[str, Any], only: frozenset[str]
    ) -> Iterator[str]:
        data = yaml.safe_load((self.origin / ".github/workflows" / workflow).read_text())
        done: dict[str, bool] = {}
        jobs = dict(data["jobs"])
        while jobs:
            name = next(name for name, job in jobs.items() if set(needs(job)) <= done.keys())
            job = jobs.pop(name)
            contexts = self._contexts(event, inputs)
            condition = str(job.get("if", "True")).removeprefix("${{").removesuffix("}}")
            # A condition that names a status is evaluated however the earlier jobs have ended.
            asked = "cancelled()" in condition or all(done[need] for need in needs(job))
            wanted = asked and bool(evaluate(condition, contexts))
            if name in self.skipped or (only and name not in only):
                done[name] = wanted
                continue
            done[name] = False
            if not wanted:
                continue
            for values in self._matrix(job, contexts):
                done[name] = True
                if "uses" in job:
                    given = fill(job["with"], contexts | {"matrix": values})
                    if given["environment"] not in self.environments | dict.fromkeys(
                        self.environments.values()
                    ):
                        done[name] = False
                        continue
                    given["environment"] = self.environments.get(
                        given["environment"], given["environment"]
                    )
                    called = job["uses"].removeprefix("./.github/workflows/")
                    yield from self._workflow(called, event, given, frozenset())
                else:
                    yield self._job(name, job, contexts | {"matrix": values}, event)

    def _contexts(self, event: Event, inputs: dict[str, Any]) -> dict[str, Any]:
        github = {
            "event_name": event.name,
            "event": event.payload,
            "repository": self.github.repository,
            "ref": "refs/heads/main",
        }
        return {"github": github, "vars": self.variables, "inputs": inputs, "matrix": {}}

    def _matrix(self, job: dict[str, Any], contexts: dict[str, Any]) -> Iterator[dict[str, str]]:
        """Each combination of a job's matrix, of the environments that are stood in for."""
        matrix = fill(job.get("strategy", {}).get("matrix", {}), contexts)
        if "environment" in matrix:
            known = self.environments | {name: name for name in self.environments.values()}
            matrix["environment"] = [known[e] for e in matrix["environment"] if e in known]
        for values in product(*matrix.values()):
            yield dict(zip(matrix, values, strict=True))

    # ---- jobs --------------------------------------------------------------------------------
    def _job(self, name: str, job: dict[str, Any], contexts: dict[str, Any], event: Event) -> str:
        workspace = self.folder / f"{self.number}-{name}"
        workspace.mkdir(parents=True)
        token = self.github.issue_token(job["permissions"])
        contexts = contexts | {"github": contexts["github"] | {"token": token}}
        payload = self.folder / f"{self.number}-{name}.json"
        payload.write_text(json.dumps(event.payload))
        environment = {key: os.environ[key] for key in RUNNER_VARIABLES if key in os.environ}
        environment |= {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_API_URL": self.github.url,
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": self.github.repository,
            "GITHUB_RUN_ID": str(self.number),
            "GITHUB_EVENT_PATH": str(payload),
        }
        environment |= fill(job.get("env", {}), contexts)
        identity = event.subject
        if "environment" in job:
            # The name that GitHub would show, not that of the stand-in.
            real = {stand_in: name for name, stand_in in self.environments.items()}
            identity = f"environment:{real[fill(job['environment'], contexts)]}"
        print(f"  ==> job {name} of run {self.number}", file=sys.__stdout__, flush=True)
        log = self.logs.setdefault(f"{self.number}-{name}", "")
        for step in job["steps"]:
            given = fill(step.get("with", {}), contexts)
            match step.get("uses", "").split("@")[0]:
                case "actions/checkout":
                    clone = ["git", "clone", "--quiet", str(self.origin), str(workspace)]
                    subprocess.run(clone, check=True)
                case "aws-actions/configure-aws-credentials":
                    assert job["permissions"].get("id-token") == "write", "no token for AWS"
                    role = given["role-to-assume"]
                    subject = f"repo:{self.github.repository}:{identity}"
                    if not self.trusts(role, subject):
                        raise JobFailed(f"{role} does not trust {subject}")
                    region = given["aws-region"]
                    environment |= {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
                    environment |= self.login(role)
                case "actions/upload-artifact":
                    self._upload(workspace, given)
                case "actions/download-artifact":
                    self._download(workspace, given)
                case "":
                    log += self._run(
                        step, workspace, environment | fill(step.get("env", {}), contexts)
                    )
                    self.logs[f"{self.number}-{name}"] = log
                    self.after.get(step["run"], lambda: None)()
                case action:
                    raise NotImplementedError(action)
        return name

    def _run(self, step: dict[str, Any], workspace: Path, environment: dict[str, str]) -> str:
        result = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=workspace,
            env={key: str(value) for key, value in environment.items()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if result.returncode:
            said = "\n".join(cause(result.stdout))
            raise JobFailed(
                f"{step['run']} ended with {result.returncode}:\n{said}\n\n"
                f"The end of its log:\n{result.stdout[-6000:]}"
            )
        return result.stdout

    def _upload(self, workspace: Path, given: dict[str, Any]) -> None:
        """Keep files for other jobs, below the folder that is common to all that was named."""
        paths = [workspace / line.strip() for line in given["path"].split("\n") if line.strip()]
        files = [
            file
            for path in paths
            for file in (path.rglob("*") if path.is_dir() else [path])
            if file.is_file()
            and (
                given.get("include-hidden-files")
                or "/." not in str(file.relative_to(workspace.parent))
            )
        ]
        if not files and given.get("if-no-files-found") == "error":
            raise JobFailed(f"no files to upload for {given['name']}")
        root = Path(os.path.commonpath(paths))
        root = root if root.is_dir() else root.parent
        store = self.folder / "artifacts" / given["name"]
        shutil.rmtree(store, ignore_errors=True)
        for file in files:
            kept = store / file.relative_to(root)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, kept)
        self.artifacts[given["name"]] = store

    def _download(self, workspace: Path, given: dict[str, Any]) -> None:
        if "name" in given:
            if given["name"] not in self.artifacts:
                raise JobFailed(f"there is no artifact {given['name']}")
            shutil.copytree(
                self.artifacts[given["name"]], workspace / given["path"], dirs_exist_ok=True
            )
            return
        # With a pattern, each goes into a folder of its name; no match is no error.
        for name in fnmatch.filter(self.artifacts, given["pattern"]):
            shutil.copytree(self.artifacts[name], workspace / given["path"] / name)


def needs(job: dict[str, Any]) -> list[str]:
    """The jobs that must have passed before this one."""
    named = job.get("needs", [])
    return [named] if isinstance(named, str) else named
