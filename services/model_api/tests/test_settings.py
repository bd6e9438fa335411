"""Settings: invalid ones are refused before the service starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KEY = "0123456789abcdef" * 4


def start(**environment: str) -> str:
    """Start the service, which must refuse; return its message."""
    result = subprocess.run(
        [sys.executable, "-m", "model_api"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    return result.stderr


def test_every_wrong_variable_is_named() -> None:
    said = start(MODEL_API_PORT="many", MODEL_API_WORKERS="0", MODEL_API_BODY_SECONDS="-1")
    assert "MODEL_API_KEYS_FILE: Field required" in said
    assert "MODEL_API_PORT: " in said
    assert "MODEL_API_WORKERS: Input should be greater than or equal to 1" in said
    assert "MODEL_API_BODY_SECONDS: " in said


def test_a_wrong_variable_of_the_prediction_log_is_named(tmp_path: Path) -> None:
    said = start(MODEL_API_KEYS_FILE=str(tmp_path), MODEL_API_PREDICTION_LOG_SAMPLE="many")
    assert "MODEL_API_PREDICTION_LOG_SAMPLE: " in said


@pytest.mark.parametrize("key", [KEY[:31], "x" * 64, "change-me-" + KEY])
def test_weak_keys_are_refused_without_being_repeated(tmp_path: Path, key: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps([{"name": "weak", "key": key}]))
    said = start(MODEL_API_KEYS_FILE=str(file))
    assert f"MODEL_API_KEYS_FILE: {file}: the key of 'weak'" in said
    assert "openssl rand -hex 32" in said
    assert key not in said
