"""The models that may be compiled, each with the parameters under which it may, and how."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    Lasso,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeCV,
)
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)
from sklearn.utils import get_tags

from model_api.compiling import trees
from model_api.compiling.steps import (
    NotCompiled,
    Rule,
    Seen,
    anything,
    check,
    is_nan,
    name_of,
    only,
    tampered,
)

# Beyond it a graph takes more memory than the library that it does without.
MOST_NODES = 2_000_000


@dataclass
class Predictor:
    """A compiled model without its steps.

    Attributes:
        engine: the name of the engine that computes it.
        options: the engine's, see `model_api.engines`; without the program.
        arrays: those that the engine reads.
        write: writes the engine's other files into a folder.
        narrow: whether each column of the request is rounded to 32 bits separately.
    """

    engine: str
    options: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    write: Callable[[Path], None] = lambda folder: None
    narrow: bool = False


def listed(model: Any) -> "Build":
    """Return the function that compiles a model.

    Raises:
        NotCompiled: the model is not on the list, or has parameters that the list does not permit.
    """
    for entries in (_SKLEARN, _xgboost(), _lightgbm()):
        if type(model) in entries:
            rules, build = entries[type(model)]
            if rules is not None:
                check(model, rules)
            elif reason := tampered(model):
                raise NotCompiled(f"{name_of(model)} {reason}")
            return build
    raise NotCompiled(f"{name_of(model)} is not on the list of what is compiled")


def predictor(model: Any, seen: Seen) -> Predictor:
    """Return what a model is compiled to.

    Raises:
        NotCompiled: the model is not on the list, or something that it learnt is not supported.
    """
    build = listed(model)
    width = getattr(model, "n_features_in_", seen.width)
    if width != seen.width:
        raise NotCompiled(f"{name_of(model)} takes {width} columns, not {seen.width}")
    return build(model, seen)


def _training(names: str) -> dict[str, Rule]:
    """Return rules for parameters that matter only during training."""
    return dict.fromkeys(names.split(), anything)


def _one_output(model: Any) -> None:
    classes = getattr(model, "classes_", None)
    if isinstance(classes, list) or getattr(model, "n_outputs_", 1) != 1:
        raise NotCompiled(f"{name_of(model)} with several outputs is not compiled")


# ---- linear models -------------------------------------------------------------------------------


def _logistic(model: Any, seen: Seen) -> Predictor:
    binary = len(model.classes_) == 2
    if len(model.coef_) != (1 if binary else len(model.classes_)):
        raise NotCompiled(f"{name_of(model)} has {len(model.coef_)} rows of coefficients")
    how = {
        "link": "logistic" if binary else "softmax",
        "label": "positive" if binary else "largest",
    }
    return _linear(model, how)


def _linear_regression(model: Any, seen: Seen) -> Predictor:
    return _linear(model, {"link": None, "label": None})


def _linear(model: Any, how: dict[str, Any]) -> Predictor:
    coefficients, intercept = np.asarray(model.coef_), np.asarray(model.intercept_)
    if coefficients.dtype.kind != "f" or not np.isfinite(coefficients).all():
        raise NotCompiled(f"{name_of(model)} has coefficients that are not finite")
    arrays = {"coefficients": coefficients, "intercept": intercept}
    return Predictor("numpy", how, arrays)


# ---- trees of scikit-learn -----------------------------------------------------------------------


def _forest(model: Any, seen: Seen) -> Predictor:
    _one_output(model)
    grown = model.estimators_ if hasattr(model, "estimators_") else [model]
    expected = _TREE_OF.get(type(model))
    if any(type(tree) is not expected or tampered(tree) for tree in grown):
        raise NotCompiled(f"{name_of(model)} has trees of another kind")
    classifies = hasattr(model, "classes_")
    count = len(model.classes_) if classifies else 1
    table = trees.stack([tree.tree_ for tree in grown], count)
    missing = bool(get_tags(grown[0]).input_tags.allow_nan) and grown[0].monotonic_cst is None
    how: dict[str, Any] = {"link": "share", "label": None, "parts": len(grown)}
    if classifies:
        how["label"] = "largest-of-table"
    return _trees(model, table, how, seen, missing)


def _gradient_boosting(model: Any, seen: Seen) -> Predictor:
    _one_output(model)
    stages = model.estimators_
    if any(type(tree) is not DecisionTreeRegressor or tampered(tree) for tree in stages.flat):
        raise NotCompiled(f"{name_of(model)} has trees of another kind")
    constant = isinstance(model.init_, str) or type(model.init_) in (
        DummyClassifier,
        DummyRegressor,
    )
    if not constant or (model.init is not None and model.init != "zero"):
        raise NotCompiled(f"{name_of(model)} begins with a model of its own")
    base = model._raw_predict_init(np.zeros((1, seen.width), np.float32))[0]
    table = trees.stack(
        [tree.tree_ for tree in stages.flat],
        stages.shape[1],
        scale=model.learning_rate,
        base=base,
        turns=True,
    )
    how: dict[str, Any] = {"link": "share", "label": None, "parts": 1}
    if hasattr(model, "classes_"):
        binary = stages.shape[1] == 1
        how = {
            "link": "logistic" if binary else "softmax",
            "label": "not-negative" if binary else "largest",
        }
    return _trees(model, table, how, seen, missing=False)


def _trees(
    model: Any, table: trees.Table, how: dict[str, Any], seen: Seen, missing: bool
) -> Predictor:
    if len(table.feature) > MOST_NODES:
        raise NotCompiled(f"its trees have {len(table.feature)} nodes, too many to compile")
    if seen.missing and seen.sparse:
        raise NotCompiled(f"{name_of(model)} takes a sparse matrix with missing values")
    _check_narrow(model, seen)
    options = how | {"graph": "compiled.onnx", "missing": missing and not seen.sparse}

    def write(folder: Path) -> None:
        (folder / "compiled.onnx").write_bytes(trees.graph(table))

    return Predictor("onnx", options, table.arrays(), write)


def _check_narrow(model: Any, seen: Seen) -> None:
    """Refuse columns that a frame turns into 32 bits by another way than an array does."""
    columns = seen.raw or ()
    whole = [column for column in columns if column.type in ("integer", "long")]
    if whole and any(column.type == "boolean" for column in columns):
        raise NotCompiled(f"{name_of(model)} takes whole numbers and booleans, as objects")
    if len(whole) == len(columns) and not all(column.required for column in whole):
        raise NotCompiled(f"{name_of(model)} takes whole numbers that may be null")


# ---- trees by treelite ---------------------------------------------------------------------------


def _hist_gradient_boosting(model: Any, seen: Seen) -> Predictor:
    import treelite

    if model.is_categorical_ is not None:
        raise NotCompiled(f"{name_of(model)} has columns of categories")
    if seen.sparse:
        raise NotCompiled(f"{name_of(model)} takes a sparse matrix")
    how: dict[str, Any] = {"link": None, "label": None}
    if hasattr(model, "classes_"):
        binary = model.n_trees_per_iteration_ == 1
        how = {
            "link": "logistic" if binary else "softmax",
            "label": "not-negative" if binary else "largest",
        }
    return _treelite(treelite.sklearn.import_model(model), how, "float64")


def _treelite(model: Any, how: dict[str, Any], dtype: str, narrow: bool = False) -> Predictor:
    trees.start_with_base(model)

    def write(folder: Path) -> None:
        model.serialize(folder / "compiled.treelite")

    options = {"bounded": False} | how | {"trees": "compiled.treelite", "dtype": dtype}
    return Predictor("treelite", options, write=write, narrow=narrow)


def _xgboost_model(model: Any, seen: Seen) -> Predictor:
    import treelite

    core, how = booster(model)
    if how.pop("missing") is not None:
        raise NotCompiled(f"{name_of(model)} has a value that stands for missing ones")
    if seen.sparse:
        # There zeros are missing values.
        raise NotCompiled(f"{name_of(model)} takes a sparse matrix")
    iterations = how.pop("iterations")
    imported = treelite.frontend.from_xgboost(core[:iterations] if iterations else core)
    return _treelite(imported, how, "float32", narrow=seen.raw is not None)


def _lightgbm_model(model: Any, seen: Seen) -> Predictor:
    import lightgbm
    import treelite

    core, how = booster(model)
    iterations = how.pop("iterations")
    del how["missing"]
    if seen.sparse and seen.missing:
        raise NotCompiled(f"{name_of(model)} takes a sparse matrix with missing values")
    used = lightgbm.Booster(model_str=core.model_to_string(num_iteration=iterations))
    return _treelite(treelite.frontend.from_lightgbm(used), how, "float64")


# ---- the cores of boosted models, native or compiled ---------------------------------------------


def booster(model: Any) -> tuple[Any, dict[str, Any]]:
    """Return the core of a model of XGBoost or LightGBM, and how its scores become answers.

    The second is a dict: ``link`` and ``label``, see `model_api.engines`; ``iterations``, how many
    predict, or None for all; ``missing``, a number that means a missing value, or None;
    ``bounded``, whether values beyond 32 bits are refused.

    Raises:
        NotCompiled: the core alone would not answer as the model does.
    """
    build = listed(model)
    if build is _xgboost_model:
        return _of_xgboost(model)
    if build is _lightgbm_model:
        return _of_lightgbm(model)
    raise NotCompiled(f"{name_of(model)} is of neither library")


def _of_xgboost(model: Any) -> tuple[Any, dict[str, Any]]:
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
    # Early stopping leaves a note in the core.
    noted = core.attr("best_iteration") if wrapped else None
    best = None if noted is None else int(noted) + 1
    label = how["label"] if classifies else None
    return core, {
        "link": how["link"],
        "label": label,
        "iterations": best,
        "missing": missing,
        # The core takes its own kind of matrix, which has no infinities; its wrapper arrays.
        "bounded": not wrapped,
    }


_XGBOOST_OBJECTIVES: dict[str, dict[str, Any]] = {
    "binary:logistic": {"link": "logistic32", "label": "above-half"},
    "multi:softprob": {"link": "softmax32", "label": "largest-of-table"},
    "reg:squarederror": {"link": None, "label": None},
    "reg:absoluteerror": {"link": None, "label": None},
}


def _of_lightgbm(model: Any) -> tuple[Any, dict[str, Any]]:
    import lightgbm

    core = model if type(model) is lightgbm.Booster else model.booster_
    best = core.best_iteration if core.best_iteration > 0 else None
    lines = core.model_to_string(num_iteration=best).splitlines()
    [objective, *_] = [line for line in lines if line.startswith("objective=")] or [""]
    how = _LIGHTGBM_OBJECTIVES.get(objective.removeprefix("objective=").split(" num_class:")[0])
    classifies = hasattr(model, "classes_")
    if how is None or (type(model) is not lightgbm.Booster and classifies == (how[1] is None)):
        raise NotCompiled(f"{name_of(model)} with {objective or 'no objective'} is not compiled")
    if "average_output" in lines or "is_linear=1" in lines:
        raise NotCompiled("LightGBM whose trees are averaged, or linear, is not compiled")
    splits = [line.partition("=")[2] for line in lines if line.startswith("decision_type=")]
    kinds = {int(kind) for kinds in splits for kind in kinds.split()}
    if core.pandas_categorical or any(kind & _CATEGORICAL for kind in kinds):
        raise NotCompiled("LightGBM with columns of categories is not compiled")
    if any(kind >> 2 & 3 == _ZERO_IS_MISSING for kind in kinds):
        raise NotCompiled("LightGBM for which zero is missing is not compiled")
    link, label = how
    label = label if classifies else None
    how = {"link": link, "label": label, "iterations": best, "missing": None, "bounded": False}
    return core, how


# Of `decision_type` in a model file: a bit, and the value of the two bits of the missing type.
_CATEGORICAL, _ZERO_IS_MISSING = 1, 1
_LIGHTGBM_OBJECTIVES: dict[str, tuple[str | None, str | None]] = {
    "binary sigmoid:1": ("logistic", "above-half"),
    "multiclass": ("softmax", "largest-of-table"),
    "regression": (None, None),
    "regression_l1": (None, None),
}


# ---- the list ------------------------------------------------------------------------------------

type Rules = dict[str, Rule] | None
type Build = Callable[[Any, Seen], Predictor]
type Entry = tuple[Rules, Build]

_LINEAR = _training(
    "C class_weight dual fit_intercept intercept_scaling l1_ratio max_iter n_jobs penalty"
    " random_state solver tol verbose warm_start Cs cv l1_ratios refit scoring"
    " use_legacy_attributes copy_X positive alpha alphas alpha_per_target gcv_mode"
    " store_cv_results precompute selection eps"
)
_GROWING = _training(
    "bootstrap ccp_alpha class_weight criterion max_depth max_features max_leaf_nodes max_samples"
    " min_impurity_decrease min_samples_leaf min_samples_split min_weight_fraction_leaf"
    " monotonic_cst n_estimators n_jobs oob_score random_state splitter verbose warm_start"
)
_BOOSTING = _GROWING | _training(
    "init learning_rate n_iter_no_change subsample tol validation_fraction alpha"
)
_HISTOGRAMS = _training(
    "categorical_features class_weight early_stopping interaction_cst l2_regularization"
    " learning_rate max_bins max_depth max_features max_iter max_leaf_nodes min_samples_leaf"
    " monotonic_cst n_iter_no_change quantile random_state scoring tol validation_fraction verbose"
    " warm_start"
)
_TREE_OF: dict[type, type] = {
    DecisionTreeClassifier: DecisionTreeClassifier,
    DecisionTreeRegressor: DecisionTreeRegressor,
    RandomForestClassifier: DecisionTreeClassifier,
    RandomForestRegressor: DecisionTreeRegressor,
    ExtraTreesClassifier: ExtraTreeClassifier,
    ExtraTreesRegressor: ExtraTreeRegressor,
}
# scikit-learn's SVC, SGDClassifier and one-against-rest models are not on it: their labels are not
# those with the largest probability.
_SKLEARN: dict[type, Entry] = {
    LogisticRegression: (_LINEAR, _logistic),
    LogisticRegressionCV: (_LINEAR, _logistic),
    LinearRegression: (_LINEAR, _linear_regression),
    Ridge: (_LINEAR, _linear_regression),
    RidgeCV: (_LINEAR, _linear_regression),
    Lasso: (_LINEAR, _linear_regression),
    LassoCV: (_LINEAR, _linear_regression),
    ElasticNet: (_LINEAR, _linear_regression),
    ElasticNetCV: (_LINEAR, _linear_regression),
    **{kind: (_GROWING, _forest) for kind in _TREE_OF},
    GradientBoostingClassifier: (_BOOSTING | {"loss": only("log_loss")}, _gradient_boosting),
    GradientBoostingRegressor: (_BOOSTING | {"loss": anything}, _gradient_boosting),
    HistGradientBoostingClassifier: (
        _HISTOGRAMS | {"loss": only("log_loss")},
        _hist_gradient_boosting,
    ),
    HistGradientBoostingRegressor: (
        # The others answer with the exponential of their sums.
        _HISTOGRAMS | {"loss": only("squared_error", "absolute_error", "quantile")},
        _hist_gradient_boosting,
    ),
}
_XGBOOST_RULES = _training(
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
    # The core has a name for it, unless it is a function.
    "objective": lambda value: not callable(value),
}
_LIGHTGBM_RULES = _training(
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


def _xgboost() -> Mapping[type, Entry]:
    # A model brings its library with it: another one's need not be imported.
    if "xgboost" not in sys.modules:
        return {}
    import xgboost

    return {
        xgboost.XGBClassifier: (_XGBOOST_RULES, _xgboost_model),
        xgboost.XGBRegressor: (_XGBOOST_RULES, _xgboost_model),
        xgboost.Booster: (None, _xgboost_model),
    }


def _lightgbm() -> Mapping[type, Entry]:
    if "lightgbm" not in sys.modules:
        return {}
    import lightgbm

    return {
        lightgbm.LGBMClassifier: (_LIGHTGBM_RULES, _lightgbm_model),
        lightgbm.LGBMRegressor: (_LIGHTGBM_RULES, _lightgbm_model),
        lightgbm.Booster: (None, _lightgbm_model),
    }
