"""A prediction: the probability of each class."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import pandas as pd

from dashboard.charts.colors import ink


def probabilities(by_class: Mapping[str, float]) -> alt.LayerChart:
    """One bar per class, the most probable first."""
    table = pd.DataFrame({"class": by_class.keys(), "probability": by_class.values()})
    base = alt.Chart(table, height=max(60, 32 * len(table))).encode(
        x=alt.X("probability:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=None),
        y=alt.Y("class:N", title=None, sort="-x"),
        tooltip=["class:N", alt.Tooltip("probability:Q", format=".4f")],
    )
    text = alt.Text("probability:Q", format=".1%")
    return base.mark_bar(cornerRadiusEnd=3, size=18) + base.mark_text(
        align="left", dx=6, color=ink()[0]
    ).encode(text=text)
