"""Connect standard input and output to a port of an instance, through Session Manager.

The ProxyCommand of SSH (ansible/playbooks/access.yml): boto3 asks for the session, AWS's
session-manager-plugin carries it, and the AWS CLI is not needed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from lastro_ops import aws
from lastro_ops.errors import OpsError
from lastro_ops.project import Project

PLUGIN = "session-manager-plugin"
# The plugin takes the response, which holds a token, from the variable that its first argument
# names (since 1.2.536.0; AWS asks for 1.2.764.0): everyone on this machine can read its arguments.
RESPONSE = "AWS_SSM_START_SESSION_RESPONSE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops session`."""
    parser.add_argument("region", metavar="REGION")
    parser.add_argument("instance", metavar="INSTANCE_ID")
    parser.add_argument("port", metavar="PORT", nargs="?", default="22")


def run(project: Project, options: argparse.Namespace) -> None:
    """Start the session and become the plugin."""
    region, instance = options.region, options.instance
    # scripts/setup puts it next to the Python that runs this. SSH's PATH need not name that folder.
    folder = Path(sys.executable).parent
    plugin = shutil.which(PLUGIN, path=f"{folder}{os.pathsep}{os.environ.get('PATH', '')}")
    if plugin is None:
        raise OpsError(
            f"{PLUGIN} is not installed. `scripts/setup aws` downloads it into this checkout."
        )
    request = {
        "Target": instance,
        "DocumentName": "AWS-StartSSHSession",
        "Parameters": {"portNumber": [options.port]},
    }
    with aws.explained():
        ssm = aws.client("ssm", region)
        try:
            response = ssm.start_session(**request)
        except aws.AWS_ERRORS as error:
            if aws.code(error) != "TargetNotConnected":
                raise
            raise OpsError(
                f"{instance} is not connected to Session Manager: it is stopped, still booting, or"
                " its agent does not run. `aws ec2 get-console-output --latest"
                f" --instance-id {instance}` shows its boot log."
            ) from error
    response.pop("ResponseMetadata")
    # The plugin signs its first request itself, and finds credentials as boto3 does.
    arguments = [PLUGIN, RESPONSE, region, "StartSession", os.environ.get("AWS_PROFILE", "")]
    arguments += [json.dumps(request), ssm.meta.endpoint_url]
    os.execve(plugin, arguments, os.environ | {RESPONSE: json.dumps(response)})
