"""The check of DAG files, around a stand-in for Airflow: what a file does is held back alone.

That a real DAG imports in the real Airflow is tested where Airflow is (tests/platform).
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "ansible/playbooks/files/check_dags.py"
STAND_IN = Path(__file__).parent / "stand_in"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, where Airflow's name means the stand-in."""
    monkeypatch.syspath_prepend(STAND_IN)
    spec = importlib.util.spec_from_file_location("check_dags", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    # Its processes find its functions by this name.
    monkeypatch.setitem(sys.modules, "check_dags", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SECONDS_PER_FILE", 1)
    return module


def check(script: ModuleType, tmp_path: Path, source: str) -> str | None:
    """The complaint about one file, if any."""
    (tmp_path / "dag.py").write_text(textwrap.dedent(source))
    return script.check(tmp_path / "dag.py", tmp_path)


def test_a_dag_passes(script: ModuleType, tmp_path: Path) -> None:
    assert check(script, tmp_path, "dag = 'a dag'") is None


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module", "No module named 'no_such_module'"),
        ("dag = (", "was never closed"),
        ("dag = 'not serializable'", "TypeError: cannot serialize"),
        ("import os; os._exit(0)", "ends the process that imports it"),
        ("while True: pass", "more than 1 s; a DAG file must only define tasks"),
    ],
    ids=["import", "syntax", "serialization", "exit", "hang"],
)
def test_a_file_that_is_none_is_named_with_its_reason(
    script: ModuleType, tmp_path: Path, source: str, said: str
) -> None:
    assert said in check(script, tmp_path, source)


def test_a_file_cannot_change_what_the_next_one_finds(script: ModuleType, tmp_path: Path) -> None:
    assert check(script, tmp_path, "import sys; sys.modules['json'] = None") is None
    assert check(script, tmp_path, "import json") is None


def test_the_answer_is_all_that_reaches_the_standard_output(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "good.py").write_text("print('noise')\ndag = 'a dag'")
    (tmp_path / "sub" / "bad.py").write_text("raise ValueError('of the author')")
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.read_text(), tmp_path],
        env={"PYTHONPATH": str(STAND_IN)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout) == {"sub/bad.py": "ValueError: of the author"}
    assert "noise" in result.stderr
