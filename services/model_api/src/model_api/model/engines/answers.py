"""Converts an engine's sums to answers: probabilities, means, and labels."""

from heapq import nsmallest
from operator import itemgetter

import numpy as np

from model_api.model.batch import Batch
from model_api.model.errors import InvalidRows
from model_api.model.faults import ERRORS_SHOWN


def table_of(scores: np.ndarray) -> np.ndarray:
    """Return the probabilities (rows, classes) from scores, which may have only that of class 1."""
    if scores.ndim == 1:
        scores = scores.reshape(-1, 1)
    return np.hstack([1 - scores, scores]) if scores.shape[1] == 1 else scores


def linked(raw: np.ndarray, link: str | None, parts: int) -> np.ndarray:
    """Return the probabilities or means that a model's library computes from its sums.

    Args:
        raw: (rows, outputs); one output for two classes.
        link: None for the sums themselves; "logistic" or "softmax", with "32" if the library
            computes in 32 bits; "share", the mean of ``parts``.
        parts: see ``link``.
    """
    match link:
        case None:
            return raw
        case "share":
            shares: np.ndarray = raw / parts
            return shares
        case "logistic":
            with np.errstate(over="ignore"):
                logistic: np.ndarray = 1 / (1 + np.exp(-raw))
            return logistic
        case "logistic32":
            # XGBoost adds 1e-16 to the divisor, which has no effect in 32 bits.
            power = np.exp(-np.maximum(raw, -88.7).astype(np.float64)).astype(np.float32)
            logistic32: np.ndarray = np.float32(1) / (power + np.float32(1))
            return logistic32
        case "softmax":
            powers = np.exp(raw - raw.max(axis=1, keepdims=True))
            softmax: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
            return softmax
        case "softmax32":
            powers = np.exp((raw - raw.max(axis=1, keepdims=True)).astype(np.float64))
            powers = powers.astype(np.float32)
            total = powers.sum(axis=1, keepdims=True, dtype=np.float64)
            softmax32: np.ndarray = powers / total.astype(np.float32)
            return softmax32
    raise NotImplementedError(f"probabilities by {link}")


# Rules for probabilities, and the equivalent rules for sums.
OF_TABLE = {"largest-of-table": "largest", "above-half": "positive"}


def places(raw: np.ndarray, table: np.ndarray, rule: str | None) -> np.ndarray:
    """Return the places of the labels in the list of classes, by the rule of the model's library.

    Args:
        raw: (rows, outputs), or (rows) if there is one output.
        table: (rows, classes) of probabilities.
        rule: "largest" or "largest-of-table", the first of the largest; of two classes the second
            if the sum is "positive" or "not-negative", or its probability "above-half".
    """
    match rule:
        case "largest":
            return raw.argmax(axis=1)
        case "largest-of-table":
            return table.argmax(axis=1)
        case "above-half":
            return (table[:, 1] > 0.5).astype(np.intp)
        case "positive":
            return (raw.reshape(-1) > 0).astype(np.intp)
        case "not-negative":
            return (raw.reshape(-1) >= 0).astype(np.intp)
    raise NotImplementedError(f"labels by {rule}")


def beyond_float32(batch: Batch) -> Exception:
    most = float(np.finfo(np.float32).max)
    places = [
        (row, name)
        for name, values in batch.columns().items()
        for row, value in enumerate(values)
        if isinstance(value, int | float) and abs(value) > most
    ]
    if not places:
        return ValueError("Input X contains a value too large for 32 bits, once it is scaled")
    detail = "is beyond the range of the 32 bits that the model computes with"
    first = nsmallest(ERRORS_SHOWN, places, key=itemgetter(0))
    errors = [{"row": row, "field": name, "detail": detail} for row, name in first]
    return InvalidRows(errors, len(places))
