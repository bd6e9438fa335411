"""Markdown that several scripts write for people on GitHub."""

import re

# GitHub takes 65,536 characters in a comment or an issue, which holds two of these.
FOLDED_CHARACTERS = 25_000


def folded(title: str, text: str) -> str:
    """A long text under a title that unfolds it; what is beyond GitHub's limit is left out."""
    text = text.strip()
    if len(text) > FOLDED_CHARACTERS:
        text = text[:FOLDED_CHARACTERS] + "\n... (the rest stands in the log of the job)"
    # Longer than any that the text holds itself.
    fence = "`" * (max(map(len, re.findall("`+", text)), default=2) + 1)
    return f"<details><summary>{title}</summary>\n\n{fence}\n{text}\n{fence}\n\n</details>"
