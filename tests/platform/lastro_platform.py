"""Talks to an environment of the platform the way its users do: make, Ansible, HTTP, SQL, S3."""

from __future__ import annotations

import atexit
import base64
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.config
import psycopg2
import requests
import testinfra
import urllib3
import yaml

PROJECT = Path(__file__).resolve().parents[2]
PINNED = {
    service: yaml.safe_load((PROJECT / f"ansible/roles/{service}/defaults/main.yml").read_text())[
        f"{service}_version"
    ]
    for service in ("mlflow", "airflow")
}
# Ports of this machine that lead to a host in AWS: (service, address, port) -> port.
TUNNELS: dict[tuple[str, str, int], int] = {}
# For one answer of a service or the database, and for a connection to a host.
ANSWER_SECONDS = 60
CONNECT_SECONDS = 120
# The output of each command of a test.
LOGS = PROJECT / ".lastro" / "tests" / "logs"
RUNS = itertools.count(1)


def listeners() -> set[str]:
    """Addresses on which this machine listens for others than itself and its own containers."""
    lines = subprocess.run(
        ["ss", "-Htln"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    networks = subprocess.run(
        ["podman", "network", "inspect", *_podman("network", "ls", "--quiet")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    bridges = [subnet["gateway"] for each in json.loads(networks) for subnet in each["subnets"]]
    own = ("127.", "[::1]", *(f"{bridge}:" for bridge in bridges))
    return {line.split()[3] for line in lines if not line.split()[3].startswith(own)}


def _podman(*arguments: str) -> list[str]:
    """The lines that a command of podman prints."""
    result = subprocess.run(["podman", *arguments], check=True, capture_output=True, text=True)
    return result.stdout.splitlines()


@cache
def ssh_sockets() -> Path:
    """Where this process keeps its connections by SSH; a socket's path may not be long."""
    folder = Path(tempfile.mkdtemp(prefix="lastro-ssh-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@dataclass(frozen=True)
class FirstUp:
    """The output of the first `make up`, and the ports that this machine listened on before it."""

    output: str
    listeners: set[str]


def wait_for[T](what: str, ask: Callable[[], T | None], seconds: float = 300) -> T:
    """Ask until there is an answer, and return it.

    The limit only ends what hangs: it is generous, for a slow machine that has other work to do.

    Raises:
        AssertionError: there was none in time.
    """
    return wait_until(what, ask, bool, seconds)


def wait_until[T](
    what: str, ask: Callable[[], T], right: Callable[[T], bool], seconds: float = 120
) -> T:
    """Ask until the answer is right, and return it.

    Raises:
        AssertionError: it never was; the message has the last answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if right(answer):
            return answer
        assert time.monotonic() < deadline, (
            f"after {seconds:.0f} s still waiting for {what}; the last answer: {answer!r:.2000}"
        )
        time.sleep(0.5)


def cause(output: str) -> list[str]:
    """The few lines of a command's output that say why it failed."""
    lines = [line for line in output.splitlines() if line.strip()]
    for position, line in enumerate(lines):
        # As the callback plugin prints a failed task, Terraform an error, and make the end.
        if re.match(r"(FAILED|UNREACHABLE)\s|.*Error: ", line):
            return lines[position : position + 6]
    return lines[-6:]


@dataclass(frozen=True)
class Platform:
    """One environment.

    Attributes:
        environment: its name, as in inventory/<environment>.
        checkout: where it was made from.
    """

    environment: str
    checkout: Path = PROJECT

    # ---- commands ------------------------------------------------------------------------------
    def run(self, *argv: str, check: bool = True, timeout: float = 1800) -> str:
        """Run a command in the checkout and return its output.

        Its headings are shown as they come, also while pytest captures the rest.
        """
        process = subprocess.Popen(
            argv,
            cwd=self.checkout,
            # `make verify` runs tests as well, which do not belong to this run.
            env={name: text for name, text in os.environ.items() if name != "LASTRO_TIMELINE"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        lines = []
        watchdog = threading.Timer(timeout, process.kill)
        watchdog.start()
        log = LOGS / f"{self.environment}-{next(RUNS):03d}-{Path(argv[0]).name}-{argv[-1]}.log"
        log = log.with_name(re.sub(r"[^\w.=-]", "_", log.name)[:100])
        log.parent.mkdir(parents=True, exist_ok=True)
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            lines.append(line)
            if "==> " in line and sys.__stdout__ is not sys.stdout:
                print(" ", line.strip(), file=sys.__stdout__, flush=True)
        watchdog.cancel()
        output = "".join(lines)
        log.write_text(output)
        if process.wait() != 0 and check:
            said = "\n".join(cause(output))
            raise AssertionError(
                f"{' '.join(argv)} ended with {process.returncode}; all it said is in"
                f" {log.relative_to(PROJECT)}\n{said}"
            )
        return output

    def make(self, *arguments: str, check: bool = True) -> str:
        """`make ARGUMENTS` for this environment."""
        return self.run("make", f"ENV={self.environment}", *arguments, check=check)

    def playbook(self, *arguments: str, check: bool = True) -> str:
        """`ansible-playbook ARGUMENTS` for this environment."""
        return self.run(
            "ansible-playbook", "-i", f"inventory/{self.environment}", *arguments, check=check
        )

    @staticmethod
    def changes(output: str) -> dict[str, int]:
        """How much each host changed, from the recap of a playbook."""
        return {
            host: int(count)
            for host, count in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", output, re.M)
        }

    # ---- state ----------------------------------------------------------------------------------
    @property
    def contract(self) -> dict[str, Any]:
        """Terraform's output `platform`."""
        path = self.checkout / f"inventory/{self.environment}/group_vars/all/platform.json"
        return json.loads(path.read_text())["platform"]

    @cached_property
    def hostvars(self) -> dict[str, dict[str, Any]]:
        """The variables of each host in the inventory."""
        output = subprocess.run(
            ["ansible-inventory", "-i", f"inventory/{self.environment}", "--list"],
            cwd=self.checkout,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        self.groups.update(
            {name: group["hosts"] for name, group in json.loads(output).items() if "hosts" in group}
        )
        return json.loads(output)["_meta"]["hostvars"]

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The hosts of each role."""
        return {}

    @property
    def services(self) -> tuple[str, ...]:
        """The services of this environment that run from a release."""
        services = self.contract["services"].items()
        return tuple(service for service, entry in services if entry["release"])

    @property
    def units(self) -> dict[str, list[str]]:
        """Each service with its units."""
        return {service: self.contract["services"][service]["units"] for service in self.services}

    def host_of(self, service: str) -> str:
        """The name of the first host that has a role."""
        first = self.contract["services"][service]["hosts"][0]
        return self.contract["hosts"][first]["name"]

    @cached_property
    def one_machine(self) -> bool:
        """Whether this environment's hosts are containers of this machine."""
        folder = self.checkout / f"inventory/{self.environment}/group_vars/all"
        return (folder / "01_one_machine.yml").exists()

    @property
    def ssh_config(self) -> Path:
        """How hosts in AWS are reached; `make access` writes it."""
        return self.checkout / f".lastro/{self.environment}/ssh_config"

    def host(self, service: str) -> testinfra.host.Host:
        """A shell on the first host of a service, as root."""
        return self.named_host(self.host_of(service))

    def named_host(self, name: str) -> testinfra.host.Host:
        """A shell on a host by its name in the inventory, as root."""
        if self.one_machine:
            return testinfra.get_host(f"podman://{name}")
        return testinfra.get_host(
            f"ssh://{name}",
            ssh_config=str(self.ssh_config),
            sudo=True,
            # testinfra allows 10 s, which a machine with other work to do may well need.
            timeout=CONNECT_SECONDS,
            # One session of Session Manager for all commands on a host, not one for each.
            controlpath=str(ssh_sockets() / name),
        )

    def reach(self, service: str, address: str, port: int) -> tuple[str, int]:
        """Where this machine finds an address that the host of a service reaches."""
        if self.one_machine:
            return address, port
        key = (service, address, port)
        if key not in TUNNELS:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                local = free.getsockname()[1]
            options = ["-o", "ExitOnForwardFailure=yes", "-o", "ControlPath=none"]
            forward = f"127.0.0.1:{local}:{address}:{port}"
            ssh = ["ssh", "-F", str(self.ssh_config), *options, "-N", "-L", forward]
            tunnel = subprocess.Popen([*ssh, self.host_of(service)], stdin=subprocess.DEVNULL)
            atexit.register(tunnel.terminate)

            def opened() -> bool:
                assert tunnel.poll() is None, f"no way to {self.host_of(service)} by SSH"
                with socket.socket() as probe:
                    return probe.connect_ex(("127.0.0.1", local)) == 0

            wait_for(f"the tunnel to {service}", opened)
            TUNNELS[key] = local
        return "127.0.0.1", TUNNELS[key]

    def journal(self, service: str, lines: int = 60) -> str:
        """The end of the journal of a service's units."""
        units = " ".join(f"-u {unit}" for unit in self.units[service])
        return (
            self.host(service).run(f"journalctl --no-pager -o short-iso -n {lines} {units}").stdout
        )

    def main_pids(self, service: str) -> dict[str, str]:
        """The process of each unit of a service."""
        host = self.host(service)
        return {
            unit: host.run(f"systemctl show -p MainPID --value {unit}").stdout.strip()
            for unit in self.units[service]
        }

    def url(self, service: str) -> str:
        """Where a service is reached."""
        at = urlsplit(self.contract["services"][service]["endpoints"][0])
        address, port = self.reach(service, at.hostname, at.port)
        return f"http://{address}:{port}"

    @property
    def domain(self) -> str:
        """The domain under which people reach the services; empty without one."""
        return self.contract["domain"]

    def public_url(self, service: str) -> str:
        """Where people reach a service."""
        return self.contract["services"][service]["public_url"] or self.url(service)

    @property
    def edge_address(self) -> str:
        """The address of the domain: its host on one machine, the answer of DNS in AWS.

        `lastro_edge_address` in the inventory says it where there is no DNS.
        """
        if self.one_machine:
            (url,) = self.contract["services"]["edge"]["endpoints"]
            return urlsplit(url).hostname
        said = self.hostvars[self.host_of("edge")].get("lastro_edge_address")
        return said or socket.gethostbyname(self.domain)

    @property
    def edge_authorities(self) -> str | None:
        """The authorities of the edge's certificates; None for the public ones."""
        file = self.checkout / f".lastro/{self.environment}/edge-ca.pem"
        return str(file) if file.exists() else None

    def visit(
        self,
        service: str,
        path: str,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Ask a service as a browser does: by its name, through the edge, over verified TLS."""
        name = self.public_url(service).removeprefix("https://")
        with urllib3.HTTPSConnectionPool(
            self.edge_address,
            server_hostname=name,
            assert_hostname=name,
            ca_certs=self.edge_authorities,
            retries=False,
            timeout=ANSWER_SECONDS,
        ) as pool:
            headers = {"Host": name} | (headers or {})
            return pool.request(method, path, body=body, headers=headers, redirect=False)

    # ---- AWS -------------------------------------------------------------------------------------
    def aws(self, service: str, **config: Any) -> Any:
        """A boto3 client with the credentials of the person who runs the tests."""
        options: dict[str, Any] = {"config": botocore.config.Config(**config)}
        file = self.checkout / f".lastro/{self.environment}/aws.env"
        if file.exists():
            values = dict(line.split("=", 1) for line in file.read_text().splitlines())
            options |= {
                "endpoint_url": values["AWS_ENDPOINT_URL"],
                "aws_access_key_id": values["AWS_ACCESS_KEY_ID"],
                "aws_secret_access_key": values["AWS_SECRET_ACCESS_KEY"],
            }
        return boto3.client(service, region_name=self.contract["region"], **options)

    def objects(self, prefix: str) -> dict[str, bytes]:
        """The objects below a prefix of the artifacts bucket."""
        s3, bucket = self.aws("s3"), self.contract["buckets"]["artifacts"]
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def parquet(self, content: bytes) -> list[dict[str, Any]]:
        """The rows of a small Parquet file, read on a host: there pyarrow is installed."""
        script = (
            "import base64, io, json, os, sys; import pyarrow.parquet as pq;"
            "file = io.BytesIO(base64.b64decode(sys.argv[1]));"
            "table = pq.read_table(file, use_threads=False, pre_buffer=False);"
            "print(json.dumps(table.to_pylist(), default=str), flush=True);"
            # Without the interpreter's own end, in which a thread of Arrow's may abort the process.
            "os._exit(0)"
        )
        python = "/opt/lastro/pipelines/current/venv/bin/python"
        encoded = base64.b64encode(content).decode()
        result = self.host("airflow").run(f"%s -c %s {encoded}", python, script)
        assert result.rc == 0, result.stderr
        return json.loads(result.stdout)

    def secret(self, service: str) -> dict[str, str]:
        """The secret of a service, or of the database's master user."""
        arn = (
            self.contract["database"]["master_secret_arn"]
            if service == "database"
            else self.contract["secrets"][service]
        )
        return json.loads(self.aws("secretsmanager").get_secret_value(SecretId=arn)["SecretString"])

    def sql(
        self, query: str, *, database: str, user: str, password: str, **options: Any
    ) -> list[tuple]:
        """Ask the database server over verified TLS."""
        at = self.contract["database"]
        # The endpoint's name resolves inside the network only.
        address, port = self.reach("mlflow", self.database_address, at["port"])
        options = {
            "sslmode": "verify-full",
            "sslrootcert": str(self.checkout / f".lastro/{self.environment}/database-ca.pem"),
            "hostaddr": address,
            **options,
        }
        with (
            psycopg2.connect(
                host=at["address"],
                port=port,
                dbname=database,
                user=user,
                password=password,
                connect_timeout=ANSWER_SECONDS,
                **options,
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(query)
            return cursor.fetchall()

    @cached_property
    def database_address(self) -> str:
        """The database's address, as a host of the platform resolves its name."""
        return (
            self.host("mlflow")
            .run(f"getent ahostsv4 {self.contract['database']['address']}")
            .stdout.split()[0]
        )

    # ---- HTTP ------------------------------------------------------------------------------------
    def ask(self, service: str, path: str, **options: Any) -> requests.Response:
        """Ask a service itself, not through the edge, without a login."""
        return requests.get(self.url(service) + path, timeout=ANSWER_SECONDS, **options)

    def mlflow(
        self,
        method: str,
        path: str,
        *,
        user: str = "admin",
        password: str | None = None,
        **options: Any,
    ) -> requests.Response:
        """Call MLflow's REST API."""
        auth = (user, password or self.secret("mlflow")["admin_password"])
        url = f"{self.url('mlflow')}/api/2.0/mlflow/{path}"
        return requests.request(method, url, auth=auth, timeout=ANSWER_SECONDS, **options)

    def airflow_token(self, user: str = "admin", password: str | None = None) -> str | None:
        """Log in to Airflow; None if it refuses."""
        answer = requests.post(
            f"{self.url('airflow')}/auth/token",
            json={
                "username": user,
                "password": password or self.secret("airflow")["admin_password"],
            },
            timeout=ANSWER_SECONDS,
        )
        return answer.json()["access_token"] if answer.status_code == 201 else None

    def airflow(self, method: str, path: str, **options: Any) -> requests.Response:
        """Call Airflow's REST API as the administrator."""
        return requests.request(
            method,
            f"{self.url('airflow')}/api/v2/{path}",
            headers={"Authorization": f"Bearer {self.airflow_token()}"},
            timeout=ANSWER_SECONDS,
            **options,
        )

    def trigger(self, dag: str, **parameters: str) -> str:
        """Start a run of a DAG; its id."""
        asked = {"logical_date": None, "conf": parameters}
        answer = self.airflow("POST", f"dags/{dag}/dagRuns", json=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()["dag_run_id"]

    def run_state(self, dag: str, run: str) -> str:
        """queued, running, success or failed."""
        return self.airflow(
            "GET", f"dags/{dag}/dagRuns/{requests.utils.quote(run, safe='')}"
        ).json()["state"]

    def model_api(
        self, method: str, path: str, *, key: str | None = None, **options: Any
    ) -> requests.Response:
        """Call the model API with its key."""
        headers = {
            "Authorization": f"Bearer {key or self.secret('model_api')['bearer_key']}",
            **options.pop("headers", {}),
        }
        url = f"{self.url('model_api')}/{path}"
        return requests.request(method, url, headers=headers, timeout=ANSWER_SECONDS, **options)

    def predict(self, *rows: dict[str, Any], model: str = "wine-classifier") -> requests.Response:
        """Request a prediction, by default of the model's own example."""
        inputs = list(rows) or [self.example(model)]
        return self.model_api("POST", f"models/{model}/predict", json={"inputs": inputs})

    def example(self, model: str = "wine-classifier") -> dict[str, Any]:
        """The first example row that the champion came with."""
        models = self.model_api("GET", "models").json()["models"]
        served = next(served for served in models if served["name"] == model)
        return served["versions"][served["aliases"]["champion"]["version"]]["example"][0]

    def champion(self, model: str = "wine-classifier") -> str:
        """The version that the alias names in the registry."""
        return self.mlflow(
            "GET", "registered-models/alias", params={"name": model, "alias": "champion"}
        ).json()["model_version"]["version"]

    def memory(self) -> dict[str, object]:
        """The data that must survive restarts and upgrades, by what it is."""
        runs = {"experiment_ids": ["1"], "max_results": 100}
        artifacts = self.contract["buckets"]["artifacts"]
        # Other folders hold predictions, which are added as they are made.
        objects = self.aws("s3").list_objects_v2(Bucket=artifacts, Prefix="mlflow/")["Contents"]
        dag_runs = self.airflow("GET", "dags/wine/dagRuns").json()["dag_runs"]
        return {
            "runs": sorted(
                run["info"]["run_id"]
                for run in self.mlflow("POST", "runs/search", json=runs).json()["runs"]
            ),
            "champion": self.champion(),
            "artifacts": sorted((item["Key"], item["ETag"]) for item in objects),
            "DAG runs": sorted(run["dag_run_id"] for run in dag_runs),
            "hosts": {
                name: (host["instance_id"], host["private_ip"])
                for name, host in self.contract["hosts"].items()
            },
        } | {f"secret {service}": self.secret(service) for service in self.contract["secrets"]}
