"""The models that compete in each run of the pipeline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SEED = 20240

type Parameter = str | float | bool | None
"""A hyperparameter of an estimator."""


@dataclass(frozen=True)
class Candidate:
    """A recipe for one model.

    Attributes:
        build: makes the unfitted estimator from ``params``.
        params: the hyperparameters, which are logged and passed to ``build``.
        trusted_types: classes that skops must accept to read the saved model; it trusts most of
            scikit-learn by default.
    """

    build: Callable[..., ClassifierMixin]
    params: Mapping[str, Parameter]
    trusted_types: list[str] = field(default_factory=list)


def _logistic_regression(**params: Parameter) -> ClassifierMixin:
    return make_pipeline(StandardScaler(), LogisticRegression(random_state=SEED, **params))


def _random_forest(**params: Parameter) -> ClassifierMixin:
    return RandomForestClassifier(random_state=SEED, n_jobs=1, **params)


CANDIDATES: Mapping[str, Candidate] = MappingProxyType(
    {
        "logistic-regression": Candidate(_logistic_regression, {"C": 1.0, "max_iter": 1000}),
        "random-forest": Candidate(
            _random_forest,
            {"n_estimators": 100, "max_depth": 6, "min_samples_leaf": 2},
            trusted_types=["sklearn.tree._tree.Tree"],
        ),
    }
)


def named(name: str) -> Candidate:
    """Return the candidate of that name.

    Raises:
        ValueError: there is no such candidate; the message lists the known ones.
    """
    if name not in CANDIDATES:
        raise ValueError(f"unknown candidate {name!r}. Choose one of: {', '.join(CANDIDATES)}")
    return CANDIDATES[name]
