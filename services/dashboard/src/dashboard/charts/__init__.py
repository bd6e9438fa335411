"""The plots of all pages."""

from dashboard.charts.colors import SAMPLE_COLORS, STATE_MARKS, VERDICT_COLORS
from dashboard.charts.drift_over_time import DRIFT_VIEWS, over_time
from dashboard.charts.parallel_coordinates import parallel, value
from dashboard.charts.pipelines import dag_runs, gantt
from dashboard.charts.predictions import probabilities
from dashboard.charts.runs import bars, curves, labels, scatter
from dashboard.charts.samples import drawable, samples

__all__ = [
    "DRIFT_VIEWS",
    "SAMPLE_COLORS",
    "STATE_MARKS",
    "VERDICT_COLORS",
    "bars",
    "curves",
    "dag_runs",
    "drawable",
    "gantt",
    "labels",
    "over_time",
    "parallel",
    "probabilities",
    "samples",
    "scatter",
    "value",
]
