"""Drift: what a model is asked lately against what it was made for, feature by feature."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import pandas as pd
import streamlit as st

from dashboard import board, charts, drift
from dashboard.drift import MINIMUM_ROWS, Feature, Verdict
from dashboard.prediction_log import MAX_DAYS, PREDICTION, Sample
from dashboard.services import Refused, ServiceError
from dashboard.serving import ServedVersion
from dashboard.session import Session, current
from dashboard.ui import away, empty, heading, not_set, plain

WINDOWS = {
    "Last hour": timedelta(hours=1),
    "Last day": timedelta(days=1),
    "Last week": timedelta(days=7),
    "Custom": None,
}
PLOTS = 9
"""Features drawn; the others can be chosen."""

_COLORS = {
    Verdict.STABLE: "green",
    Verdict.SOME: "orange",
    Verdict.LARGE: "red",
    Verdict.UNTESTED: "gray",
}
_MARKS = {Verdict.STABLE: "✔", Verdict.SOME: "▲", Verdict.LARGE: "▲▲", Verdict.UNTESTED: "○"}


@dataclass(frozen=True)
class Window:
    """From `start` to before `end`."""

    start: datetime
    end: datetime

    def before(self) -> Window:
        """The window of the same length that ends where this one starts."""
        return Window(self.start - (self.end - self.start), self.start)


def page(session: Session) -> None:
    """Draw the page."""
    heading("Drift", "What a model is asked lately, against the data it was made for.")
    if session.log is None:
        not_set("No prediction log is set up here", "DASHBOARD_PREDICTION_LOG_URL")
        return
    board.prepare(session)
    serving = board.serving(session)
    if serving.problem:
        away(serving.problem)
        return
    models = {name: model for name, model in serving.models.items() if model.serving()}
    if not models:
        empty(
            "No model serves yet",
            "Promote a version: once it is asked for predictions, they are compared here.",
            ":material/query_stats:",
        )
        return
    where, which, when = st.columns([1.2, 1, 2], vertical_alignment="bottom")
    name = where.selectbox("Model", list(models), key="drift_model", persist_state="session")
    served = models[name].serving()
    alias = which.selectbox(
        "Alias",
        list(served),
        format_func=lambda alias: f"{alias} (v{served[alias].number})",
        key="drift_alias",
        persist_state="session",
    )
    with when:
        window = _window()
    if window is None:
        return
    try:
        _compare(session, name, served[alias], window)
    except ServiceError as error:
        away(str(error))
    except ValueError as error:
        st.warning(plain(error), icon=":material/date_range:")


def _window() -> Window | None:
    chosen = st.segmented_control(
        "Window",
        list(WINDOWS),
        default="Last day",
        required=True,
        key="drift_window",
        persist_state="session",
    )
    # To the minute, so that what was read is found again.
    now = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    if length := WINDOWS[chosen]:
        return Window(now - length, now)
    today = now.date()
    days = st.date_input(
        "Days (UTC)",
        (today - timedelta(days=2), today),
        min_value=today - timedelta(days=366),
        max_value=today,
        key="drift_days",
        help=f"At most {MAX_DAYS} days.",
    )
    if len(days) < 2:
        st.caption("Choose the last day, too.")
        return None
    first, last = days
    start = datetime.combine(first, time(), UTC)
    return Window(start, min(datetime.combine(last, time(), UTC) + timedelta(days=1), now))


def _compare(session: Session, name: str, version: ServedVersion, window: Window) -> None:
    recent = board.predictions(session, name, version.number, window.start, window.end)
    if len(recent.rows) < MINIMUM_ROWS:
        empty(
            f"Too few predictions yet ({len(recent.rows)} of at least {MINIMUM_ROWS})",
            f"Version {plain(version.number)} was asked too little in this window: "
            "choose a longer one, or come back later.",
            ":material/query_stats:",
        )
        return
    found = _reference(session, name, version, window)
    if found is None:
        return
    reference, label = found
    features = drift.compare(reference, recent.rows, outputs=(PREDICTION,))
    if not features:
        st.warning(
            "The reference and the predictions have no column in common.",
            icon=":material/rule:",
        )
        return
    _verdict(features)
    _table(features)
    _about(reference, recent, label)
    _plots(features, (label.capitalize(), "Recent predictions"))


def _reference(
    session: Session, name: str, version: ServedVersion, window: Window
) -> tuple[pd.DataFrame, str] | None:
    """The reference and what to call it; None, and said why, when there is none."""
    problem = "its run logged no reference data"
    try:
        reference = board.reference(session, version.run_id)
    except Refused as error:
        reference, problem = None, str(error)
    if reference is not None:
        return reference, "training data"
    before = window.before()
    earlier = board.predictions(session, name, version.number, before.start, before.end)
    st.info(
        f"Version {plain(version.number)} is compared with its own earlier predictions "
        f"({before.start:%d %b %H:%M} to {before.end:%d %b %H:%M} UTC): {plain(problem)}.",
        icon=":material/info:",
    )
    if len(earlier.rows) < MINIMUM_ROWS:
        empty(
            f"Too few earlier predictions ({len(earlier.rows)} of at least {MINIMUM_ROWS})",
            f"Log `{board.REFERENCE}` with the run that trains the model, or come back later.",
            ":material/query_stats:",
        )
        return None
    return earlier.rows, "earlier predictions"


def _verdict(features: list[Feature]) -> None:
    drifted = [f for f in features if f.verdict in (Verdict.SOME, Verdict.LARGE)]
    if not drifted:
        st.success(
            "**No drift.** No feature has changed enough to matter.", icon=":material/check:"
        )
        return
    names = ", ".join(f"{plain(f.name)} ({f.verdict})" for f in drifted[:5])
    more = f" and {len(drifted) - 5} more" if len(drifted) > 5 else ""
    st.warning(
        f"**{len(drifted)} of {len(features)} features drift:** {names}{more}.",
        icon=":material/trending_up:",
    )


def _table(features: list[Feature]) -> None:
    column = st.column_config
    st.dataframe(
        pd.DataFrame(
            {
                "feature": f.name,
                "verdict": f"{_MARKS[f.verdict]} {f.verdict}" + (f": {f.why}" if f.why else ""),
                "psi": f.psi,
                "test": f.test,
                "statistic": f.statistic,
                "p": f.p_raw,
                "adjusted": f.p,
                "reference": len(f.reference),
                "recent": len(f.recent),
                "missing": f.missing[1] - f.missing[0],
            }
            for f in features
        ),
        hide_index=True,
        placeholder="-",
        column_config={
            "feature": column.TextColumn("Feature", pinned=True),
            "verdict": column.TextColumn("Verdict"),
            "psi": column.NumberColumn(
                "PSI",
                format="%.3f",
                help="Population stability index, the size of the change: "
                "from 0.1 on some, from 0.25 on large.",
            ),
            "test": column.TextColumn("Test"),
            "statistic": column.NumberColumn("Statistic", format="%.4g"),
            "p": column.NumberColumn("p-value", format="%.2e"),
            "adjusted": column.NumberColumn(
                "Adjusted p",
                format="%.2e",
                help="For the number of features, after Benjamini and Hochberg.",
            ),
            "reference": column.NumberColumn("n reference"),
            "recent": column.NumberColumn("n recent"),
            "missing": column.NumberColumn(
                "Missing", format="percent", help="Share of missing values: recent less reference."
            ),
        },
    )


def _about(reference: pd.DataFrame, recent: Sample, label: str) -> None:
    files = (
        f" of {recent.files_read} of {recent.files} files, spread evenly over the window"
        if recent.files_read < recent.files
        else ""
    )
    st.caption(
        f"{len(recent.rows)} logged rows{files}, against {len(reference)} rows of {label}. "
        f"A feature drifts when its adjusted p-value is below {drift.SIGNIFICANCE} and its PSI is "
        f"{drift.SOME_CHANGE} or more."
    )


def _plots(features: list[Feature], labels: tuple[str, str]) -> None:
    drawable = {f.name: f for f in features if len(f.reference) and len(f.recent)}
    names = list(drawable)
    if len(names) > PLOTS:
        names = st.multiselect("Features drawn", names, default=names[:PLOTS], key="drift_plots")
    st.markdown(
        f':color[■]{{foreground="{charts.TEAL}"}} {plain(labels[0])} &ensp; '
        f':color[■]{{foreground="{charts.ORANGE}"}} {plain(labels[1])}'
    )
    for start in range(0, len(names), 3):
        for column, name in zip(st.columns(3), names[start : start + 3], strict=False):
            feature = drawable[name]
            with column.container(border=True):
                with st.container(horizontal=True, horizontal_alignment="distribute"):
                    st.markdown(f"**{plain(name)}**", width="content")
                    st.badge(str(feature.verdict), color=_COLORS[feature.verdict])
                st.altair_chart(
                    charts.samples(feature, labels), alt=f"Both samples of {name} as histograms"
                )
                psi = "-" if feature.psi is None else f"{feature.psi:.3f}"
                p = "-" if feature.p is None else f"{feature.p:.1e}"
                st.caption(f"{feature.test}  \nadjusted p {p}, PSI {psi}")


if __name__ == "__main__" and (session := current()):
    page(session)
