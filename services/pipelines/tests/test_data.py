"""The checks of the data, and its splits."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lastro_pipelines import data


@pytest.fixture
def wine() -> pd.DataFrame:
    return data.load()


def test_the_shipped_data_is_fit(wine: pd.DataFrame) -> None:
    checked = data.check(wine)
    assert checked.shape == (178, 14)
    assert set(checked[data.TARGET]) == set(data.CULTIVARS)


def test_a_csv_file_is_the_same_data(wine: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "wine.csv"
    wine.to_csv(path, index=False)
    read = data.check(data.load(str(path)))
    assert data.fingerprint(read) == data.fingerprint(data.check(wine))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=r"missing\.csv"):
        data.load(str(tmp_path / "missing.csv"))
    empty = tmp_path / "empty.csv"
    empty.touch()
    with pytest.raises(data.DataError, match=r"empty\.csv"):
        data.load(str(empty))


def test_missing_and_repeated_columns_are_named(wine: pd.DataFrame) -> None:
    broken = wine.drop(columns=["hue", "ash"])
    broken.insert(0, "alcohol", 1.0, allow_duplicates=True)
    with pytest.raises(data.DataError) as refused:
        data.check(broken)
    assert refused.value.problems == [
        "column 'ash' is missing",
        "column 'hue' is missing",
        "column 'alcohol' appears more than once",
    ]


@pytest.mark.parametrize("value", [None, np.nan, np.inf, -1, "much", ""])
def test_a_cell_that_is_no_number_is_named(wine: pd.DataFrame, value: object) -> None:
    broken = wine.astype({"alcohol": object})
    broken.loc[17, "alcohol"] = value
    with pytest.raises(data.DataError, match=r"column 'alcohol', row 17: .* is not a number"):
        data.check(broken)


def test_an_unknown_cultivar_is_named(wine: pd.DataFrame) -> None:
    wine.loc[3, data.TARGET] = "riesling"
    with pytest.raises(data.DataError, match="column 'cultivar', row 3: 'riesling'"):
        data.check(wine)


def test_too_few_wines_are_refused(wine: pd.DataFrame) -> None:
    with pytest.raises(data.DataError, match=r"the test split has 0 row\(s\) of 'class_1'"):
        data.check(wine.head(20))


def test_a_long_list_of_problems_is_cut(wine: pd.DataFrame) -> None:
    with pytest.raises(data.DataError, match="178 problem") as refused:
        data.check(wine.assign(hue=-1))
    assert "and 168 more" in str(refused.value)


def test_splits_are_disjoint_and_complete(wine: pd.DataFrame) -> None:
    splits = data.split(data.check(wine))
    parts = [splits.train, splits.validation, splits.test]
    assert sorted(i for part in parts for i in part.index) == list(range(178))
    assert all(set(part[data.TARGET]) == set(data.CULTIVARS) for part in parts)
    assert 0.5 < len(splits.train) / 178 < 0.7


def test_no_row_changes_its_split_when_the_data_grows(wine: pd.DataFrame) -> None:
    before = data.split(data.check(wine)).test
    grown = pd.concat([wine.assign(alcohol=wine["alcohol"] + 1), wine]).sample(
        frac=1, random_state=0
    )
    after = data.split(data.check(grown)).test
    known = before.merge(after, how="left", indicator=True)
    assert (known["_merge"] == "both").all()


def test_the_fingerprint_tells_any_change(wine: pd.DataFrame) -> None:
    same = data.fingerprint(data.check(wine))
    assert same == data.fingerprint(data.check(data.load()))
    changed = wine.copy()
    changed.loc[0, "hue"] += 0.01
    swapped = wine.copy()
    swapped.loc[0, data.TARGET] = "class_1"
    others = [changed, swapped, wine.iloc[::-1], wine.rename(columns={"hue": "Hue"})]
    assert all(data.fingerprint(other) != same for other in others)
