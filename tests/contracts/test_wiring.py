"""Every arrow from Terraform to a service: an output or a secret -> a setting of the service.

Each leaf of the contract is changed alone; exactly the places named here may change with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wiring import (
    CONTRACT,
    DOMAIN,
    DOMAIN_CONTRACT,
    EDGE_HOST,
    FURTHER_SERVICES,
    SCALED_HOSTS,
    SECRETS,
    SERVICES,
    WORKER_CONTRACT,
    Wiring,
    changed,
    contract,
    machine,
    write_inventory,
)

Path_ = tuple[str, ...]


def leaves(data: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The paths of all values that are no objects."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from leaves(value, (*path, key))
    else:
        yield path


# Places: "<service> <NAME>" is a line of its environment, "<service> unit <name>" a unit,
# "<service> <file>" a further file, "<role>.<variable>" one that its tasks read.
DATABASE_SERVER = {
    "mlflow MLFLOW_BACKEND_STORE_URI",
    "mlflow basic_auth.ini",
    "mlflow unit mlflow-migrate",
    "mlflow.database",
    "airflow AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "airflow.database",
    "databases.databases_server",
}
REGION = {
    f"{service} {name}" for service in SERVICES for name in ("AWS_REGION", "AWS_DEFAULT_REGION")
}
MLFLOW_URL = {
    "airflow MLFLOW_TRACKING_URI",
    "model_api MLFLOW_TRACKING_URI",
    "dashboard MLFLOW_TRACKING_URI",
    "dashboard MLFLOW_PUBLIC_URL",
}
MODEL_API_URL = {"dashboard MODEL_API_URL", "dashboard MODEL_API_HOSTS"}
AIRFLOW_URL = {"dashboard AIRFLOW_URL", "dashboard AIRFLOW_API_URL"}
MLFLOW_ADDRESS = {
    "mlflow MLFLOW_SERVER_ALLOWED_HOSTS",
    "mlflow MLFLOW_SERVER_CORS_ALLOWED_ORIGINS",
    "mlflow.ready_url",
}
AIRFLOW_ADDRESS = {
    "airflow AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
    "airflow.ready_url",
}

# Addresses that people type or click, and the hosts that a service accepts.
PUBLIC_NAMES = {
    "airflow AIRFLOW__API__BASE_URL",
    "airflow AIRFLOW__FAB__COOKIE_SECURE",
    "mlflow MLFLOW_SERVER_ALLOWED_HOSTS",
    "mlflow MLFLOW_SERVER_CORS_ALLOWED_ORIGINS",
    "dashboard AIRFLOW_URL",
    "dashboard MLFLOW_PUBLIC_URL",
    "dashboard MODEL_API_PUBLIC_URL",
}
# The settings that change with an edge in front of the services.
TRUSTED_PROXIES = {
    "airflow FORWARDED_ALLOW_IPS",
    "airflow unit airflow-api-server",
    "model_api FORWARDED_ALLOW_IPS",
}

ARROWS: dict[Path_, set[str]] = {
    ("database", "address"): DATABASE_SERVER,
    ("database", "port"): DATABASE_SERVER,
    ("buckets", "artifacts"): {
        "mlflow MLFLOW_ARTIFACTS_DESTINATION",
        "airflow LASTRO_BATCH_URL",
        "model_api MODEL_API_PREDICTION_LOG_URL",
        "dashboard DASHBOARD_PREDICTION_LOG_URL",
    },
    ("buckets", "dags"): {"airflow AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"},
    ("prefixes", "artifacts"): {"mlflow MLFLOW_ARTIFACTS_DESTINATION"},
    ("prefixes", "batch"): {"airflow LASTRO_BATCH_URL"},
    ("prefixes", "dags"): {"airflow AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"},
    ("prefixes", "predictions"): {
        "model_api MODEL_API_PREDICTION_LOG_URL",
        "dashboard DASHBOARD_PREDICTION_LOG_URL",
    },
    ("services", "mlflow", "port"): {"mlflow MLFLOW_PORT"} | MLFLOW_ADDRESS,
    ("services", "airflow", "port"): {"airflow AIRFLOW__API__PORT"} | AIRFLOW_ADDRESS,
    ("services", "model_api", "port"): {"model_api MODEL_API_PORT", "model_api.ready_url"},
    ("services", "dashboard", "port"): {"dashboard DASHBOARD_PORT", "dashboard.ready_url"},
    ("services", "mlflow", "endpoints"): MLFLOW_URL,
    ("services", "airflow", "endpoints"): AIRFLOW_URL,
    ("services", "model_api", "endpoints"): MODEL_API_URL,
    ("services", "mlflow", "public_url"): {
        "mlflow MLFLOW_SERVER_ALLOWED_HOSTS",
        "mlflow MLFLOW_SERVER_CORS_ALLOWED_ORIGINS",
        "dashboard MLFLOW_PUBLIC_URL",
    },
    ("services", "airflow", "public_url"): {
        "airflow AIRFLOW__API__BASE_URL",
        "airflow AIRFLOW__FAB__COOKIE_SECURE",
        "dashboard AIRFLOW_URL",
    },
    ("services", "model_api", "public_url"): {"dashboard MODEL_API_PUBLIC_URL"},
    ("services", "airflow", "memory", "mib"): {"airflow.airflow_minimum_memory_mib"},
    ("hosts", "mlflow", "private_ip"): {"mlflow MLFLOW_HOST"} | MLFLOW_ADDRESS,
    ("hosts", "airflow", "private_ip"): {"airflow AIRFLOW__API__HOST"} | AIRFLOW_ADDRESS,
    ("hosts", "serving", "private_ip"): {
        "model_api MODEL_API_HOST",
        "model_api.ready_url",
        "dashboard DASHBOARD_HOST",
        "dashboard.ready_url",
    },
    ("hosts", "airflow", "memory_mib"): {"airflow.airflow_memory_mib"},
}
# The values that no service gets: the playbooks, the edge or a reader need them.
NOT_WIRED = {
    ("project",),
    ("environment",),
    ("region",),
    ("account_id",),
    # The services' own names below it are in their public URLs.
    ("domain",),
    ("database", "engine_version"),
    ("database", "master_secret_arn"),
    ("access", "document"),
    ("metrics", "namespace"),
    *(("secrets", name) for name in CONTRACT["secrets"]),
    ("model_api_clients", "shop"),
    *(
        ("hosts", host, key)
        for host in CONTRACT["hosts"]
        for key in ("instance_id", "instance_type", "memory_mib", "name", "vcpus", "roles")
        if (host, key) != ("airflow", "memory_mib")
    ),
    *(path for path in leaves(CONTRACT) if path[0] == "services" and path not in ARROWS),
}

SECRET_ARROWS: dict[Path_, set[str]] = {
    ("database", "username"): {"databases.databases_server"},
    ("database", "password"): {"databases.databases_server"},
    ("mlflow", "database_password"): {
        "mlflow PGPASSWORD",
        "mlflow.database",
        "databases.databases_applications",
    },
    ("mlflow", "auth_database_password"): {
        "mlflow basic_auth.ini",
        "databases.databases_applications",
    },
    ("mlflow", "admin_password"): {
        "mlflow MLFLOW_AUTH_ADMIN_PASSWORD",
        "mlflow.ready_headers",
        "mlflow.mlflow_admin_password",
        "dashboard.ready_headers",
    },
    ("mlflow", "flask_secret_key"): {"mlflow MLFLOW_FLASK_SERVER_SECRET_KEY"},
    ("mlflow_webhooks", "fernet_key"): {"mlflow MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"},
    ("airflow", "database_password"): {
        "airflow AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "airflow.database",
        "databases.databases_applications",
    },
    ("airflow", "admin_password"): {"airflow.airflow_admin_password"},
    ("airflow", "fernet_key"): {"airflow AIRFLOW__CORE__FERNET_KEY"},
    ("airflow", "api_secret_key"): {"airflow AIRFLOW__API__SECRET_KEY"},
    ("airflow", "jwt_secret"): {"airflow AIRFLOW__API_AUTH__JWT_SECRET"},
    ("airflow", "mlflow_password"): {"airflow MLFLOW_TRACKING_PASSWORD", "mlflow.mlflow_users"},
    ("model_api", "bearer_key"): {"model_api.model_api_keys"},
    ("model_api", "mlflow_password"): {
        "model_api MLFLOW_TRACKING_PASSWORD",
        "mlflow.mlflow_users",
    },
    ("model_api_clients", "shop"): {"model_api.model_api_keys"},
    ("dashboard", "airflow_password"): {
        "dashboard AIRFLOW_API_PASSWORD",
        "airflow.airflow_users",
    },
    ("dashboard", "cookie_secret"): {"dashboard STREAMLIT_SERVER_COOKIE_SECRET"},
    ("dashboard", "model_api_key"): {"dashboard MODEL_API_KEY", "model_api.model_api_keys"},
}

# The values that a worker gets, if there is one, in addition to every platform's services.
WORKER_ARROWS: dict[Path_, set[str]] = {
    ("buckets", "artifacts"): {"airflow_worker LASTRO_BATCH_URL"},
    ("buckets", "dags"): {"airflow_worker AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"},
    ("prefixes", "batch"): {"airflow_worker LASTRO_BATCH_URL"},
    ("prefixes", "dags"): {"airflow_worker AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"},
    ("services", "mlflow", "endpoints"): {"airflow_worker MLFLOW_TRACKING_URI"},
    ("services", "airflow", "endpoints"): {
        "airflow_worker AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
        "airflow_worker AIRFLOW__EDGE__API_URL",
    },
    ("services", "airflow_worker", "memory", "mib"): {
        "airflow_worker.airflow_worker_minimum_memory_mib"
    },
    # The first worker's own; and the scheduler takes on what all of them do.
    ("hosts", "mlflow", "memory_mib"): {
        "airflow_worker unit airflow-worker",
        "airflow_worker.airflow_memory_mib",
        "airflow AIRFLOW__CORE__PARALLELISM",
    },
    ("hosts", "trainer", "memory_mib"): {"airflow AIRFLOW__CORE__PARALLELISM"},
}
WORKER_SECRET_ARROWS: dict[Path_, set[str]] = {
    ("airflow", "jwt_secret"): {"airflow_worker AIRFLOW__API_AUTH__JWT_SECRET"},
    ("airflow", "mlflow_password"): {"airflow_worker MLFLOW_TRACKING_PASSWORD"},
}
# The settings of Airflow that depend on workers.
WITH_WORKERS = {
    "airflow AIRFLOW__CORE__EXECUTOR",
    "airflow AIRFLOW__CORE__PARALLELISM",
    "airflow AIRFLOW__EDGE__API_ENABLED",
    "airflow AIRFLOW__EDGE__HEARTBEAT_INTERVAL",
}

# The variables that tasks read in addition to the service's own.
VARIABLES = {
    "databases": ("databases_server", "databases_applications"),
    "mlflow": ("mlflow_admin_password", "mlflow_users"),
    "airflow": (
        "airflow_admin_password",
        "airflow_users",
        "airflow_memory_mib",
        "airflow_minimum_memory_mib",
    ),
    "airflow_worker": ("airflow_memory_mib", "airflow_worker_minimum_memory_mib"),
    "model_api": ("model_api_keys",),
}


def places(wiring: Wiring) -> dict[str, Any]:
    """Everything that the roles would write or use, by its place."""
    found: dict[str, Any] = {}
    services = [name for name in SERVICES + FURTHER_SERVICES if wiring.groups[name]]
    for name in services:
        service = wiring.service(name)
        found |= {f"{name} {key}": value for key, value in service.environment.items()}
        found |= {f"{name} {Path(path).name}": content for path, content in service.files.items()}
        found |= {f"{name} unit {unit}": text for unit, text in service.units.items()}
        found[f"{name}.ready_url"] = service.ready_url
        found[f"{name}.ready_file"] = service.ready_file
        found[f"{name}.ready_headers"] = service.ready_headers
        found[f"{name}.database"] = service.database
    for role, variables in VARIABLES.items():
        if role not in (*services, "databases"):
            continue
        host = wiring.groups["mlflow" if role == "databases" else role][0]
        found |= {f"{role}.{name}": wiring.value(host, role, name) for name in variables}
    return found


@pytest.fixture(scope="module")
def before(wiring: Wiring) -> dict[str, Any]:
    """All places, before anything is changed."""
    return places(wiring)


def difference(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """The places that differ."""
    return {
        place for place in before.keys() | after.keys() if before.get(place) != after.get(place)
    }


def another(value: Any) -> Any:
    """Another value of the same kind."""
    if value is None:
        return "https://changed.example.com"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1000
    if isinstance(value, list):
        return [another(item) for item in value]
    if value.startswith(("http://", "https://")):
        return f"{value}9"
    return f"{value}changed" if not value[:1].isdigit() else "10.42.9.9"


def value_at(data: Any, path: Path_) -> Any:
    for key in path:
        data = data[key]
    return data


@pytest.mark.parametrize("path", ARROWS, ids=".".join)
def test_an_output_reaches_what_needs_it_and_nothing_else(
    path: Path_, before: dict[str, Any], tmp_path: Path
) -> None:
    other = changed(CONTRACT, path, another(value_at(CONTRACT, path)))
    assert difference(before, places(Wiring(write_inventory(tmp_path, other)))) == ARROWS[path]


@pytest.mark.parametrize("path", SECRET_ARROWS, ids=".".join)
def test_a_secret_reaches_what_needs_it_and_nothing_else(
    path: Path_, before: dict[str, Any], tmp_path: Path
) -> None:
    secrets = changed(SECRETS, path, another(value_at(SECRETS, path)))
    after = places(Wiring(write_inventory(tmp_path, CONTRACT), secrets))
    assert difference(before, after) == SECRET_ARROWS[path]


def test_nothing_else_of_the_contract_reaches_a_service(
    before: dict[str, Any], tmp_path: Path
) -> None:
    # One at a time only where that is quick enough: the many leaves of a service at once.
    groups: dict[Path_, list[Path_]] = {}
    for path in sorted(NOT_WIRED - {("environment",), ("project",)}):
        # A host without its name or roles is another platform.
        if path[-1] not in ("name", "roles", "hosts", "position"):
            groups.setdefault(path[:2], []).append(path)
    for number, paths in enumerate(groups.values()):
        other = CONTRACT
        for path in paths:
            other = changed(other, path, another(value_at(CONTRACT, path)))
        inventory = write_inventory(tmp_path / str(number), other)
        assert difference(before, places(Wiring(inventory))) == set(), paths


def test_every_output_and_every_secret_is_accounted_for() -> None:
    assert set(leaves(CONTRACT)) == ARROWS.keys() | NOT_WIRED
    assert set(leaves(SECRETS)) == SECRET_ARROWS.keys()


def test_the_region_of_the_environment_reaches_whoever_calls_aws(
    before: dict[str, Any], tmp_path: Path
) -> None:
    wiring = Wiring(write_inventory(tmp_path, CONTRACT), lastro_region="us-east-2")
    assert difference(before, places(wiring)) == REGION


def test_each_client_of_the_model_api_has_its_own_key(wiring: Wiring) -> None:
    host = wiring.groups["model_api"][0]
    templar = wiring.templar(
        host, "model_api", model_api_rates={"shop": {"requests_per_second": 5, "burst": 9}}
    )
    assert json.loads(wiring.render(templar, "keys.json.j2", "model_api")) == [
        {"name": "default", "key": SECRETS["model_api"]["bearer_key"]},
        {"name": "dashboard", "key": SECRETS["dashboard"]["model_api_key"]},
        {
            "name": "shop",
            "key": SECRETS["model_api_clients"]["shop"],
            "requests_per_second": 5,
            "burst": 9,
        },
    ]


def test_on_aws_no_endpoint_and_no_credentials_are_set(tmp_path: Path) -> None:
    wiring = Wiring(write_inventory(tmp_path, CONTRACT, "prod"))
    for name in SERVICES:
        aws = {key for key in wiring.service(name).environment if key.startswith("AWS_")}
        assert aws <= {"AWS_REGION", "AWS_DEFAULT_REGION"}, name


def test_on_aws_hosts_are_reached_by_ssh_and_the_controller_is_not(tmp_path: Path) -> None:
    wiring = Wiring(write_inventory(tmp_path, CONTRACT, "prod"))
    (host,) = wiring.groups["mlflow"]
    reached = {name: wiring.value(host, "base", f"ansible_{name}") for name in ("host", "user")}
    assert reached == {"host": "i-mlflow", "user": "admin"}
    assert wiring.value(host, "base", "ansible_connection") == "ssh"
    # Debian's user is not root.
    assert wiring.value(host, "base", "ansible_become") is True
    arguments = wiring.value(host, "base", "ansible_ssh_common_args")
    assert arguments == f"-F {wiring.value(host, 'base', 'lastro_state')}/ssh_config"
    assert wiring.value("localhost", "base", "ansible_connection") == "local"
    assert wiring.value("localhost", "base", "ansible_become") is False
    assert wiring.value("localhost", "base", "ansible_host") == "localhost"


def test_on_one_machine_the_endpoint_stands_in_for_aws(wiring: Wiring) -> None:
    for name in SERVICES:
        environment = wiring.service(name).environment
        assert environment["AWS_ENDPOINT_URL"] == "http://10.42.255.4:4566"
        assert environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] == "http://10.42.255.4:4566"
        # With it, Terraform's S3 backend puts the bucket into the host name.
        assert "AWS_ENDPOINT_URL_S3" not in environment
        assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} & environment.keys()


def test_on_a_platform_that_has_grown_each_host_listens_at_its_own_address(tmp_path: Path) -> None:
    wiring = Wiring(write_inventory(tmp_path, contract(SCALED_HOSTS)))
    assert len(wiring.groups["model_api"]) == 2
    for host in wiring.groups["model_api"]:
        address = SCALED_HOSTS[host.removeprefix("lastro-local-")]["private_ip"]
        service = wiring.service("model_api", host)
        assert service.environment["MODEL_API_HOST"] == address
        assert service.ready_url == f"http://{address}:8000/health/ready"
        assert service.environment["MLFLOW_TRACKING_URI"] == "http://10.42.1.11:5000"
    dashboard = wiring.service("dashboard").environment
    assert dashboard["MODEL_API_URL"] == "http://10.42.1.13:8000"
    assert dashboard["AIRFLOW_API_URL"] == "http://10.42.1.12:8080"
    assert dashboard["AIRFLOW_URL"] == "http://10.42.1.12:8080"


@pytest.fixture(scope="module")
def with_workers(workers: Wiring) -> dict[str, Any]:
    """All places of that platform, before anything is changed."""
    return places(workers)


def test_workers_change_what_they_must_and_nothing_else(
    before: dict[str, Any], with_workers: dict[str, Any]
) -> None:
    changed_places = difference(before, with_workers)
    assert {p for p in changed_places if not p.startswith("airflow_worker")} == WITH_WORKERS


# Those that make another platform, or name the hosts, are left out.
WORKER_LEAVES = [
    path
    for path in leaves(WORKER_CONTRACT)
    if path[-1] not in {"environment", "project", "roles", "name", "hosts"}
    and (path[0] != "services" or path[-1] in {"port", "endpoints", "mib", "public_url"})
    and path != ("services", "airflow_worker", "port")
]


@pytest.mark.parametrize("path", WORKER_LEAVES, ids=".".join)
def test_an_output_reaches_a_worker_that_needs_it_and_no_other(
    path: Path_, with_workers: dict[str, Any], tmp_path: Path
) -> None:
    value = value_at(WORKER_CONTRACT, path)
    # Less than a GiB more would be the same to a worker.
    other = 2 * value if path[-1] == "memory_mib" else another(value)
    inventory = write_inventory(tmp_path, changed(WORKER_CONTRACT, path, other))
    found = difference(with_workers, places(Wiring(inventory)))
    # The values of the other services are in their own table.
    wanted = WORKER_ARROWS.get(path, set())
    assert {p for p in found if p.startswith("airflow_worker") or p in WITH_WORKERS} == wanted


@pytest.mark.parametrize("path", SECRET_ARROWS, ids=".".join)
def test_a_secret_reaches_a_worker_that_needs_it_and_no_other(
    path: Path_, with_workers: dict[str, Any], tmp_path: Path
) -> None:
    secrets = changed(SECRETS, path, another(value_at(SECRETS, path)))
    after = places(Wiring(write_inventory(tmp_path, WORKER_CONTRACT), secrets))
    found = {p for p in difference(with_workers, after) if p.startswith("airflow_worker")}
    assert found == WORKER_SECRET_ARROWS.get(path, set())


def test_each_worker_has_its_own_name_and_size_and_no_way_to_the_database(workers: Wiring) -> None:
    concurrency = {"lastro-local-mlflow": 2, "lastro-local-trainer": 8}
    assert set(workers.groups["airflow_worker"]) == concurrency.keys()
    for host, tasks in concurrency.items():
        service = workers.service("airflow_worker", host)
        unit = service.units["airflow-worker"]
        assert f" --edge-hostname {host} --concurrency {tasks} " in unit
        assert "\nKillSignal=SIGINT\n" in unit and "\nKillMode=mixed\n" in unit
        assert service.database is None
        for word in ("SQL_ALCHEMY_CONN", "FERNET_KEY", "SECRET_KEY", "PGSSLMODE"):
            assert word not in service.environment_file, word
    airflow = workers.service("airflow").environment
    assert airflow["AIRFLOW__CORE__PARALLELISM"] == 10


def test_a_task_finds_on_a_worker_what_it_finds_on_the_host_of_airflow(tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, WORKER_CONTRACT)
    settings = {
        "airflow_version": "9.9.9",
        "airflow_dags_prefix": "other",
        "airflow_drain_seconds": 60,
        "airflow_settings": {"AIRFLOW__WORKERS__SECRETS_BACKEND": "a.backend"},
        "airflow_extra_environment": {"COLOUR": "blue", "AWS_REGION": "us-east-2"},
    }
    (inventory / "group_vars/all/settings.yml").write_text(json.dumps(settings))
    wiring = Wiring(inventory)
    worker, airflow = wiring.service("airflow_worker"), wiring.service("airflow")
    # The settings that must differ between the two.
    own = {
        "AIRFLOW_HOME",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER",
    }
    # Each its own Python first, else the same.
    first, _, others = worker.environment.pop("PATH").partition(":")
    assert first == "/opt/lastro/airflow_worker/current/venv/bin"
    assert airflow.environment.pop("PATH") == f"/opt/lastro/airflow/current/venv/bin:{others}"
    for name in worker.environment.keys() & airflow.environment.keys() - own:
        assert worker.environment[name] == airflow.environment[name], name
    assert worker.environment["COLOUR"] == "blue"
    lacking = airflow.environment.keys() - worker.environment.keys()
    assert all(name.startswith(("AIRFLOW__", "PGSSL", "FORWARDED_")) for name in lacking), lacking
    assert "TimeoutStopSec=120\n" in worker.units["airflow-worker"]
    host = wiring.groups["airflow_worker"][0]
    lock = wiring.value(host, "airflow", "airflow_lock")
    assert lock.endswith("/locks/airflow/9.9.9.txt")


def test_the_same_host_runs_airflow_and_a_worker(tmp_path: Path) -> None:
    roles = ["airflow", "airflow_worker"]
    hosts = WORKER_CONTRACT["hosts"]
    hosts = hosts | {"airflow": hosts["airflow"] | {"roles": roles}}
    wiring = Wiring(write_inventory(tmp_path, contract(hosts)))
    worker = wiring.service("airflow_worker", "lastro-local-airflow")
    assert worker.environment["AIRFLOW__EDGE__API_URL"].startswith("http://10.42.0.12:8080/")
    assert wiring.service("airflow").environment["AIRFLOW__CORE__PARALLELISM"] == 12


def test_all_services_run_on_one_host(tmp_path: Path) -> None:
    every = machine("10.42.0.11", *SERVICES, memory_mib=8192)
    wiring = Wiring(write_inventory(tmp_path, contract({"all": every})))
    urls = {wiring.service(name).ready_url.split("/")[2] for name in SERVICES}
    assert urls == {f"10.42.0.11:{service['port']}" for service in CONTRACT["services"].values()}


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Wiring:
    """The roles' variables for a platform with a domain."""
    return Wiring(write_inventory(tmp_path_factory.mktemp("domain"), DOMAIN_CONTRACT))


def test_a_domain_changes_what_it_must_and_nothing_else(
    before: dict[str, Any], domain: Wiring
) -> None:
    assert difference(before, places(domain)) == PUBLIC_NAMES | TRUSTED_PROXIES


def test_without_a_domain_no_service_knows_of_a_proxy(wiring: Wiring) -> None:
    # Otherwise all of them would restart when the first one is added.
    mine = PUBLIC_NAMES - {"airflow AIRFLOW__API__BASE_URL", "dashboard AIRFLOW_URL"}
    mine -= {"dashboard MLFLOW_PUBLIC_URL"}
    mine -= {"mlflow MLFLOW_SERVER_ALLOWED_HOSTS", "mlflow MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"}
    for place in mine | TRUSTED_PROXIES - {"airflow unit airflow-api-server"}:
        service, name = place.split()
        assert f"\n{name}=" not in wiring.service(service).environment_file, place
    airflow = wiring.service("airflow")
    assert airflow.environment["AIRFLOW__API__BASE_URL"] == "/"
    assert airflow.units["airflow-api-server"].count("airflow api-server\n") == 1
    mlflow = wiring.service("mlflow").environment
    assert mlflow["MLFLOW_SERVER_ALLOWED_HOSTS"] == "localhost:*,127.0.0.1:*,10.42.0.11:5000"
    assert mlflow["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == "http://10.42.0.11:5000"


def test_with_a_domain_each_service_knows_its_name_and_trusts_the_edge(domain: Wiring) -> None:
    airflow = domain.service("airflow")
    assert airflow.environment["AIRFLOW__API__BASE_URL"] == "https://airflow.lastro.example.com"
    assert airflow.environment["AIRFLOW__FAB__COOKIE_SECURE"] == "True"
    assert airflow.environment["FORWARDED_ALLOW_IPS"] == "10.42.0.13"
    assert "/airflow api-server --proxy-headers\n" in airflow.units["airflow-api-server"]
    # Tasks ask it inside the network.
    assert airflow.environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == (
        "http://10.42.0.12:8080/execution/"
    )
    mlflow = domain.service("mlflow").environment
    assert mlflow["MLFLOW_SERVER_ALLOWED_HOSTS"].endswith(",mlflow.lastro.example.com")
    assert mlflow["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == (
        "http://10.42.0.11:5000,https://mlflow.lastro.example.com"
    )
    dashboard = domain.service("dashboard").environment
    assert dashboard["AIRFLOW_URL"] == "https://airflow.lastro.example.com"
    assert dashboard["MLFLOW_PUBLIC_URL"] == "https://mlflow.lastro.example.com"
    assert dashboard["MLFLOW_TRACKING_URI"] == "http://10.42.0.11:5000"
    assert domain.service("model_api").environment["FORWARDED_ALLOW_IPS"] == "10.42.0.13"


def sites(wiring: Wiring) -> dict[str, list[str]]:
    """Name -> upstreams, as the first edge host has them."""
    found = wiring.value(wiring.groups["edge"][0], "edge", "edge_sites")
    return {site["name"]: site["upstreams"] for site in found}


def test_the_edge_leads_each_name_to_its_service(domain: Wiring) -> None:
    assert sites(domain) == {
        "lastro.example.com": ["10.42.0.13:8501"],
        "mlflow.lastro.example.com": ["10.42.0.11:5000"],
        "airflow.lastro.example.com": ["10.42.0.12:8080"],
        "api.lastro.example.com": ["10.42.0.13:8000"],
    }


def test_the_edge_leads_to_all_hosts_of_the_model_api(tmp_path: Path) -> None:
    wiring = Wiring(write_inventory(tmp_path, contract(SCALED_HOSTS | EDGE_HOST, DOMAIN)))
    assert sites(wiring)["api.lastro.example.com"] == ["10.42.1.13:8000", "10.42.1.14:8000"]
    for host in wiring.groups["model_api"]:
        service = wiring.service("model_api", host)
        assert service.environment["FORWARDED_ALLOW_IPS"] == "10.42.1.19"


def test_certificates_are_public_except_on_one_machine(tmp_path: Path) -> None:
    for environment, source in (("local", "internal"), ("dev", "acme")):
        inventory = write_inventory(tmp_path / source, DOMAIN_CONTRACT, environment)
        wiring = Wiring(inventory)
        assert wiring.value(wiring.groups["edge"][0], "edge", "edge_certificates") == source


def test_the_metric_names_its_environment(domain: Wiring) -> None:
    host = domain.groups["edge"][0]
    assert domain.value(host, "edge", "edge_metrics_dimensions") == {"Environment": "local"}
    assert domain.value(host, "edge", "edge_metrics_namespace") == "Lastro"
    environment = domain.value(host, "edge", "edge_platform_environment")
    assert environment["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert environment["AWS_ENDPOINT_URL"] == "http://10.42.255.4:4566"
