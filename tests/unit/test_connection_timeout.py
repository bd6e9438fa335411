"""How long Ansible waits for a slow host: `timeout` of ansible.cfg, as Mitogen understands it.

The programs that lead to a host are replaced by ones that take their time and then run the command
on this machine, so that no container and no SSH server is needed.
"""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest
from wiring import PROJECT

CONFIG = PROJECT / "ansible.cfg"
# Seconds that the stand-ins take to start an interpreter.
SLOW = 2

# podman exec --interactive -- NAME COMMAND...
PODMAN = """#!/bin/sh
sleep {seconds}
while [ "$1" != -- ]; do shift; done
shift 2
exec "$@"
"""
# ssh -o OPTION... NAME COMMAND..., which the remote shell splits into words.
SSH = """#!/bin/sh
sleep {seconds}
while [ "$1" != slow ]; do shift; done
shift
exec sh -c "$*"
"""
# sudo -p PROMPT -u USER -H -- COMMAND...
SUDO = PODMAN.replace("shift 2", "shift")

HOSTS = {
    "podman": {"connection": "podman", "slow": {"podman": PODMAN}},
    "ssh": {"connection": "ssh", "slow": {"ssh": SSH}},
    "sudo": {"connection": "ssh", "become": True, "slow": {"sudo": SUDO}, "quick": {"ssh": SSH}},
}


def configured() -> int:
    """The timeout of ansible.cfg."""
    parser = configparser.ConfigParser()
    parser.read(CONFIG)
    return parser.getint("defaults", "timeout")


def ping(folder: Path, kind: str, config: str) -> tuple[int, str]:
    """Run one task on a host that is slow to answer; its exit status and output."""
    host = HOSTS[kind]
    programs = folder / "bin"
    programs.mkdir()
    for speed, seconds in (("slow", SLOW), ("quick", 0)):
        for name, source in host.get(speed, {}).items():
            (programs / name).write_text(source.format(seconds=seconds))
            (programs / name).chmod(0o755)
    # Paths in the file are relative to it.
    for name in ("ansible", ".lastro"):
        (folder / name).symlink_to(PROJECT / name)
    (folder / "ansible.cfg").write_text(config)
    (folder / "play.yml").write_text(
        "- hosts: slow\n  gather_facts: false\n"
        f"  become: {str(host.get('become', False)).lower()}\n"
        "  tasks:\n    - ansible.builtin.ping:\n"
    )
    (folder / "hosts").write_text(
        f"slow ansible_connection={host['connection']} ansible_python_interpreter={sys.executable}"
    )
    environment = {name: value for name, value in os.environ.items() if "ANSIBLE" not in name}
    result = subprocess.run(
        ["ansible-playbook", "-i", "hosts", "play.yml"],
        cwd=folder,
        env=environment | {"PATH": f"{programs}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize("kind", HOSTS)
def test_a_slow_host_is_waited_for(tmp_path: Path, kind: str) -> None:
    status, output = ping(tmp_path, kind, CONFIG.read_text())
    assert status == 0, output


@pytest.mark.parametrize("kind", HOSTS)
def test_the_timeout_of_ansible_cfg_is_the_one_that_counts(tmp_path: Path, kind: str) -> None:
    config = CONFIG.read_text()
    short = config.replace(f"\ntimeout = {configured()}\n", "\ntimeout = 1\n")
    assert short != config
    status, output = ping(tmp_path, kind, short)
    assert status != 0
    assert "Connection timed out." in output


def test_the_timeout_outlasts_a_busy_machine() -> None:
    # Ansible's 10 s were too short for an interpreter in a container while images were built.
    assert configured() >= 60
