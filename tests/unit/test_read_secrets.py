"""The message about a secret that cannot be read has everything but its value."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from botocore.exceptions import ClientError
from wiring import PROJECT, play

PLUGIN = runpy.run_path(str(PROJECT / "ansible/plugins/action/read_secrets.py"))
ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:"


class Client:
    """A client of Secrets Manager that knows some secrets."""

    meta = SimpleNamespace(endpoint_url="http://secrets.test")

    def __init__(self, **values: str) -> None:
        self.values = values

    def get_secret_value(self, SecretId: str) -> dict[str, str]:
        name = SecretId.removeprefix(ARN)
        if name not in self.values:
            error = {"Code": "ResourceNotFoundException", "Message": "s3cret"}
            raise ClientError({"Error": error}, "GetSecretValue")
        return {"SecretString": self.values[name]}


def test_secrets_and_groups_of_secrets_are_read() -> None:
    client = Client(mlflow=json.dumps({"admin_password": "a"}), shop=json.dumps({"key": "k"}))
    wanted = {"mlflow": ARN + "mlflow", "model_api_clients": {"shop": ARN + "shop"}}
    assert PLUGIN["read_all"](client, wanted) == {
        "mlflow": {"admin_password": "a"},
        "model_api_clients": {"shop": "k"},
    }


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "ResourceNotFoundException"),
        ("s3cret", "it does not hold a JSON object"),
        ('["s3cret"]', "it does not hold a JSON object"),
    ],
    ids=["missing", "no JSON", "no object"],
)
def test_a_secret_that_cannot_be_read_is_named_without_its_value(
    value: str | None, why: str
) -> None:
    client = Client(**({"mlflow": value} if value else {}))
    with pytest.raises(AnsibleActionFail) as failed:
        PLUGIN["read_all"](client, {"mlflow": ARN + "mlflow"})
    assert str(failed.value) == (
        f"Cannot read the secret mlflow ({ARN}mlflow) from http://secrets.test: {why}"
    )


def test_an_endpoint_that_is_away_is_named_by_the_playbook(tmp_path: Path) -> None:
    variables: dict[str, Any] = {
        "platform": {
            "secrets": {"mlflow": ARN + "mlflow"},
            "model_api_clients": {},
            "database": {"master_secret_arn": ARN + "database"},
        },
        "lastro_aws": {
            "region": "eu-west-1",
            "endpoint_url": "http://127.0.0.1:9",
            "access_key": "a",
            "secret_key": "s3cret",
        },
    }
    tasks = yaml.safe_load((PROJECT / "ansible/playbooks/tasks/secrets.yml").read_text())
    book = [{"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": tasks}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(book))
    status, output = play("localhost,", tmp_path / "play.yml")
    assert status != 0
    assert f"Cannot read the secret mlflow ({ARN}mlflow) from http://127.0.0.1:9:" in output
    assert "EndpointConnectionError" in output
    assert "censored" not in output and "s3cret" not in output
