"""Locks satisfy their sources; collections are those of the pinned package and all that is used."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from wiring import PROJECT

LOCKS = PROJECT / "locks"
LOCK_ENTRY = re.compile(
    r"^(?P<name>[\w.-]+)(?:\[[\w,-]+\])?==(?P<version>\S+)(?: ;[^\\\n]*)?"
    r"(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})*)$",
    re.MULTILINE,
)


def sources() -> Iterator[tuple[Path, Path]]:
    """Every source of dependencies with its lock."""
    yield PROJECT / "requirements.in", PROJECT / "requirements.txt"
    # The operator's tools are part of the controller's environment.
    ops = PROJECT / "services/ops/pyproject.toml"
    yield ops, PROJECT / "requirements.txt"
    for source in sorted(LOCKS.rglob("*.in")):
        yield source, source.with_suffix(".txt")
    for project in sorted(PROJECT.glob("services/*/pyproject.toml")):
        dependencies = tomllib.loads(project.read_text())["project"]["dependencies"]
        if dependencies and project != ops:
            yield project, LOCKS / f"{project.parent.name}.txt"


SOURCES = list(sources())
names = [str(source.relative_to(PROJECT)) for source, _ in SOURCES]


def requirements(source: Path) -> list[Requirement]:
    """The requirements in a source."""
    if source.suffix == ".toml":
        project = tomllib.loads(source.read_text())["project"]
        extras = project.get("optional-dependencies", {}).values()
        return [Requirement(line) for line in chain(project["dependencies"], *extras)]
    lines = (line.split("#")[0].strip() for line in source.read_text().splitlines())
    return [Requirement(line) for line in lines if line]


def locked(lock: Path) -> dict[str, Version]:
    """Package -> its version."""
    return {
        canonicalize_name(entry["name"]): Version(entry["version"])
        for entry in LOCK_ENTRY.finditer(lock.read_text())
    }


@pytest.mark.parametrize(("source", "lock"), SOURCES, ids=names)
def test_a_lock_satisfies_its_source(source: Path, lock: Path) -> None:
    versions = locked(lock)
    asked = requirements(source)
    assert asked
    for requirement in asked:
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not locked; run `make lock`"
        assert version in requirement.specifier, f"{requirement}, locked is {version}: `make lock`"


@pytest.mark.parametrize(("source", "lock"), SOURCES, ids=names)
def test_every_entry_of_a_lock_has_its_hashes(source: Path, lock: Path) -> None:
    text = "".join(
        line for line in lock.read_text().splitlines(True) if not line.lstrip().startswith("#")
    )
    entries = list(LOCK_ENTRY.finditer(text))
    assert entries
    assert all(entry["hashes"] for entry in entries)
    # Everything in the lock was recognised as an entry.
    assert LOCK_ENTRY.sub("", text).strip() == ""


def test_every_lock_has_a_source_and_is_used() -> None:
    known = {lock for _, lock in SOURCES}
    assert set(LOCKS.rglob("*.txt")) | {PROJECT / "requirements.txt"} == known
    users = [
        *PROJECT.glob("ansible/roles/*/defaults/main.yml"),
        *PROJECT.glob("inventory/common/**/*.yml"),
        PROJECT / "ansible/playbooks/local/tasks/images.yml",
        PROJECT / "scripts/lint",
        PROJECT / "scripts/setup",
        PROJECT / "tests/run.py",
        PROJECT / "tests/bench/serving/servers.py",
    ]
    text = "\n".join(path.read_text() for path in users)
    # A version or a service stands in for the variable in a path.
    patterns = text.replace("{{ mlflow_version }}", "*").replace("{{ airflow_version }}", "*")
    for lock in known - {PROJECT / "requirements.txt"}:
        path = lock.relative_to(PROJECT).as_posix()
        by_version = re.sub(r"/[\d.]+\.txt$", "/*.txt", path)
        assert path in patterns or by_version in patterns, f"nothing uses {path}"
    assert "requirements.txt" in (PROJECT / "scripts/setup").read_text()


def test_the_versions_that_roles_install_have_a_lock_that_pins_them() -> None:
    for role, package in {"mlflow": "mlflow", "airflow": "apache-airflow"}.items():
        defaults = yaml.safe_load((PROJECT / f"ansible/roles/{role}/defaults/main.yml").read_text())
        version = str(defaults[f"{role}_version"])
        assert locked(LOCKS / role / f"{version}.txt")[package] == Version(version)


@pytest.mark.parametrize("role", ["mlflow", "airflow"])
def test_a_role_installs_the_newest_version_that_has_a_lock(role: str) -> None:
    defaults = yaml.safe_load((PROJECT / f"ansible/roles/{role}/defaults/main.yml").read_text())
    newest = max(Version(path.stem) for path in (LOCKS / role).glob("*.txt"))
    assert Version(str(defaults[f"{role}_version"])) == newest, (
        f"update {role}_version, or the lock"
    )


def test_tests_can_be_installed_into_the_environment_of_airflow() -> None:
    tests = locked(LOCKS / "test.txt")
    [lock] = (LOCKS / "airflow").glob("*.txt")
    airflow = locked(lock)
    shared = tests.keys() & airflow.keys()
    differ = {name for name in shared if tests[name] != airflow[name]}
    assert not differ, "run lastro-ops lock --upgrade-package for each of these"


def test_models_are_read_by_the_versions_that_wrote_them() -> None:
    writer, reader = locked(LOCKS / "pipelines.txt"), locked(LOCKS / "model_api.txt")
    for package in ("mlflow-skinny", "scikit-learn", "skops", "numpy", "pandas"):
        assert writer[package] == reader[package], package


def test_every_requirement_of_the_controller_is_exact_and_has_its_reason() -> None:
    explained = False
    for line in (PROJECT / "requirements.in").read_text().splitlines():
        if line.startswith("#"):
            explained = True
        elif not line:
            explained = False
        else:
            assert explained, f"{line}: say above it what it is for"
            assert re.fullmatch(r"[\w-]+(\[[\w,]+\])?==[\w.]+", line), f"{line} is not exact"


# ---- collections --------------------------------------------------------------------------------


def collections() -> dict[str, str]:
    """requirements.yml: collection -> version."""
    data = yaml.safe_load((PROJECT / "requirements.yml").read_text())
    return {entry["name"]: entry["version"] for entry in data["collections"]}


def used_collections() -> set[str]:
    """The collections that playbooks, roles, plugins' options and the inventory name."""
    listed = bundled()
    texts = [
        path.read_text()
        for folder in ("ansible", "inventory", "tests/molecule", "terraform")
        for path in (PROJECT / folder).rglob("*")
        if path.suffix in {".yml", ".j2", ".tf"} and path.is_file()
    ]
    named = re.findall(r"\b([a-z_]+\.[a-z_]+)\.[a-z_]+\b", "\n".join(texts))
    return {name for name in named if name in listed}


def bundled() -> dict[str, str]:
    """The collections of the installed `ansible` package, without asking anyone."""
    result = subprocess.run(
        ["ansible-galaxy", "collection", "list", "--format", "json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        name: data["version"]
        for folder, listed in json.loads(result.stdout).items()
        if folder.startswith(str(PROJECT / ".venv"))
        for name, data in listed.items()
    }


def test_the_collections_are_those_of_the_pinned_package() -> None:
    found = bundled()
    assert collections() == {name: found.get(name) for name in collections()}


def test_the_collections_are_those_that_are_used() -> None:
    assert used_collections() == collections().keys()


MODULE_LIKE = re.compile(r"^\s*(?:- )?([a-z_]+(?:\.[a-z_]+)+):(?: |$)", re.MULTILINE)


@pytest.mark.parametrize(
    "path",
    sorted(PROJECT.glob("ansible/**/tasks/*.yml"))
    + sorted(PROJECT.glob("ansible/**/handlers/*.yml"))
    + sorted(PROJECT.glob("ansible/playbooks/**/*.yml"))
    + sorted(PROJECT.glob("tests/molecule/*.yml")),
    ids=lambda path: str(path.relative_to(PROJECT)),
)
def test_every_module_is_ansibles_own_or_of_a_named_collection(path: Path) -> None:
    known = {"ansible.builtin", *collections()}
    for name in MODULE_LIKE.findall(path.read_text()):
        if name.count(".") >= 2:
            assert name.rsplit(".", 1)[0] in known, name
