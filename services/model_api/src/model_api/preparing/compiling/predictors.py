"""The models that may be compiled."""

from model_api.model.untyped import Estimator
from model_api.preparing.compiling.boosted_models import lightgbm_entries, xgboost_entries
from model_api.preparing.compiling.drafts import Seen
from model_api.preparing.compiling.entries import Build, Predictor, permitted
from model_api.preparing.compiling.rules import NotCompiled, name_of
from model_api.preparing.compiling.sklearn_models import SKLEARN


def listed(model: Estimator) -> Build:
    """Return the function that compiles a model.

    Raises:
        NotCompiled: the model is not on the list, or has parameters that the list does not permit.
    """
    for entries in (SKLEARN, xgboost_entries(), lightgbm_entries()):
        build = permitted(model, entries)
        if build is not None:
            return build
    raise NotCompiled(f"{name_of(model)} is not on the list of what is compiled")


def predictor(model: Estimator, seen: Seen) -> Predictor:
    """Return the compiled predictor of a model.

    Raises:
        NotCompiled: the model is not on the list, or something that it learnt is not supported.
    """
    build = listed(model)
    width = getattr(model, "n_features_in_", seen.width)
    if width != seen.width:
        raise NotCompiled(f"{name_of(model)} takes {width} columns, not {seen.width}")
    return build(model, seen)
