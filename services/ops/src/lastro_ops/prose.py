"""Find constructions in our texts that a reader has to decode, each with its plain replacement.

The files are those that [tool.lastro.prose] of pyproject.toml lists as git pathspecs, or those
given. Each finding is printed with its file and line. Exit status 1 when there is any.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tomllib
from collections.abc import Iterator
from typing import NamedTuple

from lastro_ops.errors import OpsError
from lastro_ops.project import Project


class Construction(NamedTuple):
    """A banned construction: a regular expression, and what to write instead."""

    pattern: str
    hint: str


# A space matches any white space, so that a line break hides nothing. Case does not matter, except
# where (?-i:...) says so.
BANNED = (
    Construction(r"\bbeside\b", "next to, besides, in addition to"),
    Construction(r", too(?=[.,;:!?)]|\n(?-i:[^a-z])|\Z)", "also, as well"),
    Construction(r"\banew\b", "again"),
    Construction(r"\bseldom\b", "less often; rate limit exceeded"),
    Construction(r"\bwhom\b", "name the person or address"),
    Construction(r"\bthereby\b", "therefore, or name the cause"),
    Construction(r"\bwears?\b", "has, have"),
    Construction(
        r"\b(?:is|are|was|were|be|been|being) asked\b",
        "name the caller and the call: X requests, polls, queries Y",
    ),
    # "stands for" and "stands in for" are plain, and so is "stand-in".
    Construction(r"\b(?:stands?|stood|lies)\b(?!-| (?:in )?for\b)", "is, are"),
    Construction(r"\bby (?:itself|themselves)\b", "automatically, alone"),
    Construction(r"\bchoose of\b", "choose one of: a, b"),
    Construction(r"\bwhat there is not\b", "limitations"),
    # A question may begin with it.
    Construction(
        r"(?:^|(?<=[.!?]) )(?-i:What)(?![^.!]*\?)(?: \w+){1,3}",
        "start with the noun: the X that ...",
    ),
    Construction(r"\breturn what\b", "return the X that ..."),
    Construction(r"\b(?:that|which|what|who) (?:is|are) none\b", "name it: invalid, missing"),
    Construction(r"\bwho breaks in\b", "an intruder"),
    Construction(r"\bcomes or goes\b", "is added or removed"),
    Construction(r"\b(?:is|are) of the \w+ alone\b", "depends only on the X"),
    Construction(r"\b(?-i:A) \w+ each, for\b", "one X per Y, so that ..."),
    Construction(r"\bnot heard\b", "unreachable"),
    Construction(r"\bnobody asks\b", "not polled since"),
    Construction(r"\bis \S+ meant\?", "did you mean 'X'?"),
    Construction(r"\bmeans nothing here\b", "unknown field, unknown option"),
    Construction(r"\btells? no\b", "does not provide"),
    Construction(r"\bone against another\b", "scatter plot"),
    Construction(r"\basked too little\b", "too few predictions"),
    Construction(r"\bnames v\d", "points to"),
)

_PATTERNS = [
    (re.compile(banned.pattern.replace(" ", r"\s+"), re.IGNORECASE | re.MULTILINE), banned.hint)
    for banned in BANNED
]
# The parts of a line that are not text: indents, comment and list markers, quotes.
_MARKERS = re.compile(r"""^\s*(?:#+|//|--|[-*>|]|\d+\.)?\s*(?:[rf]{0,2}["']+)?|["']+\s*$|\s+$""")
_CODE = re.compile(r"`[^`\n]*`")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_RELEASED = re.compile(r"## \[?\d")


class Finding(NamedTuple):
    """A banned construction in a text: its line, counted from 1, the words and the hint."""

    line: int
    text: str
    hint: str


def _passages(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Each run of lines without a blank one, with the number of its first line."""
    passage: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        if line:
            passage.append(line)
        elif passage:
            yield number - len(passage), "\n".join(passage)
            passage = []


def findings(text: str, *, markdown: bool = False) -> list[Finding]:
    """The banned constructions in a text, in the order of its lines.

    Args:
        text: prose, or a file whose comments and messages are prose.
        markdown: leave out blocks of code.
    """
    lines, fenced = [], False
    for line in text.splitlines():
        fence = markdown and _FENCE.match(line) is not None
        fenced ^= fence
        lines.append("" if fenced or fence else _MARKERS.sub("", _CODE.sub("``", line)))
    found = [
        Finding(
            first + passage.count("\n", 0, match.start()), " ".join(match.group().split()), hint
        )
        for first, passage in _passages(lines)
        for pattern, hint in _PATTERNS
        for match in pattern.finditer(passage)
    ]
    return sorted(found)


def unreleased(changelog: str) -> str:
    """The part of a changelog that no release has."""
    lines = changelog.splitlines(keepends=True)
    released = (n for n, line in enumerate(lines) if _RELEASED.match(line))
    return "".join(lines[: next(released, len(lines))])


def files(project: Project, pathspecs: list[str]) -> list[str]:
    """The files that git tracks, or would, below the root of a checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *pathspecs],
        cwd=project.root,
        check=True,
        capture_output=True,
        text=True,
    )
    names = sorted(set(listed.stdout.split("\0")) - {""})
    return [name for name in names if (project.root / name).is_file()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops prose`."""
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="git pathspecs; those of pyproject.toml by default"
    )


def run(project: Project, options: argparse.Namespace) -> None:
    """Read the files and name every finding."""
    pathspecs: list[str] = options.paths
    if not pathspecs:
        settings = tomllib.loads((project.root / "pyproject.toml").read_text(encoding="utf-8"))
        pathspecs = settings["tool"]["lastro"]["prose"]["paths"]
    # Checked one by one: after a rename, a pathspec would otherwise silently match nothing.
    unmatched = [
        spec for spec in pathspecs if not spec.startswith(":") and not files(project, [spec])
    ]
    if unmatched:
        raise OpsError(f"no file matches {', '.join(unmatched)}")
    found = []
    for name in files(project, pathspecs):
        text = (project.root / name).read_text(encoding="utf-8")
        if name == "CHANGELOG.md":
            text = unreleased(text)
        for finding in findings(text, markdown=name.endswith(".md")):
            found.append(f"{name}:{finding.line}: {finding.text!r} -> {finding.hint}")
    if found:
        raise OpsError("\n".join([f"{len(found)} to write in plain English:", *found]))
