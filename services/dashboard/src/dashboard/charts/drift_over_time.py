"""Drift over time: the size of one check in each part of a window."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

import altair as alt
import pandas as pd

from dashboard.charts.colors import ORANGE, VERDICT_COLORS
from dashboard.drift import Bucket, Verdict

DRIFT_VIEWS = {
    "values": "PSI above chance",
    "missing": "Missing",
    "range": "Outside the range",
    "new values": "New values",
}
"""Checks that are drawn over time, and the title of their size."""


def over_time(buckets: Sequence[Bucket], view: str) -> alt.LayerChart:
    """The size of one check in each bucket, coloured by verdict, with untested buckets at 0.

    Args:
        buckets: the result of `drift.over_time`; at least one bucket has that check.
        view: a key of `DRIFT_VIEWS`.
    """
    rows, limit = [], 0.0
    for bucket in buckets:
        check = bucket.feature.check(view)
        limit = max(limit, check.limit if check else 0.0)
        verdict = Verdict.UNTESTED
        if check is not None:
            verdict = Verdict.DRIFTED if check.alarm else Verdict.STABLE
        rows.append(
            {
                "from": bucket.start,
                "to": bucket.end,
                "at": bucket.start + (bucket.end - bucket.start) / 2,
                "size": max(0.0, check.size) if check else 0.0,
                "verdict": str(verdict),
                "rows": bucket.feature.rows[1],
                "why": check.text if check else bucket.feature.why,
            }
        )
    table = pd.DataFrame(rows)
    high = max(limit * 1.5, float(table["size"].max()) * 1.1)
    share = view != "values"
    days = (table["to"].max() - table["from"].min()).total_seconds() > 2 * 86400
    form = "%d %b" if days else "%d %b %H:%M"
    base = alt.Chart(table, height=220).encode(
        x=alt.X(
            "at:T",
            title=None,
            axis=alt.Axis(format=form, tickCount=8, labelOverlap=True),
            scale=alt.Scale(
                type="utc", domain=[_utc(table["from"].min()), _utc(table["to"].max())]
            ),
        ),
        y=alt.Y(
            "size:Q",
            title=DRIFT_VIEWS[view],
            scale=alt.Scale(domain=[0, high], nice=False),
            axis=alt.Axis(tickCount=4, format="%" if share else ".2~f"),
        ),
        tooltip=[
            alt.Tooltip("utcfrom:N", title="from (UTC)"),
            alt.Tooltip("rows:Q"),
            alt.Tooltip("verdict:N"),
            alt.Tooltip("why:N"),
        ],
    )
    base = base.transform_calculate(utcfrom="utcFormat(datum.from, '%d %b %H:%M')")
    line = base.transform_filter(f"datum.verdict != '{Verdict.UNTESTED}'").mark_line(
        color=VERDICT_COLORS[Verdict.UNTESTED], strokeWidth=1.5
    )
    points = base.mark_point(size=70, filled=True, opacity=1).encode(
        color=alt.Color(
            "verdict:N",
            title=None,
            scale=alt.Scale(
                domain=[str(v) for v in VERDICT_COLORS], range=list(VERDICT_COLORS.values())
            ),
            legend=alt.Legend(orient="top"),
        ),
        shape=alt.Shape(
            "verdict:N",
            scale=alt.Scale(
                domain=[str(v) for v in VERDICT_COLORS], range=["triangle-up", "circle", "cross"]
            ),
        ),
    )
    rule = (
        alt.Chart(pd.DataFrame({"limit": [limit]}))
        .mark_rule(strokeDash=[5, 4], color=ORANGE)
        .encode(y="limit:Q")
    )
    return rule + line + points


def _utc(moment: pd.Timestamp) -> alt.DateTime:
    moment = moment.tz_convert(UTC)
    return alt.DateTime(
        year=moment.year,
        month=moment.month,
        date=moment.day,
        hours=moment.hour,
        minutes=moment.minute,
        utc=True,
    )
