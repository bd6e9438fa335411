"""The sign-in form: MLflow must accept a visitor's login before anything is shown."""

from __future__ import annotations

import importlib
import math
import threading

import streamlit as st

from dashboard.logins import Login, logins
from dashboard.services import ServiceError, SignInRefused, Slow
from dashboard.session import open_session
from dashboard.settings import Settings
from dashboard.throttle import Throttle
from dashboard.tracking import Tracking
from dashboard.ui import LOGO, plain


@st.cache_resource
def throttle() -> Throttle:
    """The only throttle of this process."""
    return Throttle()


@st.cache_resource
def warm_up() -> None:
    """Import the plots, which takes seconds, while the first visitor of this process types."""
    threading.Thread(target=importlib.import_module, args=("dashboard.charts",)).start()


def log_in(settings: Settings, username: str, password: str) -> Login | str:
    """Verify a login against MLflow.

    Returns:
        The login, or a message for the visitor.
    """
    username = username.strip()
    if not username or not password:
        return "Enter your MLflow username and password."
    if ":" in username:
        return "A username cannot contain a colon."
    if wait := throttle().admit(username):
        return f"Too many failed attempts. Try again in {math.ceil(wait)} s."
    tracking = Tracking(settings.mlflow_url, username, password)
    try:
        name = tracking.check_login()
    except SignInRefused:
        return "Wrong username or password."
    except ServiceError as error:
        throttle().undecided(username)
        state = "slow" if isinstance(error, Slow) else "unavailable"
        return f"MLflow is {state}, so your login cannot be checked right now. {error}"
    finally:
        tracking.close()
    throttle().succeeded(username)
    return logins().begin(name, password)


def sign_in(settings: Settings, username: str, password: str) -> str | None:
    """Verify a login against MLflow and open the session.

    Returns:
        None after a successful sign-in, otherwise a message for the visitor.
    """
    login = log_in(settings, username, password)
    if isinstance(login, str):
        return login
    open_session(settings, login, logins().ticket(login))
    return None


def page(settings: Settings, notice: str | None = None) -> None:
    """Draw the form; after a successful sign-in, run the script again."""
    warm_up()
    # A single element, the first of the page, so that a signed-in page replaces it before it calls
    # any service.
    with st.empty().container():
        _, middle, _ = st.columns([1, 1.1, 1])
        with middle:
            _form(settings, notice)


def _form(settings: Settings, notice: str | None) -> None:
    st.space("large")
    st.image(LOGO, width=190)
    st.markdown("Models, experiments and the serving versions.")
    if notice:
        st.info(plain(notice), icon=":material/info:")
    with st.form("sign_in", enter_to_submit=True):
        username = st.text_input("Username", autocomplete="username", max_chars=128)
        password = st.text_input(
            "Password", type="password", autocomplete="current-password", max_chars=256
        )
        if st.form_submit_button("Sign in", type="primary", width="stretch"):
            with st.spinner("Checking with MLflow"):
                problem = sign_in(settings, username, password)
            if problem is None:
                st.rerun()
            st.error(plain(problem), icon=":material/error:")
    st.caption(
        "Use your MLflow login. It is valid in every tab of this browser until you sign out or do "
        f"not use it for {plain(f'{settings.login_idle_hours:g}')} hours."
    )
