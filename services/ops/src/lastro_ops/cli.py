"""The command line: one parser, and one place that turns an error into a message and a status."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from lastro_ops.errors import OpsError, UsageError
from lastro_ops.project import CHECKOUT, Project

# Command -> its module and what it does. A module is imported only when its command runs: boto3
# alone takes half a second to import.
COMMANDS = {
    "terraform": ("terraform.environment", "run Terraform for an environment"),
    "module": ("terraform.module", "run Terraform in a folder, without an environment"),
    "bootstrap": ("terraform.bootstrap", "run Terraform for the setup of an AWS account"),
    "state-region": ("terraform.state_region", "print the region of an account's Terraform states"),
    "reachable": ("reachable", "check that the AWS API of an environment answers"),
    "cost": ("cost.command", "compute the monthly cost of an environment"),
    "drift": ("drift", "compare a running environment with this checkout"),
    "github": ("github", "report a pipeline's result on GitHub"),
    "authorize": ("access.authorize", "allow this machine to reach the hosts by SSH"),
    "session": ("access.session", "carry SSH to a host through Session Manager"),
    "tunnel": ("access.tunnel", "open a service on this machine"),
    "role-readmes": ("role_readmes", "write the tables of variables in the roles' READMEs"),
    "prose": ("prose", "find constructions that plain English avoids"),
    "lock": ("locks", "resolve the dependencies into the hashed locks"),
    "molecule": ("molecule", "test the roles on their own hosts"),
    "screenshots": ("screenshots", "take the screenshots of a running environment"),
}


class Parser(argparse.ArgumentParser):
    """A parser that reports errors as every command does."""

    def error(self, message: str) -> NoReturn:
        """Raise a UsageError that points to the help."""
        raise UsageError(f"{message}. See {self.prog} --help")


def parser(command: str | None) -> Parser:
    """The parser of all commands, with the arguments of one of them."""
    parser = Parser(prog="lastro-ops", description="The operator's tools of Lastro.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        own = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == command:
            implementation = importlib.import_module(f"lastro_ops.{module}")
            own.description = implementation.__doc__
            implementation.add_arguments(own)
            own.set_defaults(run=implementation.run)
    return parser


def main(arguments: Sequence[str] | None = None, project: Project = CHECKOUT) -> int:
    """Run one command and return its exit status.

    Args:
        arguments: those of the command line by default.
        project: the checkout to work on.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    command = given[0] if given and given[0] in COMMANDS else None
    try:
        options = parser(command).parse_args(given)
        return int(options.run(project, options) or 0)
    except OpsError as error:
        name = f"lastro-ops {command}" if command else "lastro-ops"
        print(f"{name}: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        # The exit status that a shell reports for a program that SIGINT ended.
        return 130
