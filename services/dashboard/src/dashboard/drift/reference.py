"""The reference: the data that a version is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dashboard.prediction_log import HELD_OUT, PREDICTION


@dataclass(frozen=True)
class Reference:
    """The data to compare with, and their label.

    `predictions` is a sentence on the rows that predictions are compared with, or empty. `requests`
    is None if rows are independent.
    """

    columns: Mapping[str, pd.Series]
    label: str
    rows: int
    predictions: str = ""
    requests: np.ndarray | None = None


def logged_reference(logged: pd.DataFrame) -> Reference:
    """The reference of a run: all its rows for the inputs, held-out rows for the predictions.

    A model knows its training rows better than new rows, so its predictions on them differ from
    those on new data even if nothing has changed.
    """
    columns = {str(column): logged[column] for column in logged.columns if column != HELD_OUT}
    if PREDICTION not in columns:
        return Reference(columns, "training data", len(logged))
    held_out = (
        logged[HELD_OUT].isin([True])
        if HELD_OUT in logged.columns
        else pd.Series(False, index=logged.index)
    )
    if held_out.any():
        columns[PREDICTION] = logged.loc[held_out, PREDICTION]
        said = f"Predictions are compared with those on {held_out.sum():,} held-out rows."
    else:
        said = (
            "The reference has no held-out rows: predictions are compared with those on the "
            "training rows, which a model knows better than new ones."
        )
    return Reference(columns, "training data", len(logged), said)
