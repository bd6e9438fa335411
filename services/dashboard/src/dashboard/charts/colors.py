"""The colours of the plots, and those that depend on the visitor's light or dark page."""

from __future__ import annotations

import altair as alt
import streamlit as st

from dashboard.drift import Verdict

# Marks have the same colour on light and dark pages, with a contrast of at least 3 to both.
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
"""Airflow's states; other states get the colour of `queued`."""

STATE_MARKS = {"success": "✔", "failed": "✖", "running": "▶", "upstream_failed": "✖"}

VERDICT_COLORS = {
    Verdict.DRIFTED: ORANGE,
    Verdict.STABLE: "#2f8f5b",
    Verdict.UNTESTED: "#8b9aa0",
}


def ink() -> tuple[str, str]:
    """The colours of text in a plot and of its background, on this visitor's page.

    Streamlit applies its theme to axes and legends, but not to text among the marks.
    """
    return ("#e4ecee", "#10191e") if st.context.theme.type == "dark" else ("#1b2a33", "#ffffff")


def shades() -> alt.SchemeParams:
    """A scale from yellow (low) to blue (high), without colours that fade into the page."""
    dark = st.context.theme.type == "dark"
    return alt.SchemeParams(name="viridis", extent=[0.3, 1.0] if dark else [0.0, 0.95])
