"""Metrics and figures of a fitted classifier."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.base import ClassifierMixin
from sklearn.inspection import permutation_importance
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss

from lastro_pipelines.candidates import SEED
from lastro_pipelines.comparing import Losses, log_losses
from lastro_pipelines.data import CULTIVARS, FEATURES, TARGET


def measure(model: ClassifierMixin, frame: pd.DataFrame) -> dict[str, float]:
    """Return ``log_loss`` (lower is better), ``accuracy`` and ``f1_macro`` on the frame's rows."""
    features, truth = frame[list(FEATURES)], frame[TARGET]
    predicted = model.predict(features)
    probabilities = model.predict_proba(features)
    return {
        "log_loss": float(log_loss(truth, probabilities, labels=list(model.classes_))),
        "accuracy": float(accuracy_score(truth, predicted)),
        "f1_macro": float(f1_score(truth, predicted, average="macro")),
    }


def losses(model: ClassifierMixin, frame: pd.DataFrame) -> Losses:
    """Return the log loss of each row, in nats, shape (rows,); `measure` has their mean."""
    probabilities = model.predict_proba(frame[list(FEATURES)])
    return log_losses(frame[TARGET], probabilities, model.classes_)


def confusion_figure(model: ClassifierMixin, frame: pd.DataFrame) -> Figure:
    """Draw how many wines of each cultivar were predicted as which."""
    counts = confusion_matrix(frame[TARGET], model.predict(frame[list(FEATURES)]), labels=CULTIVARS)
    figure, axes = _figure("Confusion matrix, validation split")
    axes.imshow(counts, cmap="Blues")
    for row, line in enumerate(counts):
        for column, count in enumerate(line):
            shade = "white" if count > counts.max() / 2 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=shade)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_xticks(range(len(CULTIVARS)), CULTIVARS)
    axes.set_yticks(range(len(CULTIVARS)), CULTIVARS)
    return figure


def importance_figure(model: ClassifierMixin, frame: pd.DataFrame) -> Figure:
    """Draw by how much the log loss rises when one feature is shuffled."""
    result = permutation_importance(
        model,
        frame[list(FEATURES)],
        frame[TARGET],
        scoring="neg_log_loss",
        n_repeats=5,
        random_state=SEED,
    )
    means = pd.Series(result.importances_mean, index=FEATURES).sort_values()
    figure, axes = _figure("Permutation importance, validation split")
    axes.barh(means.index, means)
    axes.set_xlabel("increase of the log loss")
    return figure


def _figure(title: str) -> tuple[Figure, Axes]:
    # Not pyplot, which looks for a display and keeps global state.
    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title)
    return figure, axes
