"""The colours of the plots, and those that depend on the visitor's light or dark page."""

from __future__ import annotations

import altair as alt
import streamlit as st

from dashboard.drift import Verdict

# Marks have one colour on light and dark pages: each has a contrast of 3 or more to both.
TEAL, ORANGE = "#17857e", "#cf7420"
QUIET = "#7f9097"
SAMPLE_COLORS = TEAL, ORANGE
"""The reference and the recent sample."""

STATE_COLORS = {
    "success": "#2f8f5b",
    "running": "#4a7fc4",
    "failed": "#d0504a",
    "queued": "#7c8b92",
    "upstream_failed": "#cf7420",
    "up_for_retry": "#ad8117",
    "skipped": "#a883ab",
}
"""Airflow's states; any other one is drawn as a queued one."""

STATE_MARKS = {"success": "✔", "failed": "✖", "running": "▶", "upstream_failed": "✖"}

VERDICT_COLORS = {
    Verdict.DRIFTED: ORANGE,
    Verdict.STABLE: "#2f8f5b",
    Verdict.UNTESTED: "#8b9aa0",
}


def ink() -> tuple[str, str]:
    """The colour of text in a plot and of what is behind it, on this visitor's page.

    Streamlit gives its theme to axes and legends, and not to text among the marks.
    """
    return ("#e4ecee", "#10191e") if st.context.theme.type == "dark" else ("#1b2a33", "#ffffff")


def shades() -> alt.SchemeParams:
    """Colours from low to high: yellow to blue, without those that fade into the page."""
    dark = st.context.theme.type == "dark"
    return alt.SchemeParams(name="viridis", extent=[0.3, 1.0] if dark else [0.0, 0.95])
