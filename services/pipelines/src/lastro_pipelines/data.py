"""The wine data set: its source, its checks and its splits."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.datasets import load_wine

FEATURES: tuple[str, ...] = (
    "alcohol",
    "malic_acid",
    "ash",
    "alcalinity_of_ash",
    "magnesium",
    "total_phenols",
    "flavanoids",
    "nonflavanoid_phenols",
    "proanthocyanins",
    "color_intensity",
    "hue",
    "od280/od315_of_diluted_wines",
    "proline",
)
TARGET = "cultivar"
CULTIVARS: tuple[str, ...] = ("class_0", "class_1", "class_2")

MINIMUM_ROWS_PER_CULTIVAR = 5
"""Rows of each cultivar that each split needs before its metrics mean anything."""

_PROBLEMS_SHOWN = 10


class DataError(ValueError):
    """The data cannot be used; the message names the columns and rows at fault."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        shown = problems[:_PROBLEMS_SHOWN]
        hidden = len(problems) - len(shown)
        lines = [f"the data has {len(problems)} problem(s):", *(f"- {line}" for line in shown)]
        if hidden:
            lines.append(f"- and {hidden} more")
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class Splits:
    """Three disjoint frames, each with the columns ``FEATURES`` and ``TARGET``."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame


def load(source: str | None = None) -> pd.DataFrame:
    """Read the data: scikit-learn's own wine data, or the CSV file at ``source``.

    Args:
        source: path or URL of a CSV file with the columns ``FEATURES`` and ``TARGET``.

    Returns:
        One row per wine, unchecked: see `check`.

    Raises:
        DataError: there is no such file, or it is not a CSV file.
    """
    if source is not None:
        try:
            return pd.read_csv(source)
        except (OSError, ValueError) as error:
            raise DataError([f"{source!r} cannot be read as CSV: {error}"]) from error
    bunch = load_wine(as_frame=True)
    names = {code: str(name) for code, name in enumerate(bunch.target_names)}
    return bunch.data.assign(**{TARGET: bunch.target.map(names)})


def check(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that the pipeline uses, in their order, as floats and one string.

    Raises:
        DataError: a column is missing or repeated, a cell is empty, negative or not a finite
            number, a cultivar is unknown, or a split has too few wines of one cultivar.
    """
    columns = [*FEATURES, TARGET]
    problems = [f"column {name!r} is missing" for name in columns if name not in frame.columns]
    repeated = frame.columns[frame.columns.duplicated()].unique()
    problems += [f"column {name!r} appears more than once" for name in repeated]
    if problems:
        raise DataError(problems)

    checked = frame[columns].reset_index(drop=True)
    for name in FEATURES:
        values = pd.to_numeric(checked[name], errors="coerce").astype("float64")
        wrong = ~np.isfinite(values) | (values < 0)
        problems += [
            f"column {name!r}, row {row}: {checked[name].iloc[row]!r} is not a number of 0 or more"
            for row in np.flatnonzero(wrong)
        ]
        checked[name] = values
    problems += [
        f"column {TARGET!r}, row {row}: {checked[TARGET].iloc[row]!r} is not one of"
        f" {', '.join(CULTIVARS)}"
        for row in np.flatnonzero(~checked[TARGET].isin(CULTIVARS))
    ]
    if problems:
        raise DataError(problems)

    splits = split(checked)
    for part in ("train", "validation", "test"):
        counts = getattr(splits, part)[TARGET].value_counts()
        problems += [
            f"the {part} split has {counts.get(name, 0)} row(s) of {name!r}, and needs at least"
            f" {MINIMUM_ROWS_PER_CULTIVAR}: add more data"
            for name in CULTIVARS
            if counts.get(name, 0) < MINIMUM_ROWS_PER_CULTIVAR
        ]
    if problems:
        raise DataError(problems)
    return checked


def split(frame: pd.DataFrame) -> Splits:
    """Split by a hash of each row's features: about 60, 20 and 20 percent.

    A row's split depends only on the row. As the data grows, no row moves from one split to
    another, so the serving champion was never trained on a row that it is tested on. Equal rows
    are in the same split.
    """
    bucket = _row_hashes(frame[list(FEATURES)]) % np.uint64(10)
    return Splits(
        train=frame[bucket < 6],
        validation=frame[(bucket >= 6) & (bucket < 8)],
        test=frame[bucket >= 8],
    )


def fingerprint(frame: pd.DataFrame) -> str:
    """Return 16 hexadecimal digits that change when a value, a name or the order does."""
    digest = hashlib.sha256("\0".join(map(str, frame.columns)).encode())
    digest.update(_row_hashes(frame).tobytes())
    return digest.hexdigest()[:16]


def _row_hashes(frame: pd.DataFrame) -> np.ndarray:
    hashes: np.ndarray = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    return hashes
