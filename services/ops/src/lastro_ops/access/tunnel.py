"""Open a service of an environment on this machine, through SSH inside Session Manager.

With --direct, for an environment on this machine, there is nothing to open: it prints the address.
"""

from __future__ import annotations

import argparse
import os
import socket

from lastro_ops.errors import OpsError
from lastro_ops.project import Project


def is_free(port: int) -> bool:
    """Whether nothing on this machine listens on a port of the loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops tunnel`."""
    parser.add_argument("--direct", action="store_true", help="print where the service is")
    parser.add_argument("environment", metavar="ENV")
    parser.add_argument("service", metavar="SERVICE")
    parser.add_argument("port", metavar="PORT", nargs="?", help="1024 to 65535; the service's own")


def run(project: Project, options: argparse.Namespace) -> None:
    """Print the address; become SSH where there is something to open."""
    environment, asked = project.environment(options.environment), options.service
    name, service, platform = environment.name, asked.replace("-", "_"), environment.contract()
    # The edge is open anyway, and a service without a port has nothing to open.
    ports = {
        each: port
        for each, its in platform["services"].items()
        if each != "edge" and (port := its["port"])
    }
    if service in platform["services"] and not platform["services"][service]["port"]:
        raise OpsError(
            f"{asked} has no port to open. `make logs SERVICE={asked} ENV={name}` shows its log,"
            " and Airflow's page the tasks that it ran."
        )
    if service not in ports:
        raise OpsError(
            f"SERVICE is '{asked}'. Choose one of: {', '.join(ports)}."
            f" Example: make tunnel SERVICE=airflow ENV={name}."
        )
    host = platform["hosts"][platform["services"][service]["hosts"][0]]
    login = f"`make login ENV={name}` shows how to log in"
    if options.direct:
        url = f"http://{host['private_ip']}:{ports[service]}"
        print(f"{service} of {name} opens directly: {url}. {login}.")
        return
    given = str(ports[service]) if options.port is None else options.port
    if not given.isdecimal() or not 1024 <= int(given) <= 65535:
        raise OpsError(f"PORT is '{given}'. Choose a port from 1024 to 65535.")
    if not is_free(int(given)):
        raise OpsError(
            f"port {given} of this machine is in use. Choose another: PORT={int(given) + 10000}."
        )
    config = environment.state / "ssh_config"
    forward = f"127.0.0.1:{given}:{host['private_ip']}:{ports[service]}"
    print(f"{service} of {name}: http://127.0.0.1:{given}. {login}. Ctrl-C ends it.", flush=True)
    ssh = ["ssh", "-F", str(config), "-o", "ExitOnForwardFailure=yes", "-N", "-L", forward]
    os.execvp("ssh", [*ssh, host["name"]])
