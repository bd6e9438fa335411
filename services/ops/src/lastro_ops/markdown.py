"""Markdown that several commands write for people on GitHub."""

from __future__ import annotations

import re

# GitHub takes 65,536 characters in a comment or an issue, which holds two of these.
FOLDED_CHARACTERS = 25_000


def folded(title: str, text: str) -> str:
    """A long text under a title that unfolds it, cut at FOLDED_CHARACTERS."""
    text = text.strip()
    if len(text) > FOLDED_CHARACTERS:
        text = text[:FOLDED_CHARACTERS] + "\n... (the log of the job has the rest)"
    # Longer than any fence in the text.
    fence = "`" * (max(map(len, re.findall("`+", text)), default=2) + 1)
    return f"<details><summary>{title}</summary>\n\n{fence}\n{text}\n{fence}\n\n</details>"
