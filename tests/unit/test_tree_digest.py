"""The lookup `tree_digest`: the same content has the same name, another has another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible.plugins.loader import lookup_loader


def digest(*paths: Path) -> str:
    """The digest as a template gets it."""
    (value,) = lookup_loader.get("tree_digest").run([str(path) for path in paths])
    return value


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project with two files."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("a")
    (tmp_path / "src" / "b.py").write_text("b")
    return tmp_path / "src"


def test_the_digest_depends_only_on_the_content(tree: Path, tmp_path: Path) -> None:
    before = digest(tree)
    assert len(before) == 64
    os.utime(tree / "a.py", (0, 0))
    (tree / "a.py").chmod(0o600)
    assert digest(tree) == before
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    # Also made in another order.
    for name in ("b.py", "a.py"):
        (copy / name).write_bytes((tree / name).read_bytes())
    assert digest(copy) == before


@pytest.mark.parametrize("unseen", ["__pycache__/a.pyc", ".ruff_cache/x", ".env", "sub/.hidden"])
def test_caches_and_hidden_files_do_not_count(tree: Path, unseen: str) -> None:
    before = digest(tree)
    (tree / unseen).parent.mkdir(parents=True, exist_ok=True)
    (tree / unseen).write_text("anything")
    assert digest(tree) == before


def test_every_change_counts(tree: Path) -> None:
    seen = {digest(tree)}

    def changes(what: str) -> None:
        now = digest(tree)
        assert now not in seen, what
        seen.add(now)

    (tree / "a.py").write_text("A")
    changes("content")
    (tree / "a.py").rename(tree / "c.py")
    changes("a name")
    (tree / "sub").mkdir()
    (tree / "b.py").rename(tree / "sub" / "b.py")
    changes("a place")
    (tree / "empty.py").touch()
    changes("an empty file")
    # The same bytes in a row, cut elsewhere.
    (tree / "c.py").write_text("")
    (tree / "empty.py").write_text("A")
    changes("which file holds what")
    (tree / "c.py").unlink()
    (tree / "empty.py").unlink()
    (tree / "n").write_text("ame")
    changes("other files")
    (tree / "n").unlink()
    (tree / "na").write_text("me")
    changes("where the name ends")


def test_files_and_folders_share_one_digest(tree: Path, tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("one")
    before = digest(lock, tree)
    lock.write_text("two")
    assert digest(lock, tree) != before


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnsibleError, match=r"nothing\.txt does not exist on the controller"):
        digest(tmp_path / "nothing.txt")
