"""Streamlit's entry script: it shows only the sign-in form until a login is verified."""

from __future__ import annotations

import json

import streamlit as st

from dashboard import board, login_cookie, logins, signin
from dashboard.pages import PAGES, START
from dashboard.services import ServiceError, SignInRefused
from dashboard.session import Session, State, current, hold, resume, sign_out
from dashboard.settings import Settings
from dashboard.ui import LOGO, MARK, plain, unavailable


def main() -> None:
    """Run the page once."""
    settings = Settings.from_env()
    st.set_page_config(page_title="Lastro", page_icon=MARK, layout="wide")
    had_one = current() is not None
    session = resume(settings)
    # Declare the pages for signed-out visitors as well, without running them. An address such as
    # /models then leads to its page after the sign-in, instead of to "page not found".
    page = st.navigation(
        [
            st.Page(f"views/{name}.py", title=title, icon=icon, default=name == START)
            for name, (title, icon) in PAGES.items()
        ],
        position="sidebar" if session else "hidden",
    )
    if session is None:
        signin.page(settings, "Your login has ended. Sign in again." if had_one else None)
        return
    # The first element of the page: it replaces the sign-in form.
    first = st.empty()
    if session.ticket and not logins.logins().has_cookie(session.login):
        first.html(_fetch_cookie(session.ticket), unsafe_allow_javascript=True)
    hold(session.key, session)
    session.begin()
    st.logo(LOGO, size="large", icon_image=MARK)
    _sidebar(session)
    banner = st.container()
    try:
        board.prepare(session)
        board.check_login(session)
        page.run()
    except SignInRefused:
        sign_out()
        signin.page(settings, "MLflow no longer accepts this login. Sign in again.")
        return
    except ServiceError as error:
        unavailable(error)
    with banner:
        for service, at in sorted(session.old.items()):
            state = session.state(service)
            slow = state is State.SLOW
            st.warning(
                f"**{plain(service)} is {'slow' if slow else 'unavailable'}.** Showing data loaded "
                f"at {at.astimezone():%H:%M:%S}.",
                icon=":material/hourglass_top:" if slow else ":material/cloud_off:",
            )
    if session.waits_for:
        _watch(session)


def _fetch_cookie(ticket: str) -> str:
    """A script that fetches the login's cookie in the browser, because Streamlit cannot set one."""
    body = json.dumps(json.dumps({"ticket": ticket}))
    return (
        f"<script>fetch({json.dumps(login_cookie.path())}, "
        f'{{method: "POST", credentials: "same-origin", body: {body}}})</script>'
    )


@st.fragment(run_every=1.0)
def _watch(session: Session) -> None:
    """Run the page again as soon as a service that it no longer waited for has answered."""
    if session.has_news():
        st.rerun()


def _sidebar(session: Session) -> None:
    with st.sidebar:
        links = {"Open MLflow": session.settings.mlflow_public_url}
        links["Open Airflow"] = session.settings.airflow_url
        for label, url in links.items():
            if url:
                st.link_button(label, url, icon=":material/open_in_new:", width="stretch")
        st.caption(f"Signed in as **{plain(session.username)}**")
        with st.container(horizontal=True):
            if st.button("Refresh", icon=":material/refresh:", key="refresh"):
                session.refresh()
                st.rerun()
            if st.button("Sign out", icon=":material/logout:", key="sign_out"):
                sign_out()
                st.rerun()


main()
