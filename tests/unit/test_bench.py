"""`make bench-serving` starts; to measure needs a quiet machine, so the tests do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "bench/serving/bench.py"


def test_a_part_that_is_not_there_is_named() -> None:
    ended = subprocess.run([sys.executable, SCRIPT, "spede"], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "no part 'spede'. Choose one of: speed, promotion, memory" in ended.stderr
