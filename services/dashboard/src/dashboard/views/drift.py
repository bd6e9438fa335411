"""Drift: recent inputs and predictions compared with a reference, column by column."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import board, charts, drift
from dashboard.drift import Feature, Verdict
from dashboard.drift.reference import Reference, logged_reference
from dashboard.drift.window import Window
from dashboard.prediction_log import MAX_DAYS, Sample
from dashboard.services import Refused, ServiceError
from dashboard.serving import ServedVersion
from dashboard.session import Session, current
from dashboard.ui import counted, empty, heading, not_set, plain, unavailable

WINDOWS = {
    "Last hour": timedelta(hours=1),
    "Last day": timedelta(days=1),
    "Last week": timedelta(days=7),
    "Custom": None,
}
PLOTS = 9
"""Number of columns drawn by default."""

_COLORS = {Verdict.DRIFTED: "orange", Verdict.STABLE: "green", Verdict.UNTESTED: "gray"}
_MARKS = {Verdict.DRIFTED: "▲", Verdict.STABLE: "✔", Verdict.UNTESTED: "○"}
_NAMED = 5
"""Number of columns that the verdict names."""


def page(session: Session) -> None:
    """Draw the page."""
    heading("Drift", "Recent inputs and predictions compared with the training data.")
    if session.log is None:
        not_set("No prediction log is set up here", "DASHBOARD_PREDICTION_LOG_URL")
        return
    board.prepare(session)
    serving = board.serving(session)
    if serving.problem:
        unavailable(serving.problem)
        return
    models = {name: model for name, model in serving.models.items() if model.serving()}
    if not models:
        empty(
            "No model serves yet",
            "Promote a version. Its predictions are then compared here.",
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
        unavailable(str(error))
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
    # Rounded to the minute, so that a kept answer is found again.
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
        st.caption("Choose the last day as well.")
        return None
    first, last = days
    start = datetime.combine(first, time(), UTC)
    return Window(start, min(datetime.combine(last, time(), UTC) + timedelta(days=1), now))


def _compare(session: Session, name: str, version: ServedVersion, window: Window) -> None:
    recent = board.predictions(session, name, version.number, window.start, window.end)
    if recent.rows.empty:
        empty(
            "No predictions in this window",
            f"Version {plain(version.number)} logged none. Choose a longer window, or try again "
            "later.",
            ":material/query_stats:",
        )
        return
    reference = _reference(session, name, version, window)
    if reference is None:
        return
    features = drift.compare(reference.columns, recent.rows, recent.requests, reference.requests)
    _verdict(features)
    _table(features)
    _about(reference, recent)
    _over_time(name, features, reference, recent, window)
    _plots(features, (reference.label.capitalize(), "Recent predictions"))


def _reference(
    session: Session, name: str, version: ServedVersion, window: Window
) -> Reference | None:
    """The reference, or None if there is none; the page then shows the reason."""
    problem = "Its run logged no reference data."
    try:
        logged = board.reference(session, version.run_id)
    except Refused as error:
        logged, problem = None, str(error)
    if logged is not None:
        return logged_reference(logged)
    before = window.before()
    earlier = board.predictions(session, name, version.number, before.start, before.end)
    st.info(
        f"Version {plain(version.number)} is compared with its own earlier predictions "
        f"({before.start:%d %b %H:%M} to {before.end:%d %b %H:%M} UTC). {plain(problem)}",
        icon=":material/info:",
    )
    if earlier.rows.empty:
        empty(
            "Not tested: no earlier predictions",
            f"Log `{board.REFERENCE}` with the run that trains the model, or try again later.",
            ":material/query_stats:",
        )
        return None
    columns = {str(column): earlier.rows[column] for column in earlier.rows.columns}
    return Reference(columns, "earlier predictions", len(earlier.rows), requests=earlier.requests)


def _verdict(features: list[Feature]) -> None:
    """Show one sentence on all columns; green only if every column was tested."""
    drifted, untested = (
        [f for f in features if f.verdict is verdict]
        for verdict in (Verdict.DRIFTED, Verdict.UNTESTED)
    )
    tested = len(features) - len(untested)
    rest = f" {len(untested)} not tested: {_names(untested)}." if untested else ""
    if drifted:
        st.warning(
            f"**{len(drifted)} of {len(features)} columns drifted:** {_names(drifted)}.{rest}",
            icon=":material/trending_up:",
        )
    elif not untested and features:
        st.success(
            f"**No drift** in {_columns(tested)}: no change large enough to matter.",
            icon=":material/check:",
        )
    elif tested > len(untested):
        st.info(f"**No drift in the {_columns(tested)} tested.**{rest}", icon=":material/info:")
    else:
        reasons = list(dict.fromkeys(f.untested for f in untested))
        more = f" No drift in {_columns(tested)}: {_names_of_tested(features)}." if tested else ""
        with st.container(border=True):
            st.markdown(
                f":gray-badge[:material/help: Not tested] **{_untested(features, untested)}**, "
                f"so drift is unknown. "
                f"{_sentence(reasons)}{more}"
            )


def _untested(features: list[Feature], untested: list[Feature]) -> str:
    if len(untested) == len(features):
        return f"None of {_columns(len(features))} could be tested"
    return f"{len(untested)} of {_columns(len(features))} could not be tested"


def _columns(count: int) -> str:
    return counted(count, "column")


def _names(features: list[Feature]) -> str:
    names = ", ".join(plain(f.name) for f in features[:_NAMED])
    return names + (f" and {len(features) - _NAMED} more" if len(features) > _NAMED else "")


def _names_of_tested(features: list[Feature]) -> str:
    return _names([f for f in features if f.verdict is Verdict.STABLE])


def _sentence(reasons: list[str]) -> str:
    if not reasons:
        return "The log has no columns."
    first = plain(reasons[0][:1].upper() + reasons[0][1:])
    return f"{first}." if len(reasons) == 1 else f"{first}. The table has the other reasons."


def _table(features: list[Feature]) -> None:
    column = st.column_config
    table = pd.DataFrame(
        {
            "feature": f.name,
            "verdict": f"{_MARKS[f.verdict]} {f.verdict}",
            "why": f.why,
            "psi": f.psi,
            "p": _p(f.p),
            "missing_before": f.missing[0],
            "missing": f.missing[1],
            "reference": f.rows[0],
            "recent": f.rows[1],
        }
        for f in features
    )
    colors = {f"{_MARKS[v]} {v}": charts.VERDICT_COLORS[v] for v in Verdict}
    st.dataframe(
        table.style.map(lambda text: f"color: {colors[text]}", subset=["verdict"]),
        hide_index=True,
        placeholder="-",
        column_config={
            "feature": column.TextColumn("Column", pinned=True),
            "verdict": column.TextColumn("Verdict"),
            "why": column.TextColumn("Why", width=440),
            "psi": column.NumberColumn(
                "PSI",
                format="%.2f",
                help="Population stability index: how much the values changed.",
            ),
            "p": column.TextColumn(
                "Adjusted p",
                help="The smallest p-value of the column's checks, corrected for all checks of all "
                "columns by Holm's method.",
            ),
            "missing_before": column.NumberColumn("Missing before", format="percent"),
            "missing": column.NumberColumn("Missing now", format="percent"),
            "reference": column.NumberColumn("Rows before"),
            "recent": column.NumberColumn("Rows now"),
        },
    )


def _p(value: float) -> str:
    if value != value:
        return "-"
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _about(reference: Reference, recent: Sample) -> None:
    rows = counted(len(recent.rows), "logged row")
    if recent.files_read < recent.files or len(recent.rows) < recent.logged:
        rows = (
            f"An even sample of {rows} out of {recent.logged:,} in {recent.files_read} of "
            f"{recent.files} files"
        )
    requests = len(np.unique(recent.requests))
    batches = f" of {counted(requests, 'request')}" if requests < len(recent.rows) else ""
    st.caption(
        f"{rows}{batches}, compared with {reference.rows:,} rows of {reference.label}. "
        f"{reference.predictions} "
        f"A column has drifted if a change is significant (adjusted p below "
        f"{drift.SIGNIFICANCE}) and large: a PSI of {drift.CHANGE} more than expected by chance, "
        f"or {drift.SHARE:.0%} more rows that are missing, outside the reference's range, or new "
        "to it. Similar rows of one request count as fewer rows."
    )


def _over_time(
    model: str, features: list[Feature], reference: Reference, recent: Sample, window: Window
) -> None:
    known = {f.name: f for f in features if f.name in reference.columns}
    if not known:
        return
    st.subheader("Over time", anchor=False)
    which, what = st.columns([1, 2], vertical_alignment="bottom")
    name = which.selectbox("Column", list(known), key=f"drift_column_{model}")
    buckets = drift.over_time(
        name,
        reference.columns[name],
        recent.rows[name],
        recent.at,
        window.buckets(len(recent.rows)),
        recent.requests,
        reference.requests,
    )
    made = {check.name for bucket in buckets for check in bucket.feature.checks}
    views = [view for view in charts.DRIFT_VIEWS if view in made]
    if not views:
        st.caption(
            "Not tested: every part of this window has too few rows. Choose a longer window."
        )
        return
    view = what.segmented_control(
        "Shown",
        views,
        default=known[name].test if known[name].test in views else views[0],
        required=True,
        format_func=charts.DRIFT_VIEWS.get,
        key=f"drift_view_{model}_{name}_{len(views)}",
    )
    st.altair_chart(
        charts.over_time(buckets, view), alt=f"{charts.DRIFT_VIEWS[view]} of {name} over time"
    )
    untested = sum(b.feature.verdict is Verdict.UNTESTED for b in buckets)
    said = f" {untested} of {len(buckets)} have too few rows for a test." if untested else ""
    st.caption(
        f"Each point compares {_length(buckets)} with the {plain(reference.label)} (UTC). The "
        f"dashed line is the limit of drift.{said}"
    )


def _length(buckets: list[drift.Bucket]) -> str:
    minutes = round((buckets[0].end - buckets[0].start).total_seconds() / 60)
    if minutes % 1440 == 0:
        return "a day" if minutes == 1440 else f"{minutes // 1440} days"
    return f"{minutes} minutes" if minutes < 120 else f"{minutes / 60:.3g} hours"


def _plots(features: list[Feature], labels: tuple[str, str]) -> None:
    drawable = {f.name: f for f in features if charts.drawable(f)}
    names = list(drawable)
    if not names:
        return
    st.subheader("Values", anchor=False)
    if len(names) > PLOTS:
        names = st.multiselect("Columns to draw", names, default=names[:PLOTS], key="drift_plots")
    st.markdown(
        f':color[■]{{foreground="{charts.SAMPLE_COLORS[0]}"}} {plain(labels[0])} &ensp; '
        f':color[■]{{foreground="{charts.SAMPLE_COLORS[1]}"}} {plain(labels[1])}'
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
                st.caption(plain(feature.why[:1].upper() + feature.why[1:]))


if __name__ == "__main__" and (session := current()):
    page(session)
