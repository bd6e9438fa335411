"""Who let which version of a model serve, and which version a rollback returns to.

Every move of an alias is a tag of the registered model, written once and never changed:
``lastro.history.<alias>/<time>-<random>``. Two people who move an alias at the same moment write
two tags, so neither overwrites the other's: MLflow's tags have no compare-and-set. Which version
served is known from the hosts of the model API alone (``history`` in ``GET /models``).

All functions are pure: callers read and write MLflow themselves, in this order: move the alias, set
the new tag, delete the surplus ones.
"""

import json
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

PREFIX = "lastro.history."
KEPT = 20
"""Moves of an alias that are kept."""

_INSTANT = timedelta(microseconds=1)
_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Move:
    """One move of an alias.

    Attributes:
        version: what the alias pointed to from then on.
        by: who moved it; ``unknown`` where nobody recorded it.
        at: when, with a time zone.
        before: what the alias pointed to until then; None if nothing, or if it is not known.
        back: whether it was a rollback from ``before``.
        served: version -> when it last began to serve, as hosts reported it at that moment.
        failed: version -> when it failed, for the versions whose last attempt failed on a host.
        key: the tag that holds it; "" for a move that nobody recorded.
        after: the tag that the writer had seen last, if any.
        legacy: whether the release before wrote it, which did not ask hosts.
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


@dataclass(frozen=True)
class Report:
    """What one host says about an alias of a model.

    Attributes:
        host: its name, for messages.
        served: version -> when it last began to serve under the alias.
        failed: version -> when it failed, for versions whose last attempt failed.
        reasons: version -> why it failed.
    """

    host: str
    served: Mapping[str, datetime]
    failed: Mapping[str, datetime]
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """Where a rollback leads: a version, or None and in ``reason`` a sentence that says why."""

    version: str | None
    reason: str


@dataclass(frozen=True)
class Writing:
    """What records a move: a tag to set, and tags to delete because newer ones replace them."""

    key: str
    value: str
    surplus: tuple[str, ...]


# ---- what hosts report --------------------------------------------------------------------------


def report(host: str, listing: Mapping[str, Any] | None, name: str, alias: str) -> Report | None:
    """Read what a host's answer to ``GET /models`` says about an alias.

    Args:
        host: its name, for messages.
        listing: the answer; None if there was none.
        name: of the registered model.
        alias: such as ``champion``.

    Returns:
        None if the host does not follow that alias, or its answer cannot be used.
    """
    try:
        model = next(one for one in (listing or {})["models"] if one["name"] == name)
        entry = model["aliases"][alias]
    except (StopIteration, LookupError, TypeError):
        return None
    return alias_report(host, entry)


def alias_report(host: str, entry: Mapping[str, Any]) -> Report | None:
    """Read what a host says about one alias: an object in ``aliases`` of ``GET /models``.

    A host of the release before has no ``history``: then what serves now and what served before
    count.

    Returns:
        None if it cannot be used.
    """
    served: dict[str, datetime] = {}
    failed: dict[str, datetime] = {}
    reasons: dict[str, str] = {}
    try:
        for word in entry.get("history") or ():
            # One word a version, the newest: one that served and failed later has failed.
            outcome = served if word["outcome"] == "served" else failed
            outcome[str(word["version"])] = _time(word["at"])
            reasons[str(word["version"])] = str(word.get("reason") or "")
        if "history" not in entry and entry["version"]:
            since = _time(entry["since"])
            served[str(entry["version"])] = since
            if entry["previous_version"]:
                served[str(entry["previous_version"])] = since - _INSTANT
        if (failure := entry.get("failure")) and failure["version"] != entry.get("version"):
            version = str(failure["version"])
            served.pop(version, None)
            failed[version] = _time(failure["at"])
            reasons[version] = str(failure["reason"])
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    return Report(host, served, failed, reasons)


# ---- the record ---------------------------------------------------------------------------------


def moves(tags: Mapping[str, str], alias: str) -> list[Move]:
    """Return who moved the alias to which version when, oldest first; of the newest `KEPT` moves.

    A move that nobody recorded shows in the next one that somebody did: it is added, by
    ``unknown``. Tags that cannot be read are left out: serving matters more.

    Args:
        tags: all tags of the registered model.
        alias: such as ``champion``.
    """
    return _with_unrecorded(_recorded(tags, alias)[-KEPT:])


def aliases(tags: Mapping[str, str]) -> list[str]:
    """Return the aliases that have a history, sorted."""
    keys = (key.removeprefix(PREFIX) for key in tags if key.startswith(PREFIX))
    return sorted({key.partition("/")[0] for key in keys})


def record(
    tags: Mapping[str, str],
    alias: str,
    version: str,
    *,
    before: str | None,
    by: str,
    back: bool = False,
    reports: Iterable[Report] = (),
    now: datetime | None = None,
) -> Writing:
    """Return the tags to write for a move.

    Args:
        tags: all tags of the registered model, as they were before the move.
        alias: such as ``champion``.
        version: what it points to from now on.
        before: what it pointed to, None if nothing.
        by: who moves it.
        back: whether this is a rollback.
        reports: what the hosts say; they forget it when they are replaced.
        now: the time, with a time zone; this machine's if not given.
    """
    known = _recorded(tags, alias)
    now = (now or datetime.now(UTC)).astimezone(UTC)
    if known:
        # The clock of another machine may be ahead: an entry comes after what its writer has seen.
        now = max(now, known[-1].at + _INSTANT)
    served: dict[str, datetime] = {}
    failed: dict[str, datetime] = {}
    for one in reports:
        for words, of in ((served, one.served), (failed, one.failed)):
            for number, at in of.items():
                words[number] = max(at, words.get(number, at))
    entry = {
        "version": version,
        "by": by,
        "at": now.isoformat(timespec="microseconds"),
        "before": before,
        "back": back,
        "after": known[-1].key if known else None,
        "served": _newest(served),
        "failed": _newest(failed),
    }
    key = f"{PREFIX}{alias}/{now:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"
    kept = {move.key for move in known[-(KEPT - 1) :]} if KEPT > 1 else set()
    surplus = {move.key for move in known} - kept
    return Writing(key, json.dumps(entry, separators=(",", ":")), tuple(sorted(surplus)))


def _newest(words: Mapping[str, datetime]) -> dict[str, str]:
    newest = sorted(words.items(), key=lambda word: word[1])[-KEPT:]
    # To the microsecond: a report of the same moment must not look later than its record.
    return {version: at.isoformat(timespec="microseconds") for version, at in newest}


def _recorded(tags: Mapping[str, str], alias: str) -> list[Move]:
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
                        at=_time(entry["at"]),
                        before=None if entry.get("before") is None else str(entry["before"]),
                        back=entry.get("back") is True,
                        served={str(v): _time(at) for v, at in entry.get("served", {}).items()},
                        failed={str(v): _time(at) for v, at in entry.get("failed", {}).items()},
                        key=key,
                        after=None if entry.get("after") is None else str(entry["after"]),
                    )
                )
            except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
                continue
    return sorted(found, key=lambda move: (move.at, move.key))


def _legacy(text: str | None, key: str) -> list[Move]:
    """Return the moves in the one tag that the release before kept."""
    try:
        entries = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    found: list[Move] = []
    for entry in entries if isinstance(entries, list) else ():
        try:
            version, by, at = str(entry["version"]), str(entry["by"]), _time(entry["at"])
        except (LookupError, TypeError, ValueError):
            continue
        last = found[-1] if found else None
        found.append(
            Move(
                version=version,
                by=by,
                # The list's order counts: its times are of several machines.
                at=max(at, last.at) if last else at,
                before=last.version if last else None,
                # That release rolled back to the version before, and did not note it.
                back=len(found) > 1 and version == found[-2].version,
                key=key,
                legacy=True,
            )
        )
    return found


def _with_unrecorded(recorded: list[Move]) -> list[Move]:
    """Add the moves that nobody recorded, as far as they show."""
    found: list[Move] = []
    place = {move.key: i for i, move in enumerate(recorded)}
    for i, move in enumerate(recorded):
        # Between the last entry that its writer had seen and this one are those of people who moved
        # the alias at the same moment.
        seen = -1 if move.after is None else place.get(move.after)
        if not move.legacy and move.before is not None and seen is not None:
            ways = {other.version for other in recorded[max(seen, 0) : i]}
            together = {other.before for other in recorded[seen + 1 : i]}
            if move.before not in ways | together:
                found.append(Move(move.before, "unknown", move.at - _INSTANT))
        found.append(move)
    return found


# ---- the rules ----------------------------------------------------------------------------------


def rollback_target(
    tags: Mapping[str, str],
    alias: str,
    current: str | None,
    reports: Collection[Report],
    existing: Collection[str],
) -> Target:
    """Return the version that a rollback returns to.

    It is the one that began to serve last, other than the current one. Never a version that no host
    reports as having served, that failed on a host in its last attempt, that was rolled back from
    and not promoted again since, or that does not exist any more.

    Args:
        tags: all tags of the registered model.
        alias: such as ``champion``.
        current: the version that the alias points to, None if to none.
        reports: what the hosts say; those that cannot be reached are left out.
        existing: the model's versions.
    """
    record_ = moves(tags, alias)
    served = _served(record_, reports)
    barred = _barred(record_, reports, served)
    # Of the same second, the later in the record.
    for version in sorted(reversed(served), key=served.__getitem__, reverse=True):
        if version != current and version in existing and version not in barred:
            since = f"{served[version]:%Y-%m-%d %H:%M} UTC"
            return Target(version, f"version {version} served from {since}")
    why = [f"{alias} points to version {current} now"] if current else []
    for version in sorted(served.keys() | barred.keys(), key=_number):
        if version == current:
            continue
        if version not in existing:
            why.append(f"version {version} was deleted")
        elif version in barred:
            why.append(f"version {version} {barred[version]}")
    why.append(
        "no host reports that another version has served"
        if reports
        else "no host of the model API reports what has served"
    )
    return Target(None, f"there is no version to roll back to: {'; '.join(why)}")


def rolled_back(tags: Mapping[str, str], alias: str) -> set[str]:
    """Return the versions that were rolled back from and not promoted again since.

    Whoever promotes without being told to by a person must leave them out: a task that is tried
    again would undo a rollback.
    """
    record_ = moves(tags, alias)
    return set(_left(record_, _served(record_, ())))


def _served(record_: list[Move], reports: Collection[Report]) -> dict[str, datetime]:
    """Return version -> when it last began to serve, for all that are known to have served."""
    served: dict[str, datetime] = {}
    for words in (*(move.served for move in record_), *(one.served for one in reports)):
        for version, at in words.items():
            served[version] = max(at, served.get(version, at))
    recorded = [move for move in record_ if move.key]
    if len(recorded) >= KEPT:
        # Older moves are forgotten, and with them what was rolled back from.
        named = {move.version for move in recorded}
        oldest = recorded[0].at
        served = {v: at for v, at in served.items() if v in named or at > oldest}
    # The release before did not ask hosts. What it let serve before the first report counts; what
    # it promoted later would be in the reports if it had served.
    first = min(served.values(), default=None)
    known = set(served)
    for move in record_:
        if move.legacy and move.version not in known and (first is None or move.at < first):
            served.pop(move.version, None)
            served[move.version] = move.at
    return served


def _barred(
    record_: list[Move], reports: Collection[Report], served: Mapping[str, datetime]
) -> dict[str, str]:
    """Return version -> why no rollback may return to it, as the end of a sentence."""
    left = _left(record_, served)
    failed: dict[str, datetime] = {}
    seen: dict[str, datetime] = {}
    for move in record_:
        seen |= {v: max(at, seen.get(v, at)) for v, at in move.served.items()}
        # Hosts' clocks differ: what one has reported as served by then is no news after a failure
        # of another, whatever its time.
        failed |= {v: max(at, seen.get(v, at)) for v, at in move.failed.items()}
        if move.key and not move.back:
            failed.pop(move.version, None)
    barred = {
        version: "failed at its last attempt to serve"
        for version, at in failed.items()
        if served.get(version, _EARLIEST) <= at
    }
    for one in reports:
        for version in one.failed:
            reason = one.reasons.get(version)
            barred[version] = f"failed on {one.host}" + (f" ({reason})" if reason else "")
    barred |= {v: f"was rolled back from at {at:%Y-%m-%d %H:%M} UTC" for v, at in left.items()}
    return barred


def _left(record_: list[Move], served: Mapping[str, datetime]) -> dict[str, datetime]:
    """Return version -> when it was rolled back from, without those promoted again since."""
    left: dict[str, datetime] = {}
    for move in record_:
        if move.back and move.before is not None:
            left[move.before] = move.at
        if move.version not in left:
            continue
        # Where nobody recorded that it was promoted again, it must have served since.
        if not move.back and (move.key or served.get(move.version, _EARLIEST) > left[move.version]):
            del left[move.version]
    return left


def _number(version: str) -> tuple[int, str]:
    return (int(version) if version.isdecimal() else 0), version


def _time(text: str) -> datetime:
    """Return a time of ISO 8601, in UTC where it names no zone.

    Raises:
        ValueError: it is none, or so near the first or last time there is that no other one could
            be put before or after it.
    """
    at = datetime.fromisoformat(text)
    if not datetime.min.year < at.year < datetime.max.year:
        raise ValueError(f"{text!r} is not the time of a record")
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
