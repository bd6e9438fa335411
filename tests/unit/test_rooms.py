"""The rooms of the services' code: which may import which, and how long a module may be."""

from __future__ import annotations

import ast
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
    "follower": {"common", "model"},
    "prediction_log": {"common", "model"},
    "http": {"common", "model", "prediction_log"},
}
# What batch scoring takes: its environment has no HTTP server.
OF_BATCH_SCORING = {"common", "model", "preparing"}
# What computes answers, in whichever process, knows nothing of these.
OF_HTTP = {"http", "fastapi", "starlette", "uvicorn", "prometheus_client"}
MOST_LINES = 400
# Modules that are longer today, with their lines: to be split, never to grow.
TOO_LONG = {
    "promotion/src/lastro_promotion/__init__.py": 430,
}


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
def test_what_computes_answers_knows_nothing_of_http(room: str) -> None:
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
    long = {file: count for file, count in lines.items() if count > TOO_LONG.get(file, MOST_LINES)}
    assert not long, f"split these: a module has at most {MOST_LINES} lines"
    short = {file for file in TOO_LONG if lines.get(file, 0) <= MOST_LINES}
    assert not short, "these are short enough now: remove them from TOO_LONG"


def test_the_rooms_have_no_cycle() -> None:
    below: set[str] = set()
    while ready := {
        room for room, others in ROOMS.items() if room not in below and others <= below
    }:
        below |= ready
    assert below == ROOMS.keys()


def vague_signatures(file: Path) -> Iterator[str]:
    """The public functions of a module that name ``Any`` in their signature."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") and node.name != "__init__":
            continue
        arguments = [*ast.walk(node.args), *(ast.walk(node.returns) if node.returns else ())]
        if any(isinstance(part, ast.Name) and part.id == "Any" for part in arguments):
            yield f"{file.relative_to(MODEL_API)}:{node.lineno} {node.name}"


def test_public_signatures_of_the_model_api_say_what_they_take() -> None:
    vague = [found for file in MODEL_API.rglob("*.py") for found in vague_signatures(file)]
    assert not vague, "name a type; what libraries without types return has names in untyped.py"
