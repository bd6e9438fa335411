"""The tags of a registered model that record the moves of its aliases."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lastro_promotion.times import INSTANT, parse

PREFIX = "lastro.history."


@dataclass(frozen=True)
class Move:
    """One move of an alias.

    Attributes:
        version: the version that the alias pointed to afterwards.
        by: who moved it; ``unknown`` if nobody recorded the move.
        at: when, with a time zone.
        before: the version that the alias pointed to before; None if none, or if unknown.
        back: whether it was a rollback from ``before``.
        served: version -> when it last began to serve, as hosts reported it at that moment.
        failed: version -> when it failed, for the versions whose last attempt failed on a host.
        key: the tag of the move; "" for a move that nobody recorded.
        after: the newest tag that the writer had seen, if any.
        legacy: whether the previous release wrote it, which did not query the hosts.
    """

    version: str
    by: str
    at: datetime
    before: str | None = None
    back: bool = False
    served: Mapping[str, datetime] = field(default_factory=dict)
    failed: Mapping[str, datetime] = field(default_factory=dict)
    key: str = ""
    after: str | None = None
    legacy: bool = False


def aliases(tags: Mapping[str, str]) -> list[str]:
    """Return the aliases that have a history, sorted."""
    keys = (key.removeprefix(PREFIX) for key in tags if key.startswith(PREFIX))
    return sorted({key.partition("/")[0] for key in keys})


def recorded(tags: Mapping[str, str], alias: str) -> list[Move]:
    """Return every move that a tag records, in order."""
    found = _legacy(tags.get(f"{PREFIX}{alias}"), f"{PREFIX}{alias}")
    for key, text in tags.items():
        if key.startswith(f"{PREFIX}{alias}/"):
            try:
                entry = json.loads(text)
                found.append(
                    Move(
                        version=str(entry["version"]),
                        by=str(entry["by"]),
                        at=parse(entry["at"]),
                        before=None if entry.get("before") is None else str(entry["before"]),
                        back=entry.get("back") is True,
                        served={str(v): parse(at) for v, at in entry.get("served", {}).items()},
                        failed={str(v): parse(at) for v, at in entry.get("failed", {}).items()},
                        key=key,
                        after=None if entry.get("after") is None else str(entry["after"]),
                    )
                )
            except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
                continue
    return sorted(found, key=lambda move: (move.at, move.key))


def _legacy(text: str | None, key: str) -> list[Move]:
    """Return the moves in the single tag of the previous release."""
    try:
        entries = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    found: list[Move] = []
    for entry in entries if isinstance(entries, list) else ():
        try:
            version, by, at = str(entry["version"]), str(entry["by"]), parse(entry["at"])
        except (LookupError, TypeError, ValueError):
            continue
        last = found[-1] if found else None
        found.append(
            Move(
                version=version,
                by=by,
                # The list's order counts: its times come from several machines.
                at=max(at, last.at) if last else at,
                before=last.version if last else None,
                # That release rolled back to the version before, and did not record that.
                back=len(found) > 1 and version == found[-2].version,
                key=key,
                legacy=True,
            )
        )
    return found


def with_unrecorded(known: list[Move]) -> list[Move]:
    """Add the unrecorded moves that later records reveal."""
    found: list[Move] = []
    place = {move.key: i for i, move in enumerate(known)}
    for i, move in enumerate(known):
        # The entries between this one and the last that its writer had seen are those of people who
        # moved the alias at the same moment.
        seen = -1 if move.after is None else place.get(move.after)
        if not move.legacy and move.before is not None and seen is not None:
            ways = {other.version for other in known[max(seen, 0) : i]}
            together = {other.before for other in known[seen + 1 : i]}
            if move.before not in ways | together:
                found.append(Move(move.before, "unknown", move.at - INSTANT))
        found.append(move)
    return found
