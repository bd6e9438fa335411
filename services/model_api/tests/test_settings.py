"""Settings: what is refused, and that the refusal does not tell the key."""

import subprocess
import sys

import pytest
from conftest import KEY, make_settings
from pydantic import ValidationError


@pytest.mark.parametrize(
    "key",
    [
        "short",
        "a" * 64,
        "please-change-me-" + "0123456789" * 2,
        "0123456789 abcdef" * 2,
    ],
)
def test_weak_keys_are_refused_without_being_repeated(key: str) -> None:
    with pytest.raises(ValidationError) as refused:
        make_settings(key=key)
    assert key not in str(refused.value)


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(make_settings())


def test_every_wrong_variable_is_named_before_the_service_starts() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "model_api"],
        env={"MODEL_API_KEY": "short-key", "MODEL_API_PORT": "many"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "MLFLOW_TRACKING_URI: Field required" in result.stderr
    assert "MODEL_API_KEY: " in result.stderr
    assert "openssl rand -hex 32" in result.stderr
    assert "MODEL_API_PORT: " in result.stderr
    assert "short-key" not in result.stderr
    assert "Traceback" not in result.stderr
