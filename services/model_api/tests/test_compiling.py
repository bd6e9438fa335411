"""Compiled models answer as the original does; models that are not listed are not compiled.

Each entry of the list has a property test here: for rows of every kind, the compiled model gives
the original's answer, or refuses if the original refuses.
"""

import json
import math
import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lastro_pytest import examples
from mlflow.models import infer_signature
from saved_models import TARGET, X, save
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
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
    SGDClassifier,
)
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from model_api.model.batch import Batch
from model_api.model.decoding import Decoder
from model_api.model.engines import Engine, open_engine
from model_api.model.errors import RequestError
from model_api.model.layout import Layout
from model_api.model.version import open_version
from model_api.preparing import sampling
from model_api.preparing.compiling import convert as converting
from model_api.preparing.compiling.boosted_models import booster
from model_api.preparing.compiling.choose import array_will_do
from model_api.preparing.compiling.compare import Answers, Disagreement, enough
from model_api.preparing.compiling.convert import convert, within
from model_api.preparing.compiling.numbers import NUMBERS as NUMBER_STEPS
from model_api.preparing.compiling.rules import NotCompiled, check
from model_api.preparing.prepare import prepare_downloaded

pytestmark = pytest.mark.filterwarnings("ignore")

RANDOM = np.random.default_rng(5)
ROWS = 240
WORDS = np.array(["Porto", "porto", "Évora", "東京", "مرحبا", "", "a", "a b"])
# The training data: columns of each type, some with gaps.
FRAME = pd.DataFrame(
    {
        "a": RANDOM.normal(size=ROWS),
        "b": (RANDOM.normal(size=ROWS) * 1e4).round(1),
        "o": np.where(RANDOM.random(ROWS) < 0.2, np.nan, RANDOM.normal(size=ROWS)),
        "f": RANDOM.normal(size=ROWS).astype(np.float32),
        "g": RANDOM.normal(size=ROWS).astype(np.float32) * 100,
        "n": RANDOM.integers(-50, 50, ROWS),
        "m": RANDOM.choice([0, 1, 2**53 + 1, -(2**60), 2**62 + 2**38 + 1], ROWS),
        "flag": RANDOM.random(ROWS) < 0.5,
        "t": RANDOM.choice(WORDS[:6], ROWS),
        "u": RANDOM.choice(WORDS[4:], ROWS),
        "k": RANDOM.choice([1, 2, 3, 2**53 + 1], ROWS),
    }
)
TYPES = {"a": "double", "b": "double", "o": "double", "f": "float", "g": "float", "n": "long",
         "m": "long", "flag": "boolean", "t": "string", "u": "string", "k": "long"}  # fmt: skip
NUMBER = FRAME["a"] * 3 + FRAME["b"] / 1e4 + FRAME["o"].isna() + (FRAME["t"] == "Porto")
TWO = np.where(NUMBER > 0, "yes", "no")
THREE = np.digitize(NUMBER, [-1, 1])
GAPS = FRAME.assign(t=FRAME["t"].where(RANDOM.random(ROWS) < 0.8))


def decoder(columns: str, optional: str = "o") -> Decoder:
    return Decoder(
        [
            {"name": name, "type": TYPES[name], "required": name not in optional.split()}
            for name in columns.split()
        ]
    )


# ---- rows of every kind --------------------------------------------------------------------------

ODD = [0.0, -0.0, 1e-320, 1e-45, 1e-35, 2.0**24 + 1, 2.0**53 + 2, 3.4028234e38, 3.4028236e38, 1e39,
       -1e39, 1e300, -1.7e308, math.inf, -math.inf, -999.0, 0.1, 16777217.0]  # fmt: skip
WHOLE = [0, 1, -1, -999, 2**24 + 1, 2**31, 2**53, 2**53 + 1, 2**60 + 2**36 + 1, 2**62 + 2**38 + 1,
         2**63 - 1, -(2**63)]  # fmt: skip


def neighbours(value: float) -> list[float]:
    narrow = np.float32(value)
    with np.errstate(over="ignore"):
        return [
            value,
            np.nextafter(value, -math.inf),
            np.nextafter(value, math.inf),
            float(narrow),
            float(np.nextafter(narrow, np.float32(-math.inf))),
            float(np.nextafter(narrow, np.float32(math.inf))),
        ]


def values_of(name: str, required: bool, edges: list[float]) -> st.SearchStrategy[Any]:
    kind = TYPES[name]
    if kind == "boolean":
        values: st.SearchStrategy[Any] = st.booleans()
    elif kind == "string":
        values = st.sampled_from([*WORDS, "nan", "None", "?", "PORTO", "E\u0301vora", "a "])
        values |= st.text(max_size=3).filter(lambda text: text.isprintable())
    elif kind == "long":
        usual = [int(v) for v in FRAME[name][:50]] + [int(e) for e in edges if abs(e) < 2**63]
        values = st.sampled_from(usual) | st.sampled_from(WHOLE) | st.integers(-(2**63), 2**63 - 1)
    else:
        usual = [float(v) for v in FRAME[name].dropna()[:50]] + list(edges)
        values = st.sampled_from(usual).flatmap(lambda v: st.sampled_from(neighbours(v)))
        # Mostly usual values: a row with a refused value tests nothing else.
        values = values | values | st.sampled_from(usual) | st.sampled_from(ODD)
        if kind == "float":
            values = values.map(lambda v: float(np.float32(v)))
    return values if required else values | st.none()


def batches(layout: Layout, model: Any) -> st.SearchStrategy[Batch]:
    try:
        thresholds = sampling.thresholds(model)
    except Exception:
        thresholds = {}
    columns = [
        values_of(column.name, column.required, [float(v) for v in thresholds.get(place, [])[:200]])
        for place, column in enumerate(layout.columns)
    ]
    rows = st.lists(st.tuples(*columns), min_size=1, max_size=12)
    return rows.map(lambda values: Batch(layout, len(values), values))


def compiled(model: Any, layout: Layout, folder: Path) -> Engine:
    engine, options = convert(model, layout, folder)
    return open_engine(engine, folder, json.loads(json.dumps(options)))


def assert_alike(engine: Engine, model: Any, batch: Batch) -> None:
    """Fail unless the engine answers as the model does, or both refuse."""
    frame = batch.frame()
    try:
        known = answer(model, frame)
        table = model.predict_proba(frame) if hasattr(model, "predict_proba") else None
    except Exception:
        with pytest.raises((ValueError, RequestError)):
            engine.predict(batch)
        return
    found = engine.predict(batch)
    if table is None:
        assert found.shape == known.shape
        assert_near(found, known)
        return
    labels = model.classes_[found]
    np.testing.assert_array_equal(labels, known)
    both, probabilities = engine.predict_both(batch)
    np.testing.assert_array_equal(both, found)
    np.testing.assert_allclose(probabilities, table, rtol=0, atol=1e-6)


def answer(model: Any, frame: pd.DataFrame) -> Any:
    """Return MLflow's answer."""
    return model.predict(xgboost.DMatrix(frame) if type(model) is xgboost.Booster else frame)


def assert_near(found: np.ndarray, known: np.ndarray) -> None:
    """Fail unless the sums are near, with the precision of the largest number in them."""
    usual = np.abs(known[np.isfinite(known)]).max(initial=1)
    np.testing.assert_allclose(found, known, rtol=1e-6, atol=1e-7 * usual)


def assert_property(
    model: Any,
    reads: Decoder,
    folder: Path,
    count: int,
    further: Callable[[Engine, Any, Batch], None] = lambda *given: None,
) -> None:
    engine = compiled(model, reads.layout, folder)

    @settings(
        max_examples=examples(count),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=not os.environ.get("LASTRO_FULL"),
        database=None,
    )
    @given(batches(reads.layout, model))
    def alike(batch: Batch) -> None:
        assert_alike(engine, model, batch)
        further(engine, model, batch)

    alike()


# ---- the steps -----------------------------------------------------------------------------------

NUMBERS = "a b"


def scaled(*steps: Any, columns: str = NUMBERS, last: Any = None) -> tuple[Any, str]:
    # A deep tree makes the last bit of its input visible.
    model = make_pipeline(*steps, last or DecisionTreeRegressor(random_state=0))
    return model.fit(FRAME[columns.split()], NUMBER), columns


def encoded(
    *blocks: Any, columns: str, last: Any = None, frame: pd.DataFrame = FRAME, **options: Any
) -> tuple[Any, str]:
    model = make_pipeline(
        make_column_transformer(*blocks, **options), Ridge() if last is None else last
    )
    return model.fit(frame[columns.split()], NUMBER), columns


STEPS: dict[str, Callable[[], tuple[Any, str]]] = {
    "standard": lambda: scaled(StandardScaler()),
    "standard-no-mean": lambda: scaled(StandardScaler(with_mean=False)),
    "standard-no-std": lambda: scaled(StandardScaler(with_std=False)),
    "standard-float": lambda: scaled(StandardScaler(), columns="f g"),
    "standard-gaps": lambda: scaled(StandardScaler(), columns="a o"),
    "standard-whole": lambda: scaled(StandardScaler(), columns="n m"),
    "standard-booleans": lambda: scaled(StandardScaler(), columns="flag a n"),
    "min-max": lambda: scaled(MinMaxScaler((-1, 3)), columns="a b m"),
    "min-max-clip": lambda: scaled(MinMaxScaler(clip=True)),
    "min-max-float": lambda: scaled(MinMaxScaler(), columns="f g"),
    "max-abs": lambda: scaled(MaxAbsScaler()),
    "max-abs-clip": lambda: scaled(MaxAbsScaler(clip=True), columns="f g"),
    "robust": lambda: scaled(RobustScaler()),
    "robust-float": lambda: scaled(RobustScaler(unit_variance=True), columns="f g"),
    "robust-centre": lambda: scaled(RobustScaler(with_scaling=False)),
    "impute-mean": lambda: scaled(SimpleImputer(), StandardScaler(), columns="a o m"),
    "impute-median": lambda: scaled(SimpleImputer(strategy="median"), columns="a o"),
    "impute-frequent": lambda: scaled(SimpleImputer(strategy="most_frequent"), columns="a o"),
    "impute-constant": lambda: scaled(
        SimpleImputer(strategy="constant", fill_value=-9.5), columns="a o"
    ),
    "nothing": lambda: scaled("passthrough", FunctionTransformer(), make_pipeline(MaxAbsScaler())),
    "one-hot": lambda: encoded((OneHotEncoder(), ["t", "k"]), columns="t k"),
    "one-hot-ignore": lambda: encoded(
        (OneHotEncoder(handle_unknown="ignore"), ["t", "u", "k"]), columns="k t u"
    ),
    "one-hot-drop": lambda: encoded(
        (OneHotEncoder(handle_unknown="ignore", drop="first"), ["u", "t"]), columns="t u"
    ),
    "one-hot-binary": lambda: encoded(
        (OneHotEncoder(drop="if_binary", sparse_output=False), ["t", "k"]), columns="t k"
    ),
    "one-hot-given": lambda: encoded(
        (OneHotEncoder(categories=[list(WORDS)], handle_unknown="ignore"), ["t"]), columns="t"
    ),
    "one-hot-gaps": lambda: encoded(
        (OneHotEncoder(), ["t"]), ("passthrough", ["n"]), columns="t n", frame=GAPS
    ),
    "one-hot-new-gaps": lambda: encoded(
        (OneHotEncoder(handle_unknown="ignore"), ["t"]), columns="t"
    ),
    "one-hot-imputed": lambda: encoded(
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["t"]),
        (StandardScaler(), ["a"]),
        columns="a t",
        frame=GAPS,
    ),
    "one-hot-alone": lambda: (
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), Ridge()).fit(
            FRAME[["t", "u"]], NUMBER
        ),
        "t u",
    ),
    "one-hot-forest": lambda: encoded(
        (OneHotEncoder(handle_unknown="ignore"), ["t"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), ["o", "a"]),
        columns="a b t o",
        last=RandomForestRegressor(5, random_state=0),
        remainder="passthrough",
    ),
    "columns-dense": lambda: encoded(
        (OneHotEncoder(handle_unknown="ignore"), ["t"]),
        ("drop", ["n"]),
        (StandardScaler(), ["m", "n"]),
        columns="n a t m",
        last=make_pipeline(MaxAbsScaler(), DecisionTreeRegressor(random_state=0)),
        remainder="passthrough",
        sparse_threshold=0,
    ),
    "columns-by-place": lambda: encoded(
        (MinMaxScaler(), [0, 2]),
        ("passthrough", slice(1, 2)),
        (RobustScaler(), [False, False, False, True]),
        columns="a b n flag",
        last=DecisionTreeRegressor(random_state=0),
    ),
    "columns-narrow": lambda: encoded(
        ("passthrough", ["f"]),
        (StandardScaler(), ["g", "f"]),
        columns="f g a",
        last=DecisionTreeRegressor(random_state=0),
    ),
}  # fmt: skip


@cache
def step(name: str) -> tuple[Any, Decoder]:
    model, columns = STEPS[name]()
    gaps = {"one-hot-gaps": "t", "one-hot-new-gaps": "t", "one-hot-imputed": "t"}
    return model, decoder(columns, f"o {gaps.get(name, '')}")


@pytest.mark.parametrize("name", STEPS)
def test_a_compiled_step_computes_what_the_original_does(name: str, tmp_path: Path) -> None:
    model, reads = step(name)
    assert_property(model, reads, tmp_path, 90, rows_alike)


def rows_alike(engine: Any, model: Pipeline, batch: Batch) -> None:
    """Fail unless the predictor gets the same rows, to the last bit."""
    try:
        known = model[:-1].transform(batch.frame())
        if type(model[-1]) is Pipeline:
            known = model[-1][:-1].transform(known)
    except ValueError:
        return
    sparse = hasattr(known, "toarray")
    known = known.toarray() if sparse else np.asarray(known)
    rows = engine._program.rows(batch)
    np.testing.assert_array_equal(rows, known)
    assert sparse or rows.dtype == known.dtype


# ---- the models ----------------------------------------------------------------------------------


def fitted(model: Any, target: Any, columns: str = NUMBERS) -> tuple[Any, str]:
    return model.fit(FRAME[columns.split()], target), columns


MODELS: dict[str, Callable[[], tuple[Any, str]]] = {
    "logistic": lambda: fitted(LogisticRegression(), TWO, "a b n"),
    "logistic-3": lambda: fitted(LogisticRegression(C=1e6), THREE),
    "logistic-float": lambda: fitted(LogisticRegression(), THREE, "f g"),
    "logistic-liblinear": lambda: fitted(LogisticRegression(solver="liblinear"), TWO, "a n flag"),
    "logistic-gaps": lambda: fitted(
        make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()), TWO, "a o"
    ),
    "logistic-cv": lambda: fitted(
        LogisticRegressionCV(Cs=2, cv=2, use_legacy_attributes=False, l1_ratios=(0,)), TWO
    ),
    "linear": lambda: fitted(LinearRegression(), NUMBER, "a b m"),
    "linear-2": lambda: fitted(LinearRegression(), np.c_[NUMBER, -NUMBER]),
    "ridge": lambda: fitted(Ridge(), NUMBER, "f g"),
    "ridge-cv": lambda: fitted(RidgeCV(), NUMBER),
    "lasso": lambda: fitted(Lasso(0.01), NUMBER),
    "lasso-cv": lambda: fitted(LassoCV(alphas=2, cv=2), NUMBER),
    "elastic": lambda: fitted(ElasticNet(0.01, positive=True), NUMBER),
    "elastic-cv": lambda: fitted(ElasticNetCV(alphas=2, cv=2), NUMBER),
    "tree": lambda: fitted(DecisionTreeClassifier(random_state=0, max_depth=4), THREE),
    "tree-regressor": lambda: fitted(DecisionTreeRegressor(random_state=0), NUMBER, "a o"),
    # Few trees, so that votes often tie.
    "forest": lambda: fitted(RandomForestClassifier(6, random_state=0, n_jobs=2), TWO, "a b n"),
    "forest-3": lambda: fitted(
        RandomForestClassifier(6, random_state=0, max_depth=3), THREE, "f g"
    ),
    "forest-gaps": lambda: fitted(RandomForestClassifier(6, random_state=0), TWO, "o a"),
    "forest-whole": lambda: fitted(RandomForestRegressor(5, random_state=0), NUMBER, "m n"),
    "forest-new-gaps": lambda: fitted(
        RandomForestRegressor(5, random_state=0, criterion="absolute_error"), NUMBER
    ),
    "extra": lambda: fitted(ExtraTreesClassifier(6, random_state=0), THREE, "a o b"),
    "extra-regressor": lambda: fitted(ExtraTreesRegressor(5, random_state=0), NUMBER),
    "boosting": lambda: fitted(
        GradientBoostingClassifier(n_estimators=5, random_state=0), TWO, "a b m"
    ),
    "boosting-3": lambda: fitted(GradientBoostingClassifier(n_estimators=4, random_state=0), THREE),
    "boosting-zero": lambda: fitted(
        GradientBoostingClassifier(n_estimators=1, random_state=0, init="zero"),
        np.resize(["x", "y"], ROWS),
    ),
    "boosting-regressor": lambda: fitted(
        GradientBoostingRegressor(n_estimators=5, random_state=0, loss="huber"), NUMBER + 1e6
    ),
    "histograms": lambda: fitted(HistGradientBoostingClassifier(max_iter=5), TWO, "a o m"),
    "histograms-3": lambda: fitted(HistGradientBoostingClassifier(max_iter=3), THREE, "f g"),
    "histograms-regressor": lambda: fitted(
        HistGradientBoostingRegressor(max_iter=5, loss="quantile", quantile=0.4), NUMBER, "a o n"
    ),
    "xgboost": lambda: fitted(xgboost.XGBClassifier(n_estimators=5), (TWO == "yes") * 1, "a o m"),
    "xgboost-3": lambda: fitted(xgboost.XGBClassifier(n_estimators=3), THREE, "f g n flag"),
    "xgboost-scaled": lambda: fitted(
        make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=5)), THREE, "a b m"
    ),
    "xgboost-parallel": lambda: fitted(
        xgboost.XGBClassifier(n_estimators=2, num_parallel_tree=3, subsample=0.5), THREE
    ),
    "xgboost-behind-nothing": lambda: fitted(
        make_pipeline("passthrough", xgboost.XGBRegressor(n_estimators=5)), NUMBER, "a m"
    ),
    "xgboost-regressor": lambda: fitted(xgboost.XGBRegressor(n_estimators=5), NUMBER, "m n a"),
    "lightgbm": lambda: fitted(lightgbm.LGBMClassifier(n_estimators=5, verbose=-1), TWO, "a o m"),
    "lightgbm-3": lambda: fitted(lightgbm.LGBMClassifier(n_estimators=3, verbose=-1), THREE, "f n"),
    "lightgbm-goss": lambda: fitted(
        lightgbm.LGBMRegressor(n_estimators=5, verbose=-1, boosting_type="goss"), NUMBER, "m k"
    ),
    "lightgbm-l1": lambda: fitted(
        lightgbm.LGBMRegressor(n_estimators=5, verbose=-1, objective="regression_l1"), NUMBER, "f g"
    ),
}  # fmt: skip


def core(objective: str, target: Any, columns: str, **parameters: Any) -> tuple[Any, str]:
    data = xgboost.DMatrix(FRAME[columns.split()], target)
    return xgboost.train({"objective": objective} | parameters, data, 4), columns


def tied() -> tuple[Any, str]:
    """Return a forest whose two classes differ by the last bit of a 64-bit sum."""
    model, columns = fitted(RandomForestClassifier(4, random_state=0), TWO)
    rows = FRAME[["a", "b"]].to_numpy(np.float32)[:10]
    model.estimators_ = [
        DecisionTreeClassifier(max_leaf_nodes=2, max_features=1, min_samples_leaf=6).fit(
            rows, np.arange(10) >= first
        )
        for first in VOTES
    ]
    return model, columns


# Each tree's votes, out of ten, for the first class.
VOTES = (1, 2, 9, 8)
MODELS |= {
    "forest-tied": tied,
    "xgboost-core": lambda: core("binary:logistic", (TWO == "yes") * 1, "a o m"),
    "xgboost-core-3": lambda: core("multi:softprob", THREE, "a b", num_class=3),
    "xgboost-core-dropped": lambda: core("reg:absoluteerror", NUMBER, "f g", rate_drop=0.5),
    "lightgbm-core": lambda: (
        lightgbm.train(
            {"objective": "binary", "verbose": -1},
            lightgbm.Dataset(FRAME[["a", "o"]], (TWO == "yes") * 1),
            4,
        ),
        "a o",
    ),
}


@cache
def predicts(name: str) -> tuple[Any, Decoder]:
    model, columns = MODELS[name]()
    return model, decoder(columns, "o b" if name == "forest-new-gaps" else "o")


@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_model_answers_as_the_original_does(name: str, tmp_path: Path) -> None:
    assert_property(*predicts(name), tmp_path, 90)


# ---- models that are not listed ------------------------------------------------------------------


class Stricter(LogisticRegression):
    """Answers differently from its base class."""

    def predict(self, X: Any) -> Any:
        """Return the first class for all rows."""
        return np.resize(self.classes_[:1], len(X))


class OtherPipeline(Pipeline):
    """A pipeline that could do anything."""


def one_class(self: Any, X: Any) -> Any:
    return np.resize(self.classes_[:1], len(X))


def patched() -> tuple[Any, str]:
    model, columns = fitted(LogisticRegression(), TWO)
    model.predict = one_class.__get__(model)
    return model, columns


def shifted() -> tuple[Any, str]:
    model, columns = fitted(RandomForestClassifier(3), TWO)
    model.estimators_[1].predict_proba = lambda X, check_input=True: np.ones((len(X), 2))
    return model, columns


def text(vectorizer: Any) -> tuple[Any, str]:
    model = make_pipeline(make_column_transformer((vectorizer, "t")), LogisticRegression())
    return model.fit(FRAME[["t"]], TWO), "t"


def light(**parameters: Any) -> tuple[Any, str]:
    return fitted(lightgbm.LGBMClassifier(n_estimators=2, verbose=-1, **parameters), TWO)


ZEROS = FRAME[["a", "b"]].where(FRAME[["a", "b"]] > 0, 0)
GROUPS = pd.DataFrame({"a": np.zeros(2000), "n": np.arange(2000) % 8})
OTHERS: dict[str, Callable[[], tuple[Any, str]]] = {
    # Labels that are not the largest probability.
    "sgd": lambda: fitted(SGDClassifier(loss="modified_huber"), TWO),
    "svc": lambda: fitted(SVC(), TWO),
    "one-vs-rest": lambda: fitted(OneVsRestClassifier(LogisticRegression()), THREE),
    "threshold": lambda: fitted(
        FixedThresholdClassifier(LogisticRegression(), threshold=0.8), (TWO == "yes") * 1
    ),
    # Wrappers around any model.
    "grid": lambda: fitted(GridSearchCV(LogisticRegression(), {"C": [1]}, cv=2), TWO),
    "calibrated": lambda: fitted(CalibratedClassifierCV(LogisticRegression(), cv=2), TWO),
    "voting": lambda: fitted(
        VotingClassifier([("a", LogisticRegression())], voting="soft"), TWO
    ),
    "target": lambda: fitted(TransformedTargetRegressor(Ridge()), NUMBER),
    "union": lambda: scaled(FeatureUnion([("a", StandardScaler())])),
    # Code that is not the library's.
    "subclass": lambda: fitted(Stricter(), TWO),
    "patched": patched,
    "shifted": shifted,
    "function": lambda: scaled(FunctionTransformer(np.square)),
    "other-pipeline": lambda: fitted(OtherPipeline([("a", LogisticRegression())]), TWO),
    "frames": lambda: scaled(StandardScaler().set_output(transform="pandas")),
    # Each library has its own rules for splitting and comparing text.
    "count": lambda: text(CountVectorizer(lowercase=False)),
    "count-usual": lambda: text(CountVectorizer()),
    "count-letters": lambda: text(CountVectorizer(token_pattern=r"(?u)\b\w+\b")),
    "count-pairs": lambda: text(CountVectorizer(ngram_range=(1, 2), analyzer="char")),
    "tf-idf": lambda: text(TfidfVectorizer()),
    # Parameters.
    "sentinel": lambda: scaled(SimpleImputer(missing_values=-999.0)),
    "indicator": lambda: scaled(SimpleImputer(add_indicator=True), columns="a o"),
    "empty": lambda: scaled(SimpleImputer(keep_empty_features=True)),
    "ordinal": lambda: encoded((OrdinalEncoder(), ["t"]), columns="t"),
    "rare": lambda: encoded((OneHotEncoder(min_frequency=45), ["t"]), columns="t"),
    "few": lambda: encoded((OneHotEncoder(max_categories=2), ["t"]), columns="t"),
    "unknown-rare": lambda: encoded(
        (OneHotEncoder(handle_unknown="infrequent_if_exist"), ["t"]), columns="t"
    ),
    "numbers-one-hot": lambda: encoded((OneHotEncoder(), ["f"]), columns="f"),
    "weights": lambda: (
        make_pipeline(
            ColumnTransformer([("x", "passthrough", ["a"])], transformer_weights={"x": 2.0}),
            Ridge(),
        ).fit(FRAME[["a", "b"]], NUMBER),
        NUMBERS,
    ),
    "several": lambda: fitted(RandomForestClassifier(2), np.c_[TWO, TWO]),
    "begins": lambda: fitted(
        GradientBoostingClassifier(n_estimators=2, init=DummyClassifier()), TWO
    ),
    "exponential": lambda: fitted(
        GradientBoostingClassifier(n_estimators=2, loss="exponential"), TWO
    ),
    "poisson": lambda: fitted(
        HistGradientBoostingRegressor(max_iter=2, loss="poisson"), np.abs(NUMBER)
    ),
    "histogram-categories": lambda: fitted(
        HistGradientBoostingClassifier(max_iter=2, categorical_features=[1]), TWO, "a flag"
    ),
    # Boosters.
    "xgboost-missing": lambda: fitted(
        xgboost.XGBClassifier(n_estimators=2, missing=-999.0), (TWO == "yes") * 1
    ),
    "xgboost-linear": lambda: fitted(xgboost.XGBRegressor(booster="gblinear"), NUMBER),
    "xgboost-dart": lambda: fitted(xgboost.XGBRegressor(booster="dart", n_estimators=2), NUMBER),
    "xgboost-forest": lambda: fitted(xgboost.XGBRFClassifier(n_estimators=2), (TWO == "yes") * 1),
    "xgboost-counts": lambda: fitted(
        xgboost.XGBRegressor(objective="count:poisson", n_estimators=2), np.abs(NUMBER)
    ),
    "xgboost-hinge": lambda: fitted(
        xgboost.XGBClassifier(objective="binary:hinge", n_estimators=2), (TWO == "yes") * 1
    ),
    "xgboost-several": lambda: fitted(
        xgboost.XGBRegressor(n_estimators=2), np.c_[NUMBER, NUMBER]
    ),
    "xgboost-own": lambda: fitted(
        xgboost.XGBRegressor(n_estimators=2, objective=lambda y, p: (p - y, np.ones(len(y)))),
        NUMBER,
    ),
    "xgboost-core-hinge": lambda: core("binary:hinge", (TWO == "yes") * 1, NUMBERS),
    "xgboost-sparse": lambda: encoded(
        (OneHotEncoder(), ["t"]), columns="t", last=xgboost.XGBRegressor(n_estimators=2)
    ),
    "lightgbm-zero": lambda: (
        lightgbm.LGBMClassifier(n_estimators=2, verbose=-1, zero_as_missing=True).fit(ZEROS, TWO),
        NUMBERS,
    ),
    "lightgbm-linear": lambda: light(linear_tree=True),
    "lightgbm-forest": lambda: light(boosting_type="rf", bagging_fraction=0.5, bagging_freq=1),
    "lightgbm-early": lambda: light(pred_early_stop=True),
    "lightgbm-sigmoid": lambda: light(sigmoid=2.0),
    "lightgbm-one-by-one": lambda: fitted(
        lightgbm.LGBMClassifier(n_estimators=2, verbose=-1, objective="multiclassova"), THREE
    ),
    "lightgbm-categories": lambda: (
        lightgbm.LGBMClassifier(n_estimators=2, verbose=-1, min_child_samples=1).fit(
            GROUPS, GROUPS["n"] % 2, categorical_feature=["n"]
        ),
        "a n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_that_is_not_listed_is_not_compiled(name: str, tmp_path: Path) -> None:
    model, columns = OTHERS[name]()
    with pytest.raises(NotCompiled):
        convert(model, decoder(columns).layout, tmp_path)


def test_a_patched_class_is_not_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, columns = fitted(LogisticRegression(), TWO)
    monkeypatch.setattr(LogisticRegression, "predict_proba", lambda self, X: None)
    with pytest.raises(NotCompiled, match="predict_proba that is not sklearn's"):
        convert(model, decoder(columns).layout, tmp_path)


def test_a_parameter_of_a_newer_release_is_not_compiled() -> None:
    rules, _ = NUMBER_STEPS[StandardScaler]
    check(StandardScaler(), rules)
    with pytest.raises(NotCompiled, match="with_std=True"):
        check(StandardScaler(), {"copy": rules["copy"], "with_mean": rules["with_mean"]})


@pytest.mark.parametrize(
    ("columns", "optional"), [("flag a n", ""), ("n m", "m"), ("flag a", "flag"), ("t a", "")]
)
def test_columns_that_a_frame_stores_as_objects_are_not_compiled(
    columns: str, optional: str, tmp_path: Path
) -> None:
    names = columns.split()
    model = RandomForestClassifier(2).fit(FRAME[["a", "b", "f"][: len(names)]], TWO)
    with pytest.raises(NotCompiled):
        convert(model, decoder(columns, optional).layout, tmp_path)


# ---- the libraries' own cores --------------------------------------------------------------------


def missing() -> tuple[Any, str]:
    frame = FRAME[["a", "o"]].fillna(-999.0)
    return xgboost.XGBClassifier(n_estimators=5, missing=-999.0).fit(frame, THREE), "a o"


CORES = [name for name in MODELS if name.startswith(("xgboost", "lightgbm"))]


@pytest.mark.parametrize(
    "name", [*sorted(set(CORES) - {"xgboost-scaled", "xgboost-behind-nothing"}), "missing"]
)
def test_the_core_of_a_booster_answers_as_the_model_does(name: str, tmp_path: Path) -> None:
    model, reads = (missing()[0], decoder("a o")) if name == "missing" else predicts(name)
    core, how = booster(model)
    kind = type(core).__module__.partition(".")[0]
    (tmp_path / "model").mkdir()
    core.save_model(tmp_path / "model/core.ubj")
    engine = open_engine(kind, tmp_path, how | {"file": "core.ubj", "format": "text"})

    @settings(max_examples=examples(30), deadline=None, database=None, derandomize=True)
    @given(batches(reads.layout, model))
    def alike(batch: Batch) -> None:
        assert_alike(engine, model, batch)

    alike()


@pytest.mark.parametrize(
    ("model", "columns", "same"),
    [
        (make_pipeline(StandardScaler(), SVC()), "a n", True),
        (make_pipeline(StandardScaler(), xgboost.XGBClassifier()), "a b", True),
        (xgboost.XGBClassifier(), "a m", False),
        (SVC(), "a flag", False),
        (SVC(), "a t", False),
        (GridSearchCV(make_pipeline(FunctionTransformer(np.square), SVC()), {}), "a b", False),
        (make_pipeline(StandardScaler(), Stricter()), "a b", False),
    ],
)
def test_an_array_replaces_a_frame_only_for_steps_that_use_numbers(
    model: Any, columns: str, same: bool
) -> None:
    assert array_will_do(model, decoder(columns).layout) == same


# ---- how a version is prepared -------------------------------------------------------------------


def prepared(folder: Path, model: Any, example: Any, *signature: Any) -> dict[str, Any]:
    """Return the manifest of a model, prepared in ``folder / "ready"``."""
    saved = save(folder / "saved", model, example, *signature)
    return prepare_downloaded(saved, folder / "ready", name="m", version="1", run_id=None)


def ask(folder: Path, body: Any) -> Any:
    version = open_version(folder / "ready")
    batch = version.decoder.decode(json.dumps(body).encode(), 1000)
    return json.loads(b"{%b}" % version.predict(batch))["predictions"]


def test_parameters_reach_the_answering_engine(tmp_path: Path) -> None:
    model = xgboost.XGBRegressor(n_estimators=4, objective="reg:logistic").fit(X, TARGET > 0)
    signature = infer_signature(X[:4], model.predict(X[:4]), params={"output_margin": False})
    manifest = prepared(tmp_path, model, X[:4], signature)
    assert "depend on parameters" in manifest["engine_note"]
    rows = X[:20].to_dict("records")
    margin = ask(tmp_path, {"inputs": rows, "params": {"output_margin": True}})
    np.testing.assert_allclose(margin, model.predict(X[:20], output_margin=True), rtol=1e-6)
    np.testing.assert_allclose(ask(tmp_path, {"inputs": rows}), model.predict(X[:20]), rtol=1e-6)


@pytest.mark.parametrize("seconds", [0.2, 60])
def test_a_failed_conversion_costs_the_engine_and_not_the_version(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(*given: Any) -> Any:
        while seconds < 1:
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(converting, "convert", convert)
    monkeypatch.setenv("MODEL_API_PREPARE_SECONDS", str(5 * seconds))
    manifest = prepared(tmp_path, LinearRegression().fit(X, TARGET), X[:4])
    assert manifest["engine"] == "sklearn"
    reason = "took longer than 0.2 s" if seconds < 1 else "the process that converted it died"
    assert manifest["engine_note"].count(reason) == 1


def test_a_failed_conversion_says_why() -> None:
    def fail() -> None:
        raise OSError("the disk is full")

    assert within(60, lambda: [1, 2]) == [1, 2]
    with pytest.raises(NotCompiled, match="the disk is full"):
        within(60, fail)


def test_a_value_that_an_imputer_replaces_is_not_an_unknown_category(tmp_path: Path) -> None:
    frame = pd.DataFrame({"job": ["clerk", "smith", "?", "baker"] * 25, "age": np.arange(100.0)})
    imputed = make_pipeline(
        SimpleImputer(missing_values="?", strategy="most_frequent"), OneHotEncoder()
    )
    model = make_pipeline(
        make_column_transformer((imputed, ["job"]), remainder="passthrough"), LinearRegression()
    ).fit(frame, frame["age"])
    manifest = prepared(tmp_path, model, frame[:4])
    assert manifest["categories"] == {"job": ["baker", "clerk", "smith", "?"]}
    rows = [{"job": "?", "age": 3.0}]
    np.testing.assert_allclose(ask(tmp_path, rows), model.predict(pd.DataFrame(rows)))
    with pytest.raises(RequestError, match="'job'"):
        ask(tmp_path, [{"job": "pilot", "age": 3.0}])


def test_a_wrapped_encoder_refuses_unseen_values(tmp_path: Path) -> None:
    frame = FRAME[["t", "a"]]
    inner = make_pipeline(
        make_column_transformer((OrdinalEncoder(), ["t"]), remainder="passthrough"), Ridge()
    )
    model = GridSearchCV(inner, {"ridge__alpha": [1.0]}, cv=2).fit(frame, NUMBER)
    prepared(tmp_path, model, frame[:5])
    with pytest.raises(RequestError) as refused:
        ask(tmp_path, [{"t": "Porto", "a": 1.0}, {"t": "Braga", "a": 1.0}])
    assert [(e["row"], e["field"]) for e in refused.value.members["errors"]] == [(1, "t")]


def test_text_is_answered_as_by_the_original_under_any_locale(tmp_path: Path) -> None:
    words = pd.DataFrame(
        {
            "text": [
                "tr\u00e8s r\u00e9ussi",
                "d\u00e9\u00e7u",
                "I a ok",
                "\u6771\u4eac \u5927\u962a",
            ]
            * 10
        }
    )
    target = np.resize(["good", "bad", "good", "bad"], 40)
    model = make_pipeline(
        make_column_transformer((CountVectorizer(lowercase=False), "text")),
        LogisticRegression(C=10),
    ).fit(words, target)
    prepared(tmp_path, model, words[:4])
    asked = pd.DataFrame(
        {"text": ["r\u00e9ussi", "d\u00e9", "\u00e7u", "a", "", "\u5927\u962a", "TR\u00c8S"]}
    )
    assert ask(tmp_path, asked.to_dict("records")) == model.predict(asked).tolist()


# ---- the second gate -----------------------------------------------------------------------------


def test_columns_of_few_values_prove_too_little() -> None:
    layout = decoder("a t flag", "").layout

    def answers(*columns: Any) -> list[Answers]:
        values = list(zip(*(np.resize(column, 600).tolist() for column in columns), strict=True))
        return [Answers(Batch(layout, 600, values), None, None)]

    many, words, both = np.arange(600.0), [f"w{i}" for i in range(120)], [True, False]
    enough(answers(many, words, both), {})
    enough(answers(many, ["x", "y"], both), {"t": ["x", "y"]})
    for columns, name in (
        ((many[:9], words, both), "a"),
        ((many, words[:9], both), "t"),
        ((many, words, [True]), "flag"),
    ):
        with pytest.raises(Disagreement, match=f"values of '{name}'"):
            enough(answers(*columns), {})
    with pytest.raises(Disagreement, match="values of 't'"):
        enough(answers(many, ["x", "y"], both), {"t": ["x", "y", "z"]})
    with pytest.raises(Disagreement, match="only 0 rows"):
        enough([Answers(Batch(layout, 0, []), None, None)], {})
