"""The file of keys: invalid files are refused, and no message reveals a key."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from model_api.http.keys import Caller, Keys, KeysError, read

KEY = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4


def keys(folder: Path, content: Any) -> Keys:
    return Keys(written(folder, content))


def written(folder: Path, content: Any) -> Path:
    file = folder / "keys.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_a_key_is_known_by_its_name(tmp_path: Path) -> None:
    known = keys(
        tmp_path,
        [
            {"name": "a", "key": KEY},
            {"name": "b", "key": OTHER, "requests_per_second": 2.5, "burst": 4},
        ],
    )
    assert known.caller(f"Bearer {KEY}".encode()) == Caller("a", None, 1)
    assert known.caller(f"bearer {OTHER}".encode()) == Caller("b", 2.5, 4)
    for header in (None, b"", b"Bearer", b"Bearer ", b"Basic x", KEY.encode()):
        assert known.caller(header) is None
    assert known.caller(f"Bearer {KEY}x".encode()) is None


def test_a_key_may_be_the_password_of_basic(tmp_path: Path) -> None:
    known = keys(tmp_path, [{"name": "a", "key": KEY}])

    def basic(credentials: str) -> bytes:
        return b"Basic " + base64.b64encode(credentials.encode())

    assert known.caller(basic(f"anybody:{KEY}")) == Caller("a", None, 1)
    for header in (basic(KEY), basic(f"{KEY}:"), basic(f"a:b:{KEY}"), b"Basic \xff", b"Basic ="):
        assert known.caller(header) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[", "is not a list of"),
        ("{}", "is not a list of"),
        ([], "has no key"),
        ([{"name": "a"}], "missing required field `key`"),
        ([{"name": "a", "key": KEY, "rate": 1}], "unknown field `rate`"),
        ([{"name": "a b", "key": KEY}], r"matching regex"),
        ([{"name": ".", "key": KEY}], r"matching regex"),
        ([{"name": "..", "key": KEY}], r"matching regex"),
        ([{"name": "a\n", "key": KEY}], r"matching regex"),
        ([{"name": "a", "key": KEY, "requests_per_second": 0}], "requests_per_second"),
        ([{"name": "a", "key": KEY, "requests_per_second": 1, "burst": 0}], "burst"),
        ([{"name": "a", "key": KEY}, {"name": "a", "key": OTHER}], "the name 'a' twice"),
        (
            [{"name": "a", "key": KEY}, {"name": "b", "key": KEY}],
            "key of 'b' is also the key of another client",
        ),
        ([{"name": "a", "key": KEY[:31]}], "key of 'a' has fewer than 32 characters"),
        ([{"name": "a", "key": "a" * 64}], "key of 'a' looks like a placeholder"),
        ([{"name": "a", "key": "please-change-me-" + KEY}], "looks like a placeholder"),
        ([{"name": "a", "key": "YourSecretKey0123456789abcdefghij"}], "looks like a placeholder"),
        ([{"name": "a", "key": f"{KEY} {KEY}"}], "ASCII without spaces"),
        ([{"name": "a", "key": f"{KEY}\u00e9"}], "ASCII without spaces"),
    ],
)
def test_an_invalid_file_is_named_without_its_keys(
    tmp_path: Path, content: Any, reason: str
) -> None:
    with pytest.raises(KeysError) as refused:
        read(written(tmp_path, content))
    assert reason in str(refused.value)
    assert "keys.json" in str(refused.value)
    for key in (KEY, OTHER, KEY[:31], "a" * 64):
        assert key not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"absent\.json cannot be read: No such file"):
        Keys(tmp_path / "absent.json")


def test_a_deleted_file_leaves_the_keys(tmp_path: Path) -> None:
    known = keys(tmp_path, [{"name": "a", "key": KEY}])
    (tmp_path / "keys.json").unlink()
    known.refresh()
    assert known.broken
    assert known.caller(f"Bearer {KEY}".encode())
    (tmp_path / "keys.json").write_text(json.dumps([{"name": "b", "key": OTHER}]))
    known.refresh()
    assert not known.broken
    assert known.caller(f"Bearer {KEY}".encode()) is None
    assert known.caller(f"Bearer {OTHER}".encode())


def test_a_random_key_may_have_a_placeholder_among_its_letters(tmp_path: Path) -> None:
    key = "mTOdOA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9"
    assert read(written(tmp_path, [{"name": "a", "key": key}]))


@pytest.mark.parametrize(
    "odd",
    [
        {"name": "..", "key": OTHER},
        {"name": "odd", "key": "short"},
        {"name": "odd", "key": "\ud800"},
        {"name": "odd", "key": 7},
        {"name": "odd"},
        {"name": "odd", "key": OTHER, "rate": 1},
        {"name": "b", "key": OTHER},
        "odd",
        [[[[]]]],
    ],
)
def test_an_invalid_entry_neither_keeps_a_removed_key_nor_disables_another(
    tmp_path: Path, odd: Any
) -> None:
    new = {"name": "b", "key": "0f1e2d3c4b5a69788796a5b4c3d2e1f0"}
    known = keys(tmp_path, [{"name": "a", "key": KEY}])
    written(tmp_path, [new, odd])
    known.refresh()
    assert known.broken
    assert known.caller(f"Bearer {new['key']}".encode()) == Caller("b", None, 1)
    assert known.caller(f"Bearer {KEY}".encode()) is None
    assert known.caller(f"Bearer {OTHER}".encode()) is None
    written(tmp_path, [odd])
    known.refresh()
    assert known.caller(f"Bearer {new['key']}".encode()) is None


def test_a_key_whose_entry_becomes_invalid_stays_valid(tmp_path: Path) -> None:
    known = keys(tmp_path, [{"name": "a", "key": KEY, "requests_per_second": 5}])
    for odd in ({"burst": 0}, {"unknown": 1}, {"name": ".."}):
        written(tmp_path, [{"name": "a", "key": KEY} | odd])
        known.refresh()
        assert known.broken
        assert known.caller(f"Bearer {KEY}".encode()) == Caller("a", 5, 1)


def test_a_worker_starts_with_the_valid_keys(tmp_path: Path) -> None:
    known = keys(tmp_path, [{"name": "..", "key": OTHER}, {"name": "a", "key": KEY}])
    assert known.broken
    assert known.caller(f"Bearer {KEY}".encode()) == Caller("a", None, 1)
    assert known.caller(f"Bearer {OTHER}".encode()) is None
    with pytest.raises(KeysError, match="no valid key"):
        keys(tmp_path, [{"name": "..", "key": OTHER}])
