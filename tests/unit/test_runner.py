"""`make test` counts every test, goes on after a failure, and ends with the totals."""

from __future__ import annotations

import sys
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
    return run.pytest(f"runner-{name}", str(file), "-p", "no:cacheprovider")


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, object]:
    """Stages of this test's own, in two lanes and a group after them."""
    monkeypatch.setattr(run, "STATE", tmp_path)
    known: dict[str, object] = {}
    monkeypatch.setattr(run, "STAGES", known)
    monkeypatch.setattr(run, "GROUPS", [[["one", "two"], ["three"]], [["four"]]])
    return known


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
    table = {line.split()[0]: line.split()[1:4] for line in output.splitlines()[-6:-3]}
    assert table == {"one": ["1", "1", "0"], "two": ["6", "0", "0"], "three": ["1", "0", "1"]}
    # What runs at the same time is told apart line by line.
    assert "two   | nothing to count\n" in output


@pytest.mark.parametrize(
    ("source", "counts"),
    [
        ("import sys; sys.exit(3)", "0 passed, 1 failed"),
        ("import sys; print('4 passed, 0 failed'); sys.exit(1)", "4 passed, 1 failed"),
        ("print('4 passed, 2 failed'); raise SystemExit(1)", "4 passed, 2 failed"),
        (
            "print('base (default) 6 passed in 3.61s\\n1 failed, 2 passed, 1 error in 9.48s')",
            "8 passed, 2 failed",
        ),
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
        """Needs what is not there."""
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
    assert "there is no stage for; choose of four" in capsys.readouterr().err
