"""The rules of a rollback: which version it returns to, and why not to others."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lastro_promotion.reports import Report
from lastro_promotion.tags import Move
from lastro_promotion.times import EARLIEST


@dataclass(frozen=True)
class Target:
    """Where a rollback leads: a version, or None and in ``reason`` a sentence that says why."""

    version: str | None
    reason: str


def target(
    moves: Sequence[Move],
    alias: str,
    current: str | None,
    reports: Collection[Report],
    existing: Collection[str],
    *,
    kept: int,
) -> Target:
    """Return the version that a rollback returns to; see `lastro_promotion.rollback_target`.

    Args:
        moves: the moves of the alias, oldest first.
        alias: such as ``champion``.
        current: the version that the alias points to, None if to none.
        reports: those of the hosts that answered.
        existing: the model's versions.
        kept: how many moves the record keeps.
    """
    served = _served(moves, reports, kept)
    barred = _barred(moves, reports, served)
    # At the same second, the later one in the record.
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
        else "no host of the model API reports which versions have served"
    )
    return Target(None, f"there is no version to roll back to: {'; '.join(why)}")


def rolled_back(moves: Sequence[Move], *, kept: int) -> set[str]:
    """Return the versions that were rolled back from and not promoted again since.

    Args:
        moves: the moves of the alias, oldest first.
        kept: how many moves the record keeps.
    """
    return set(_left(moves, _served(moves, (), kept)))


def _served(moves: Sequence[Move], reports: Collection[Report], kept: int) -> dict[str, datetime]:
    """Return version -> when it last began to serve, for all versions known to have served."""
    served: dict[str, datetime] = {}
    for words in (*(move.served for move in moves), *(one.served for one in reports)):
        for version, at in words.items():
            served[version] = max(at, served.get(version, at))
    recorded = [move for move in moves if move.key]
    if len(recorded) >= kept:
        # Older moves are forgotten, and with them the rollbacks among them.
        named = {move.version for move in recorded}
        oldest = recorded[0].at
        served = {v: at for v, at in served.items() if v in named or at > oldest}
    # The previous release did not query the hosts. A version that it promoted before the first
    # report counts as served; one that it promoted later would be in the reports.
    first = min(served.values(), default=None)
    known = set(served)
    for move in moves:
        if move.legacy and move.version not in known and (first is None or move.at < first):
            served.pop(move.version, None)
            served[move.version] = move.at
    return served


def _barred(
    moves: Sequence[Move], reports: Collection[Report], served: Mapping[str, datetime]
) -> dict[str, str]:
    """Return version -> why no rollback may return to it, as the end of a sentence."""
    left = _left(moves, served)
    failed: dict[str, datetime] = {}
    seen: dict[str, datetime] = {}
    for move in moves:
        seen |= {v: max(at, seen.get(v, at)) for v, at in move.served.items()}
        # Hosts' clocks differ: a failure counts as later than everything that any host had reported
        # as served by then.
        failed |= {v: max(at, seen.get(v, at)) for v, at in move.failed.items()}
        if move.key and not move.back:
            failed.pop(move.version, None)
    barred = {
        version: "failed at its last attempt to serve"
        for version, at in failed.items()
        if served.get(version, EARLIEST) <= at
    }
    for one in reports:
        for version in one.failed:
            reason = one.reasons.get(version)
            barred[version] = f"failed on {one.host}" + (f" ({reason})" if reason else "")
    barred |= {v: f"was rolled back from at {at:%Y-%m-%d %H:%M} UTC" for v, at in left.items()}
    return barred


def _left(moves: Sequence[Move], served: Mapping[str, datetime]) -> dict[str, datetime]:
    """Return version -> when it was rolled back from, without those promoted again since."""
    left: dict[str, datetime] = {}
    for move in moves:
        if move.back and move.before is not None:
            left[move.before] = move.at
        if move.version not in left:
            continue
        # After an unrecorded move, it must have served since.
        if not move.back and (move.key or served.get(move.version, EARLIEST) > left[move.version]):
            del left[move.version]
    return left


def _number(version: str) -> tuple[int, str]:
    return (int(version) if version.isdecimal() else 0), version
