"""Action plugin: read secrets from Secrets Manager, and say which one cannot be read and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

DOCUMENTATION = """
module: read_secrets
short_description: Read secrets from AWS Secrets Manager
description:
  - Runs on the controller, once for all hosts, and reads the secrets at the same time.
  - The values are never shown. A secret that cannot be read is named with its endpoint and the kind
    of the error, which a task with no_log would hide.
options:
  secrets:
    description: >-
      Name -> ARN of a secret, which holds a JSON object; or name -> group, as client -> ARN of a
      secret whose object has the key C(key).
    type: dict
    required: true
  aws:
    description: The region, and if they are not those of the environment, endpoint_url, access_key
      and secret_key.
    type: dict
    required: true
"""

EXAMPLES = """
- name: Read the secrets
  read_secrets:
    secrets: {mlflow: "arn:aws:secretsmanager:eu-west-1:123456789012:secret:mlflow"}
    aws: {region: eu-west-1}
  run_once: true
"""

RETURN = """
ansible_facts:
  description: C(lastro_secrets), name -> the secret's object; of a group, client -> its key.
  type: dict
"""

AT_ONCE = 8
CONFIG = Config(
    connect_timeout=10, read_timeout=30, retries={"mode": "standard", "max_attempts": 5}
)


def read(client: Any, name: str, arn: str) -> dict[str, Any]:
    """Return the object in a secret.

    Args:
        client: of Secrets Manager.
        name: of the secret, for messages.
        arn: of the secret.

    Raises:
        AnsibleActionFail: it cannot be read; the message holds nothing of its value.
    """
    where = f"the secret {name} ({arn}) from {client.meta.endpoint_url}"
    try:
        value = json.loads(client.get_secret_value(SecretId=arn)["SecretString"])
    except ClientError as error:
        raise AnsibleActionFail(f"Cannot read {where}: {error.response['Error']['Code']}") from None
    except BotoCoreError as error:
        raise AnsibleActionFail(f"Cannot read {where}: {type(error).__name__}: {error}") from None
    except (ValueError, KeyError):
        raise AnsibleActionFail(f"Cannot read {where}: it does not hold a JSON object") from None
    if not isinstance(value, dict):
        raise AnsibleActionFail(f"Cannot read {where}: it does not hold a JSON object")
    return value


def read_all(
    client: Any, secrets: Mapping[str, str | Mapping[str, str]]
) -> dict[str, dict[str, Any]]:
    """Return the content of the secrets, as the option ``secrets`` names them.

    Raises:
        AnsibleActionFail: one cannot be read.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        reading = {
            name: (
                pool.submit(read, client, name, secret)
                if isinstance(secret, str)
                else {each: pool.submit(read, client, each, arn) for each, arn in secret.items()}
            )
            for name, secret in secrets.items()
        }
        return {
            name: (
                {each: value.result().get("key") for each, value in found.items()}
                if isinstance(found, dict)
                else found.result()
            )
            for name, found in reading.items()
        }


class ActionModule(ActionBase):
    """See ``DOCUMENTATION``."""

    # It only reads.
    _supports_check_mode = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Read the secrets."""
        super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            argument_spec={
                "secrets": {"type": "dict", "required": True},
                "aws": {"type": "dict", "required": True},
            }
        )
        aws = given["aws"]
        client = boto3.client(
            "secretsmanager",
            region_name=aws["region"],
            endpoint_url=aws.get("endpoint_url"),
            aws_access_key_id=aws.get("access_key"),
            aws_secret_access_key=aws.get("secret_key"),
            config=CONFIG,
        )
        return {
            "changed": False,
            "ansible_facts": {"lastro_secrets": read_all(client, given["secrets"])},
            "_ansible_no_log": True,
        }
