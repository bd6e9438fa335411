"""Copies of this project as repositories of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from lastro_platform import PROJECT


def git(*arguments: str, folder: Path) -> str:
    """Run git in a folder as somebody, and return its output.

    Raises:
        AssertionError: it failed; the message has its own.
    """
    who = ["-c", "user.name=Ana", "-c", "user.email=ana@example.com"]
    command = ["git", "-C", str(folder), *who, *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, f"git {' '.join(arguments)}: {result.stderr}"
    return result.stdout


def commit(folder: Path, message: str) -> None:
    """Commit everything in a folder that git does not ignore."""
    git("add", "--all", folder=folder)
    git("commit", "--quiet", "--message", message, folder=folder)


def copy_project(folder: Path) -> None:
    """Copy the files under test into a folder: those that git knows, and new ones."""
    known = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=PROJECT)
    for name in known.split("\0")[:-1]:
        if os.path.lexists(PROJECT / name):
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, copy, follow_symlinks=False)


def check_out(revision: str, folder: Path) -> None:
    """Clone this project into a folder, at an earlier commit.

    Raises:
        AssertionError: the commit is neither here nor where this checkout was cloned from.
    """
    git("clone", "--quiet", "--no-checkout", str(PROJECT), str(folder), folder=PROJECT)
    try:
        git("checkout", "--quiet", "--detach", revision, folder=folder)
    except AssertionError:
        # A shallow clone has the newest commits only.
        try:
            url = git("remote", "get-url", "origin", folder=PROJECT).strip()
            git("fetch", "--quiet", url, revision, folder=folder)
        except AssertionError as error:
            raise AssertionError(
                f"{PROJECT} lacks the commit {revision} and cannot fetch it ({error})."
                " Clone the whole history: git fetch --unshallow"
            ) from error
        git("checkout", "--quiet", "--detach", revision, folder=folder)
