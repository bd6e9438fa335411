"""A value that a caller gives make arrives as it was typed, or make refuses before anything runs.

The Makefile runs in a folder of its own, where stand-ins for all programs write down how they were
called: their arguments and their environment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from wiring import PROJECT

# Everything that make, a shell, Ansible or argparse could take for more than text.
EVERYTHING = (
    'bob user_role=Admin it\'s "a" a$b $$ $(shell touch evil) $(touch evil) ${HOME} `touch evil`;'
    " touch evil & # * ~ [a-z] {a,b} {{ 7 * 7 }} é %\\ \\\n-x \\"
)
VALUES = [EVERYTHING, "--help", "%", ""]
PROGRAMS = (
    *(".venv/bin/ansible-playbook", ".venv/bin/lastro-ops", ".venv/bin/python", ".venv/bin/pytest"),
    *("scripts/setup", "scripts/test"),
)
STAND_IN = """#!/bin/bash
folder=$(mktemp -d -p "$CALLS")
printf '%s\\0' "${0##*/}" "$@" >"$folder/argv"
env -0 >"$folder/environment"
[ "$1" != state-region ] || echo eu-west-1
"""


@dataclass(frozen=True)
class Call:
    """One call of a stand-in: the name of the program, its arguments, and its environment."""

    program: str
    arguments: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Made:
    """The result of make."""

    status: int
    stderr: str
    calls: list[Call]

    def call(self, program: str, *first: str) -> Call:
        """The only call of a program whose arguments begin like this."""
        (found,) = (
            call
            for call in self.calls
            if call.program == program and call.arguments[: len(first)] == [*first]
        )
        return found


type Make = Callable[..., Made]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Makefile with its environments, and stand-ins for its programs."""
    folder = tmp_path_factory.mktemp("make")
    for name in ("Makefile", "inventory", "terraform/environments", "scripts/step"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, folder / name, symlinks=True)
        else:
            shutil.copy(PROJECT / name, folder / name)
    for name in PROGRAMS:
        program = folder / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(STAND_IN)
        program.chmod(0o755)
    for name in ("local", "prod"):
        (folder / f"inventory/{name}/hosts.aws_ec2.yml").touch()
    podman = folder / ".venv/bin/podman"
    podman.write_text("#!/bin/sh\necho true\n")
    podman.chmod(0o755)
    return folder


@pytest.fixture(params=["command line", "environment"])
def make(folder: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    """Runs make with variables, as arguments or in the environment."""

    def make(target: str, **variables: str) -> Made:
        calls = tmp_path / "calls"
        shutil.rmtree(calls, ignore_errors=True)
        calls.mkdir()
        names = {"MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", *USED}
        environment = {name: text for name, text in os.environ.items() if name not in names}
        environment["CALLS"] = str(calls)
        given = []
        if request.param == "environment":
            environment |= variables
        else:
            given = [f"{name}={value}" for name, value in variables.items()]
        result = subprocess.run(
            ["make", target, *given],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert not list(folder.rglob("evil")), "a value was executed"
        found = []
        for call in sorted(calls.iterdir(), key=lambda path: path.stat().st_ctime_ns):
            program, *arguments = (call / "argv").read_text().split("\0")[:-1]
            lines = (call / "environment").read_text().split("\0")[:-1]
            found.append(Call(program, arguments, dict(line.split("=", 1) for line in lines)))
        return Made(result.returncode, result.stderr, found)

    return make


# Target -> the variables that its playbook reads from the environment.
BY_ENVIRONMENT = {
    "user": ["NAME", "ROLE"],
    "logs": ["SERVICE", "LINES"],
    "promote": ["MODEL", "VERSION", "ALIAS"],
    "rollback": ["MODEL", "VERSION", "ALIAS"],
    "bootstrap-destroy": ["CONFIRM"],
}
# Target -> the program, and the variable that it gets as words: separated by blanks, as they are.
AS_WORDS = {
    "configure": ("ansible-playbook", "ARGS"),
    "cost": ("lastro-ops", "ARGS"),
    "test": ("test", "STAGE"),
    "test-full": ("test", "STAGE"),
    "molecule": ("lastro-ops", "ROLE"),
    "bench-serving": ("python", "PART"),
}
# Tested one by one below; ALLOW_DESTROY is read by lastro-ops alone.
OTHERS = {"ENV", "GIVEN_ENV", "ONLY", "PLAN", "PORT", "REGION", "GITHUB_REPOSITORY", "USER_NAME"}
# Yes or nothing: its value is not passed on.
SWITCHES = {"AGAIN", "AUTO_APPROVE"}
USED = {
    *(name for names in BY_ENVIRONMENT.values() for name in names),
    *(name for _, name in AS_WORDS.values()),
    *OTHERS,
    *SWITCHES,
}


def test_every_variable_of_a_caller_is_covered_here() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    playbooks = "".join(path.read_text() for path in PROJECT.glob("ansible/playbooks/*.yml"))
    found = {
        *re.findall(r"\$\$\{?([A-Z_]{2,})", makefile),
        *re.findall(r"\$\(value ([A-Z_]+)\)", makefile),
        *re.findall(r"lookup\('env', '([A-Z_]+)'\)", playbooks),
    }
    # GitHub's own, not a caller's.
    assert found - {"GITHUB_OUTPUT"} <= USED


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("target", BY_ENVIRONMENT)
def test_a_playbook_gets_the_value_that_was_typed(make: Make, target: str, value: str) -> None:
    made = make(target, **dict.fromkeys(BY_ENVIRONMENT[target], value))
    assert made.status == 0, made.stderr
    call = made.call("ansible-playbook")
    for name in BY_ENVIRONMENT[target]:
        assert call.environment[name] == value
    assert value in ("", "%", "*") or value not in " ".join(call.arguments)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("target", AS_WORDS)
def test_words_are_split_at_blanks_and_nothing_else(make: Make, target: str, value: str) -> None:
    program, name = AS_WORDS[target]
    words = make(target, **{name: value}).call(program).arguments
    without = make(target).call(program).arguments
    assert words == [*without, *value.split()]


@pytest.mark.parametrize("value", VALUES)
def test_a_tunnel_gets_service_and_port(make: Make, value: str) -> None:
    made = make("tunnel", SERVICE=value, PORT=value)
    port = [value] if value else []
    expected = ["tunnel", "--direct", "--", "local", value, *port]
    assert made.call("lastro-ops", "tunnel").arguments == expected


@pytest.mark.parametrize("value", VALUES)
def test_the_cost_of_a_plan_gets_its_file(make: Make, value: str) -> None:
    plan = [f"--plan={value}"] if value else []
    assert make("cost", PLAN=value).call("lastro-ops").arguments == ["cost", "local", *plan]


@pytest.mark.parametrize("value", VALUES)
def test_an_account_gets_its_region_and_repository(make: Make, value: str) -> None:
    made = make("bootstrap", REGION=value, GITHUB_REPOSITORY=value, AUTO_APPROVE="yes")
    assert made.status == 0, made.stderr
    assert made.call("lastro-ops", "state-region").arguments == ["state-region", "--", value]
    apply = ["bootstrap", f"--repository={value}", "eu-west-1", "apply", "-auto-approve"]
    assert made.call("lastro-ops", "bootstrap").arguments == apply


@pytest.mark.parametrize("value", VALUES)
def test_one_test_is_chosen_by_its_name(make: Make, value: str) -> None:
    assert make("test-platform", ONLY=value).call("test").environment["ONLY"] == value


@pytest.mark.parametrize("value", [value for value in VALUES if value])
def test_the_person_who_promotes_is_named_as_given(make: Make, value: str) -> None:
    assert make("promote", USER_NAME=value).call("ansible-playbook").environment["USER_NAME"] == (
        value
    )


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("target", ["user", "destroy", "cost", "status", "drift-issue"])
def test_an_environment_with_an_odd_name_is_refused_before_anything_runs(
    make: Make, target: str, value: str
) -> None:
    made = make(target, ENV=value, NAME="ana")
    assert made.status == 2
    assert f"There is no environment '{value}'. Choose one of: dev local" in made.stderr
    assert made.calls == []


@pytest.mark.parametrize("value", VALUES)
def test_only_the_name_of_the_environment_destroys_it(make: Make, value: str) -> None:
    made = make("destroy", CONFIRM=value)
    assert made.status == 2
    assert "Say: make destroy ENV=local CONFIRM=local" in made.stderr
    assert {call.program for call in made.calls} <= {"setup"}


def test_a_make_within_make_has_the_same_environment(make: Make) -> None:
    made = make("status", ENV="prod", NAME=EVERYTHING)
    assert made.status == 0, made.stderr
    inventories = {call.arguments[1] for call in made.calls if call.program == "ansible-playbook"}
    assert inventories == {"inventory/prod/localhost.yml", "inventory/prod"}


@pytest.mark.parametrize("environment", ["local", "prod"])
def test_a_dry_run_runs_nothing(folder: Path, tmp_path: Path, environment: str) -> None:
    text = (PROJECT / "Makefile").read_text()
    targets = re.findall(r"^\.PHONY: (\S+)", text, re.MULTILINE)
    assert len(targets) > 30
    for target in targets:
        result = subprocess.run(
            ["make", "-n", target, f"ENV={environment}", "AUTO_APPROVE=yes"],
            cwd=folder,
            env=os.environ | {"CALLS": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        assert list(tmp_path.iterdir()) == [], target


def test_names_that_playbooks_check_are_checked_to_their_end() -> None:
    """`$` of a pattern matches before a line break at the end."""
    for file in PROJECT.glob("ansible/playbooks/*.yml"):
        for pattern in re.findall(r"is match\('(.*?)'\)", file.read_text()):
            if file.stem in ("user", "logs"):
                assert pattern.endswith(r"\\Z"), f"{file.name}: {pattern}"


@pytest.mark.parametrize("value", [*VALUES, "ana\n", "bob user_role=Admin", "a b", "it's", "a$b"])
def test_a_user_with_an_odd_name_is_refused(value: str) -> None:
    plays = yaml.safe_load((PROJECT / "ansible/playbooks/user.yml").read_text())
    checked = plays[0]["pre_tasks"][0]["ansible.builtin.assert"]["that"][0]
    (pattern,) = re.findall(r"user_name is match\('(.*)'\)", checked)
    # Jinja reads the backslashes of a string as Python does.
    assert not re.match(pattern.replace("\\\\", "\\"), value)
    assert re.match(pattern.replace("\\\\", "\\"), "ana")
