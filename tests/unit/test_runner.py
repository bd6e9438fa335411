"""`make test` counts every test, goes on after a failure, and ends with the totals."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import run


def script(source: str) -> run.Command:
    """A command that is no pytest."""
    return run.Command([sys.executable, "-c", source])


def one_file(tmp_path: Path, name: str, source: str) -> run.Command:
    """A command that is pytest, on one file."""
    file = tmp_path / f"test_{name}.py"
    file.write_text(source)
    # Outside of the project no settings name the plugin.
    plugin = ("-p", "lastro_pytest")
    path = str(Path(run.__file__).parent)
    return run.pytest(str(file), "-p", "no:cacheprovider", *plugin, PYTHONPATH=path)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, object]:
    """Stages of this test's own: two lanes, and one on hosts."""
    monkeypatch.setattr(run, "STATE", tmp_path)
    known: dict[str, object] = {}
    monkeypatch.setattr(run, "STAGES", known)
    monkeypatch.setattr(run, "LANES", [["hosts"], ["one", "two"], ["three"]])
    monkeypatch.setattr(run, "LANES_ON_HOSTS", [["four"]])
    monkeypatch.setattr(run, "calculation_seconds", lambda: 1.0)
    # Of the run that this test is part of.
    for name in ("LASTRO_FULL", "ONLY"):
        monkeypatch.delenv(name, raising=False)
    known["hosts"] = nothing
    return known


def nothing() -> Iterator[run.Command]:
    """Needs nothing."""
    yield from ()


def test_the_last_line_counts_all_tests(
    stages: dict[str, object], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def one() -> Iterator[run.Command]:
        """Half of them pass."""
        yield one_file(tmp_path, "half", "def test_a(): pass\ndef test_b(): assert False\n")

    def two() -> Iterator[run.Command]:
        """Two commands that count for themselves."""
        yield script("print('Success! 5 passed, 0 failed.')")
        yield script("print('nothing to count')")

    def three() -> Iterator[run.Command]:
        """Expected failures pass; tests left out do not count."""
        marked = "@pytest.mark.xfail(strict=True)\ndef test_a(): assert False\n"
        left_out = "def test_b(): pytest.skip('no')\n"
        yield one_file(tmp_path, "marked", f"import pytest\n{marked}{left_out}")

    stages |= {"one": one, "two": two, "three": three}
    assert run.main([]) == 1
    output = capfd.readouterr().out
    assert output.splitlines()[-1] == "8 passed, 1 failed"
    table = dict(re.findall(r"^(one|two|three) +(\d+ +\d+ +\d+) ", output, re.M))
    assert {name: counts.split() for name, counts in table.items()} == {
        "one": ["1", "1", "0"],
        "two": ["6", "0", "0"],
        "three": ["1", "0", "1"],
    }
    assert re.search(r"^ +\d+ s  one +\S*test_half.py::test_b$", output, re.M)
    assert re.search(r"^critical path: ", output, re.M)
    # Lines of stages that run at the same time have the stage's name.
    assert "two   | nothing to count\n" in output


@pytest.mark.parametrize(
    ("source", "counts"),
    [
        ("import sys; sys.exit(3)", "0 passed, 1 failed"),
        ("import sys; print('4 passed, 0 failed'); sys.exit(1)", "4 passed, 1 failed"),
        ("print('4 passed, 2 failed'); raise SystemExit(1)", "4 passed, 2 failed"),
    ],
)
def test_a_command_that_fails_is_never_a_success(
    stages: dict[str, object], capfd: pytest.CaptureFixture[str], source: str, counts: str
) -> None:
    def four() -> Iterator[run.Command]:
        """Fails."""
        yield script(source)

    stages["four"] = four
    assert run.main(["four"]) == 1
    assert capfd.readouterr().out.splitlines()[-1] == counts


def test_a_stage_that_cannot_be_set_up_fails_with_its_reason_and_the_others_run(
    stages: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    def one() -> Iterator[run.Command]:
        """Needs a missing module."""
        raise RuntimeError("uv could not install it")
        yield

    def four() -> Iterator[run.Command]:
        """Passes."""
        yield script("")

    stages |= {"one": one, "four": four}
    assert run.main([]) == 1
    output = capfd.readouterr().out
    assert "uv could not install it" in output
    assert output.splitlines()[-1] == "1 passed, 1 failed"


def test_pytest_that_dies_before_it_reports_fails(
    stages: dict[str, object], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def four() -> Iterator[run.Command]:
        """Ends in the middle."""
        yield one_file(tmp_path, "dies", "import os\ndef test_a(): os._exit(0)\n")

    stages["four"] = four
    assert run.main(["four"]) == 1
    assert capfd.readouterr().out.splitlines()[-1] == "0 passed, 1 failed"


def test_a_stage_that_does_not_exist_is_named_with_the_choices(
    stages: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    stages["four"] = lambda: iter(())
    assert run.main(["for"]) == 2
    assert "there is no stage for; choose one of hosts, four" in capsys.readouterr().err


def test_a_failure_says_in_ten_lines_why_and_where_to_look(
    stages: dict[str, object], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = """
import pytest

@pytest.mark.see("journal of mlflow")
def test_a():
    for number in range(3000):
        print("noise", number)
    assert ["what", "was", "said"] == ["what", "was", "meant"], "the text differs"
"""

    def four() -> Iterator[run.Command]:
        """Fails with much to say."""
        yield one_file(tmp_path, "loud", source)

    stages["four"] = four
    assert run.main(["four"]) == 1
    lines = capfd.readouterr().out.splitlines()
    first = lines.index(next(line for line in lines if "the text differs" in line))
    shown = "\n".join(lines[first : first + 10])
    assert "'said'" in shown and "'meant'" in shown and "see journal of mlflow" in shown
    # Said again at the end, just before the count; the noise only by its last lines.
    last = lines.index(next(line for line in lines if line.startswith("FAILED four: ")))
    assert any("the text differs" in line for line in lines[last : last + 10])
    assert sum(" noise " in f" {line} " for line in lines) <= 40


def test_when_the_time_is_up_what_hangs_is_named_and_ended(
    stages: dict[str, object],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = tmp_path / "started"
    source = f"""
import subprocess, pathlib, time

def test_quick():
    pass

def test_endless():
    child = subprocess.Popen(["sleep", "1000"])
    pathlib.Path({str(started)!r}).write_text(str(child.pid))
    time.sleep(1000)
"""

    def four() -> Iterator[run.Command]:
        """Hangs."""
        yield one_file(tmp_path, "hangs", source)

    class Minutes(float):
        """The time is up as soon as the test that hangs has begun."""

        def __mul__(self, other: object) -> float:
            until = time.monotonic() + 120
            while not started.exists() and time.monotonic() < until:
                time.sleep(0.05)
            return 0.0

    stages["four"] = four
    monkeypatch.setattr(run, "MINUTES", Minutes(80))
    monkeypatch.setattr(run, "SECONDS_TO_END", 20)
    assert run.main(["four"]) == 1
    output = capfd.readouterr().out
    assert re.search(r"the 80 minutes are up; still running: \S+::test_endless \(\d+ s\)", output)
    assert "time.sleep(1000)" in output, "pytest does not say where it was"
    # Its child has also been killed; at most the number of such a process is left.
    child = Path(f"/proc/{started.read_text()}/cmdline")
    until = time.monotonic() + 60
    while child.exists() and child.read_bytes():
        assert time.monotonic() < until, "what it had started runs on"
        time.sleep(0.05)
    assert output.splitlines()[-1] == "1 passed, 1 failed"


def test_long_proofs_are_for_the_full_run(
    stages: dict[str, object],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = "import pytest\n@pytest.mark.full\ndef test_a(): pass\ndef test_b(): pass\n"

    def four() -> Iterator[run.Command]:
        """One of each."""
        yield one_file(tmp_path, "long", source)

    stages["four"] = four
    assert run.main(["four"]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "1 passed, 0 failed"
    monkeypatch.setenv("LASTRO_FULL", "yes")
    assert run.main(["four"]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "2 passed, 0 failed"


def test_a_stage_on_hosts_without_hosts_fails(
    stages: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    def hosts() -> Iterator[run.Command]:
        """Fails."""
        yield script("raise SystemExit('no podman here')")

    stages |= {"hosts": hosts, "four": nothing}
    assert run.main(["four"]) == 1
    output = capfd.readouterr().out
    assert "no podman here" in output and "the hosts could not be prepared" in output
    assert output.splitlines()[-1] == "0 passed, 2 failed"
