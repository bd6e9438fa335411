"""MLflow's scoring server and ours, both in this process, with the same model files.

`mlflow models serve` runs the app that ``mlflow.pyfunc.scoring_server.init`` makes, by uvicorn.
Here it is called as an ASGI app, as ours is: a request takes milliseconds, and no port.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
import warnings
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cloudpickle
import mlflow.pyfunc
import models
from mlflow.pyfunc import scoring_server
from model_api.common.runners import read_statuses
from model_api.common.state import Alias, Model, Prepared, State, StateFolder
from model_api.http.app import create_app
from model_api.model.version import Version, open_confined
from model_api.preparing.prepare import prepare_downloaded
from models import MODELS
from serving import KEY, MemoryStore, make_settings, runners

# Compiled models are compared with the original to this.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Request:
    """A request for a prediction; ``marks`` name its special features."""

    model: str
    body: bytes
    content_type: str | None = "application/json"
    marks: frozenset[str] = field(default_factory=frozenset)

    def __str__(self) -> str:
        text = self.body if len(self.body) <= 600 else self.body[:600] + b"..."
        return f"{self.model} <- {self.content_type}: {text!r}\nmarks: {sorted(self.marks)}"


@dataclass(frozen=True)
class Reply:
    """The answer of a server."""

    status: int
    body: bytes

    @property
    def answered(self) -> bool:
        """Whether there are predictions."""
        return self.status == 200

    def predictions(self) -> Any:
        """Return the predictions, whatever they are."""
        document = json.loads(self.body)
        return document["predictions"] if isinstance(document, dict) else document

    def __str__(self) -> str:
        return f"{self.status} {self.body[:400].decode(errors='replace')}"


class Servers:
    """Both servers, with every model; one event loop for the two.

    Args:
        folder: for the models and what is prepared of them.
    """

    def __init__(self, folder: Path) -> None:
        self._runner = asyncio.Runner()
        self._mlflow = {}
        self._open = ExitStack()
        state, directory = StateFolder(folder / "state"), folder / "runners"
        state.make()
        # A runner has no module of the tests.
        cloudpickle.register_pickle_by_value(models)
        versions: list[Version] = []
        known = State()
        now = datetime.now(UTC)
        for name, save in MODELS.items():
            save(folder / name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._mlflow[name] = scoring_server.init(
                    mlflow.pyfunc.load_model(str(folder / name))
                )
                prepared = state.prepared / name
                prepare_downloaded(folder / name, prepared, name=name, version="1", run_id=None)
                # As a worker does: code of a model runs in its runner only.
                versions.append(open_confined(prepared))
            known.models[name] = Model(
                created=1,
                latest=1,
                aliases={"champion": Alias("1", now)},
                versions={"1": Prepared(f"prepared/{name}", "compat")},
            )
        state.write(known)
        self._open.enter_context(runners(state.path, directory))
        natives = {version.folder.name for version in versions if version.elsewhere}
        while {n for n, its in read_statuses(directory).items() if its.state == "ready"} < natives:
            time.sleep(0.1)
        self.signatures = {version.name: version.manifest["signature"] for version in versions}
        settings = make_settings(folder, runners_directory=directory)
        self._ours = create_app(settings, MemoryStore(*versions))  # type: ignore[arg-type]

    def close(self) -> None:
        """End the event loop and the runners."""
        self._runner.close()
        self._open.close()

    def mlflow(self, request: Request) -> Reply:
        """Return the answer of MLflow's scoring server."""
        return self._call(self._mlflow[request.model], "/invocations", request, {})

    def ours(self, request: Request, last: str = "invocations") -> Reply:
        """Return the answer of the model API, by default under ``/invocations``."""
        key = {"authorization": f"Bearer {KEY}"}
        return self._call(self._ours, f"/models/{request.model}/{last}", request, key)

    def _call(self, app: Any, path: str, request: Request, headers: dict[str, str]) -> Reply:
        headers = headers | {"content-length": str(len(request.body))}
        if request.content_type is not None:
            headers["content-type"] = request.content_type
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 1),
        }
        return self._runner.run(_exchange(app, scope, request.body))


async def _exchange(app: Any, scope: dict[str, Any], body: bytes) -> Reply:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]
    never = asyncio.Event()
    status, content = 0, b""

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop()
        await never.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, content
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            content += message.get("body", b"")

    # Starlette raises an error again once it has answered 500.
    with suppress(Exception):
        await app(scope, receive, send)
    return Reply(status, content)


def difference(theirs: Reply, ours: Reply) -> str | None:
    """Return the difference between our answer and MLflow's in a few words; None if none.

    Where MLflow fails, with 500, we are to refuse.
    """
    if ours.status >= 500:
        return "we fail"
    if theirs.answered and not ours.answered:
        return "we refuse"
    if not theirs.answered and ours.answered:
        return "we answer"
    if not theirs.answered:
        return None
    expected, found = theirs.predictions(), ours.predictions()
    if alike(expected, found):
        return None
    if alike(_with_null(expected), found):
        return "null for NaN"
    if alike(_with_null(expected, missing_time="NaT"), found):
        return "null for NaT"
    return "other predictions"


def alike(theirs: Any, ours: Any) -> bool:
    """Tell whether predictions are the same, numbers to the tolerance."""
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(map(alike, theirs, ours))
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return theirs.keys() == ours.keys() and all(alike(theirs[n], ours[n]) for n in theirs)
    if isinstance(theirs, bool) or isinstance(ours, bool):
        return theirs is ours
    if isinstance(theirs, int | float) and isinstance(ours, int | float):
        return math.isclose(theirs, ours, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return theirs == ours


def _with_null(answer: Any, missing_time: str | None = None) -> Any:
    """Return an answer with null for values that are not finite, and for missing times."""
    if isinstance(answer, list):
        return [_with_null(item, missing_time) for item in answer]
    if isinstance(answer, dict):
        return {name: _with_null(item, missing_time) for name, item in answer.items()}
    if isinstance(answer, float) and not math.isfinite(answer):
        return None
    return None if answer == missing_time else answer
