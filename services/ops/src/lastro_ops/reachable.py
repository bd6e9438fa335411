"""Check that the AWS API of an environment answers, before Ansible asks it for hosts and secrets.

Where this machine stands in for AWS, that is its emulator; otherwise AWS must accept the
credentials.
"""

from __future__ import annotations

import argparse
import http.client
import os
import urllib.request

from lastro_ops.errors import OpsError
from lastro_ops.project import Environment, Project

# The emulator answers within milliseconds; a machine that builds images meanwhile takes longer.
SECONDS = 15


def check_emulator(environment: Environment) -> None:
    """Ask the emulator whether it is healthy.

    Raises:
        OpsError: it is not.
    """
    url = f"{os.environ['AWS_ENDPOINT_URL']}/health"
    # It is on this machine: no proxy leads there.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(url, timeout=SECONDS).close()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise OpsError(
            f"{environment.name} is not running: the AWS API of this machine is unreachable"
            f" ({url}: {reason}). make up ENV={environment.name}"
        ) from error


def check_aws(environment: Environment) -> None:
    """Ask AWS which account the credentials belong to.

    Raises:
        OpsError: AWS is unreachable, or does not accept them.
    """
    # boto3 takes longer to import than the emulator to answer.
    from lastro_ops import aws

    with aws.explained(environment.name):
        aws.account_of(environment.region)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops reachable`."""
    parser.add_argument("environment", metavar="ENV")


def run(project: Project, options: argparse.Namespace) -> None:
    """Check, and print nothing if the API answers."""
    environment = project.environment(options.environment)
    environment.enter_aws()
    if environment.on_one_machine:
        check_emulator(environment)
    else:
        check_aws(environment)
