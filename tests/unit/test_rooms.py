"""The rooms of the services' code, the length of modules, and the types of public signatures."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SERVICES = PROJECT / "services"
MODEL_API = SERVICES / "model_api/src/model_api"
# Room of the model API -> the other rooms that it may import.
ROOMS = {
    "common": set(),
    "model": set(),
    "preparing": {"model"},
    "downloading": {"model"},
    "sandbox": {"common"},
    "running": {"common", "model"},
    "runners": {"common", "model", "sandbox"},
    "follower": {"common", "downloading", "model", "sandbox"},
    "prediction_log": {"common", "model"},
    "http": {"common", "model", "prediction_log"},
}
# Rooms that batch scoring may import: its environment has no HTTP server.
OF_BATCH_SCORING = {"common", "downloading", "model", "preparing"}
# The code that computes answers, in any process, imports none of these.
OF_HTTP = {"http", "fastapi", "starlette", "uvicorn", "prometheus_client"}
MOST_LINES = 400


def imported(file: Path) -> Iterator[str]:
    """The full names of what a module imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide which room they mean"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_of(file: Path) -> set[str]:
    """The rooms of the model API that a module imports."""
    names = (name.split(".") for name in imported(file))
    return {name[1] for name in names if name[0] == "model_api"}


def sources() -> list[Path]:
    """Our Python in services/, without tests."""
    return [f for f in SERVICES.glob("*/**/*.py") if "tests" not in f.relative_to(SERVICES).parts]


def test_no_module_of_the_model_api_is_outside_the_rooms() -> None:
    outside = {path.name for path in MODEL_API.iterdir() if path.name != "__pycache__"}
    assert outside - ROOMS.keys() == {"__init__.py", "__main__.py", "py.typed"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    wrong = {
        str(file.relative_to(MODEL_API)): other
        for file in (MODEL_API / room).rglob("*.py")
        if (other := rooms_of(file) - ROOMS[room] - {room})
    }
    assert not wrong, f"{room} may import {ROOMS[room] or 'no other room'}"


@pytest.mark.parametrize("room", ["model", "preparing"])
def test_code_that_computes_answers_imports_no_http(room: str) -> None:
    wrong = {
        str(file.relative_to(MODEL_API)): other
        for file in (MODEL_API / room).rglob("*.py")
        if (other := {name.split(".")[0] for name in imported(file)} & OF_HTTP)
    }
    assert not wrong


def test_batch_scoring_imports_no_room_of_a_server() -> None:
    wrong = {
        file.name: other
        for file in (SERVICES / "pipelines/src").rglob("*.py")
        if (other := rooms_of(file) - OF_BATCH_SCORING)
    }
    assert not wrong


def test_no_module_is_too_long_to_have_one_job() -> None:
    lines = {
        str(file.relative_to(SERVICES)): len(file.read_text().splitlines()) for file in sources()
    }
    long = {file: count for file, count in lines.items() if count > MOST_LINES}
    assert not long, f"split these: a module has at most {MOST_LINES} lines"


def test_the_rooms_have_no_cycle() -> None:
    below: set[str] = set()
    while ready := {
        room for room, others in ROOMS.items() if room not in below and others <= below
    }:
        below |= ready
    assert below == ROOMS.keys()


def _is_public(name: str) -> bool:
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def _annotated(tree: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    """Each public function and attribute of a module, with an annotation of its own.

    Functions inside functions are included, for they may replace a library's; variables inside
    functions are not.
    """
    local: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.args
            yield node.name, node.returns
            local |= {child for child in ast.walk(node) if isinstance(child, ast.AnnAssign)}
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            match node.target:
                case ast.Attribute(attr=name):
                    yield name, node.annotation
                case ast.Name(id=name) if node not in local:
                    yield name, node.annotation


def vague_names(source: str) -> list[str]:
    """The public functions and attributes of a module with ``Any`` in their types, sorted."""
    return sorted(
        {
            name
            for name, annotation in _annotated(ast.parse(source))
            if annotation is not None
            and _is_public(name)
            and any(
                isinstance(part, ast.Name | ast.Attribute | ast.Constant)
                and re.search(r"\bAny\b", ast.unparse(part))
                for part in ast.walk(annotation)
            )
        }
    )


def test_public_names_of_the_services_have_a_precise_type() -> None:
    vague = {
        f"{file.relative_to(SERVICES)}: {name}"
        for file in SERVICES.glob("*/src/**/*.py")
        for name in vague_names(file.read_text())
    }
    assert not vague, (
        "name a type: a TypedDict, a Protocol, object. A library without types gets names in one"
        " module, as in model_api/model/untyped.py"
    )


def test_any_is_found_wherever_a_public_name_has_it() -> None:
    source = """
import typing
from typing import Any
LIMITS: dict[str, Any] = {}
_private: Any = None
class Shape:
    sides: list[Any]
    _area: Any
    def __init__(self, **options: Any) -> None:
        self.name: "Any" = None
        self._hidden: Any = None
        local: Any = None
    def __call__(self, *shapes: typing.Any) -> None: ...
    def _draw(self, on: Any) -> Any: ...
    def plain(self, size: int, name: object) -> "Many": ...
def wrap():
    def inner() -> Any: ...
    variable: Any = 1
"""
    assert vague_names(source) == ["LIMITS", "__call__", "__init__", "inner", "name", "sides"]
