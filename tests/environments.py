"""The Python environments of the tests: a hashed lock each, built once for each content of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = PROJECT / ".lastro" / "tests" / "environments"
BIN = PROJECT / ".venv" / "bin"
# The Python of the hosts, which the services' locks are made for.
HOST_PYTHON = "3.13"


def run(*argv: str | Path) -> str:
    """Run a command that must succeed; its standard output."""
    result = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, argv))} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def host_python() -> Path:
    """A Python as the hosts have it: one of this machine, or one in .lastro/python."""
    own = PROJECT / ".lastro" / "python"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates: list[Path] = [
        BIN / "python",
        *own.glob(f"cpython-{HOST_PYTHON}*/bin/python3"),
        *pyenv.glob(f"{HOST_PYTHON}*/bin/python3"),
        *(Path(folder) / f"python{HOST_PYTHON}" for folder in os.get_exec_path()),
    ]
    for python in candidates:
        # Run, not trusted by name: a version manager's shim may answer with an error.
        program = "import sys; print('%d.%d' % sys.version_info[:2])"
        asked: list[str | Path] = [python, "-c", program]
        with contextlib.suppress(OSError):
            if subprocess.run(asked, capture_output=True, text=True).stdout.strip() == HOST_PYTHON:
                return python
    run(BIN / "uv", "python", "install", "--quiet", "--install-dir", own, HOST_PYTHON)
    return next(own.glob(f"cpython-{HOST_PYTHON}*/bin/python3"))


def environment(name: str, *locks: Path, projects: Sequence[Path] = ()) -> Path:
    """The bin/ of an environment with the packages of the locks, built once per content of these.

    Our own ``projects`` are installed from where they lie: their changes need no new environment.
    """
    sources = [*locks, *(project / "pyproject.toml" for project in projects)]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    folder = ENVIRONMENTS / f"{name}-{digest}"
    if not (folder / ".complete").exists():
        for old in folder.parent.glob(f"{name}-*"):
            shutil.rmtree(old)
        uv: list[str | Path] = [BIN / "uv", "--quiet"]
        into = f"--python={folder}/bin/python"
        run(*uv, "venv", "--python", host_python(), folder)
        hashed = [f"--requirements={lock}" for lock in locks]
        run(*uv, "pip", "install", into, "--require-hashes", "--only-binary=:all:", *hashed)
        for project in projects:
            run(*uv, "pip", "install", into, "--no-deps", "--editable", project)
        (folder / ".complete").touch()
    return folder / "bin"


def service_lock(service: str) -> Path:
    """The lock of a service; of one with a lock for each version, that of the role's default."""
    if not (PROJECT / f"locks/{service}").is_dir():
        return PROJECT / f"locks/{service}.txt"
    defaults = yaml.safe_load((PROJECT / f"ansible/roles/{service}/defaults/main.yml").read_text())
    return PROJECT / f"locks/{service}/{defaults[f'{service}_version']}.txt"


def version_environment(role: str) -> Path:
    """The environment of the version that a role installs by default."""
    return environment(role, service_lock(role))
