"""Set-up and make in a checkout with an odd path: a blank, an accent, a dot folder, a link.

The environment of the copy is the real one without the largest packages; uv has them in its cache.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from wiring import PROJECT

# The collections are most of the environment, and nothing here needs them.
LEFT_OUT = {"ansible", "playwright", "molecule", "ansible-lint", "ruff", "zizmor"}
PROGRAMS = {
    # As a machine that has podman, on which nothing runs.
    "podman": "exit 0",
    "mmdebstrap": "exit 0",
    # Nothing is installed; a test names the packages that it needs.
    "apt-get": 'echo "apt-get $*" >&2; exit 1',
}


def run(*argv: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a checkout, with a PATH that knows nothing of another one."""
    programs = [PROJECT / ".venv/bin/uv", PROJECT / ".venv/bin/terraform"]
    places = [str(folder / "programs"), *(str(path.resolve().parent) for path in programs)]
    names = {"MAKEFLAGS", "MFLAGS", "ANSIBLE_CONFIG", "VIRTUAL_ENV"}
    return subprocess.run(
        argv,
        cwd=folder,
        env={name: text for name, text in os.environ.items() if name not in names}
        | {"PATH": ":".join([*places, "/usr/local/bin:/usr/bin:/bin"]), "PWD": str(folder)}
        | {"LASTRO_PYTHON": str(Path(os.path.realpath(PROJECT / ".venv/bin/python")))}
        | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout below a dot folder, reached through a link, after its set-up."""
    real = tmp_path_factory.mktemp("odd") / ".hidden" / "it's a b é"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if os.path.lexists(PROJECT / name) and not name.startswith(("docs/images", "tests/")):
            (real / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, real / name, follow_symlinks=False)
    lock = (real / "requirements.txt").read_text()
    entries = re.split(r"(?m)^(?=[a-z])", lock)
    kept = [entry for entry in entries if entry.partition("==")[0] not in LEFT_OUT]
    assert len(kept) == len(entries) - len(LEFT_OUT)
    (real / "requirements.txt").write_text("".join(kept))
    for name, text in PROGRAMS.items():
        program = real / "programs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    link = real.parents[1] / "a link"
    link.symlink_to(real)
    result = run("scripts/setup", "machine", folder=link)
    assert result.returncode == 0, result.stdout + result.stderr
    return link


def test_a_second_setup_does_nothing(checkout: Path) -> None:
    for folder in (checkout, checkout.resolve()):
        result = run("scripts/setup", "machine", folder=folder)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_make_works(checkout: Path) -> None:
    helped = run("make", "help", folder=checkout)
    assert helped.returncode == 0 and "  status " in helped.stdout
    status = run("make", "status", folder=checkout)
    assert status.returncode == 2 and "local is not running: make up ENV=local" in status.stderr
    plan = run("make", "plan", folder=checkout)
    assert "the AWS API of local does not run on this machine. make up ENV=local" in plan.stderr


def test_ansible_runs_our_tools_on_the_controller(checkout: Path, tmp_path: Path) -> None:
    playbook = tmp_path / "play.yml"
    playbook.write_text(
        """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Ask
      ansible.builtin.command:
        argv: ["{{ ansible_playbook_python }}", -P, -m, lastro_ops, state-region, --help]
"""
    )
    result = run(
        *(".venv/bin/ansible-playbook", "-i", "inventory/local/localhost.yml", str(playbook)),
        folder=checkout,
        ANSIBLE_CONFIG=str(checkout / "ansible.cfg"),
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_checkout_that_is_moved_is_set_up_again(checkout: Path) -> None:
    """The programs in .venv begin with its path."""
    moved = checkout.resolve().rename(checkout.resolve().with_name("moved"))
    try:
        result = run("scripts/setup", folder=moved)
        assert result.returncode == 0, result.stdout + result.stderr
        asked = run(".venv/bin/lastro-ops", "cost", "nowhere", folder=moved)
        assert "there is no environment 'nowhere'. Choose one of: dev, local" in asked.stderr
        assert run(".venv/bin/ansible-playbook", "--version", folder=moved).returncode == 0
    finally:
        moved.rename(checkout.resolve())
