"""Sign-in: nothing is shown before it, and a visitor gets only their own login."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import ADMIN, Gate, MLflow, free_port, go, shown, sign_in
from streamlit.testing.v1 import AppTest

from dashboard.signin import throttle

App = Callable[..., AppTest]


def test_only_the_form_is_shown_before_the_sign_in(app: App, gate: Gate) -> None:
    at = app()
    assert [field.label for field in at.text_input] == ["Username", "Password"]
    assert not at.title and not at.dataframe and not at.metric and not at.sidebar.button
    assert gate.seen == 0


@pytest.mark.parametrize("page", ["overview", "models", "try_it", "drift", "pipelines"])
def test_the_address_of_a_page_leads_to_the_form_and_then_to_the_page(
    app: App, gate: Gate, page: str
) -> None:
    at = go(app(), page)
    assert [field.label for field in at.text_input] == ["Username", "Password"]
    assert not at.title and not at.dataframe and gate.seen == 0
    assert sign_in(at, *ADMIN).title[0].value == page.replace("_", " ").capitalize()


def test_a_correct_login_opens_the_overview(app: App) -> None:
    at = app(ADMIN)
    assert at.title[0].value == "Overview"
    assert "Signed in as **admin**" in shown(at)
    assert not at.exception


def test_a_wrong_password_is_refused(app: App) -> None:
    at = sign_in(app(), ADMIN[0], "wrong-password")
    assert at.error[0].value == "Wrong username or password\\."
    assert not at.title


@pytest.mark.parametrize(
    ("username", "password", "message"),
    [
        ("", "x", "Enter your MLflow username"),
        ("admin", "", "Enter your MLflow username"),
        ("a:b", "x", "cannot contain a colon"),
    ],
)
def test_invalid_input_never_reaches_mlflow(
    app: App, gate: Gate, username: str, password: str, message: str
) -> None:
    at = sign_in(app(), username, password)
    assert message in shown(at)
    assert gate.seen == 0


def test_an_attempt_while_mlflow_is_unavailable_does_not_count_as_failed(
    app: App, gate: Gate
) -> None:
    gate.open = False
    at = app()
    for _ in range(5):
        at = sign_in(at, *ADMIN)
        assert "MLflow is unavailable" in shown(at)
    gate.open = True
    assert sign_in(at, *ADMIN).title[0].value == "Overview"


def test_the_form_says_that_mlflow_cannot_be_reached(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    assert "MLflow cannot be reached" in shown(app(ADMIN))


def test_an_mlflow_without_authentication_lets_nobody_in(
    app: App, model_api: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", model_api.url)  # answers 404 or 401, checks nothing
    at = app(ADMIN)
    assert not at.title and at.error


def test_failed_attempts_block_the_name_in_every_session(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The clock is stopped, so that the wait does not end during a slow attempt.
    monkeypatch.setattr(throttle(), "_clock", lambda: 0.0)
    for _ in range(3):
        at = sign_in(app(), ADMIN[0], "wrong-password")
    at = sign_in(app(), *ADMIN)
    assert "Too many failed attempts" in shown(at)
    throttle().succeeded(ADMIN[0])
    assert sign_in(at, *ADMIN).title


def test_signing_out_removes_the_session_and_the_password(app: App) -> None:
    at = app(ADMIN)
    assert at.session_state["lastro_session"]
    at = at.button(key="sign_out").click().run()
    assert not at.title and not at.dataframe
    kept = repr(at.session_state.to_dict())
    assert "lastro_session" not in kept and ADMIN[1] not in kept


def test_the_session_state_does_not_show_the_password(app: App) -> None:
    at = app(ADMIN)
    assert ADMIN[1] not in repr(at.session_state.to_dict())
    assert ADMIN[1] not in shown(at)


def test_a_changed_password_ends_the_session(app: App, mlflow: MLflow) -> None:
    login = mlflow.create_user("dora")
    at = app(login)
    assert at.title
    body = {"username": login[0], "password": "another-password-now"}
    mlflow.call(ADMIN, "PATCH", "users/update-password", json=body)
    at = at.button(key="refresh").click().run()
    assert "no longer accepts this login" in shown(at)
    assert not at.dataframe and "lastro_session" not in at.session_state
