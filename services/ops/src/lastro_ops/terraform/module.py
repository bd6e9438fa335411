"""Run Terraform in a folder of this checkout, without an environment and without a backend.

lastro-ops module terraform validate
lastro-ops module terraform/bootstrap test

Terraform is initialised first; that is shown only if it fails.
"""

from __future__ import annotations

import argparse
import fcntl

from lastro_ops.errors import OpsError
from lastro_ops.project import Project
from lastro_ops.terraform.process import Terraform


def initialised(project: Project, folder: str) -> Terraform:
    """Terraform in a folder, with the provider that its lock file names.

    Raises:
        OpsError: the provider could not be fetched.
    """
    data = project.state / "modules" / folder
    data.mkdir(parents=True, exist_ok=True)
    terraform = Terraform(project, folder, data)
    with (data / "init.lock").open("w") as lock:
        # Lint, tests and `make cost` may run at the same time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        output = terraform.capture(
            "init", "-input=false", "-no-color", "-backend=false", "-lockfile=readonly"
        )
    if output.status:
        raise OpsError(f"terraform init failed in {folder}:\n{output.stderr.strip()}")
    return terraform


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops module`."""
    parser.add_argument("folder", metavar="FOLDER", help="such as terraform/bootstrap")
    parser.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER)


def run(project: Project, options: argparse.Namespace) -> None:
    """Become Terraform."""
    initialised(project, options.folder).replace_this_process(*options.arguments)
