"""Run the stages of the tests, and say at the end how many tests passed and how long it took.

A stage that fails does not keep the others from running. Stages that share no machine run at the
same time; each line of output then begins with the name of its stage.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[1]
STATE = PROJECT / ".lastro" / "tests"
BIN = PROJECT / ".venv" / "bin"
# The Python of the hosts, which the services' locks are made for.
HOST_PYTHON = "3.13"
# Service -> those whose code its environment also holds, as on the hosts.
BESIDE = {"pipelines": ["model_api"]}
# What a command says of its tests: once for all; or, for those that call pytest, run by run.
COUNT = re.compile(r"^(?:Success! |Failure! )?(\d+) passed, (\d+) failed", re.MULTILINE)
RUN = re.compile(r"\b\d+ (?:passed|failed|error).* in [\d.]+s")


@dataclass
class Command:
    """One process of a stage. ``tests`` is where pytest reports; without it, its output counts."""

    argv: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    tests: Path | None = None


@dataclass
class Stage:
    """What was asked for under one name, and how it went."""

    name: str
    commands: Callable[[], Iterator[Command]]
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0


def pytest(
    name: str, *arguments: str, python: Path = BIN / "python", **environment: str
) -> Command:
    """One run of pytest, which reports under ``name``."""
    report = STATE / "reports" / f"{name}.xml"
    argv = [str(python), "-m", "pytest", f"--junitxml={report}", *arguments]
    return Command(argv, environment, report)


# ---- environments -----------------------------------------------------------------------------


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
    candidates = [
        BIN / "python",
        *own.glob(f"cpython-{HOST_PYTHON}*/bin/python3"),
        *pyenv.glob(f"{HOST_PYTHON}*/bin/python3"),
        *(Path(folder) / f"python{HOST_PYTHON}" for folder in os.get_exec_path()),
    ]
    for python in candidates:
        # Run, not trusted by name: a version manager's shim may answer with an error.
        asked = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        with contextlib.suppress(OSError):
            if subprocess.run(asked, capture_output=True, text=True).stdout.strip() == HOST_PYTHON:
                return python
    run(BIN / "uv", "python", "install", "--quiet", "--install-dir", own, HOST_PYTHON)
    return next(own.glob(f"cpython-{HOST_PYTHON}*/bin/python3"))


def environment(name: str, *locks: Path, projects: Sequence[Path] = ()) -> Path:
    """The bin/ of an environment with what the locks name, built once for each content of theirs.

    Our own ``projects`` are installed from where they lie: their changes need no new environment.
    """
    sources = [*locks, *(project / "pyproject.toml" for project in projects)]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    folder = STATE / "environments" / f"{name}-{digest}"
    if not (folder / ".complete").exists():
        for old in folder.parent.glob(f"{name}-*"):
            shutil.rmtree(old)
        uv = [BIN / "uv", "--quiet"]
        into = f"--python={folder}/bin/python"
        run(*uv, "venv", "--python", host_python(), folder)
        hashed = [f"--requirements={lock}" for lock in locks]
        run(*uv, "pip", "install", into, "--require-hashes", "--only-binary=:all:", *hashed)
        for project in projects:
            run(*uv, "pip", "install", into, "--no-deps", "--editable", project)
        (folder / ".complete").touch()
    return folder / "bin"


def version_environment(role: str) -> Path:
    """The environment of the version that a role installs by default."""
    defaults = yaml.safe_load((PROJECT / f"ansible/roles/{role}/defaults/main.yml").read_text())
    return environment(role, PROJECT / f"locks/{role}/{defaults[f'{role}_version']}.txt")


# ---- stages -----------------------------------------------------------------------------------


def lint() -> Iterator[Command]:
    """What can be said without running anything."""
    yield Command(["scripts/lint"])


def unit() -> Iterator[Command]:
    """What needs no host: plugins, templates, and what the parts assume of each other."""
    yield pytest("unit", "tests/unit", "tests/contracts")


def terraform() -> Iterator[Command]:
    """Terraform's own tests: plans with a mocked provider."""
    for module in ("terraform", "terraform/bootstrap"):
        settings = {
            "TF_CLI_CONFIG_FILE": str(PROJECT / ".lastro/terraform.rc"),
            "TF_DATA_DIR": str(STATE / module),
            "TF_IN_AUTOMATION": "1",
        }
        terraform = [str(BIN / "terraform"), f"-chdir={module}"]
        init = [*terraform, "init", "-input=false", "-no-color", "-backend=false"]
        subprocess.run(init, cwd=PROJECT, env=os.environ | settings, stdout=subprocess.DEVNULL)
        yield Command([*terraform, "test", "-no-color"], settings)


def iam() -> Iterator[Command]:
    """What each role may do in AWS, by an emulator that enforces IAM."""
    python = environment("ministack", PROJECT / "locks/ministack.txt") / "python"
    yield pytest("iam", "tests/iam", LASTRO_MINISTACK_PYTHON=str(python))


def services() -> Iterator[Command]:
    """The tests of each service in an environment of its lock, beside real MLflow and Airflow."""
    local_aws = environment(
        "local_aws",
        PROJECT / "locks/local_aws.txt",
        PROJECT / "locks/test.txt",
        projects=[PROJECT / "services/local_aws"],
    )
    servers = {
        "LASTRO_LOCAL_AWS_PYTHON": str(local_aws / "python"),
        "LASTRO_MLFLOW_SERVER": str(version_environment("mlflow") / "mlflow"),
        "LASTRO_AIRFLOW_PYTHON": str(version_environment("airflow") / "python"),
    }
    for project in sorted(PROJECT.glob("services/*/pyproject.toml")):
        service = project.parent.name
        locks = PROJECT / f"locks/{service}.txt", PROJECT / "locks/test.txt"
        projects = [project.parent.parent / name for name in (service, *BESIDE.get(service, ()))]
        python = environment(service, *locks, projects=projects) / "python"
        yield pytest(service, f"services/{service}/tests", python=python, **servers)


def molecule() -> Iterator[Command]:
    """Each role on hosts of its own."""
    yield Command(["scripts/molecule"])


def platform() -> Iterator[Command]:
    """The whole platform end to end, in the environment `test`."""
    # The end-to-end tests break the environment and bring it back; the pipeline's destroy it.
    modules = ("first_boot", "access", "end_to_end", "pipeline")
    files = [f"tests/platform/test_{module}.py" for module in modules]
    yield pytest("platform", "-v", "--capture=sys", *files)


STAGES = {
    stage.__name__: stage for stage in (lint, unit, terraform, iam, services, molecule, platform)
}
# One after the other, what a group holds at the same time, in lanes. The platform has timing to
# prove and gets the machine for itself.
GROUPS = [[["lint", "unit", "terraform", "iam", "services"], ["molecule"]], [["platform"]]]


# ---- running ----------------------------------------------------------------------------------


def say(text: str, width: int = 0, name: str = "") -> None:
    """Print one line, whole, whatever runs at the same time."""
    prefix = f"{name:<{width}} | " if width else ""
    sys.stdout.write(prefix + text.rstrip("\n") + "\n")
    sys.stdout.flush()


def execute(command: Command, show: Callable[[str], None]) -> tuple[int, int, int]:
    """Run one command and show its output as it comes; how many tests passed, failed, skipped."""
    if command.tests:
        command.tests.parent.mkdir(parents=True, exist_ok=True)
        command.tests.unlink(missing_ok=True)
    process = subprocess.Popen(
        command.argv,
        cwd=PROJECT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | command.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    output = []
    for line in process.stdout:
        output.append(line)
        show(line)
    succeeded = process.wait() == 0
    passed = failed = skipped = 0
    if command.tests and not command.tests.exists():
        # pytest ended before it could report.
        succeeded = False
    elif command.tests:
        for case in ElementTree.parse(command.tests).getroot().iter("testcase"):
            left_out = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
            # One that is expected to fail, and does, has passed.
            elif left_out is not None and left_out.get("type") != "pytest.xfail":
                skipped += 1
            else:
                passed += 1
    elif counts := COUNT.findall("".join(output)):
        passed, failed = map(int, counts[-1])
    elif runs := "\n".join(RUN.findall("".join(output))):
        passed = sum(map(int, re.findall(r"(\d+) passed", runs)))
        failed = sum(map(int, re.findall(r"(\d+) (?:failed|error)", runs)))
    elif succeeded:
        passed = 1
    # A command that fails without a failed test has failed before or after its tests.
    return passed, failed or int(not succeeded), skipped


def run_stage(stage: Stage, width: int) -> None:
    """Run all commands of a stage, and count."""
    began = time.monotonic()

    def show(line: str) -> None:
        say(line, width, stage.name)

    show(f"==> {STAGES[stage.name].__doc__}")
    try:
        for command in stage.commands():
            passed, failed, skipped = execute(command, show)
            stage.passed += passed
            stage.failed += failed
            stage.skipped += skipped
    except (OSError, RuntimeError) as error:
        stage.failed += 1
        show(str(error))
    stage.seconds = time.monotonic() - began
    show(f"==> {stage.passed} passed, {stage.failed} failed in {stage.seconds:.0f} s")


def main(arguments: list[str]) -> int:
    """Run the named stages, or all; 1 when a test failed, 2 when there is no such stage.

    ``--list`` names them.
    """
    if arguments == ["--list"]:
        print("\n".join(STAGES))
        return 0
    unknown = [name for name in arguments if name not in STAGES]
    if unknown:
        print(
            f"test: there is no stage {unknown[0]}; choose of {', '.join(STAGES)}", file=sys.stderr
        )
        return 2
    stages = {name: Stage(name, STAGES[name]) for name in STAGES if name in (arguments or STAGES)}
    began = time.monotonic()
    for group in GROUPS:
        lanes = [[stages[name] for name in lane if name in stages] for lane in group]
        lanes = [lane for lane in lanes if lane]
        # Alone, a stage needs no name on its lines.
        width = max(map(len, stages)) if len(lanes) > 1 else 0

        def run_lane(lane: list[Stage], width: int = width) -> None:
            for stage in lane:
                run_stage(stage, width)

        threads = [threading.Thread(target=run_lane, args=[lane]) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    print(f"\n{'stage':<12}{'passed':>8}{'failed':>8}{'skipped':>9}{'time':>9}")
    for stage in stages.values():
        counts = f"{stage.passed:>8}{stage.failed:>8}{stage.skipped:>9}"
        print(f"{stage.name:<12}{counts}{stage.seconds:>7.0f} s")
    print(f"{'wall time':<37}{time.monotonic() - began:>7.0f} s\n")
    failed = sum(stage.failed for stage in stages.values())
    print(f"{sum(stage.passed for stage in stages.values())} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
