"""The models of a worker, for ``GET /models``."""

from collections.abc import Mapping

import msgspec

from model_api.common.state import Model, State
from model_api.http.absence import Key, OpenFailure
from model_api.model.untyped import JsonObject
from model_api.model.version import Version


def describe(
    state: State,
    by_alias: Mapping[Key, Version],
    by_number: Mapping[Key, Version],
    failures: Mapping[Key, OpenFailure],
) -> list[JsonObject]:
    """Return every model with a followed alias or a version in memory, as JSON.

    One object per model, by name: ``name``; ``aliases``, each with ``version`` (the one that
    answers, or None), ``since``, ``wanted_version``, ``moved_at``, ``previous_version``,
    ``failure`` (``version``, ``reason``, ``attempts``, ``at``; or None) and ``history``, the last
    outcome of each version under that alias (``version``, ``at``, ``outcome``: ``served`` or
    ``failed``, ``reason``; the newest last); ``versions``, a description of each version in memory;
    and ``failures`` of versions that requests asked for by number.

    Args:
        state: the follower's state.
        by_alias: the answering versions, by name and alias.
        by_number: the versions in memory, by name and number.
        failures: the versions that could not be opened, by name and number.
    """
    found = []
    for name, model in sorted(state.models.items()):
        versions = {n: v for (of, n), v in by_number.items() if of == name}
        if model.aliases or versions:
            found.append(_describe(name, model, versions, by_alias, failures))
    return found


def _describe(
    name: str,
    model: Model,
    versions: Mapping[str, Version],
    by_alias: Mapping[Key, Version],
    failures: Mapping[Key, OpenFailure],
) -> JsonObject:
    aliases = {}
    for alias, entry in sorted(model.aliases.items()):
        serving = by_alias.get((name, alias))
        opening = failures.get((name, entry.serves or ""))
        failure = msgspec.to_builtins(entry.failure)
        if failure is None and opening is not None:
            failure = {
                "version": entry.serves,
                "reason": opening.reason,
                "attempts": opening.attempts,
                "at": msgspec.to_builtins(opening.at),
            }
        aliases[alias] = {
            "version": serving.number if serving else None,
            "since": msgspec.to_builtins(entry.since) if serving else None,
            "wanted_version": entry.wanted,
            "moved_at": msgspec.to_builtins(entry.moved_at),
            "previous_version": entry.previous,
            "failure": failure,
            "history": msgspec.to_builtins(model.history.get(alias, [])),
        }
    named = {entry.wanted for entry in model.aliases.values()}
    return {
        "name": name,
        "aliases": aliases,
        "versions": {n: v.describe() for n, v in sorted(versions.items(), key=_as_number)},
        "failures": [msgspec.to_builtins(f) for n, f in model.failures.items() if n not in named],
    }


def _as_number(item: tuple[str, Version]) -> int:
    return int(item[0])
