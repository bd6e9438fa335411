"""The prediction log: a sample of what was asked and answered, as Parquet in S3.

The HTTP side offers each prediction to `PredictionLog`, which costs it microseconds and can
neither wait nor fail. ``python -m model_api.prediction_log`` is the process that receives and
writes.
"""

from model_api.prediction_log.sender import PredictionLog
from model_api.prediction_log.settings import Settings

__all__ = ["PredictionLog", "Settings"]
