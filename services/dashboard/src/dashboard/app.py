"""Streamlit's entry script: nothing but the sign-in form until a login is verified."""

from __future__ import annotations

import streamlit as st

from dashboard import signin
from dashboard.services import ServiceError, SignInRefused
from dashboard.session import Session, close_session, current
from dashboard.settings import Settings
from dashboard.ui import LOGO, MARK, away, plain

PAGES = {
    "overview": ("Overview", ":material/dashboard:"),
    "experiments": ("Experiments", ":material/science:"),
    "models": ("Models", ":material/deployed_code:"),
    "try_it": ("Try it", ":material/play_circle:"),
    "drift": ("Drift", ":material/query_stats:"),
    "pipelines": ("Pipelines", ":material/account_tree:"),
}


def main() -> None:
    """Draw one run of the page."""
    settings = Settings.from_env()
    st.set_page_config(page_title="Lastro", page_icon=MARK, layout="wide")
    session = current()
    # Signed out, the pages are known but not run: an address such as /models leads there after
    # the sign-in instead of to "page not found".
    page = st.navigation(
        [
            st.Page(f"views/{name}.py", title=title, icon=icon, default=name == "overview")
            for name, (title, icon) in PAGES.items()
        ],
        position="sidebar" if session else "hidden",
    )
    if session is None:
        signin.page(settings)
        return
    session.begin()
    st.logo(LOGO, size="large", icon_image=MARK)
    _sidebar(session)
    banner = st.container()
    try:
        page.run()
    except SignInRefused:
        close_session()
        signin.page(settings, "MLflow no longer accepts this login. Sign in again.")
        return
    except ServiceError as error:
        away(str(error))
    with banner:
        for service, at in sorted(session.old.items()):
            st.warning(
                f"**{plain(service)} is away.** Showing what was loaded at "
                f"{at.astimezone():%H:%M:%S}.",
                icon=":material/cloud_off:",
            )


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
                close_session()
                st.rerun()


main()
