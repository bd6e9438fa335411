"""Whether one model is better than another, by a paired test on the same held-out rows.

Two models that differ only by chance, such as by their seed, differ in any metric. To replace the
serving model takes more: each row's loss under both models, and a mean gain above a margin that
chance is unlikely to produce.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

MARGIN = 0.01
"""How much the mean loss per row must fall, in the loss's own unit (nats for the log loss)."""
SIGNIFICANCE = 0.01
"""The largest share of challengers that are promoted although they gain no more than the margin."""
MINIMUM_ROWS = 20
"""With fewer held-out rows there is no verdict: so few show too little of skewed losses."""

_RESAMPLES = 1999
# With more rows the mean is normal whatever the losses' shape, and resampling takes seconds.
_MOST_RESAMPLED = 5000
_DRAWN_AT_ONCE = 100_000
_SEED = 0
# Sums in another order differ by less, relative to their terms.
_ROUNDING = 1e-12
# The tolerance for probabilities below 0, above 1, or with another sum than 1: single precision.
_IMPRECISION = 1e-3

type Losses = NDArray[np.float64]
"""One loss per row, shape (rows,); lower is better."""


@dataclass(frozen=True)
class Comparison:
    """The outcome of a test.

    Attributes:
        rows: how many rows both models were measured on.
        gain: the champion's mean loss less the challenger's.
        margin: the value that the gain must exceed.
        p: the probability of such a gain, or a larger one, if the true gain is the margin; None if
            there are too few rows.
        significance: the value that p must be below.
        better: whether p is below it.
    """

    rows: int
    gain: float
    margin: float
    p: float | None
    significance: float
    better: bool

    def reason(self) -> str:
        """Return the outcome in words, as the end of a sentence."""
        if self.p is None:
            return (
                f"{self.rows} held-out rows are too few to compare the models:"
                f" at least {MINIMUM_ROWS} are needed"
            )
        verdict = "exceeds" if self.better else "is not shown to exceed"
        return (
            f"the gain of {self.gain:.4g} per row {verdict} the margin of {self.margin:g}"
            f" (one-sided paired test on {self.rows} held-out rows:"
            f" p = {self.p:.2g}, significance {self.significance:g})"
        )

    def as_dict(self) -> dict[str, float | None]:
        """Return the attributes as JSON values."""
        return asdict(self)


def log_losses(truth: ArrayLike, probabilities: ArrayLike, classes: ArrayLike) -> Losses:
    """Return -log p of the true class, in nats; p is at least 2.2e-16, as in scikit-learn.

    Args:
        truth: the true class of each row, shape (rows,).
        probabilities: shape (rows, classes).
        classes: the class of each column, shape (classes,).

    Raises:
        ValueError: the shapes do not match, a row's class is not among the classes, or the
            probabilities are invalid: outside 0 to 1, or a row does not add up to 1.
    """
    truth, classes = np.asarray(truth), np.asarray(classes)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 1 or probabilities.shape != (len(truth), len(classes)):
        raise ValueError(
            f"the probabilities have shape {probabilities.shape}, the truth has {truth.shape}, and"
            f" there are {len(classes)} classes: the probabilities need one column per class"
        )
    hit = truth[:, None] == classes[None, :]
    if not hit.any(axis=1).all():
        unknown = sorted(set(truth.tolist()) - set(classes.tolist()), key=repr)
        raise ValueError(f"the model has no probability for the classes {unknown}")
    # Scores instead of probabilities would look like a perfect model. `compare` checks for NaN.
    outside = (probabilities < -_IMPRECISION) | (probabilities > 1 + _IMPRECISION)
    if outside.any() or (np.abs(probabilities.sum(axis=1) - 1) > _IMPRECISION).any():
        raise ValueError(
            "the model's probabilities are outside 0 to 1, or a row does not add up to 1."
            " Does the model return scores?"
        )
    chosen = probabilities[hit]
    losses: Losses = -np.log(np.clip(chosen, np.finfo(np.float64).eps, 1.0))
    return losses


def squared_errors(truth: ArrayLike, predicted: ArrayLike) -> Losses:
    """Return (truth - predicted)**2, both of shape (rows,): for regression.

    Raises:
        ValueError: the shapes do not match.
    """
    return _errors(truth, predicted) ** 2


def absolute_errors(truth: ArrayLike, predicted: ArrayLike) -> Losses:
    """Return abs(truth - predicted), both of shape (rows,): for regression with outliers.

    Raises:
        ValueError: the shapes do not match.
    """
    return np.abs(_errors(truth, predicted))


def _errors(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    truth, predicted = (np.asarray(one, dtype=np.float64) for one in (truth, predicted))
    if truth.ndim != 1 or predicted.shape != truth.shape:
        raise ValueError(
            f"the truth has shape {truth.shape} and the predictions have {predicted.shape}: both"
            " must have one value per row"
        )
    return truth - predicted


def compare(
    challenger: Losses,
    champion: Losses,
    *,
    margin: float = MARGIN,
    significance: float = SIGNIFICANCE,
) -> Comparison:
    """Test whether the challenger's mean loss is lower than the champion's by more than a margin.

    The test is Student's, one-sided, on the differences of each row's losses: that of Diebold and
    Mariano (1995) for forecasts one step ahead, as Harvey, Leybourne and Newbold (1997) correct it
    for few rows. Such differences are skewed, and a model that fails badly on few rows then looks
    better than it is: with 27 rows and an exponential tail, Student's test is wrong 10% of the time
    where it should be 5%. So its statistic is also compared with its own bootstrap distribution
    (bootstrap-t: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 16), which
    brings that to 6%, and the larger p counts. No test detects a
    failure that no held-out row shows.

    Args:
        challenger: its losses, shape (rows,).
        champion: its losses on the same rows, in the same order.
        margin: in the loss's unit, 0 or more.
        significance: between 0 and 1.

    Raises:
        ValueError: the shapes differ, a loss is not finite, or a parameter is out of its range.
    """
    challenger, champion = (np.asarray(one, dtype=np.float64) for one in (challenger, champion))
    if challenger.shape != champion.shape or challenger.ndim != 1:
        raise ValueError(
            f"the losses have shapes {challenger.shape} and {champion.shape}:"
            " measure both models on the same rows"
        )
    if not (0 <= margin < np.inf and 0 < significance < 1):
        raise ValueError(
            f"margin is {margin} and significance is {significance}: set margin to 0 or more,"
            " and significance to a number between 0 and 1"
        )
    gains = champion - challenger
    if not np.isfinite(gains).all():
        raise ValueError("a loss is not a finite number. Does the model predict NaN?")
    rows = len(gains)
    # In units of the largest loss: those of a model that diverged overflow when squared.
    unit = max(float(np.abs(losses).max(initial=0)) for losses in (challenger, champion)) or 1.0
    gain = float((gains / unit).mean()) * unit if rows else 0.0
    excess = gains / unit - margin / unit
    excess[np.abs(excess) <= _ROUNDING * max(1.0, margin / unit)] = 0.0
    p = _p_value(excess) if rows >= MINIMUM_ROWS else None
    better = p is not None and p < significance
    return Comparison(rows, gain, margin, p, significance, better)


def _p_value(gains: NDArray[np.float64]) -> float:
    """Return the p of "the mean is 0 or less" against "it is above 0"."""
    rows, mean, deviation = len(gains), gains.mean(), gains.std(ddof=1)
    if deviation <= 1e-12 * max(abs(mean), 1e-300):
        # All rows have the same gain.
        return 0.0 if mean > 0 else 1.0
    statistic = mean / (deviation / np.sqrt(rows))
    p = float(stats.t.sf(statistic, rows - 1))
    if rows > _MOST_RESAMPLED:
        return p
    drawn = np.random.default_rng(_SEED)
    as_large = 0
    at_once = _DRAWN_AT_ONCE // rows
    for start in range(0, _RESAMPLES, at_once):
        count = min(at_once, _RESAMPLES - start)
        samples = gains[drawn.integers(0, rows, (count, rows))]
        means, deviations = samples.mean(axis=1) - mean, samples.std(axis=1, ddof=1)
        # Without a division: all rows of a sample may be the same one.
        as_large += int((means >= statistic * deviations / np.sqrt(rows)).sum())
    return max(p, (1 + as_large) / (1 + _RESAMPLES))
