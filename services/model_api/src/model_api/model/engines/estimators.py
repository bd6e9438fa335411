"""Loads, searches and speeds up estimators in scikit-learn's style."""

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

from model_api.model.engines.base import MODEL_FOLDER
from model_api.model.untyped import Estimator, JsonObject


def load_estimator(folder: Path, options: JsonObject) -> Estimator:
    """Return the estimator of a prepared version, stored as ``options`` say.

    Loading runs the model's code; MLflow's own loader accepted it during preparation.
    """
    path = folder / MODEL_FOLDER / options["file"]
    for code in options.get("code") or []:
        import mlflow.pyfunc.model  # noqa: F401
        from mlflow.utils.model_utils import _add_code_to_system_path

        _add_code_to_system_path(str(folder / MODEL_FOLDER / code))
    if options["format"] == "skops":
        import skops.io

        return skops.io.load(path, trusted=options["trusted"])
    with path.open("rb") as file:
        # pickle reads what cloudpickle writes.
        return pickle.load(file)


def parts(estimator: Estimator) -> Iterator[Estimator]:
    """Yield an estimator and all estimators inside it, in any attribute."""
    seen: set[int] = set()
    waiting = [estimator]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, list | tuple):
            waiting.extend(part)
        elif isinstance(part, dict):
            waiting.extend(part.values())
        elif hasattr(part, "get_params") and hasattr(part, "__dict__"):
            waiting.extend(part.__dict__.values())
            yield part


def tune(estimator: Estimator, keep_names: bool) -> None:
    """Reduce the overhead of one request in an estimator and all estimators inside it.

    Args:
        estimator: changed in place.
        keep_names: whether its input is a frame, whose names it should still check.
    """
    for part in list(parts(estimator)):
        if not keep_names:
            # Otherwise each call warns that the array has no names.
            part.__dict__.pop("feature_names_in_", None)
        if "n_jobs" in part.__dict__:
            # The service already has the right number of processes; threads for one row cost more
            # than they save.
            part.n_jobs = 1
        if "verbose" in part.__dict__:
            part.verbose = 0


_threads = threading.local()


def configure_thread() -> None:
    """Switch off scikit-learn's check of its parameters at each call, in this thread."""
    if not getattr(_threads, "configured", False):
        import sklearn

        # The check for infinities and NaN stays on: trees refuse values beyond 32 bits.
        sklearn.set_config(skip_parameter_validation=True)
        _threads.configured = True


def one_thread() -> None:
    """Make the loaded libraries of linear algebra compute in the calling thread."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
