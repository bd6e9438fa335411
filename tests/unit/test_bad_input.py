"""A role checks its input before it does anything; the message names the variable and the fix.

All cases run in one playbook on this machine, each role's own tasks; none gets to change anything.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from wiring import PROJECT, play

LONG = "x" * 40
DATABASE = {"host": "h", "port": 1, "name": "n", "user": "u", "password": "p"}
# Valid input of each role.
GOOD: dict[str, dict[str, Any]] = {
    "mlflow": {
        "mlflow_database": DATABASE,
        "mlflow_auth_database": DATABASE,
        "mlflow_artifacts_uri": "s3://bucket/prefix",
        "mlflow_admin_password": LONG,
        "mlflow_secret_key": LONG,
        "mlflow_webhook_key": "Zm9ydHktdHdvLWJ5dGVzLW9mLW5vLXNlY3JlY3khISE=",
    },
    "airflow": {
        "airflow_database": DATABASE,
        "airflow_dags_bucket": "bucket",
        "airflow_admin_password": LONG,
        "airflow_fernet_key": "Zm9ydHktdHdvLWJ5dGVzLW9mLW5vLXNlY3JlY3khISE=",
        "airflow_api_secret_key": LONG,
        "airflow_jwt_secret": LONG,
        "airflow_memory_mib": 2048,
    },
    "airflow_worker": {
        "airflow_worker_airflow_url": "http://airflow:8080",
        "airflow_jwt_secret": LONG,
        "airflow_dags_bucket": "bucket",
        "airflow_memory_mib": 1024,
    },
    "model_api": {
        "model_api_keys": [{"name": "default", "key": LONG}],
        "model_api_tracking_uri": "http://mlflow:5000",
        "model_api_tracking_username": "model_api",
        "model_api_tracking_password": LONG,
    },
    "dashboard": {
        "dashboard_tracking_uri": "http://mlflow:5000",
        "dashboard_model_api_url": "http://api:8000",
        "dashboard_model_api_key": LONG,
        "dashboard_cookie_secret": LONG,
    },
    "edge": {
        "edge_sites": [{"name": "lastro.test", "title": "It", "upstreams": ["10.0.0.1:80"]}],
        "edge_platform_environment": {"AWS_DEFAULT_REGION": "eu-west-1"},
    },
    "_python_release": {
        "_python_release_name": "mlflow",
        "_python_release_lock": f"{PROJECT}/locks/mlflow/3.17.2.txt",
    },
    "_service": {},
}


def site(**different: Any) -> dict[str, Any]:
    """A site of the edge with something changed."""
    return GOOD["edge"]["edge_sites"][0] | different


# Name -> role, its entry point, the wrong input, the message.
CASES: dict[str, tuple[str, str, dict[str, Any], list[str]]] = {
    "short password of MLflow": (
        "mlflow",
        "preflight",
        {"mlflow_admin_password": "short"},
        ["mlflow_admin_password has 5 characters", "at least 12"],
    ),
    "artifacts that are not in S3": (
        "mlflow",
        "preflight",
        {"mlflow_artifacts_uri": "/var/artifacts"},
        ["mlflow_artifacts_uri is /var/artifacts", "s3://bucket/prefix"],
    ),
    "permission that MLflow has not": (
        "mlflow",
        "preflight",
        {"mlflow_default_permission": "WRITE"},
        ["mlflow_default_permission is WRITE", "READ, USE, EDIT, MANAGE"],
    ),
    "short password of a user": (
        "mlflow",
        "preflight",
        {"mlflow_users": [{"name": "ana", "password": "short"}]},
        ["mlflow_users", "ana", "at least 12"],
    ),
    "key of the webhooks' secrets": (
        "mlflow",
        "preflight",
        {"mlflow_webhook_key": "c2hvcnQ="},
        ["mlflow_webhook_key is not 32 bytes in URL-safe base64"],
    ),
    "fernet key": (
        "airflow",
        "preflight",
        {"airflow_fernet_key": "c2hvcnQ="},
        ["airflow_fernet_key is not 32 bytes in URL-safe base64"],
    ),
    "too little memory": (
        "airflow",
        "preflight",
        {"airflow_memory_mib": 1024},
        ["has 1024 MiB of memory; Airflow needs 1900", "instance_type", "t3.small"],
    ),
    "no parallel tasks": (
        "airflow",
        "preflight",
        {"airflow_parallelism": 0},
        ["airflow_parallelism is 0", "set it to 1 or more"],
    ),
    "short key of the model API": (
        "model_api",
        "preflight",
        {"model_api_keys": [{"name": "default", "key": LONG}, {"name": "shop", "key": "short"}]},
        ["model_api_keys has a short key for shop", "32 or more"],
    ),
    "old name of the key of the model API": (
        "model_api",
        "preflight",
        {"model_api_key": LONG},
        ["model_api_key -> model_api_keys"],
    ),
    "a name that is no name of a file": (
        "model_api",
        "preflight",
        {"model_api_keys": [{"name": "..", "key": LONG}]},
        ["model_api_keys has the names ..", "not starting with a dot"],
    ),
    "rate of nobody": (
        "model_api",
        "preflight",
        {"model_api_rates": {"shop": {"requests_per_second": 5}}},
        ["model_api_rates has limits for shop", "model_api_keys has only default"],
    ),
    "rate of nothing": (
        "model_api",
        "preflight",
        {"model_api_rates": {"default": {"requests_per_second": 0}}},
        ["model_api_rates has no valid rate limit for default", "above 0"],
    ),
    "tracking URI that is no URL": (
        "model_api",
        "preflight",
        {"model_api_tracking_uri": "mlflow:5000"},
        ["model_api_tracking_uri is mlflow:5000", "http:// or https://"],
    ),
    "no rows": (
        "model_api",
        "preflight",
        {"model_api_max_rows": 0},
        ["model_api_max_rows is 0", "1 or more"],
    ),
    "model API that is no URL": (
        "dashboard",
        "preflight",
        {"dashboard_model_api_url": "api:8000"},
        ["dashboard_model_api_url is api:8000", "http:// or https://"],
    ),
    "short cookie secret": (
        "dashboard",
        "preflight",
        {"dashboard_cookie_secret": "short"},
        ["dashboard_cookie_secret has 5 characters", "32 or more"],
    ),
    "edge without a site": (
        "edge",
        "preflight",
        {"edge_sites": []},
        ["edge_sites is empty", "at least one site"],
    ),
    "site of no name": (
        "edge",
        "preflight",
        {"edge_sites": [site(name="https://lastro.test")]},
        ["edge_sites has the names https://lastro.test", "such as mlflow.example.com"],
    ),
    "site that is there twice": (
        "edge",
        "preflight",
        {"edge_sites": [site(), site(title="Other")]},
        ["edge_sites names a site twice (lastro.test, lastro.test)"],
    ),
    "site of nobody": (
        "edge",
        "preflight",
        {"edge_sites": [site(upstreams=[])]},
        ["edge_sites has a site without upstreams", "at least one host:port"],
    ),
    "upstream that is a URL": (
        "edge",
        "preflight",
        {"edge_sites": [site(upstreams=["http://10.0.0.1:80"])]},
        ["edge_sites has the upstreams http://10.0.0.1:80", "host:port"],
    ),
    "ACME server in the clear": (
        "edge",
        "preflight",
        {"edge_acme_directory": "http://acme.test/directory"},
        ["edge_acme_directory is http://acme.test/directory", "https://"],
    ),
    "authority that is no file": (
        "edge",
        "preflight",
        {"edge_acme_ca_file": "/nowhere.pem"},
        ["edge_acme_ca_file is /nowhere.pem", "does not exist on the controller"],
    ),
    "metric without a region": (
        "edge",
        "preflight",
        {"edge_platform_environment": {"AWS_REGION": "eu-west-1"}},
        ["edge_platform_environment lacks AWS_DEFAULT_REGION"],
    ),
    "certificates from nowhere": (
        "edge",
        "main",
        {"edge_certificates": "letsencrypt"},
        ["edge_certificates", "acme, internal", "letsencrypt"],
    ),
    "version without a lock": (
        "_python_release",
        "install",
        {"_python_release_lock": f"{PROJECT}/locks/mlflow/9.9.9.txt"},
        [
            "mlflow has no lock locks/mlflow/9.9.9.txt",
            "Choose a version that has one (",
            "3.17.2",
            "write locks/mlflow/9.9.9.in and run `make lock`",
        ],
    ),
    "call of the internal role of releases": (
        "_python_release",
        "main",
        {},
        ["_python_release has no main entry point", "tasks_from: install, run or switch"],
    ),
    "call of the internal role of services": (
        "_service",
        "main",
        {},
        ["_service has no main entry point", "tasks_from: user, check, configure or start"],
    ),
    "service that nothing shows to be ready": (
        "_service",
        "configure",
        {"_service_definition": {"name": "it", "units": []}},
        ["missing required arguments: ready found in _service_definition"],
    ),
    "worker on a host that is too small": (
        "airflow_worker",
        "preflight",
        {"airflow_memory_mib": 512},
        ["localhost has 512 MiB of memory; an Airflow worker needs 900", "t3.micro or larger"],
    ),
    "worker that takes no task": (
        "airflow_worker",
        "preflight",
        {"airflow_worker_concurrency": 0},
        ["airflow_worker_concurrency is 0; set it to 1 or more"],
    ),
    "worker that never waits": (
        "airflow_worker",
        "preflight",
        {"airflow_drain_seconds": 0},
        ["airflow_drain_seconds is 0; set it to 1 or more"],
    ),
    "worker of an Airflow that is nowhere": (
        "airflow_worker",
        "preflight",
        {"airflow_worker_airflow_url": "http://airflow:8080/"},
        ["airflow_worker_airflow_url is http://airflow:8080/", "without a trailing slash"],
    ),
    "worker whose name is no word": (
        "airflow_worker",
        "preflight",
        {"airflow_worker_name": "two words"},
        ["airflow_worker_name is 'two words'; use letters, digits"],
    ),
    "fewer than no workers": (
        "airflow",
        "preflight",
        {"airflow_remote_slots": -1},
        ["airflow_remote_slots is -1; set it to 0 or more"],
    ),
    "required variable missing": (
        "model_api",
        "main",
        {"model_api_keys": None},
        ["model_api_keys"],
    ),
}

# A task with a loop reports each item.
SAID = """{{
    ansible_failed_result.results | default([ansible_failed_result])
    | selectattr('failed', 'defined') | selectattr('failed') | map(attribute='msg') | join(' ')
}}"""


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The message that stopped each case; good input passes with "passed"."""
    folder = tmp_path_factory.mktemp("bad-input")
    # Only the first checks: with good input no other tasks of these roles run here.
    good = {
        f"good {role}": (role, "preflight", {}, []) for role in GOOD if not role.startswith("_")
    }
    cases = []
    for number, (role, entry, wrong, _) in enumerate((CASES | good).values()):
        given = {key: value for key, value in (GOOD[role] | wrong).items() if value is not None}
        answer = {"dest": str(folder / f"{number}.txt"), "mode": "0600"}
        include = {"name": role, "tasks_from": entry}
        cases.append(
            {
                "name": "Case",
                "block": [
                    {"name": "Include", "ansible.builtin.include_role": include, "vars": given},
                    {
                        "name": "Pass",
                        "ansible.builtin.copy": answer | {"content": "passed"},
                    },
                ],
                "rescue": [
                    {
                        "name": "Keep",
                        "ansible.builtin.copy": answer | {"content": SAID},
                    }
                ],
            }
        )
    playbook = [
        {
            "name": "Cases",
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {"lastro_project_dir": str(PROJECT), "lastro_state": str(folder)},
            "tasks": cases,
        }
    ]
    (folder / "playbook.yml").write_text(yaml.safe_dump(playbook, sort_keys=False))
    status, output = play("localhost,", folder / "playbook.yml", "--connection=local")
    assert status == 0, output
    return {
        name: " ".join((folder / f"{number}.txt").read_text().split())
        for number, name in enumerate(CASES | good)
    }


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_named_with_its_remedy(name: str, messages: dict[str, str]) -> None:
    for part in CASES[name][3]:
        assert part in messages[name]


@pytest.mark.parametrize("role", [role for role in GOOD if not role.startswith("_")])
def test_good_input_passes(role: str, messages: dict[str, str]) -> None:
    assert messages[f"good {role}"] == "passed"
