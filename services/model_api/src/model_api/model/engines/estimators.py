"""Estimators in scikit-learn's style: how they are loaded, searched and made quick."""

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

from model_api.model.engines.base import MODEL_FOLDER
from model_api.model.untyped import Estimator, JsonObject


def load_estimator(folder: Path, options: JsonObject) -> Estimator:
    """Return the estimator of a prepared version, stored as ``options`` say.

    Loading runs the model's code; MLflow's own loader has let it pass when it was prepared.
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
        # cloudpickle writes what pickle reads.
        return pickle.load(file)


def parts(estimator: Estimator) -> Iterator[Estimator]:
    """Yield an estimator and all estimators within it, wherever they are kept."""
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
    """Make an estimator, and all within it, answer one request with as little ado as possible.

    Args:
        estimator: changed in place.
        keep_names: whether frames come, whose names it should go on to check.
    """
    for part in list(parts(estimator)):
        if not keep_names:
            # Else each call warns that the array has no names.
            part.__dict__.pop("feature_names_in_", None)
        if "n_jobs" in part.__dict__:
            # The service has as many processes as it is to use; threads for a row cost more than
            # they save.
            part.n_jobs = 1
        if "verbose" in part.__dict__:
            part.verbose = 0


_threads = threading.local()


def configure_thread() -> None:
    """Switch off what scikit-learn checks of its parameters at each call, in this thread."""
    if not getattr(_threads, "configured", False):
        import sklearn

        # Infinities and NaN are still looked for: trees refuse what 32 bits cannot hold.
        sklearn.set_config(skip_parameter_validation=True)
        _threads.configured = True


def one_thread() -> None:
    """Have the libraries of linear algebra, once loaded, compute in the thread that asks."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
