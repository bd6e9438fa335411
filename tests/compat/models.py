"""Twelve small models of different flavors and signatures, as MLflow saves them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

logging.getLogger("mlflow").setLevel(logging.ERROR)

RANDOM = np.random.default_rng(20261124)
ROWS = 120
NUMBERS = pd.DataFrame(RANDOM.normal(size=(ROWS, 3)), columns=["a", "b", "c"])
TARGET = (NUMBERS["a"] - NUMBERS["b"] * 2).to_numpy()
LABELS = np.where(TARGET > 0.5, "high", np.where(TARGET < -0.5, "low", "mid"))
WORDS = np.array(["good wine", "bad wine", "no wine at all", "good cheese", "émigré 2"])
TEXTS = pd.DataFrame({"text": WORDS[RANDOM.integers(0, 5, ROWS)], "a": NUMBERS["a"]})
PLACES = pd.DataFrame({"place": np.array(["north", "south"])[RANDOM.integers(0, 2, ROWS)]})
PLACES["a"] = NUMBERS["a"]
WHOLE = pd.DataFrame(
    {
        "small": RANDOM.integers(0, 9, ROWS).astype(np.int32),
        "large": RANDOM.integers(0, 99, ROWS),
        "flag": RANDOM.random(ROWS) < 0.5,
        "ratio": RANDOM.random(ROWS).astype(np.float32),
    }
)


class Scaled(PythonModel):
    """Multiplies a column by a parameter, and returns its unit."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[Any]:
        """Return a list of texts."""
        return [f"{a * params['factor']:.6g} {params['unit']}" for a in model_input["a"]]


class Columns(PythonModel):
    """Answers with a dict of lists."""

    def predict(self, context: Any, model_input: pd.DataFrame) -> dict[str, Any]:
        """Return two lists."""
        return {
            "double": (model_input["a"] * 2).tolist(),
            "text": [str(text).upper() for text in model_input["text"]],
        }


class Moments(PythonModel):
    """Answers with a frame that has times in it."""

    def predict(self, context: Any, model_input: pd.DataFrame) -> pd.DataFrame:
        """Return three columns."""
        return pd.DataFrame(
            {
                "later": model_input["at"] + pd.Timedelta(days=1),
                "year": model_input["at"].dt.year,
                "size": [len(raw) for raw in model_input["raw"]],
            }
        )


class Present(PythonModel):
    """Returns the columns of its input, and which of their values are missing."""

    def predict(self, context: Any, model_input: pd.DataFrame) -> list[list[str]]:
        """Return the names of the present values, for each row."""
        return [
            [str(name) for name, value in row.items() if not pd.isna(value)]
            for row in model_input.to_dict(orient="records")
        ]


class Nested(PythonModel):
    """Sums the values in lists and objects."""

    def predict(self, context: Any, model_input: pd.DataFrame) -> pd.Series:
        """Return a series."""
        return pd.Series(
            [
                sum(values) + detail["weight"]
                for values, detail in zip(model_input["values"], model_input["detail"], strict=True)
            ],
            name="total",
        )


class Hinted(PythonModel):
    """Has a type hint for a signature: MLflow passes the input on unchanged."""

    def predict(self, model_input: list[str]) -> list[str]:
        """Return the texts, longer."""
        return [text + "!" for text in model_input]


def _save(
    folder: Path, model: Any, example: Any, signature: ModelSignature | None = None, **options: Any
) -> None:
    flavor: Any = mlflow.sklearn
    match type(model).__module__.partition(".")[0]:
        case "xgboost":
            flavor, options["xgb_model"] = mlflow.xgboost, model
        case "lightgbm":
            flavor, options["lgb_model"] = mlflow.lightgbm, model
            options["serialization_format"] = "cloudpickle"
        case "sklearn":
            options["sk_model"] = model
            options["serialization_format"] = "cloudpickle"
        case _:
            flavor, options["python_model"] = mlflow.pyfunc, model
    if signature is None:
        context = (None,) if isinstance(model, PythonModel) else ()
        signature = infer_signature(example, model.predict(*context, example))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flavor.save_model(
            path=str(folder),
            signature=signature,
            input_example=example,
            pip_requirements=["numpy"],
            **options,
        )


def _imputer(folder: Path) -> None:
    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    _save(folder, model.fit(NUMBERS, LABELS), NUMBERS[:3])


def _linear(folder: Path) -> None:
    _save(folder, LogisticRegression().fit(NUMBERS, LABELS), NUMBERS[:3])


def _text(folder: Path) -> None:
    steps = make_column_transformer((TfidfVectorizer(), "text"), ("passthrough", ["a"]))
    model = make_pipeline(steps, LogisticRegression())
    _save(folder, model.fit(TEXTS, LABELS), TEXTS[:3])


def _categories(folder: Path) -> None:
    encoder = OneHotEncoder(handle_unknown="ignore")
    steps = make_column_transformer((encoder, ["place"]), ("passthrough", ["a"]))
    model = make_pipeline(steps, LogisticRegression())
    _save(folder, model.fit(PLACES, LABELS), PLACES[:3])


def _xgboost(folder: Path) -> None:
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=10, n_jobs=1)
    _save(folder, model.fit(NUMBERS, TARGET > 0), NUMBERS[:3])


def _lightgbm(folder: Path) -> None:
    import lightgbm

    rows = WHOLE[["large"]].assign(a=NUMBERS["a"])
    model = lightgbm.LGBMRegressor(n_estimators=10, n_jobs=1, verbose=-1)
    _save(folder, model.fit(rows, TARGET), rows[:3])


def _params(folder: Path) -> None:
    example = NUMBERS[["a"]][:3]
    params = ParamSchema(
        [ParamSpec("factor", DataType.double, 2.0), ParamSpec("unit", DataType.string, "kg")]
    )
    signature = ModelSignature(infer_signature(example).inputs, params=params)
    _save(folder, Scaled(), example, signature)


def _columns(folder: Path) -> None:
    _save(folder, Columns(), TEXTS[:3])


def _moments(folder: Path) -> None:
    at = pd.to_datetime(["2026-03-01T00:00:00", "2025-12-31T06:00:00"])
    example = pd.DataFrame({"at": at, "raw": [b"\xff\x00", b"x"]})
    _save(folder, Moments(), example)


def _nested(folder: Path) -> None:
    example = pd.DataFrame(
        {
            "values": [[1.0, 2.5], [0.5]],
            "detail": [{"weight": 1.5, "name": "x"}, {"weight": 2.5, "name": "y"}],
        }
    )
    _save(folder, Nested(), example)


def _hinted(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=Hinted(),
            input_example=["x", "y"],
            pip_requirements=["numpy"],
        )


def _optional(folder: Path) -> None:
    schema = Schema(
        [
            ColSpec("double", "a"),
            ColSpec("double", "b", required=False),
            ColSpec("long", "n", required=False),
            ColSpec("string", "text", required=False),
            ColSpec("boolean", "flag", required=False),
        ]
    )
    example = pd.DataFrame(
        {"a": [1.5, 2.5], "b": [0.5, 1.0], "n": [1, 2], "text": ["x", "y"], "flag": [True, False]}
    )
    _save(folder, Present(), example, ModelSignature(schema))


def _whole(folder: Path) -> None:
    _save(folder, LinearRegression().fit(WHOLE, TARGET), WHOLE[:3])


def _tensor(folder: Path) -> None:
    rows = NUMBERS.to_numpy()
    _save(folder, LinearRegression().fit(rows, TARGET), rows[:3])


def _unnamed(folder: Path) -> None:
    rows = NUMBERS.to_numpy()
    model = RandomForestRegressor(10, random_state=0).fit(rows, TARGET)
    signature = ModelSignature(Schema([ColSpec("double")] * 3), Schema([ColSpec("double")]))
    _save(folder, model, pd.DataFrame(rows[:3]), signature)


MODELS: dict[str, Callable[[Path], None]] = {
    "imputer": _imputer,
    "linear": _linear,
    "text": _text,
    "categories": _categories,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "params": _params,
    "columns": _columns,
    "moments": _moments,
    "nested": _nested,
    "hinted": _hinted,
    "optional": _optional,
    "whole": _whole,
    "tensor": _tensor,
    "unnamed": _unnamed,
}
