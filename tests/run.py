"""Run the stages of the tests; say how many passed, what failed, and where the time went.

A stage that fails does not keep the others from running. Lanes run at the same time, the stages of
a lane in order; each line of output then begins with the name of its stage.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.speed import calculation_seconds
from catalogue import RELEASES
from environments import BIN, PROJECT, environment, service_lock, version_environment

STATE = PROJECT / ".lastro" / "tests"
# Service -> the other projects that its environment contains, as on the hosts.
OTHER_PROJECTS = {
    "dashboard": ["promotion"],
    "pipelines": ["model_api", "promotion"],
}
# The last line of a command other than pytest: the counts of its tests.
COUNT = re.compile(r"^(?:Success! |Failure! )?(\d+) passed, (\d+) failed", re.MULTILINE)
# CI ends a run after 90 minutes without a word: the runner ends it before, with its summary.
MINUTES = float(os.environ.get("LASTRO_TEST_MINUTES", 80))
# Seconds for interrupted tests to report where they were.
SECONDS_TO_END = 45
LONGEST = 15


@dataclass
class Command:
    """One process of a stage."""

    argv: list[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Test:
    """One test of pytest, as the plugin noted it; times are seconds since the epoch."""

    name: str
    began: float
    ended: float = 0
    outcome: str = ""
    reason: str = ""


@dataclass
class Stage:
    """A stage of the run, and its result; times are seconds since the run began."""

    name: str
    commands: Callable[[], Iterator[Command]]
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    began: float = 0
    ended: float = 0
    tests: list[Test] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def pytest(*arguments: str, python: Path = BIN / "python", **environment: str) -> Command:
    """One run of pytest."""
    return Command([str(python), "-m", "pytest", *arguments], environment)


# ---- stages -----------------------------------------------------------------------------------


def lint() -> Iterator[Command]:
    """Checks that run nothing of ours."""
    yield Command(["scripts/lint"])


def unit() -> Iterator[Command]:
    """Tests without a host: plugins, templates, and the contracts between the parts."""
    yield pytest("tests/unit", "tests/contracts")


def terraform() -> Iterator[Command]:
    """Terraform's own tests: plans with a mocked provider."""
    for module in ("terraform", "terraform/bootstrap"):
        yield Command([str(BIN / "lastro-ops"), "module", module, "test", "-no-color"])


def iam() -> Iterator[Command]:
    """The permissions of each role in AWS, in an emulator that enforces IAM."""
    python = environment("ministack", PROJECT / "locks/ministack.txt") / "python"
    yield pytest("tests/iam", LASTRO_MINISTACK_PYTHON=str(python))


def services() -> Iterator[Command]:
    """The tests of each service in an environment of its lock, with real MLflow and Airflow."""
    local_aws = environment(
        "local_aws",
        PROJECT / "locks/local_aws.txt",
        PROJECT / "locks/test.txt",
        projects=[PROJECT / "services/local_aws"],
    )
    servers = {
        "LASTRO_LOCAL_AWS_PYTHON": str(local_aws / "python"),
        "LASTRO_MLFLOW_SERVER": str(version_environment("mlflow") / "mlflow"),
        "LASTRO_AIRFLOW_PYTHON": str(service_python("airflow")),
    }
    for tests in sorted(PROJECT.glob("services/*/tests")):
        service = tests.parent.name
        yield pytest(f"services/{service}/tests", python=service_python(service), **servers)


def compat() -> Iterator[Command]:
    """The model API against MLflow's own scoring server, in the environment that serves."""
    # The fixtures of the other tests need the controller's packages.
    alone = "--confcutdir=tests/compat"
    yield pytest("tests/compat", alone, python=service_python("model_api"))


def service_python(service: str) -> Path:
    """The Python of an environment of a service's lock and its tests' packages."""
    locks = service_lock(service), PROJECT / "locks/test.txt"
    projects = [PROJECT / "services" / name for name in (service, *OTHER_PROJECTS.get(service, ()))]
    return environment(service, *locks, projects=projects) / "python"


def hosts() -> Iterator[Command]:
    """The images of the hosts and the environments of the services, once for all who need hosts."""
    yield Command(["scripts/setup", "machine"])
    playbook = "ansible/playbooks/local/environments.yml"
    services = json.dumps({"machine_services": [*RELEASES]})
    inventory = "inventory/test/localhost.yml"
    yield Command(["ansible-playbook", "-i", inventory, playbook, "--extra-vars", services])


def molecule() -> Iterator[Command]:
    """Each role on its own hosts."""
    yield Command([str(BIN / "lastro-ops"), "molecule"])


def platform() -> Iterator[Command]:
    """The whole platform end to end, in the environment `test`; then a host's first boot."""
    yield platform_tests("test", "access", "end_to_end", "first_boot")
    # In a process of its own, which begins with an empty environment. All its tests are long.
    if os.environ.get("LASTRO_FULL"):
        yield platform_tests("test", "upgrade")


def pipeline() -> Iterator[Command]:
    """The pipeline's own workflows, in the environment `pipeline`."""
    yield platform_tests("pipeline", "pipeline")


def platform_tests(environment: str, *modules: str) -> Command:
    """Some modules of tests/platform, or of these only the tests that ONLY names."""
    files = [f"tests/platform/test_{module}.py" for module in modules]
    only = ["-k", os.environ["ONLY"]] if os.environ.get("ONLY") else []
    return pytest("-v", "--capture=sys", *only, *files, LASTRO_ENVIRONMENT=environment)


STAGES = {
    stage.__name__: stage
    for stage in (
        hosts,
        lint,
        unit,
        terraform,
        iam,
        services,
        compat,
        molecule,
        platform,
        pipeline,
    )
}
LANES = [["hosts"], ["lint", "unit", "terraform", "iam", "services", "compat"]]
# These begin once the stage `hosts` has ended.
LANES_ON_HOSTS = [["molecule"], ["platform"], ["pipeline"]]


# ---- running ----------------------------------------------------------------------------------


def say(text: str, width: int = 0, name: str = "") -> None:
    """Print one line, whole, whatever runs at the same time."""
    prefix = f"{name:<{width}} | " if width else ""
    sys.stdout.write(prefix + text.rstrip("\n") + "\n")
    sys.stdout.flush()


class Run:
    """One run of the tests.

    Attributes:
        stages: the requested stages by name, in the order in which they are shown.
        width: of the names before each line; 0 where one stage runs alone.
        late: whether the time was up before the end.
    """

    def __init__(self, stages: dict[str, Stage]) -> None:
        self.stages = stages
        self.width = max(map(len, stages)) if len(stages) > 1 else 0
        self.late = False
        self._began = time.time()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._prepared = threading.Event()

    # ---- one stage -----------------------------------------------------------------------------
    def _execute(self, stage: Stage, command: Command, show: Callable[[str], None]) -> None:
        """Run one command, show its output as it comes, and count its tests."""
        timeline = STATE / "timeline" / stage.name / str(len(stage.reasons) + len(stage.tests))
        shutil.rmtree(timeline, ignore_errors=True)
        timeline.mkdir(parents=True)
        settings = {"PYTHONUNBUFFERED": "1", "LASTRO_TIMELINE": str(timeline)}
        process = subprocess.Popen(
            command.argv,
            cwd=PROJECT,
            env=os.environ | settings | command.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # A separate process group, so that its children can be ended with it.
            start_new_session=True,
        )
        self._processes[stage.name] = process
        output = []
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            show(line)
        status = process.wait()
        del self._processes[stage.name]
        tests = read_timeline(timeline)
        stage.tests += tests
        outcomes = [test.outcome for test in tests]
        failed = outcomes.count("failed") + outcomes.count("")
        passed = outcomes.count("passed")
        if not tests and (counts := COUNT.findall("".join(output))):
            passed, failed = map(int, counts[-1])
        # pytest's exit status if ONLY names no test of this stage.
        nothing_wanted = bool(os.environ.get("ONLY")) and status == 5
        if status and not nothing_wanted:
            if not failed:
                # A command that fails without a failed test has failed before or after its tests.
                failed = 1
                last = [line.rstrip() for line in output if line.strip()][-8:]
                how = f"{' '.join(command.argv[:3])} ended with {status}"
                stage.reasons.append("\n".join([how, *last]))
        elif not tests and not passed and not nothing_wanted:
            passed = 1
        stage.passed += passed
        stage.failed += failed
        stage.skipped += outcomes.count("skipped")

    def _run_stage(self, stage: Stage) -> None:
        stage.began = time.time() - self._began

        def show(line: str) -> None:
            say(line, self.width, stage.name)

        show(f"==> {STAGES[stage.name].__doc__}")
        try:
            for command in stage.commands():
                if self.late:
                    break
                self._execute(stage, command, show)
        except (OSError, RuntimeError) as error:
            stage.failed += 1
            stage.reasons.append(str(error))
            show(str(error))
        stage.ended = time.time() - self._began
        took = stage.ended - stage.began
        show(f"==> {stage.passed} passed, {stage.failed} failed in {took:.0f} s")

    # ---- all of them ---------------------------------------------------------------------------
    def _run_lane(self, names: list[str], on_hosts: bool) -> None:
        if on_hosts:
            self._prepared.wait()
        for name in names:
            stage = self.stages[name]
            if on_hosts and self.stages["hosts"].failed:
                stage.failed = 1
                stage.reasons.append("the hosts could not be prepared: see the stage `hosts`")
            elif not self.late:
                self._run_stage(stage)
            else:
                stage.failed = 1
                stage.reasons.append("the time was up before it began")
        if "hosts" in names:
            self._prepared.set()

    def run(self) -> None:
        """Run every stage, and end what still runs when the time is up."""
        lanes = [(lane, False) for lane in LANES] + [(lane, True) for lane in LANES_ON_HOSTS]
        wanted = [([n for n in lane if n in self.stages], on_hosts) for lane, on_hosts in lanes]
        threads = [
            threading.Thread(target=self._run_lane, args=arguments)
            for arguments in wanted
            if arguments[0]
        ]
        for thread in threads:
            thread.start()
        deadline = self._began + MINUTES * 60
        for thread in threads:
            thread.join(max(deadline - time.time(), 0))
        if any(thread.is_alive() for thread in threads):
            self._end_what_hangs()
            for thread in threads:
                thread.join()
        self.seconds = time.time() - self._began

    def _end_what_hangs(self) -> None:
        """Name the commands that still run, show their hosts' journals, and end them."""
        self.late = True
        hanging = dict(self._processes)
        for name, process in hanging.items():
            running = [
                test
                for folder in (STATE / "timeline" / name).glob("*")
                for test in read_timeline(folder)
                if not test.outcome
            ]
            what = ", ".join(f"{t.name} ({time.time() - t.began:.0f} s)" for t in running)
            reason = f"the {MINUTES:.0f} minutes are up; still running: {what or process.args!r}"
            self.stages[name].reasons.append(reason)
            say(reason, self.width, name)
            for line in journals(name):
                say(line, self.width, name)
            # pytest then reports the line that it was at.
            process.send_signal(signal.SIGINT)
        until = time.time() + SECONDS_TO_END
        while self._processes and time.time() < until:
            time.sleep(0.5)
        # The processes that they have started end as well.
        for process in hanging.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def journals(stage: str) -> Iterator[str]:
    """The last lines of the journals of a stage's hosts, where it has hosts."""
    label = {"platform": "test"}.get(stage, stage)
    listed = ["podman", "ps", "--format={{.Names}}", f"--filter=label=lastro.environment={label}"]
    read = ["journalctl", "--no-pager", "--output=short", "--lines=25"]
    try:
        for name in subprocess.run(listed, capture_output=True, text=True).stdout.split():
            yield f"---- journal of {name}"
            asked = ["podman", "exec", name, *read]
            yield from subprocess.run(
                asked, capture_output=True, text=True, timeout=20
            ).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired) as error:
        yield f"no journal: {error}"


def read_timeline(folder: Path) -> list[Test]:
    """The tests of one command, in the order in which they began."""
    tests: dict[tuple[str, str], Test] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            event = json.loads(line)
            key = file.name, event["test"]
            if event["event"] == "began":
                tests[key] = Test(event["test"], event["at"])
            else:
                test = tests[key]
                test.ended, test.outcome = event["at"], event["event"]
                test.reason = event.get("reason", "")
    return sorted(tests.values(), key=lambda test: test.began)


# ---- the summary ------------------------------------------------------------------------------


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def summary(run: Run, speed: float, busy: float) -> Iterator[str]:
    """When each stage ran, what took long, what failed; the last line counts."""
    ran = [stage for stage in run.stages.values() if stage.ended]
    total = run.seconds or 1
    longest = sorted(
        (
            ((test.ended or time.time()) - test.began, stage.name, test.name)
            for stage in ran
            for test in stage.tests
        ),
        reverse=True,
    )[:LONGEST]
    if longest:
        yield f"\nThe longest of {sum(len(stage.tests) for stage in ran)} tests:"
        for seconds, stage_name, name in longest:
            yield f"  {seconds:>5.0f} s  {stage_name:<10} {name}"

    columns = f"{'passed':>8}{'failed':>8}{'skipped':>9}{'time':>9}"
    yield f"\n{'stage':<12}{columns}   what ran at the same time"
    for stage in ran:
        counts = f"{stage.passed:>8}{stage.failed:>8}{stage.skipped:>9}"
        first, last = (round(40 * at / total) for at in (stage.began, stage.ended))
        bar = " " * first + "#" * max(last - first, 1)
        yield f"{stage.name:<12}{counts}{clock(stage.ended - stage.began):>9}   {bar}"
    lanes = LANES + [["hosts", *lane] for lane in LANES_ON_HOSTS]
    path = max(lanes, key=lambda lane: max((s.ended for s in ran if s.name in lane), default=0))
    steps = [f"{s.name} {clock(s.ended - s.began)}" for s in ran if s.name in path]
    yield f"{'wall time':<37}{clock(run.seconds):>9}   processor {busy:.0%} busy"
    yield f"critical path: {', '.join(steps)}"
    yield f"this machine: {speed:.2f} s for the calculation of tests/bench/speed.py"

    for stage in run.stages.values():
        for test in stage.tests:
            if test.outcome in ("failed", ""):
                reason = test.reason or "it had not ended"
                yield f"\nFAILED {stage.name}: {test.name}\n  " + reason.replace("\n", "\n  ")
        for reason in stage.reasons:
            yield f"\nFAILED {stage.name}\n  " + reason.replace("\n", "\n  ")

    passed = sum(stage.passed for stage in run.stages.values())
    yield f"\n{passed} passed, {sum(stage.failed for stage in run.stages.values())} failed"


def processor_times() -> tuple[int, int]:
    """How long all processors together have been busy, and how long there have been, in ticks."""
    ticks = [int(part) for part in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def main(arguments: list[str]) -> int:
    """Run the named stages, or all; 1 when a test failed, 2 when there is no such stage.

    ``--list`` names them, but for `hosts`, which comes before those that need it.
    """
    if arguments == ["--list"]:
        print("\n".join(name for name in STAGES if name != "hosts"))
        return 0
    unknown = [name for name in arguments if name not in STAGES]
    if unknown:
        print(
            f"test: there is no stage {unknown[0]}; choose one of {', '.join(STAGES)}",
            file=sys.stderr,
        )
        return 2
    wanted = set(arguments or STAGES)
    if wanted & {name for lane in LANES_ON_HOSTS for name in lane}:
        wanted.add("hosts")
    run = Run({name: Stage(name, STAGES[name]) for name in STAGES if name in wanted})
    # Images and environments are for the stages together, whichever of them ends last.
    os.environ["LASTRO_KEEP_SHARED"] = "yes"
    speed = calculation_seconds()
    busy, there = processor_times()
    run.run()
    busy_after, there_after = processor_times()
    for line in summary(run, speed, (busy_after - busy) / max(there_after - there, 1)):
        print(line)
    failed = sum(stage.failed for stage in run.stages.values())
    passed = sum(stage.passed for stage in run.stages.values())
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
