"""`lastro-ops prose` finds each banned construction with its hint, and nothing in plain English."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from lastro_ops import cli
from lastro_ops.project import Project
from lastro_ops.prose import BANNED, findings, unreleased

# Construction's hint -> a text with it, and the words that are named.
EXAMPLES = {
    "next to, besides, in addition to": ("A file beside it.", "beside"),
    "also, as well": ("It reads this one, too.", ", too"),
    "again": ("A container made anew.", "anew"),
    "less often; rate limit exceeded": ("1 at once: ask more seldom", "seldom"),
    "name the person or address": ("Whom the server may write to.", "Whom"),
    "therefore, or name the cause": ("It is thereby repaired.", "thereby"),
    "has, have": ("A host wears security groups.", "wears"),
    "name the caller and the call: X requests, polls, queries Y": (
        "The worker is\nasked for its name.",
        "is asked",
    ),
    "is, are": ("The file lies on the host.", "lies"),
    "automatically, alone": ("Storage grows by itself.", "by itself"),
    "choose one of: a, b": ("No part 'x'; choose of a, b", "choose of"),
    "limitations": ("## Here is what there is not", "what there is not"),
    "start with the noun: the X that ...": (
        "Yes. What a host needs in its environment.",
        "What a host needs",
    ),
    "return the X that ...": ('"""Return what the host says."""', "Return what"),
    "name it: invalid, missing": ("The keys of what is none.", "what is none"),
    "an intruder": ("Who breaks in there finds nothing.", "Who breaks in"),
    "is added or removed": ("For one that comes or goes.", "comes or goes"),
    "depends only on the X": ("The name is of the content alone.", "is of the content alone"),
    "one X per Y, so that ...": ("A secret each, for they differ.", "A secret each, for"),
    "unreachable": ("The registry is not heard.", "not heard"),
    "not polled since": ("Nobody asks it since noon.", "Nobody asks"),
    "did you mean 'X'?": ("No field hu: is 'hue' meant?", "is 'hue' meant?"),
    "unknown field, unknown option": ("A field which means nothing here.", "means nothing here"),
    "does not provide": ("This model tells no probabilities.", "tells no"),
    "scatter plot": ("One against another", "One against another"),
    "too few predictions": ("It was asked too little.", "asked too little"),
    "points to": ("The alias names v1.", "names v1"),
}

PLAIN = """\
# The follower downloads new versions. Choose one of: dev, local.
# A stand-in for AWS; it stands in for
# the real API, and a % sign stands for any text. What does the worker need? Too many requests, too
# many clients. The service is unreachable. `Return what` and `anew` are code.
"""


def checkout(folder: Path, **files: str) -> Project:
    """A git checkout whose scope is all its YAML files; `__` in a name is a dot."""
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    (folder / "pyproject.toml").write_text('[tool.lastro.prose]\npaths = ["*.yml"]\n')
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return Project(folder)


def test_every_construction_has_an_example() -> None:
    assert [banned.hint for banned in BANNED] == list(EXAMPLES)


@pytest.mark.parametrize("hint", EXAMPLES)
def test_a_banned_construction_is_found_with_its_hint(hint: str) -> None:
    text, words = EXAMPLES[hint]
    found = findings(f"# A first line.\n\n# {text}\n")
    assert (3, words, hint) in found, found


def test_plain_english_passes() -> None:
    assert findings(PLAIN) == []


def test_code_blocks_of_markdown_are_not_read() -> None:
    fenced = "Text.\n```\nmade anew\n```\n"
    assert findings(fenced, markdown=True) == []
    assert [finding.line for finding in findings(fenced)] == [3]


def test_released_entries_of_a_changelog_are_not_read() -> None:
    text = "# Changelog\n\n## Unreleased\n\nNew.\n\n## 0.1.0 - 2026-01-01\n\nMade anew.\n"
    assert findings(unreleased(text)) == []
    assert findings(unreleased(text.replace("New.", "Made anew.")))


def test_a_finding_fails_the_command_and_names_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = checkout(tmp_path, good__yml="a: 1\n", bad__yml="# One.\na: 1\n# Made anew.\n")
    assert cli.main(["prose"], project) == 1
    assert "bad.yml:3: 'anew' -> again" in capsys.readouterr().err
    assert cli.main(["prose", "good.yml"], project) == 0


def test_a_path_without_files_fails_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["prose", "docs"], checkout(tmp_path)) == 1
    assert "no file matches docs" in capsys.readouterr().err
