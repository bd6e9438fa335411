"""Run Terraform for the one-time setup of an AWS account (terraform/bootstrap).

`make bootstrap` makes the bucket of its state first.

lastro-ops bootstrap REGION ARGUMENT...   as `terraform ARGUMENT...`

With `apply`, the roles of CI are for the repository of --repository. If that is empty they stay
those of the last time.
"""

from __future__ import annotations

import argparse
import json

from lastro_ops import aws
from lastro_ops.errors import OpsError, UsageError
from lastro_ops.project import Project
from lastro_ops.terraform.process import Terraform


def initialised(project: Project, region: str) -> Terraform:
    """Terraform for the account of these credentials, with its state in the account's bucket."""
    with aws.explained():
        account = aws.account_of(region)
    data = project.state / "bootstrap" / account / "terraform"
    data.mkdir(parents=True, exist_ok=True)
    terraform = Terraform(project, "terraform/bootstrap", data, region, interactive=True)
    backend = {"bucket": f"lastro-terraform-state-{account}", "region": region}
    options = [f"-backend-config={key}={value}" for key, value in backend.items()]
    output = terraform.stream("init", "-input=false", "-no-color", "-reconfigure", *options)
    if output.status:
        raise OpsError(f"terraform init failed in account {account}:\n{output.stdout.strip()}")
    return terraform


def last_repository(terraform: Terraform) -> str:
    """The repository whose CI the roles serve now; empty without one."""
    output = terraform.capture("output", "-json")
    if output.status:
        raise OpsError(f"the state of the account cannot be read:\n{output.stderr.strip()}")
    return str(json.loads(output.stdout).get("github_repository", {}).get("value") or "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops bootstrap`."""
    parser.add_argument("--repository", metavar="OWNER/NAME", default="")
    parser.add_argument("region", metavar="REGION", help="the region of the account's states")
    parser.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER)


def run(project: Project, options: argparse.Namespace) -> None:
    """Become Terraform."""
    if not options.arguments:
        raise UsageError("give a command for the account: apply, destroy, ...")
    command, *rest = options.arguments
    terraform = initialised(project, options.region)
    if command == "apply":
        # Without it a second run would remove the roles of CI.
        repository = options.repository or last_repository(terraform)
        rest = [f"-var=github_repository={repository}", *rest]
    terraform.replace_this_process(command, *rest)
