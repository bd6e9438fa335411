"""The models of XGBoost and LightGBM that may be compiled, and the cores that predict for them."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from model_api.model.untyped import Estimator, JsonObject
from model_api.preparing.compiling.drafts import Seen
from model_api.preparing.compiling.entries import (
    Entry,
    Predictor,
    by_treelite,
    permitted,
    training,
)
from model_api.preparing.compiling.rules import NotCompiled, is_nan, name_of, only


def _xgboost_model(model: Estimator, seen: Seen) -> Predictor:
    import treelite

    core, how = booster(model)
    if how.pop("missing") is not None:
        raise NotCompiled(f"{name_of(model)} has a value that stands for missing ones")
    if seen.sparse:
        # XGBoost treats its zeros as missing values.
        raise NotCompiled(f"{name_of(model)} takes a sparse matrix")
    iterations = how.pop("iterations")
    imported = treelite.frontend.from_xgboost(core[:iterations] if iterations else core)
    return by_treelite(imported, how, "float32", narrow=seen.raw is not None)


def _lightgbm_model(model: Estimator, seen: Seen) -> Predictor:
    import lightgbm
    import treelite

    core, how = booster(model)
    iterations = how.pop("iterations")
    del how["missing"]
    if seen.sparse and seen.missing:
        raise NotCompiled(f"{name_of(model)} takes a sparse matrix with missing values")
    used = lightgbm.Booster(model_str=core.model_to_string(num_iteration=iterations))
    return by_treelite(treelite.frontend.from_lightgbm(used), how, "float64")


def booster(model: Estimator) -> tuple[Estimator, JsonObject]:
    """Return the core of an XGBoost or LightGBM model, and how its scores become answers.

    The second is a dict: ``link`` and ``label``, see `model_api.model.engines.answers`;
    ``iterations``, the number to predict with, or None for all; ``missing``, a number that means a
    missing value, or None; ``bounded``, whether values beyond 32 bits are refused.

    Raises:
        NotCompiled: the core alone would not answer as the model does.
    """
    build = permitted(model, xgboost_entries()) or permitted(model, lightgbm_entries())
    if build is _xgboost_model:
        return _of_xgboost(model)
    if build is _lightgbm_model:
        return _of_lightgbm(model)
    raise NotCompiled(f"{name_of(model)} is not on the list of what is compiled")


def _of_xgboost(model: Estimator) -> tuple[Estimator, JsonObject]:
    import xgboost

    wrapped = type(model) is not xgboost.Booster
    core = model.get_booster() if wrapped else model
    learner = json.loads(core.save_config())["learner"]
    if learner["gradient_booster"]["name"] != "gbtree":
        raise NotCompiled(f"XGBoost with the booster {learner['gradient_booster']['name']}")
    parameters = learner["learner_model_param"]
    if int(parameters.get("num_target", 1)) != 1:
        raise NotCompiled("XGBoost with several outputs is not compiled")
    if "c" in (core.feature_types or []):
        raise NotCompiled("XGBoost with columns of categories is not compiled")
    if core.num_boosted_rounds() == 0:
        raise NotCompiled("XGBoost without trees is not compiled")
    objective = learner["objective"]["name"]
    how = _XGBOOST_OBJECTIVES.get(objective)
    classifies = hasattr(model, "classes_")
    if how is None or classifies != (how["label"] is not None and wrapped):
        raise NotCompiled(f"XGBoost with the objective {objective} is not compiled")
    missing = None
    if wrapped and not is_nan(model.missing):
        missing = float(model.missing)
    # Early stopping stores its result in the core.
    noted = core.attr("best_iteration") if wrapped else None
    best = None if noted is None else int(noted) + 1
    label = how["label"] if classifies else None
    return core, {
        "link": how["link"],
        "label": label,
        "iterations": best,
        "missing": missing,
        # The core takes its own kind of matrix, which has no infinities; its wrapper takes arrays.
        "bounded": not wrapped,
    }


_XGBOOST_OBJECTIVES: dict[str, dict[str, Any]] = {
    "binary:logistic": {"link": "logistic32", "label": "above-half"},
    "multi:softprob": {"link": "softmax32", "label": "largest-of-table"},
    "reg:squarederror": {"link": None, "label": None},
    "reg:absoluteerror": {"link": None, "label": None},
}


def _of_lightgbm(model: Estimator) -> tuple[Estimator, JsonObject]:
    import lightgbm

    core = model if type(model) is lightgbm.Booster else model.booster_
    best = core.best_iteration if core.best_iteration > 0 else None
    lines = core.model_to_string(num_iteration=best).splitlines()
    [objective, *_] = [line for line in lines if line.startswith("objective=")] or [""]
    rule = _LIGHTGBM_OBJECTIVES.get(objective.removeprefix("objective=").split(" num_class:")[0])
    classifies = hasattr(model, "classes_")
    if rule is None or (type(model) is not lightgbm.Booster and classifies == (rule[1] is None)):
        raise NotCompiled(f"{name_of(model)} with {objective or 'no objective'} is not compiled")
    if "average_output" in lines or "is_linear=1" in lines:
        raise NotCompiled("LightGBM whose trees are averaged, or linear, is not compiled")
    splits = [line.partition("=")[2] for line in lines if line.startswith("decision_type=")]
    kinds = {int(kind) for kinds in splits for kind in kinds.split()}
    if core.pandas_categorical or any(kind & _CATEGORICAL for kind in kinds):
        raise NotCompiled("LightGBM with columns of categories is not compiled")
    if any(kind >> 2 & 3 == _ZERO_IS_MISSING for kind in kinds):
        raise NotCompiled("LightGBM for which zero is missing is not compiled")
    link, label = rule
    label = label if classifies else None
    how = {"link": link, "label": label, "iterations": best, "missing": None, "bounded": False}
    return core, how


# In `decision_type` of a model file: a bit, and the value of the two bits of the missing type.
_CATEGORICAL, _ZERO_IS_MISSING = 1, 1
_LIGHTGBM_OBJECTIVES: dict[str, tuple[str | None, str | None]] = {
    "binary sigmoid:1": ("logistic", "above-half"),
    "multiclass": ("softmax", "largest-of-table"),
    "regression": (None, None),
    "regression_l1": (None, None),
}


_XGBOOST_RULES = training(
    "base_score callbacks colsample_bylevel colsample_bynode colsample_bytree"
    " early_stopping_rounds enable_categorical eval_metric feature_types feature_weights gamma"
    " grow_policy importance_type interaction_constraints learning_rate max_bin max_cat_threshold"
    " max_cat_to_onehot max_delta_step max_depth max_leaves min_child_weight missing"
    " monotone_constraints n_estimators n_jobs num_parallel_tree random_state reg_alpha reg_lambda"
    " sampling_method scale_pos_weight subsample tree_method validate_parameters verbosity"
) | {
    "booster": only(None, "gbtree"),
    "device": only(None, "cpu"),
    "multi_strategy": only(None, "one_output_per_tree"),
    # The core knows it by name, unless it is a function.
    "objective": lambda value: not callable(value),
}
_LIGHTGBM_RULES = training(
    "class_weight colsample_bytree importance_type learning_rate max_depth min_child_samples"
    " min_child_weight min_split_gain n_estimators n_jobs num_leaves random_state reg_alpha"
    " reg_lambda subsample subsample_for_bin subsample_freq verbose verbosity force_col_wise"
    " force_row_wise deterministic metric max_bin min_data_in_bin min_data_in_leaf"
    " feature_fraction bagging_fraction bagging_freq lambda_l1 lambda_l2 scale_pos_weight"
    " is_unbalance extra_trees path_smooth early_stopping_round early_stopping_rounds seed"
    " num_threads"
) | {
    "boosting_type": only("gbdt", "goss"),
    "objective": lambda value: not callable(value),
}


def xgboost_entries() -> Mapping[type, Entry]:
    """Return XGBoost's classes that may be compiled."""
    # A loaded model has imported its library, so other libraries need not be imported.
    if "xgboost" not in sys.modules:
        return {}
    import xgboost

    return {
        xgboost.XGBClassifier: (_XGBOOST_RULES, _xgboost_model),
        xgboost.XGBRegressor: (_XGBOOST_RULES, _xgboost_model),
        xgboost.Booster: (None, _xgboost_model),
    }


def lightgbm_entries() -> Mapping[type, Entry]:
    """Return LightGBM's classes that may be compiled."""
    if "lightgbm" not in sys.modules:
        return {}
    import lightgbm

    return {
        lightgbm.LGBMClassifier: (_LIGHTGBM_RULES, _lightgbm_model),
        lightgbm.LGBMRegressor: (_LIGHTGBM_RULES, _lightgbm_model),
        lightgbm.Booster: (None, _lightgbm_model),
    }
