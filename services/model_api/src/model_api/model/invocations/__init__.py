"""MLflow's contract: a request is read and answered as `mlflow models serve` does.

A body that both contracts read alike goes the fast way, past MLflow. Any other goes through the
functions of MLflow's own scoring server: they parse it, coerce it to the signature and refuse it.
If the result is what the strict contract takes as well, the version's engine answers; if not, such
as null in a column of text, the original model does, for nothing else was compared with it.
"""

from model_api.model.invocations.common import Rows
from model_api.model.invocations.contract import Answered, Invocations, load_mlflow

__all__ = ["Answered", "Invocations", "Rows", "load_mlflow"]
