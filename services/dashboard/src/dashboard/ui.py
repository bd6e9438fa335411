"""Small pieces every page uses: escaping, times, links, empty states."""

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
    """Text from a service or a visitor, made safe for an element that reads Markdown."""
    return _MARKDOWN.sub(r"\\\1", str(text))


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """`3 min ago` and the like; a dash when unknown."""
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


def metrics_line(metrics: dict[str, float], limit: int = 3) -> str:
    """The first metrics by name in one line: `accuracy 0.962 · f1_macro 0.954`."""
    shown = [f"{name} {number(value)}" for name, value in sorted(metrics.items())]
    more = [f"+{len(shown) - limit}"] if len(shown) > limit else []
    return " · ".join(shown[:limit] + more) or "-"


def run_link(settings: Settings, experiment_id: str, run_id: str) -> str | None:
    """Address of a run in MLflow's own interface, None when no public address is set."""
    if not settings.mlflow_public_url:
        return None
    return f"{settings.mlflow_public_url}/#/experiments/{quote(experiment_id)}/runs/{quote(run_id)}"


def version_link(settings: Settings, model: str, version: str) -> str | None:
    """Address of a model version in MLflow's own interface, None when no address is set."""
    if not settings.mlflow_public_url:
        return None
    return (
        f"{settings.mlflow_public_url}/#/models/{quote(model, safe='')}/versions/{quote(version)}"
    )


def duration(seconds: float | None) -> str:
    """`12.5 s`, `3 min 20 s` or `2 h 5 min`; a dash when unknown."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def dag_run_link(settings: Settings, dag: str, run: str) -> str | None:
    """Address of a DAG run in Airflow's own interface, None when no address is set."""
    if not settings.airflow_url:
        return None
    return f"{settings.airflow_url}/dags/{quote(dag, safe='')}/runs/{quote(run, safe='')}"


def heading(title: str, subtitle: str) -> None:
    """A page's title and one line on what it is for."""
    st.title(title, anchor=False)
    st.caption(subtitle)


def empty(title: str, next_step: str, icon: str = ":material/inbox:") -> None:
    """An empty state: what is missing and what to do next (`next_step` is Markdown)."""
    with st.container(border=True, horizontal_alignment="center"):
        st.space("small")
        st.markdown(f"#### {icon} {title}", text_alignment="center")
        st.markdown(next_step, text_alignment="center")
        st.space("small")


def away(problem: Exception | str) -> None:
    """Say that a service cannot be used right now, with a button to try again.

    Args:
        problem: the error, or what it says. A slow service is told apart from one that is away:
            the page shows its answer when it comes.
    """
    session = current()
    slow = isinstance(problem, Slow)
    if isinstance(problem, str):
        slow = session is not None and any(problem.startswith(s) for s in session.waits_for)
    with st.container(border=True, horizontal_alignment="center"):
        st.space("small")
        title = ":material/hourglass_top: Still loading" if slow else ":material/cloud_off: Away"
        st.markdown(f"#### {title}", text_alignment="center")
        next_step = (
            "The page shows it when it comes."
            if slow
            else "Try again in a moment, or tell whoever runs Lastro."
        )
        st.markdown(f"{plain(problem)} {next_step}", text_alignment="center")
        if session is not None:
            session.told += 1
            key = f"try_again_{session.told}"
            if st.button("Try again", icon=":material/refresh:", key=key):
                session.refresh()
                st.rerun()
        st.space("small")


def not_set(title: str, *variables: str) -> None:
    """An empty state: a page needs settings that the dashboard does not have."""
    names = " and ".join(f"`{name}`" for name in variables)
    empty(
        title,
        f"Set {names} in the dashboard's environment, or ask whoever runs Lastro.",
        icon=":material/settings:",
    )


def failed_load(model: ServedModel) -> None:
    """Say which versions the model API could not load, why, and what goes on serving."""
    for alias, failure in model.failures():
        serves = alias.serves
        rest = f"Version {serves} goes on serving." if serves else "None serves."
        tried = f", tried {failure.attempts} times" if failure.attempts > 1 else ""
        st.error(
            f"**{plain(model.name)}: {plain(alias.name)} names version {plain(failure.version)}, "
            f"which could not be loaded.** {plain(rest)}\n\n"
            f"{plain(failure.reason)} ({ago(failure.at)}{tried})",
            icon=":material/error:",
        )


def engine_badge(version: ServedVersion) -> None:
    """What predicts, with how it compares to the original as the tooltip."""
    compiled = version.engine in COMPILED
    st.badge(
        f"{plain(version.engine)}, {'compiled' if compiled else 'native'}",
        color="violet" if compiled else "gray",
        icon=":material/bolt:" if compiled else ":material/memory:",
        help=plain(version.note) or None,
    )
