"""MLflow's contract: requests are read and answered as in `mlflow models serve`.

A body that both contracts read alike takes the fast way, without MLflow. Any other goes through the
functions of MLflow's own scoring server, which parse it, and coerce it to the signature or refuse
it. If the strict contract takes the result as well, the version's engine answers. If not, as with
null in a column of text, the original model answers, because the comparison of engines did not
include such rows.
"""

from model_api.model.invocations.common import Rows
from model_api.model.invocations.contract import Answered, Invocations, load_mlflow

__all__ = ["Answered", "Invocations", "Rows", "load_mlflow"]
