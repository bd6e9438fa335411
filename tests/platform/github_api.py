"""The part of GitHub's REST API that the pipeline calls: comments and issues, kept in memory."""

from __future__ import annotations

import json
import re
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit


class GitHub:
    """An API that answers on this machine while it is entered.

    Attributes:
        repository: `owner/name` of the one repository there is.
        issues: its issues and pull requests, by number.
        comments: number of an issue -> its comments.
    """

    def __init__(self, repository: str) -> None:
        self.repository = repository
        self.issues: dict[int, dict[str, Any]] = {}
        self.comments: dict[int, list[dict[str, Any]]] = {}
        self._tokens: dict[str, dict[str, str]] = {}
        api = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                status, data = api.handle(self.command, self.path, body, token)
                text = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PATCH = answer

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> GitHub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def issue_token(self, permissions: dict[str, str]) -> str:
        """A token with only the permissions of a job."""
        token = secrets.token_hex(20)
        self._tokens[token] = permissions
        return token

    def open_pull_request(self, author: str = "ana") -> int:
        """A pull request, with a comment of a person that looks like one of the pipeline's."""
        number = self._number()
        self.issues[number] = {"number": number, "state": "open", "body": "", "pull_request": {}}
        self._comment(number, "<!-- lastro: plan --> me, too", {"login": author, "type": "User"})
        return number

    def handle(
        self, method: str, path: str, body: dict[str, Any], token: str
    ) -> tuple[int, dict[str, Any] | list[dict[str, Any]]]:
        """Status and answer of one call."""
        if token not in self._tokens:
            return 401, {"message": "Bad credentials"}
        permissions = self._tokens[token]
        parts = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        route = parts.path.removeprefix(f"/repos/{self.repository}/")
        if found := re.fullmatch(r"issues/(?:comments/)?(\d+)(?:/comments)?", route):
            number = int(found[1])
            if "comments/" in route:
                number = next(
                    n for n, items in self.comments.items() for c in items if c["id"] == number
                )
            kind = "pull-requests" if "pull_request" in self.issues[number] else "issues"
        else:
            kind = "issues"
        granted = permissions.get(kind)
        if granted != "write" and (method != "GET" or granted != "read"):
            return 403, {"message": "Resource not accessible by integration"}
        return self._route(method, route, query, body)

    def _route(
        self, method: str, route: str, query: dict[str, str], body: dict[str, Any]
    ) -> tuple[int, dict[str, Any] | list[dict[str, Any]]]:
        size = int(query.get("per_page", 30))
        start = (int(query.get("page", 1)) - 1) * size
        bot = {"login": "github-actions[bot]", "type": "Bot"}
        if route == "issues" and method == "GET":
            issues = [issue for issue in self.issues.values() if issue["state"] == query["state"]]
            return 200, issues[start : start + size]
        if route == "issues" and method == "POST":
            number = self._number()
            self.issues[number] = {
                "number": number,
                "state": "open",
                "user": bot,
                "html_url": f"https://github.example/{self.repository}/issues/{number}",
                **body,
            }
            return 201, self.issues[number]
        if found := re.fullmatch(r"issues/(\d+)/comments", route):
            number = int(found[1])
            if method == "GET":
                return 200, self.comments.get(number, [])[start : start + size]
            return 201, self._comment(number, body["body"], bot)
        if found := re.fullmatch(r"issues/comments/(\d+)", route):
            for items in self.comments.values():
                for comment in items:
                    if comment["id"] == int(found[1]):
                        comment.update(body)
                        return 200, comment
        if (found := re.fullmatch(r"issues/(\d+)", route)) and method == "PATCH":
            self.issues[int(found[1])].update(body)
            return 200, self.issues[int(found[1])]
        return 404, {"message": "Not Found"}

    def _comment(self, number: int, body: str, user: dict[str, str]) -> dict[str, Any]:
        comment = {
            "id": sum(map(len, self.comments.values())) + 1000,
            "body": body,
            "user": user,
            "html_url": f"https://github.example/{self.repository}/pull/{number}#comment",
        }
        self.comments.setdefault(number, []).append(comment)
        return comment

    def _number(self) -> int:
        return len(self.issues) + 1
