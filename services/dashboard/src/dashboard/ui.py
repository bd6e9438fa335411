"""Parts that every page uses: escaping, times, links, empty states."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import streamlit as st

from dashboard.services import Slow
from dashboard.serving import COMPILED, ServedModel, ServedVersion
from dashboard.session import current
from dashboard.settings import Settings

ASSETS = Path(__file__).parent / "assets"
LOGO = str(ASSETS / "logo.svg")
MARK = str(ASSETS / "mark.svg")

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&])")


def plain(text: object) -> str:
    """Text from a service or a visitor, escaped for an element that renders Markdown."""
    return _MARKDOWN.sub(r"\\\1", str(text))


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """A time such as `3 min ago`; a dash if unknown."""
    if moment is None:
        return "-"
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def number(value: float) -> str:
    """A metric's value with four significant digits."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.4g}"


def counted(count: int, what: str) -> str:
    """A count with its noun: `1 model`, `2,000 models`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def metrics_line(metrics: dict[str, float], limit: int = 3) -> str:
    """The first metrics by name on one line: `accuracy 0.962 · f1_macro 0.954`."""
    shown = [f"{name} {number(value)}" for name, value in sorted(metrics.items())]
    more = [f"+{len(shown) - limit}"] if len(shown) > limit else []
    return " · ".join(shown[:limit] + more) or "-"


def run_link(settings: Settings, experiment_id: str, run_id: str) -> str | None:
    """The address of a run in MLflow's web interface; None without a public address."""
    if not settings.mlflow_public_url:
        return None
    return f"{settings.mlflow_public_url}/#/experiments/{quote(experiment_id)}/runs/{quote(run_id)}"


def version_link(settings: Settings, model: str, version: str) -> str | None:
    """The address of a version in MLflow's web interface; None without a public address."""
    if not settings.mlflow_public_url:
        return None
    return (
        f"{settings.mlflow_public_url}/#/models/{quote(model, safe='')}/versions/{quote(version)}"
    )


def duration(seconds: float | None) -> str:
    """A duration such as `12.5 s`, `3 min 20 s` or `2 h 5 min`; a dash if unknown."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def dag_run_link(settings: Settings, dag: str, run: str) -> str | None:
    """The address of a DAG run in Airflow's web interface; None without a public address."""
    if not settings.airflow_url:
        return None
    return f"{settings.airflow_url}/dags/{quote(dag, safe='')}/runs/{quote(run, safe='')}"


def heading(title: str, subtitle: str) -> None:
    """A page's title, and its purpose in one line."""
    st.title(title, anchor=False)
    st.caption(subtitle)


def empty(title: str, next_step: str, icon: str = ":material/inbox:") -> None:
    """An empty state: the missing thing and the next step (`next_step` is Markdown)."""
    with st.container(border=True, horizontal_alignment="center"):
        st.space("small")
        st.markdown(f"#### {icon} {title}", text_alignment="center")
        st.markdown(next_step, text_alignment="center")
        st.space("small")


def unavailable(problem: Exception | str) -> None:
    """Show that a service is unavailable or slow, with a button to try again.

    Args:
        problem: the error, or its message. For a slow service, the text says that the page shows
            the answer when it arrives.
    """
    session = current()
    slow = isinstance(problem, Slow)
    if isinstance(problem, str):
        slow = session is not None and any(problem.startswith(s) for s in session.waits_for)
    with st.container(border=True, horizontal_alignment="center"):
        st.space("small")
        title = (
            ":material/hourglass_top: Still loading" if slow else ":material/cloud_off: Unavailable"
        )
        st.markdown(f"#### {title}", text_alignment="center")
        next_step = (
            "The page shows the answer when it arrives."
            if slow
            else "Try again in a moment, or tell the operator of Lastro."
        )
        st.markdown(f"{plain(problem)} {next_step}", text_alignment="center")
        if session is not None:
            session.problems_shown += 1
            key = f"try_again_{session.problems_shown}"
            if st.button("Try again", icon=":material/refresh:", key=key):
                session.refresh()
                st.rerun()
        st.space("small")


def not_set(title: str, *variables: str) -> None:
    """An empty state: the page needs settings that are not set."""
    names = " and ".join(f"`{name}`" for name in variables)
    empty(
        title,
        f"Set {names} in the dashboard's environment, or ask the operator of Lastro.",
        icon=":material/settings:",
    )


def failed_load(model: ServedModel) -> None:
    """Show which versions the model API could not load, why, and which versions serve."""
    for alias, failure in model.failures():
        serves = alias.serves
        rest = f"Version {serves} still serves." if serves else "No version serves."
        tried = f", tried {failure.attempts} times" if failure.attempts > 1 else ""
        st.error(
            f"**{plain(model.name)}: {plain(alias.name)} points to version "
            f"{plain(failure.version)}, which could not be loaded.** {plain(rest)}\n\n"
            f"{plain(failure.reason)} ({ago(failure.at)}{tried})",
            icon=":material/error:",
        )


def engine_badge(version: ServedVersion) -> None:
    """The engine that predicts; the tooltip says how it compares with the original."""
    compiled = version.engine in COMPILED
    st.badge(
        f"{plain(version.engine)}, {'compiled' if compiled else 'native'}",
        color="violet" if compiled else "gray",
        icon=":material/bolt:" if compiled else ":material/memory:",
        help=plain(version.note) or None,
    )
