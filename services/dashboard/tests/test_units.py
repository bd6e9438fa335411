"""Parts that need no page: settings, throttle, input rows, escaping."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from conftest import Clock

from dashboard.fields import Field, Kind, options, to_row
from dashboard.settings import Settings, SettingsError
from dashboard.throttle import FREE_ATTEMPTS, LONGEST_WAIT, REMEMBERED_NAMES, Throttle
from dashboard.ui import ago, duration, number, plain, run_link, version_link

ENV = {
    "MLFLOW_TRACKING_URI": "http://10.0.0.1:5000/",
    "MODEL_API_URL": "http://10.0.0.2:8000",
    "MODEL_API_KEY": "a-key",
}


def test_settings_have_safe_defaults() -> None:
    settings = Settings.from_env(ENV)
    assert settings.mlflow_url == "http://10.0.0.1:5000"
    assert (settings.host, settings.port) == ("127.0.0.1", 8501)
    assert settings.airflow_url is None and settings.mlflow_public_url is None
    assert settings.model_api_hosts == ("http://10.0.0.2:8000",)
    assert settings.airflow_api_url is None and settings.prediction_log_url is None
    assert "a-key" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("MLFLOW_TRACKING_URI", "", "is not set"),
        ("MLFLOW_TRACKING_URI", "10.0.0.1:5000", "begins with http"),
        ("MLFLOW_TRACKING_URI", "http://user:pw@host", "remove them"),
        ("MODEL_API_URL", "ftp://x", "begins with http"),
        ("MODEL_API_KEY", " ", "is not set"),
        ("MODEL_API_KEY", "schlüssel", "ASCII"),
        ("AIRFLOW_URL", "javascript:alert(1)", "begins with http"),
        ("MODEL_API_HOSTS", "http://a:1 b:2", "begins with http"),
        ("AIRFLOW_API_URL", "airflow:8080", "begins with http"),
        ("DASHBOARD_PREDICTION_LOG_URL", "bucket/predictions", "s3://bucket/predictions"),
        ("DASHBOARD_PORT", "0", "between 1 and 65535"),
        ("DASHBOARD_PORT", "x", "between 1 and 65535"),
        ("DASHBOARD_COOKIE_SECRET", "short", "at least 32"),
        ("DASHBOARD_LOGIN_IDLE_HOURS", "0", "up to 168"),
        ("DASHBOARD_LOGIN_IDLE_HOURS", "nan", "up to 168"),
        ("DASHBOARD_LOGIN_IDLE_HOURS", "a day", "up to 168"),
    ],
)
def test_the_error_names_an_invalid_setting_and_its_fix(name: str, value: str, fix: str) -> None:
    with pytest.raises(SettingsError, match=name) as caught:
        Settings.from_env(ENV | {name: value})
    assert fix in str(caught.value) and "user:pw" not in str(caught.value)


def test_an_airflow_username_without_a_password_is_rejected() -> None:
    login = {"AIRFLOW_API_USERNAME": "dashboard"}
    with pytest.raises(SettingsError, match="AIRFLOW_API_PASSWORD is not set"):
        Settings.from_env(ENV | login)
    assert "hush" not in repr(Settings.from_env(ENV | login | {"AIRFLOW_API_PASSWORD": "hush"}))


def test_the_program_does_not_start_with_an_invalid_setting() -> None:
    env = {key: value for key, value in os.environ.items() if key not in ENV}
    result = subprocess.run(
        [sys.executable, "-m", "dashboard"], env=env, capture_output=True, text=True, timeout=30
    )
    assert result.returncode == 2
    assert result.stderr.startswith("dashboard: MODEL_API_KEY is not set: set it to")
    assert result.stderr.count("\n") == 1


def test_the_throttle_waits_longer_after_each_failure_up_to_a_limit() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    waits = []
    for _ in range(1100):
        assert throttle.admit("eve") == 0
        waits.append(throttle.admit("eve") if len(waits) >= FREE_ATTEMPTS else 0.0)
        clock.now += waits[-1]
    assert waits[: FREE_ATTEMPTS + 3] == [0, 0, 2, 4, 8]
    assert waits[-1] == LONGEST_WAIT
    assert throttle.admit("someone-else") == 0


def test_the_throttle_counts_running_attempts_and_resets_after_a_success() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    assert [throttle.admit("eve") > 0 for _ in range(5)] == [False, False, False, True, True]
    throttle.succeeded("eve")
    assert throttle.admit("eve") == 0


def test_the_number_of_throttled_names_is_bounded() -> None:
    throttle = Throttle(Clock())
    for i in range(REMEMBERED_NAMES + 10):
        throttle.admit(f"name-{i}")
    assert len(throttle._failures) == REMEMBERED_NAMES


def test_rows_omit_empty_optional_fields() -> None:
    fields = [
        Field("a", "double", True),
        Field("b", "long", False),
        Field("c", "string", True),
        Field("d", "string", False),
        Field("e", "datetime", True),
        Field("f", "boolean", True),
    ]
    when = "2026-01-02T03:04:00"
    entered = {"a": "0", "b": "", "c": "", "d": "", "e": when, "f": False}
    row = {"a": 0.0, "c": "", "e": when, "f": False}
    assert to_row(fields, entered) == (row, {})
    assert list(to_row(fields, entered | {"a": ""})[1]) == ["a"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("long", "9223372036854775807", 2**63 - 1),
        ("long", " -9223372036854775808 ", -(2**63)),
        ("integer", "null", None),
        ("double", "1e-320", 1e-320),
        ("double", "-Infinity", -math.inf),
        ("float", "12", 12.0),
        ("datetime", "2026-01-02T03:04:05.678901+02:00", "2026-01-02T03:04:05.678901+02:00"),
        ("datetime", "2026-01-02", "2026-01-02"),
        ("string", " null ", " null "),
        ("array", "[9007199254740993]", [2**53 + 1]),
        ("any", '"text"', "text"),
    ],
)
def test_an_entered_value_is_sent_exactly(kind: str, text: str, value: object) -> None:
    row, problems = to_row([Field("x", kind, True)], {"x": text}, {"x": None})
    assert not problems and repr(row["x"]) == repr(value)


@pytest.mark.parametrize(
    ("kind", "text", "fix"),
    [
        ("long", "3.5", "whole number"),
        ("long", "9" * 5000, "whole number"),
        ("long", "٣", "whole number"),
        ("double", "1_000", "Enter a number"),
        ("double", "1,5", "Enter a number"),
        ("datetime", "yesterday", "Enter a time"),
        ("array", "[1,", "not JSON"),
        ("array", "[" * 100_000, "nested too deeply"),
        ("map", "", "Enter a value"),
    ],
)
def test_the_error_of_an_invalid_value_says_what_to_enter(kind: str, text: str, fix: str) -> None:
    row, problems = to_row([Field("x", kind, True)], {"x": text})
    assert not row and fix in problems["x"]


def test_choices_that_python_treats_as_equal_stay_distinct() -> None:
    field = Field("x", "long", True, (0, 1))
    assert options(field, True) == [True, 0, 1]
    assert to_row([field], {"x": 1}, {"x": True}) == ({"x": 1}, {})
    assert options(Field("x", "boolean", False), False) == [None, True, False]


def test_unknown_types_are_entered_as_text() -> None:
    assert Field("x", "binary", True).kind is Kind.TEXT
    assert Field("x", "float", True).kind is Kind.NUMBER


def test_escaped_text_is_not_rendered_as_markdown() -> None:
    assert plain("![a](b) **c** :red[d] $e$ <f>") == (
        r"\!\[a\]\(b\) \*\*c\*\* \:red\[d\] \$e\$ \<f\>"
    )


def test_times_and_numbers_are_rounded_for_reading() -> None:
    now = datetime(2026, 1, 10, tzinfo=UTC)
    assert ago(None) == "-"
    assert ago(now - timedelta(seconds=5), now) == "just now"
    assert ago(now - timedelta(minutes=61), now) == "1 h ago"
    assert ago(now - timedelta(days=3), now) == "3 d ago"
    assert (duration(12.5), duration(200), duration(7500)) == ("12.5 s", "3 min 20 s", "2 h 5 min")
    assert number(0.123456) == "0.1235" and number(float("nan")) == "nan"


def test_links_are_quoted_and_omitted_without_a_public_address() -> None:
    settings = Settings.from_env(ENV | {"MLFLOW_PUBLIC_URL": "https://m.example.com/"})
    assert run_link(settings, "1", "ab") == "https://m.example.com/#/experiments/1/runs/ab"
    assert version_link(settings, "a/b", "2") == "https://m.example.com/#/models/a%2Fb/versions/2"
    assert run_link(Settings.from_env(ENV), "1", "ab") is None
