"""The files of a service: systemd reads the values that the role was given."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from ansible.template import trust_as_template
from wiring import DOMAIN_CONTRACT, FURTHER_SERVICES, SERVICES, Wiring, write_inventory

AWKWARD = {
    "PLAIN": "value",
    "SPACES": "  two words ",
    "QUOTES": """it's "quoted" """,
    "BACKSLASHES": r"C:\new\table\\server\"",
    "DOLLARS": "$HOME ${PATH} $$ `id` $(id)",
    "PERCENT": "100%h %%",
    "HASH": "a # b ; c",
    "JSON": json.dumps([{"name": 'a "b"', "kwargs": {"none": None, "path": "\\x"}}]),
    "LINES": "one\ntwo\\\n three",
    "UNICODE": "São Tomé",
    "EMPTY": "",
    "NUMBER": 8,
}


def read_environment(text: str) -> dict[str, str]:
    """Read an EnvironmentFile as systemd does (`parse_env_file_internal`), for our files.

    Within double quotes a backslash takes its special meaning from `"`, `\\`, `` ` `` and `$`, and
    joins lines; before anything else it is itself. Nothing is expanded.
    """
    values = {}
    position = 0
    while position < len(text):
        end = text.find("\n", position)
        line = text[position : end if end >= 0 else len(text)]
        if not line.strip() or line.startswith(("#", ";")):
            position += len(line) + 1
            continue
        name, _, rest = line.partition("=")
        position += len(name) + 1
        assert rest.startswith('"'), f"{name} is not quoted"
        position += 1
        value = ""
        while text[position] != '"':
            character = text[position]
            if character == "\\":
                position += 1
                character = text[position]
                if character == "\n":
                    character = ""
                elif character not in '"\\`$':
                    character = "\\" + character
            value += character
            position += 1
        assert text[position + 1] == "\n", f"something follows the value of {name}"
        position += 2
        values[name] = value
    return values


def environment_file(wiring: Wiring, values: dict[str, Any]) -> str:
    """The environment file of a service with these values."""
    templar = wiring.templar(
        wiring.groups["mlflow"][0], "_service", _service_definition={"environment": values}
    )
    return wiring.render(templar, "environment.j2")


def unit(wiring: Wiring, service: str = "mlflow", **entry: Any) -> configparser.ConfigParser:
    """The unit file of one entry of a definition's `units`."""
    templar = wiring.templar(
        wiring.groups[service][0],
        "_service",
        _service_definition={"name": service},
        _service_programs=f"/opt/lastro/{service}/current/venv/bin",
        _service_next_programs=f"/opt/lastro/{service}/releases/0123456789ab/venv/bin",
    )
    text = wiring.unit(templar, {"name": "it", "description": "It", "exec": "it --flag"} | entry)
    # Repeated keys would hide each other here; the last one counts for systemd as well.
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read_string(text)
    return parser


@pytest.mark.parametrize("name", AWKWARD)
def test_a_value_reaches_the_process_as_it_is(wiring: Wiring, name: str) -> None:
    # Between others, which a mistake in the quoting would swallow.
    values = {"A_FIRST": "first", name: AWKWARD[name], "Z_LAST": "last"}
    read = read_environment(environment_file(wiring, values))
    assert read == {key: str(value) for key, value in values.items()}


def test_an_unset_value_is_left_out(wiring: Wiring) -> None:
    read = read_environment(environment_file(wiring, {"SET": "x", "UNSET": None}))
    assert read == {"SET": "x"}


@pytest.mark.parametrize("service", SERVICES + FURTHER_SERVICES)
def test_the_services_own_environment_survives(workers: Wiring, service: str) -> None:
    rendered = workers.service(service)
    read = read_environment(rendered.environment_file)
    given = {key: value for key, value in rendered.environment.items() if value is not None}
    assert read == {key: str(value) for key, value in given.items()}


@pytest.mark.parametrize("service", ["airflow", "airflow_worker"])
def test_airflow_reads_its_bundles_as_json(workers: Wiring, service: str) -> None:
    read = read_environment(workers.service(service).environment_file)
    (bundle,) = json.loads(read["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert bundle["kwargs"]["bucket_name"] == "dags-bucket"
    assert bundle["kwargs"]["aws_conn_id"] is None
    assert bundle["kwargs"]["refresh_interval"] == 5


def test_a_password_of_any_characters_survives_the_auth_file(wiring: Wiring) -> None:
    password = "p@ss:w/rd%20 #;'\"é"
    database = {"host": "h", "port": 1, "name": "n", "user": "u", "password": password}
    templar = wiring.templar(wiring.groups["mlflow"][0], "mlflow", mlflow_auth_database=database)
    text = templar.template(trust_as_template("{{ __mlflow_auth_ini }}"))
    # As MLflow reads it (mlflow.server.auth.config): interpolation and all.
    parser = configparser.ConfigParser()
    parser.read_string(text)
    url = SQLALCHEMY_URL.fullmatch(parser["mlflow"]["database_uri"])
    assert unquote(url["password"]) == password
    assert (url["user"], url["host"], url["name"]) == ("u", "h:1", "n")


# How SQLAlchemy takes a URL apart (sqlalchemy.engine.url): a password ends at the first @.
SQLALCHEMY_URL = re.compile(
    r"postgresql\+psycopg2://(?P<user>[^:/]*):(?P<password>[^@]*)@(?P<host>[^/]*)/(?P<name>.*)"
)

HARDENED = {
    "UMask": "0027",
    "NoNewPrivileges": "true",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "true",
    "PrivateTmp": "true",
    "PrivateDevices": "true",
    "ProtectClock": "true",
    "ProtectHostname": "true",
    "ProtectKernelLogs": "true",
    "ProtectKernelModules": "true",
    "ProtectKernelTunables": "true",
    "ProtectControlGroups": "true",
    "RestrictNamespaces": "true",
    "RestrictRealtime": "true",
    "RestrictSUIDSGID": "true",
    "LockPersonality": "true",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
}
# These units start sandboxes. bubblewrap needs what the sandboxes then refuse: namespaces, mounts
# in them and a loopback interface. The units' own code runs nothing that came with a model.
STARTS_SANDBOXES = {"model-api-follower", "model-api-runners"}
OF_SANDBOXES = {
    "RestrictNamespaces": None,
    "RestrictSUIDSGID": None,
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "SystemCallFilter": "@system-service @mount",
}


@pytest.mark.parametrize("service", SERVICES + FURTHER_SERVICES)
def test_every_unit_is_hardened_and_no_roles_options_weaken_it(
    workers: Wiring, service: str
) -> None:
    for name, text in workers.service(service).units.items():
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.optionxform = str
        parser.read_string(text)
        found = dict(parser["Service"])
        expected = HARDENED | (OF_SANDBOXES if name in STARTS_SANDBOXES else {})
        assert {key: found.get(key) for key in HARDENED} == expected, name
        assert found["User"] == found["Group"] == service
        # The absolute program of the environment: no shell, nothing to activate, no secret.
        assert found["ExecStart"].startswith("/opt/lastro/"), name
        assert "password" not in text, name


@pytest.mark.parametrize("name", ["edge", "edge-metrics"])
def test_the_units_of_the_edge_are_hardened(name: str, tmp_path: Path) -> None:
    wiring = Wiring(write_inventory(tmp_path, DOMAIN_CONTRACT))
    # A key that is there twice would be an error: systemd adds up the lines of some keys.
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(wiring.service("edge").units[name])
    found = dict(parser["Service"])
    # To listen on 80 and 443 is all that root could do more.
    allowed = {"edge": {"CapabilityBoundingSet": "CAP_NET_BIND_SERVICE"}}.get(name, {})
    assert {key: found.get(key) for key in HARDENED} == HARDENED | allowed


def test_a_service_restarts_forever_with_growing_pauses(wiring: Wiring) -> None:
    parser = unit(wiring)
    service = parser["Service"]
    assert service["Type"] == "exec"
    assert service["Restart"] == "always"
    assert int(service["RestartSec"]) < int(service["RestartMaxDelaySec"])
    assert int(service["RestartSteps"]) > 0
    # Without it systemd gives up after five starts in ten seconds.
    assert parser["Unit"]["StartLimitIntervalSec"] == "0"
    assert parser["Install"]["WantedBy"] == "multi-user.target"
    assert service["ExecStart"] == "/opt/lastro/mlflow/current/venv/bin/it --flag"


def test_a_process_out_of_memory_ends_alone(wiring: Wiring) -> None:
    """A task of Airflow's scheduler, a worker of MLflow, a file that the DAG processor reads."""
    assert unit(wiring)["Service"]["OOMPolicy"] == "continue"


def test_a_migration_runs_once_from_its_own_release(wiring: Wiring) -> None:
    parser = unit(wiring, oneshot=True)
    service = parser["Service"]
    assert service["Type"] == "oneshot"
    assert not {"Restart", "RestartSec", "RestartSteps", "RestartMaxDelaySec"} & set(service)
    # Nothing starts it at boot.
    assert "Install" not in parser
    # `current` is still the old release when the database is brought to the new one's schema.
    release = "/opt/lastro/mlflow/releases/0123456789ab"
    assert service["ExecStart"] == f"{release}/venv/bin/it --flag"


def test_the_options_of_a_unit_win(wiring: Wiring) -> None:
    options = {
        "TimeoutStopSec": 900,
        "MemoryMax": "80%",
        "ProtectHome": "read-only",
        "Restart": None,
    }
    service = unit(wiring, options=options)["Service"]
    assert service["TimeoutStopSec"] == "900"
    assert service["MemoryMax"] == "80%"
    assert service["ProtectHome"] == "read-only"
    assert "Restart" not in service
