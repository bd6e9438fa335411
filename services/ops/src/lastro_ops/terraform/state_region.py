"""Print the region of an account's Terraform states, or the one where they will be.

lastro-ops state-region [REGION]

A bucket that exists stays where it is: another REGION than its own is refused.
"""

from __future__ import annotations

import argparse

from lastro_ops import aws
from lastro_ops.errors import OpsError
from lastro_ops.project import Project

DEFAULT = "eu-west-1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops state-region`."""
    parser.add_argument("region", metavar="REGION", nargs="?", default="")


def run(project: Project, options: argparse.Namespace) -> None:
    """Print the region."""
    asked = options.region
    with aws.explained():
        account, _, there = aws.state_bucket(asked or DEFAULT)
    if asked and there and asked != there:
        raise OpsError(
            f"REGION is {asked}, but the state of account {account} is in {there}:"
            " leave REGION out. Another region needs another account, or make bootstrap-destroy."
        )
    print(there or asked or DEFAULT)
