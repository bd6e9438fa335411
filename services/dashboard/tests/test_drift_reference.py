"""The reference: the data that a version is compared with."""

from __future__ import annotations

import pandas as pd

from dashboard import drift
from dashboard.drift.reference import logged_reference


def test_predictions_are_compared_with_predictions_on_held_out_rows() -> None:
    """A model that memorized its training rows predicts other rows differently."""
    rows = pd.DataFrame({"x": range(600), "prediction": ["known"] * 300 + ["new"] * 300})
    recent = pd.DataFrame({"x": range(300), "prediction": ["new"] * 300})
    marked = logged_reference(rows.assign(_held_out=[False] * 300 + [True] * 300))
    assert "_held_out" not in marked.columns and len(marked.columns["x"]) == 600
    assert "those on 300 held-out rows" in marked.predictions
    found = {f.name: f.verdict for f in drift.compare(marked.columns, recent)}
    assert found["prediction"] == "stable"
    unmarked = logged_reference(rows)
    assert "which a model knows better" in unmarked.predictions
    found = {f.name: f.verdict for f in drift.compare(unmarked.columns, recent)}
    assert found["prediction"] == "drifted"
    # Text instead of booleans, as in a file made from CSV.
    text = logged_reference(rows.assign(_held_out=["False"] * 600))
    assert text.predictions == unmarked.predictions
