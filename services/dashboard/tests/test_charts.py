"""The plots draw any value that a column can hold."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from dashboard import charts, drift


@pytest.mark.parametrize(
    "values",
    [[1e308, -1e308], [5e-324, 0.0], [2**62, 2**62 + 1], [np.inf, 1.0, 1.0]],
    ids=["the largest", "the smallest", "whole numbers", "infinities"],
)
def test_numbers_at_the_limits_of_floats_are_drawn(values: list[float]) -> None:
    (feature,) = drift.compare(*[pd.DataFrame({"x": values * 300})] * 2)
    assert charts.drawable(feature)
    json.dumps(charts.samples(feature, ("a", "b")).to_dict(), allow_nan=False)
