"""scikit-learn's models that may be compiled, each with the permitted parameters, and how."""

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

from model_api.model.engines import COMPILED_ONNX
from model_api.model.untyped import Estimator, JsonObject
from model_api.preparing.compiling import trees
from model_api.preparing.compiling.drafts import Seen
from model_api.preparing.compiling.entries import Entry, Predictor, by_treelite, training
from model_api.preparing.compiling.rules import NotCompiled, anything, name_of, only, tampered

# With more nodes, a graph uses more memory than the library that it replaces.
MOST_NODES = 2_000_000


def _one_output(model: Estimator) -> None:
    classes = getattr(model, "classes_", None)
    if isinstance(classes, list) or getattr(model, "n_outputs_", 1) != 1:
        raise NotCompiled(f"{name_of(model)} with several outputs is not compiled")


# ---- linear models -------------------------------------------------------------------------------


def _logistic(model: Estimator, seen: Seen) -> Predictor:
    binary = len(model.classes_) == 2
    if len(model.coef_) != (1 if binary else len(model.classes_)):
        raise NotCompiled(f"{name_of(model)} has {len(model.coef_)} rows of coefficients")
    how = {
        "link": "logistic" if binary else "softmax",
        "label": "positive" if binary else "largest",
    }
    return _linear(model, how)


def _linear_regression(model: Estimator, seen: Seen) -> Predictor:
    return _linear(model, {"link": None, "label": None})


def _linear(model: Estimator, how: JsonObject) -> Predictor:
    coefficients, intercept = np.asarray(model.coef_), np.asarray(model.intercept_)
    if coefficients.dtype.kind != "f" or not np.isfinite(coefficients).all():
        raise NotCompiled(f"{name_of(model)} has coefficients that are not finite")
    arrays = {"coefficients": coefficients, "intercept": intercept}
    return Predictor("numpy", how, arrays)


# ---- trees of scikit-learn -----------------------------------------------------------------------


def _forest(model: Estimator, seen: Seen) -> Predictor:
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


def _gradient_boosting(model: Estimator, seen: Seen) -> Predictor:
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
    model: Estimator, table: trees.Table, how: JsonObject, seen: Seen, missing: bool
) -> Predictor:
    if len(table.feature) > MOST_NODES:
        raise NotCompiled(f"its trees have {len(table.feature)} nodes, too many to compile")
    if seen.missing and seen.sparse:
        raise NotCompiled(f"{name_of(model)} takes a sparse matrix with missing values")
    _check_narrow(model, seen)
    options = how | {"graph": COMPILED_ONNX, "missing": missing and not seen.sparse}

    def write(folder: Path) -> None:
        (folder / COMPILED_ONNX).write_bytes(trees.graph(table))

    return Predictor("onnx", options, table.arrays(), write)


def _check_narrow(model: Estimator, seen: Seen) -> None:
    """Refuse columns that a frame and an array convert to 32 bits differently."""
    columns = seen.raw or ()
    whole = [column for column in columns if column.type in ("integer", "long")]
    if whole and any(column.type == "boolean" for column in columns):
        raise NotCompiled(f"{name_of(model)} takes whole numbers and booleans, as objects")
    if len(whole) == len(columns) and not all(column.required for column in whole):
        raise NotCompiled(f"{name_of(model)} takes whole numbers that may be null")


# ---- trees by treelite ---------------------------------------------------------------------------


def _hist_gradient_boosting(model: Estimator, seen: Seen) -> Predictor:
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
    return by_treelite(treelite.sklearn.import_model(model), how, "float64")


_LINEAR = training(
    "C class_weight dual fit_intercept intercept_scaling l1_ratio max_iter n_jobs penalty"
    " random_state solver tol verbose warm_start Cs cv l1_ratios refit scoring"
    " use_legacy_attributes copy_X positive alpha alphas alpha_per_target gcv_mode"
    " store_cv_results precompute selection eps"
)
_GROWING = training(
    "bootstrap ccp_alpha class_weight criterion max_depth max_features max_leaf_nodes max_samples"
    " min_impurity_decrease min_samples_leaf min_samples_split min_weight_fraction_leaf"
    " monotonic_cst n_estimators n_jobs oob_score random_state splitter verbose warm_start"
)
_BOOSTING = _GROWING | training(
    "init learning_rate n_iter_no_change subsample tol validation_fraction alpha"
)
_HISTOGRAMS = training(
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
# scikit-learn's SVC, SGDClassifier and one-against-rest models are not listed: their labels do not
# have the largest probability.
SKLEARN: dict[type, Entry] = {
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
        # The other losses answer with the exponential of their sums.
        _HISTOGRAMS | {"loss": only("squared_error", "absolute_error", "quantile")},
        _hist_gradient_boosting,
    ),
}
