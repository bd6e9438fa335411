"""The file of keys: what is refused, and that no refusal tells a key."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from model_api.keys import Caller, Keys, KeysError

KEY = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4


def keys(folder: Path, content: Any) -> Keys:
    file = folder / "keys.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return Keys(file)


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
        ([{"name": "a", "key": KEY, "requests_per_second": 0}], "requests_per_second"),
        ([{"name": "a", "key": KEY, "requests_per_second": 1, "burst": 0}], "burst"),
        ([{"name": "a", "key": KEY}, {"name": "a", "key": OTHER}], "the name 'a' twice"),
        ([{"name": "a", "key": KEY}, {"name": "b", "key": KEY}], "key of 'b' is another one's"),
        ([{"name": "a", "key": KEY[:31]}], "key of 'a' has fewer than 32 characters"),
        ([{"name": "a", "key": "a" * 64}], "key of 'a' looks like a placeholder"),
        ([{"name": "a", "key": "please-change-me-" + KEY}], "looks like a placeholder"),
        ([{"name": "a", "key": f"{KEY} {KEY}"}], "ASCII without blanks"),
        ([{"name": "a", "key": f"{KEY}\u00e9"}], "ASCII without blanks"),
    ],
)
def test_what_is_not_acceptable_is_named_and_not_repeated(
    tmp_path: Path, content: Any, reason: str
) -> None:
    with pytest.raises(KeysError) as refused:
        keys(tmp_path, content)
    assert reason in str(refused.value)
    assert "keys.json" in str(refused.value)
    for key in (KEY, OTHER, KEY[:31], "a" * 64):
        assert key not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"absent\.json cannot be read: No such file"):
        Keys(tmp_path / "absent.json")


def test_a_file_that_goes_away_leaves_the_keys(tmp_path: Path) -> None:
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
