"""Resolve every source of dependencies into its hashed lock.

A locked version stays as long as it satisfies its source.

lastro-ops lock                          after a source has changed
lastro-ops lock --upgrade                everything to its newest version
lastro-ops lock --upgrade-package NAME   one package
"""

from __future__ import annotations

import argparse
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lastro_ops.errors import OpsError
from lastro_ops.project import Project

# The hosts: Debian 13's Python, wheels only.
HOST = ("--python-version=3.13", "--python-platform=x86_64-manylinux_2_28", "--only-binary=:all:")
# The controller: every Linux and Python that scripts/setup accepts.
CONTROLLER = ("--universal", "--python-version=3.12")


@dataclass(frozen=True)
class Lock:
    """A lock and what it is resolved from, relative to the checkout."""

    sources: tuple[str, ...]
    file: str
    options: tuple[str, ...] = HOST
    constraints: tuple[str, ...] = field(default=())

    def argv(self, uv: Path, *options: str) -> list[str]:
        """The command that writes it."""
        return [
            *(str(uv), "pip", "compile", "--quiet", "--generate-hashes"),
            *("--no-annotate", "--no-header", *self.options, *options),
            *(f"--constraints={constraint}" for constraint in self.constraints),
            *(*self.sources, f"--output-file={self.file}"),
        ]


def locks(root: Path) -> Iterator[Lock]:
    """Every lock, after those that constrain it."""
    # The operator's tools are part of the controller's environment.
    ops = "services/ops/pyproject.toml"
    yield Lock(("requirements.in", ops), "requirements.txt", CONTROLLER)
    yield Lock(("locks/uv.in",), "locks/uv.txt", CONTROLLER)
    yield Lock(("locks/checkov.in",), "locks/checkov.txt", CONTROLLER)

    # A model is read by the versions that wrote it.
    yield Lock(("services/pipelines/pyproject.toml",), "locks/pipelines.txt")
    yield Lock(
        ("services/model_api/pyproject.toml",),
        "locks/model_api.txt",
        (*HOST, "--extra=http"),
        ("locks/pipelines.txt",),
    )
    services = ["locks/pipelines.txt", "locks/model_api.txt"]
    for file in sorted(root.glob("services/*/pyproject.toml")):
        project, lock = str(file.relative_to(root)), f"locks/{file.parent.name}.txt"
        # A project without dependencies needs no lock.
        dependencies = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["dependencies"]
        if dependencies and project != ops and lock not in services:
            services.append(lock)
            yield Lock((project,), lock)
    # One lock for each version that a host may run; in bench/, one for each server that ours is
    # compared with.
    airflow = []
    for file in sorted(root.glob("locks/*/*.in")):
        source = str(file.relative_to(root))
        lock = f"{source.removesuffix('.in')}.txt"
        if file.parent.name == "airflow":
            airflow.append(lock)
        yield Lock((source,), lock)
    # Added to the environment of any service for its tests, and to Airflow's.
    yield Lock(("locks/test.in",), "locks/test.txt", constraints=(*services, *airflow))

    # The type checker, with the libraries whose types it reads, in the versions that run on hosts.
    yield Lock(("locks/types.in",), "locks/types.txt", CONTROLLER, (*services, "locks/test.txt"))

    # The emulator of the tests of least privilege; no service runs with it.
    yield Lock(("locks/ministack.in",), "locks/ministack.txt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops lock`."""
    parser.add_argument("--upgrade", action="store_true", help="everything to its newest version")
    parser.add_argument(
        "--upgrade-package", action="append", default=[], metavar="NAME", help="one package"
    )


def run(project: Project, options: argparse.Namespace) -> None:
    """Write the locks, in order."""
    upgrade = ["--upgrade"] if options.upgrade else []
    upgrade += [f"--upgrade-package={name}" for name in options.upgrade_package]
    for lock in locks(project.root):
        print(f"==> {lock.file}", flush=True)
        argv = lock.argv(project.programs / "uv", *upgrade)
        if subprocess.run(argv, cwd=project.root).returncode:
            raise OpsError(f"{lock.file} could not be resolved; see above")
