"""Measure a running environment; print the README's table.

Usage: make bench [ENV=local]

Ratios of one run on one machine; absolute seconds are this machine's.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "tests/platform"))
from lastro_platform import Platform, wait_for  # noqa: E402
from speed import calculation_seconds  # noqa: E402

# Paths only: everything else is Ansible's default.
DEFAULT_SETTINGS = """\
[defaults]
roles_path = {project}/ansible/roles
lookup_plugins = {project}/ansible/plugins/lookup
gathering = explicit
"""
# The system's share of a host's memory, MiB.
SYSTEM_MIB = 200


def seconds(*argv: str, **environment: str) -> float:
    """The wall time of a command that must succeed."""
    began = time.monotonic()
    subprocess.run(
        argv,
        cwd=PROJECT,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        env=os.environ | environment,
    )
    return time.monotonic() - began


def nothing_to_do(platform: Platform) -> list[tuple[str, str]]:
    """`site.yml` on hosts as they should be: ours, by Ansible's defaults, and the floor."""
    inventory = ("-i", f"inventory/{platform.environment}")
    settings = PROJECT / ".lastro/bench.cfg"
    settings.write_text(DEFAULT_SETTINGS.format(project=PROJECT))
    # The same playbook without its strategy, in the same folder for its relative paths.
    playbook = PROJECT / "ansible/playbooks/.bench.yml"
    playbook.write_text(
        re.sub(
            r"\n *# [^\n]*\n  strategy: .*",
            "",
            (PROJECT / "ansible/playbooks/site.yml").read_text(),
        )
    )
    try:
        seconds("ansible-playbook", *inventory, "site.yml")
        ours = seconds("ansible-playbook", *inventory, "site.yml")
        default = seconds(
            "ansible-playbook", *inventory, str(playbook), ANSIBLE_CONFIG=str(settings)
        )
        floor = seconds("ansible", *inventory, "platform", "-m", "ansible.builtin.setup")
    finally:
        playbook.unlink()
        settings.unlink()
    return [
        ("`site.yml` with nothing to do, three hosts", f"{ours:.0f} s"),
        ("the same by Ansible's default settings", f"{default:.0f} s ({default / ours:.1f} times)"),
        ("the floor: facts gathered from the three", f"{floor:.1f} s"),
    ]


def used_mib(host: str) -> float:
    """Memory of a host, less the file cache that the kernel would give back, MiB."""
    pid = subprocess.run(
        ["podman", "inspect", "--format={{.State.Pid}}", host],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    groups = dict(
        (line.split(":")[1], line.split(":")[2])
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    )
    if "memory" in groups:
        folder = Path("/sys/fs/cgroup/memory" + groups["memory"].removesuffix("/init.scope"))
        usage, inactive = folder / "memory.usage_in_bytes", "total_inactive_file"
    else:
        folder = Path("/sys/fs/cgroup" + groups[""].removesuffix("/init.scope"))
        usage, inactive = folder / "memory.current", "inactive_file"
    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return (int(usage.read_text()) - int(stat[inactive])) / 2**20


def memory(platform: Platform) -> list[tuple[str, str]]:
    """The peak of each host while the example trains, and the limit of its instance type."""
    hosts = {
        f"{platform.contract['project']}-{platform.environment}-{name}": host
        for name, host in platform.contract["hosts"].items()
    }
    peaks = dict.fromkeys(hosts, 0.0)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            for host in hosts:
                peaks[host] = max(peaks[host], used_mib(host))

    watcher = threading.Thread(target=watch)
    watcher.start()
    run = platform.trigger("wine")
    wait_for("the pipeline", lambda: platform.run_state("wine", run) in ("success", "failed"), 600)
    done.set()
    watcher.join()
    return [
        (
            f"memory of `{host}` at its peak during the pipeline",
            f"{peaks[host]:.0f} MiB, {peaks[host] / (facts['memory_mib'] - SYSTEM_MIB):.0%}"
            f" of {facts['memory_mib']} less {SYSTEM_MIB} MiB",
        )
        for host, facts in sorted(hosts.items())
    ]


def main() -> None:
    platform = Platform(os.environ.get("LASTRO_ENVIRONMENT", "local"))
    calculation = "this machine: the calculation of tests/bench/speed.py, by which to scale"
    rows = [(calculation, f"{calculation_seconds():.2f} s")]
    rows += nothing_to_do(platform) + memory(platform)
    print("| what | here |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")


main()
