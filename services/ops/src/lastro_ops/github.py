"""Report the result of a run of the pipeline on GitHub.

lastro-ops github comment FILE...   one comment on the pull request, updated in place
lastro-ops github issue ENV FILE    one issue for the drift of ENV: opened, updated, and closed when
                                    FILE is empty

The text is that of the files, which other jobs have written. This runs in a job of GitHub Actions,
whose environment names the repository, the event and a token.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import requests

from lastro_ops.errors import OpsError
from lastro_ops.project import Project

# A hidden mark in the text, by which a comment or an issue of ours is found again.
MARKER = "<!-- lastro: {} -->"
PAGE = 100


def required(variable: str) -> str:
    """A variable that GitHub sets in every job.

    Raises:
        OpsError: it is not set.
    """
    if value := os.environ.get(variable):
        return value
    raise OpsError(f"{variable} is not set; this runs in GitHub Actions")


class User(TypedDict):
    """Who wrote a comment or an issue: `type` is `User` or `Bot`."""

    type: str


class Item(TypedDict):
    """A comment or an issue, as far as it is read here; only an issue has a number."""

    id: int
    number: NotRequired[int]
    body: str | None
    html_url: str
    user: User


class Repository:
    """The repository whose pipeline runs, by GitHub's REST API."""

    def __init__(self) -> None:
        self.url = f"{required('GITHUB_API_URL')}/repos/{required('GITHUB_REPOSITORY')}"
        self.session = requests.Session()
        self.session.headers.update(
            {
                "Authorization": f"Bearer {required('GITHUB_TOKEN')}",
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
            }
        )

    def _call(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        answer = self.session.request(method, f"{self.url}/{path}", json=body, timeout=30)
        if not answer.ok:
            raise OpsError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def _list(self, path: str) -> list[Item]:
        items: list[Item] = self._call("GET", path)
        return items

    def write(self, method: str, path: str, **body: str) -> Item:
        """Create (POST) or change (PATCH) a comment or an issue, and return it.

        Raises:
            OpsError: GitHub refuses; the message has its words.
        """
        item: Item = self._call(method, path, body)
        return item

    def find(self, path: str, marker: str) -> Item | None:
        """The first of our comments or issues in a list: its text has the marker.

        Raises:
            OpsError: GitHub refuses; the message has its words.
        """
        separator = "&" if "?" in path else "?"
        page = 1
        while items := self._list(f"{path}{separator}per_page={PAGE}&page={page}"):
            for item in items:
                # Anybody may write such a text; only an app's is ours.
                if marker in (item["body"] or "") and item["user"]["type"] == "Bot":
                    return item
            page += 1
        return None


def read(files: list[str]) -> str:
    """The texts of the files, one below the other.

    Raises:
        OpsError: a file is missing, or none was named.
    """
    missing = [file for file in files if not Path(file).is_file()]
    if missing or not files:
        what = ", ".join(missing) or "file to show"
        raise OpsError(f"there is no {what}: did the previous job upload it?")
    return "\n".join(Path(file).read_text().strip() for file in sorted(files))


def run_url() -> str:
    """The page of this run."""
    server, repository = required("GITHUB_SERVER_URL"), required("GITHUB_REPOSITORY")
    return f"{server}/{repository}/actions/runs/{required('GITHUB_RUN_ID')}"


def comment(*files: str) -> None:
    """Write the one comment of the pull request, or update it."""
    event = json.loads(Path(required("GITHUB_EVENT_PATH")).read_text())
    number = event.get("pull_request", {}).get("number")
    if not number:
        raise OpsError("this event is not a pull request")
    marker = MARKER.format("plan")
    body = f"{marker}\n## Planned changes\n\n{read(list(files))}\n\n[The run]({run_url()})\n"
    repository = Repository()
    if found := repository.find(f"issues/{number}/comments", marker):
        repository.write("PATCH", f"issues/comments/{found['id']}", body=body)
        print(f"updated {found['html_url']}")
    else:
        made = repository.write("POST", f"issues/{number}/comments", body=body)
        print(f"wrote {made['html_url']}")


def issue(environment: str, file: str) -> None:
    """Open, update or close the issue about what has drifted."""
    marker = MARKER.format(f"drift of {environment}")
    text = read([file])
    repository = Repository()
    found = repository.find("issues?state=open", marker)
    if not text:
        if found:
            clean = f"Clean again: [the run]({run_url()})."
            repository.write("POST", f"issues/{found['number']}/comments", body=clean)
            repository.write("PATCH", f"issues/{found['number']}", state="closed")
        print(
            f"{environment}: nothing has drifted{'; closed ' + found['html_url'] if found else ''}"
        )
        return
    body = f"{marker}\n{text}\n\n[The run]({run_url()})\n"
    if found:
        repository.write("PATCH", f"issues/{found['number']}", body=body)
        print(f"updated {found['html_url']}")
    else:
        title = f"{environment} has drifted from main"
        made = repository.write("POST", "issues", title=title, body=body)
        print(f"opened {made['html_url']}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops github`."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    comment_parser = commands.add_parser("comment", help="comment on the pull request")
    comment_parser.add_argument("files", metavar="FILE", nargs="*")
    issue_parser = commands.add_parser("issue", help="open, update or close the issue about drift")
    issue_parser.add_argument("environment", metavar="ENV")
    issue_parser.add_argument("file", metavar="FILE")


def run(project: Project, options: argparse.Namespace) -> None:
    """Write the comment or the issue."""
    if options.what == "comment":
        comment(*options.files)
    else:
        issue(options.environment, options.file)
