"""Test the roles with Molecule, on real hosts, against a real database and their own AWS API.

All roles are tested unless some are named. With --keep the hosts stay as they are, and the next run
with --keep starts on them.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from lastro_ops.errors import OpsError, UsageError
from lastro_ops.project import Project

# The roles that are not services, with the hosts on which they are tested.
OTHERS = {"base": "base", "databases": "mlflow"}
# Hosts that use each other's services are in one lane, in order; lanes run at the same time.
LANES = (("base", "mlflow", "serving"), ("airflow",), ("edge",))
# Host -> the role whose service the roles on it use.
NEEDS = {"serving": "mlflow"}
SCENARIOS = ("default", "alternative")
# One of the hosts: if it is there, an earlier --keep has left all of them.
KEPT_HOST = "lastro-molecule-airflow"
# The last line of pytest.
TESTS = re.compile(r"=+ (?P<tests>.* in .*?) =+$")
END_OF_LOG = 200


@dataclass
class Run:
    """One run of the tests.

    Attributes:
        project: the checkout.
        environment: the environment variables of each command.
        results: scenario -> seconds, and whether it passed, in the order in which they ended.
    """

    project: Project
    environment: dict[str, str]
    results: dict[str, tuple[float, bool]] = field(default_factory=dict)
    _processes: set[subprocess.Popen[str]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: bool = False

    @property
    def state(self) -> Path:
        """The folder that the hosts and Molecule keep between the steps."""
        return self.project.state / "molecule"

    @property
    def logs(self) -> Path:
        """The whole output of each command."""
        return self.project.state / "molecule-logs"

    # ---- commands ------------------------------------------------------------------------------
    @contextmanager
    def _started(
        self, argv: Sequence[str], folder: Path, variables: Mapping[str, str]
    ) -> Iterator[subprocess.Popen[str]]:
        """A command that is ended with this run."""
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        with self._lock:
            self._processes.add(process)
        try:
            yield process
        finally:
            process.wait()
            with self._lock:
                self._processes.discard(process)

    def end(self) -> None:
        """End every command that runs; no other scenario begins."""
        with self._lock:
            self._ended = True
            for process in self._processes:
                process.terminate()

    def quietly(self, name: str, *argv: str, folder: Path | None = None, **variables: str) -> None:
        """Run a command whose output only matters when it fails.

        Raises:
            OpsError: it failed; its output has been printed.
        """
        with self._started(argv, folder or self.project.root, variables) as process:
            assert process.stdout
            output = process.stdout.read()
        (self.logs / f"{name}.log").write_text(output)
        if process.returncode:
            print(output, end="", flush=True)
            raise OpsError(f"{name} failed; its output is above and in .lastro/molecule-logs")

    def playbook(self, name: str, file: str) -> None:
        """Run a playbook for the environment of the role tests."""
        program = str(self.project.programs / "ansible-playbook")
        self.quietly(name, program, "-i", "tests/molecule/inventory", file)

    def molecule(self, name: str, step: str, folder: Path) -> None:
        """Run one step of Molecule for the hosts that all scenarios share."""
        program, hosts = str(self.project.programs / "molecule"), str(self.state / "hosts")
        self.quietly(name, program, step, folder=folder, MOLECULE_EPHEMERAL_DIRECTORY=hosts)

    # ---- scenarios -----------------------------------------------------------------------------
    def scenario(self, role: str, scenario: str, ephemeral: Path) -> bool:
        """Run a scenario and print a line for each step and for the tests; whether it passed."""
        name, log = f"{role} ({scenario})", self.logs / f"{role}-{scenario}.log"
        began = time.monotonic()
        argv = [str(self.project.programs / "molecule"), "test", "--scenario-name", scenario]
        with (
            log.open("w") as file,
            self._started(
                [*argv, "--destroy=never"],
                self.project.root / "ansible" / "roles" / role,
                {"MOLECULE_EPHEMERAL_DIRECTORY": str(ephemeral)},
            ) as process,
        ):
            assert process.stdout
            for line in process.stdout:
                file.write(line)
                if shown := progress(line):
                    print(f"{name:<24} {shown}", flush=True)
        passed = process.returncode == 0
        if not passed:
            lines = log.read_text().splitlines(keepends=True)
            print("".join(lines[-END_OF_LOG:]), end="", flush=True)
        self.results[name] = time.monotonic() - began, passed
        return passed

    def lane(self, number: int, roles: Sequence[str]) -> None:
        """Test some roles in order, with Molecule's state of their own."""
        ephemeral = self.state / f"lane-{number}"
        shutil.rmtree(ephemeral, ignore_errors=True)
        # The hosts are made and prepared there.
        shutil.copytree(self.state / "hosts", ephemeral, symlinks=True)
        for role in roles:
            for scenario in SCENARIOS:
                folder = self.project.root / "ansible" / "roles" / role / "molecule" / scenario
                if self._ended or not folder.is_dir():
                    continue
                if not self.scenario(role, scenario, ephemeral):
                    break


def progress(line: str) -> str | None:
    """The progress in a line of Molecule's output; None if the line has none."""
    text = line.rstrip("\n")
    if text.startswith("INFO") and "> " in text and text.endswith("] Executing"):
        return text.rpartition("> ")[2].partition("]")[0]
    if found := TESTS.search(text):
        return found["tests"]
    return None


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n\033[1m==> {text}\033[0m", flush=True)


def roles_on_hosts(project: Project) -> dict[str, str]:
    """Role -> the host on which it is tested, in the order of testing."""
    services = {service["role"]: service["test"] for service in project.catalogue()}
    return OTHERS | services


def lanes_of(hosts: Mapping[str, str], roles: Sequence[str]) -> list[list[str]]:
    """The lanes with these roles and those that they need; all roles if none is named.

    Args:
        hosts: role -> the host on which it is tested.
        roles: those to test.

    Raises:
        UsageError: there is no role of this name to test.
    """
    for role in roles:
        if role not in hosts:
            raise UsageError(f"there is no role '{role}' to test; choose one of: {' '.join(hosts)}")
    needed = {NEEDS[hosts[role]] for role in roles if hosts[role] in NEEDS}
    wanted = {*roles, *needed} or set(hosts)
    return [
        [role for host in lane for role in hosts if hosts[role] == host and role in wanted]
        for lane in LANES
    ]


def environment(project: Project) -> dict[str, str]:
    """The environment variables of Molecule and Ansible."""
    roles = roles_on_hosts(project)
    # The groups of the hosts in .config/molecule/config.yml, as lists of YAML.
    groups = {
        f"LASTRO_MOLECULE_{host.upper()}": f"[{', '.join(r for r in roles if roles[r] == host)}]"
        for host in roles.values()
    }
    return (
        os.environ
        | groups
        | {
            "PATH": f"{project.programs}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(project.root / "ansible.cfg"),
            "MOLECULE_COMMAND_BORDERS": "false",
            "NO_COLOR": "1",
            "ANSIBLE_NOCOLOR": "1",
        }
    )


@contextmanager
def alone() -> Iterator[None]:
    """Refuse a second run: the hosts have the same names in every checkout."""
    with (Path(tempfile.gettempdir()) / "lastro-molecule.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                "another run of lastro-ops molecule is in progress on this machine"
            ) from None
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C: the hosts are removed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def test(run: Run, lanes: Sequence[Sequence[str]]) -> None:
    """Make the hosts and test the roles on them."""
    say("Starting a database and an AWS API for the roles")
    run.playbook("environment", "tests/molecule/environment.yml")
    run.environment["LASTRO_MOLECULE_IMAGE"] = (run.state / "host-image").read_text().strip()
    say("Making and preparing the hosts")
    for step in ("create", "prepare"):
        run.molecule(f"hosts-{step}", step, run.project.root / "ansible" / "roles" / "base")
    say("Testing the roles")
    with ThreadPoolExecutor(len(lanes)) as pool:
        started = [pool.submit(run.lane, number, lane) for number, lane in enumerate(lanes)]
        try:
            for each in started:
                each.result()
        except BaseException:
            run.end()
            raise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops molecule`."""
    parser.add_argument("--keep", action="store_true", help="leave the hosts as they are")
    parser.add_argument(
        "--list", action="store_true", help="print the roles as the pipeline reads them"
    )
    parser.add_argument("roles", metavar="ROLE", nargs="*", help="all by default")


def run(project: Project, options: argparse.Namespace) -> None:
    """Test, and remove the hosts."""
    roles = roles_on_hosts(project)
    if options.list:
        print(f"roles={json.dumps(list(roles))}")
        return
    lanes = lanes_of(roles, options.roles)
    began = time.monotonic()
    tests = Run(project, environment(project))
    with alone(), interruptible():
        tests.logs.mkdir(parents=True, exist_ok=True)
        for log in tests.logs.iterdir():
            log.unlink()

        def destroy() -> None:
            tests.playbook("destroy", "ansible/playbooks/local/destroy.yml")

        exists = ["podman", "container", "exists", KEPT_HOST]
        kept = options.keep and (tests.state / "hosts").is_dir()
        if not kept or subprocess.run(exists, env=tests.environment).returncode:
            # A run that was killed leaves its hosts.
            destroy()
        try:
            test(tests, lanes)
        finally:
            if not options.keep:
                destroy()
    if options.keep:
        needed = {
            name: value
            for name, value in tests.environment.items()
            if name.startswith("LASTRO_MOLECULE_")
        } | {"MOLECULE_EPHEMERAL_DIRECTORY": str(tests.state / "hosts")}
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in needed.items())
        print(f"The hosts run on. Next: export {exports}; cd ansible/roles/...; molecule converge")
    report(tests, time.monotonic() - began)


def report(run: Run, seconds: float) -> None:
    """Print how each scenario ended.

    Raises:
        OpsError: some failed.
    """
    failed = sorted(name for name, (_, passed) in run.results.items() if not passed)
    passed = len(run.results) - len(failed)
    say(f"Molecule: {passed} scenarios passed, {len(failed)} failed, in {seconds:.0f} s")
    for name, (took, good) in sorted(run.results.items(), key=lambda each: (not each[1][1], each)):
        print(f"passed  {name} {took:.0f} s" if good else f"FAILED  {name} {took:.0f} s")
    sys.stdout.flush()
    if failed:
        raise OpsError(f"failed: {', '.join(failed)}; the logs are in .lastro/molecule-logs")
