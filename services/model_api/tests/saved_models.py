"""Small models as MLflow saves them, one of each kind, which the tests prepare and serve."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from mlflow.pyfunc import PythonModel
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

logging.getLogger("mlflow").setLevel(logging.ERROR)

X, TARGET = load_wine(return_X_y=True, as_frame=True)
LABELS = np.array(["red", "white", "rosé"])[TARGET]
MIXED = X[["alcohol", "hue", "proline"]].assign(origin=np.array(["north", "south", "é"])[TARGET])


class Length(PythonModel):
    """Returns the lengths of texts; takes a parameter."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[float]:
        """Return one number per row."""
        return [len(text) * params["factor"] for text in model_input["text"]]


class Everything(PythonModel):
    """Answers with a frame, from columns of types that no other model here takes."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Return two columns."""
        answer = pd.DataFrame({"month": model_input["at"].dt.month})
        answer["size"] = [
            len(raw) + sum(values)
            for raw, values in zip(model_input["raw"], model_input["values"], strict=True)
        ]
        return answer


class Wrong(PythonModel):
    """Answers with one number for any number of rows."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[float]:
        """Return one number."""
        return [1.0]


def save(folder: Path, model: Any, example: Any, signature: Any = ..., **options: Any) -> Path:
    """Save a model as MLflow does; infer its signature unless given."""
    module = type(model).__module__
    flavor: Any = mlflow.sklearn
    if isinstance(model, PythonModel):
        flavor = mlflow.pyfunc
        options["python_model"] = model
    elif module.startswith("xgboost"):
        flavor, options["xgb_model"] = mlflow.xgboost, model
    elif module.startswith("lightgbm"):
        flavor, options["lgb_model"] = mlflow.lightgbm, model
    elif module.startswith("onnx"):
        flavor, options["onnx_model"] = mlflow.onnx, model
    else:
        options["sk_model"] = model
        options.setdefault("serialization_format", "cloudpickle")
    if signature is ...:
        method = options.get("pyfunc_predict_fn", "predict")
        signature = infer_signature(example, getattr(model, method)(example))
    options.setdefault("pip_requirements", ["numpy"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flavor.save_model(path=str(folder), signature=signature, input_example=example, **options)
    return folder


def _sklearn(model: Any, x: Any = X, y: Any = TARGET, **options: Any) -> Callable[[Path], Path]:
    return lambda folder: save(folder, model.fit(x, y), x[:4], **options)


def _xgboost_classifier(folder: Path) -> Path:
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=20, early_stopping_rounds=2)
    return save(folder, model.fit(X, TARGET, eval_set=[(X, TARGET)], verbose=False), X[:4])


def _xgboost_booster(folder: Path) -> Path:
    import xgboost

    data = xgboost.DMatrix(X, TARGET == 0)
    model = xgboost.train({"objective": "binary:logistic"}, data, 20)
    signature = infer_signature(X[:4], model.predict(data)[:4])
    return save(folder, model, X[:4], signature)


def _xgboost_pipeline(folder: Path) -> Path:
    import xgboost

    model = make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=20))
    return save(folder, model.fit(X, TARGET), X[:4])


def _lightgbm_classifier(folder: Path) -> Path:
    import lightgbm

    model = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1, n_jobs=1)
    return save(folder, model.fit(X, LABELS), X[:4], serialization_format="cloudpickle")


def _lightgbm_booster(folder: Path) -> Path:
    import lightgbm

    data = lightgbm.Dataset(X, TARGET == 0)
    model = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 20)
    return save(folder, model, X[:4])


def _onnx(folder: Path) -> Path:
    from onnx import TensorProto, helper, numpy_helper

    linear = LinearRegression().fit(X, TARGET)
    weights = [linear.coef_.reshape(-1, 1), np.array([linear.intercept_])]
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["rows", "weights", "intercept"], ["answer"])],
        "linear",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, X.shape[1]])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [None, 1])],
        [
            numpy_helper.from_array(values.astype(np.float32), name)
            for name, values in zip(["weights", "intercept"], weights, strict=True)
        ],
    )
    opsets = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    signature = infer_signature(X[:4], np.zeros(4))
    return save(folder, model, X[:4], signature)


def _params(folder: Path) -> Path:
    example = pd.DataFrame({"text": ["a", "bc"]})
    signature = infer_signature(example, [1.0], params={"factor": 2.0})
    return save(folder, Length(), (example, {"factor": 3.0}), signature)


def _everything(folder: Path) -> Path:
    example = pd.DataFrame(
        {"at": pd.to_datetime(["2026-03-01"]), "raw": [b"\xff\x00"], "values": [[1.0, 2.5]]}
    )
    return save(folder, Everything(), example, infer_signature(example))


KINDS: dict[str, Callable[[Path], Path]] = {
    "logistic": _sklearn(LogisticRegression(max_iter=5000), y=LABELS),
    "pipeline": _sklearn(make_pipeline(StandardScaler(), LogisticRegression())),
    "forest": _sklearn(RandomForestClassifier(100, random_state=0), y=LABELS),
    "scaled-forest": _sklearn(
        make_pipeline(StandardScaler(), RandomForestRegressor(10, random_state=0))
    ),
    "boosting": _sklearn(GradientBoostingClassifier(n_estimators=20, random_state=0)),
    "histograms": _sklearn(HistGradientBoostingRegressor(max_iter=20, random_state=0)),
    "bayes": _sklearn(GaussianNB()),
    "multi-output": _sklearn(LinearRegression(), y=np.c_[TARGET, TARGET * 2.5]),
    "outliers": _sklearn(IsolationForest(n_estimators=10, random_state=0)),
    "clusters": _sklearn(KMeans(3, random_state=0, n_init=1)),
    "array": _sklearn(LogisticRegression(max_iter=5000), x=X.to_numpy()),
    "probabilities": _sklearn(LogisticRegression(max_iter=5000), pyfunc_predict_fn="predict_proba"),
    "mixed": _sklearn(
        make_pipeline(
            make_column_transformer(
                (OneHotEncoder(), ["origin"]), (StandardScaler(), ["alcohol", "hue", "proline"])
            ),
            LogisticRegression(),
        ),
        x=MIXED,
    ),
    "custom-step": _sklearn(
        make_pipeline(FunctionTransformer(np.log1p), StandardScaler(), LogisticRegression())
    ),
    "skops": _sklearn(LogisticRegression(max_iter=5000), serialization_format="skops"),
    "xgboost": _xgboost_classifier,
    "xgboost-booster": _xgboost_booster,
    "xgboost-pipeline": _xgboost_pipeline,
    "lightgbm": _lightgbm_classifier,
    "lightgbm-booster": _lightgbm_booster,
    "onnx": _onnx,
    "params": _params,
    "everything": _everything,
}
