"""The prediction log: a sample of the requests and answers, as Parquet in S3.

The HTTP side offers each prediction to `PredictionLog`, which takes microseconds, never waits and
never fails. The process ``python -m model_api.prediction_log`` receives and writes them.
"""

from model_api.prediction_log.sender import PredictionLog
from model_api.prediction_log.settings import Settings

__all__ = ["PredictionLog", "Settings"]
