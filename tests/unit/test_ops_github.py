"""`lastro-ops github`: one comment on a pull request, one issue about drift."""

from __future__ import annotations

from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import Any

import pytest
import requests
from lastro_ops import cli


@dataclass
class GitHub:
    """GitHub's answers: the comments or issues that there are, and the requests that it got."""

    items: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    status: int = 200

    def answer(self, session: Any, method: str, url: str, json: Any, timeout: float) -> Any:
        assert session.headers["Authorization"] == "Bearer a-token"
        self.asked.append((method, url.removeprefix("https://api.example/repos/acme/x/"), json))
        answer: Any = {"id": 5, "number": 8, "html_url": "https://github.example/8"}
        if method == "GET":
            answer = self.items if url.endswith("page=1") else []
        response = requests.Response()
        response.status_code = self.status
        response._content = dumps(answer).encode()
        return response

    @property
    def written(self) -> list[tuple[str, str]]:
        return [(method, path) for method, path, _ in self.asked if method != "GET"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> GitHub:
    """GitHub, for a job of pull request 7."""
    (tmp_path / "event.json").write_text('{"pull_request": {"number": 7}}')
    for name, value in {
        "API_URL": "https://api.example",
        "SERVER_URL": "https://github.example",
        "REPOSITORY": "acme/x",
        "TOKEN": "a-token",
        "RUN_ID": "1",
        "EVENT_PATH": str(tmp_path / "event.json"),
    }.items():
        monkeypatch.setenv(f"GITHUB_{name}", value)
    hub = GitHub()
    monkeypatch.setattr(
        requests.Session,
        "request",
        lambda self, *given, **named: hub.answer(self, *given, **named),
    )
    return hub


def item(body: str | None, kind: str = "Bot") -> dict[str, Any]:
    """A comment or an issue."""
    url = "https://github.example/3"
    return {"id": 3, "number": 3, "body": body, "html_url": url, "user": {"type": kind}}


@pytest.mark.parametrize(
    ("items", "written"),
    [
        ([], ("POST", "issues/7/comments")),
        ([item(None), item("<!-- lastro: plan --> x")], ("PATCH", "issues/comments/3")),
        # Anybody may write such a text.
        ([item("<!-- lastro: plan --> x", "User")], ("POST", "issues/7/comments")),
    ],
)
def test_a_pull_request_has_one_comment(
    hub: GitHub, tmp_path: Path, items: list[dict[str, Any]], written: tuple[str, str]
) -> None:
    hub.items = items
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"plan of {name}\n")
    assert cli.main(["github", "comment", str(tmp_path / "b"), str(tmp_path / "a")]) == 0
    assert hub.written == [written]
    assert (
        "plan of a\nplan of b\n\n[The run](https://github.example/acme/x/actions/runs/1)"
        in (hub.asked[-1][2]["body"])
    )


@pytest.mark.parametrize(
    ("text", "there", "written"),
    [
        ("drifted", False, [("POST", "issues")]),
        ("drifted", True, [("PATCH", "issues/3")]),
        ("", True, [("POST", "issues/3/comments"), ("PATCH", "issues/3")]),
        ("", False, []),
    ],
)
def test_drift_has_one_issue_that_is_closed_when_it_is_over(
    hub: GitHub, tmp_path: Path, text: str, there: bool, written: list[tuple[str, str]]
) -> None:
    hub.items = [item("<!-- lastro: drift of prod -->")] if there else []
    (tmp_path / "drift.md").write_text(text)
    assert cli.main(["github", "issue", "prod", str(tmp_path / "drift.md")]) == 0
    assert hub.written == written


def test_an_error_of_github_is_reported(
    hub: GitHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["github", "comment"]) == 1
    assert "there is no file to show" in capsys.readouterr().err
    assert cli.main(["github", "issue", "prod", "nowhere.md"]) == 1
    assert "there is no nowhere.md: did the previous job upload it?" in capsys.readouterr().err
    (tmp_path / "plan.md").touch()
    hub.status = 403
    assert cli.main(["github", "comment", str(tmp_path / "plan.md")]) == 1
    assert "lastro-ops github: GET issues/7/comments" in capsys.readouterr().err
    (tmp_path / "event.json").write_text("{}")
    assert cli.main(["github", "comment", str(tmp_path / "plan.md")]) == 1
    assert "this event is not a pull request" in capsys.readouterr().err
    monkeypatch.delenv("GITHUB_EVENT_PATH")
    assert cli.main(["github", "comment", str(tmp_path / "plan.md")]) == 1
    assert "GITHUB_EVENT_PATH is not set" in capsys.readouterr().err
