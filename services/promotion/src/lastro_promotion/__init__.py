"""Who let which version of a model serve, and which version a rollback returns to.

Every move of an alias is a tag of the registered model, written once and never changed:
``lastro.history.<alias>/<time>-<random>``. Two people who move an alias at the same moment write
two tags, so neither overwrites the other's: MLflow's tags have no compare-and-set. Only the hosts
of the model API know which version served (``history`` in ``GET /models``).

All functions are pure. Callers read and write MLflow themselves, in this order: move the alias, set
the new tag, delete the surplus ones.
"""

import json
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from lastro_promotion import rules
from lastro_promotion.reports import Report, alias_report, report
from lastro_promotion.rules import Target
from lastro_promotion.tags import PREFIX, Move, aliases, recorded, with_unrecorded
from lastro_promotion.times import INSTANT

__all__ = [
    "KEPT",
    "PREFIX",
    "Move",
    "Report",
    "Target",
    "Writing",
    "alias_report",
    "aliases",
    "moves",
    "record",
    "report",
    "rollback_target",
    "rolled_back",
]

KEPT = 20
"""How many moves of an alias are kept."""


@dataclass(frozen=True)
class Writing:
    """The record of a move: a tag to set, and tags to delete because newer ones replace them."""

    key: str
    value: str
    surplus: tuple[str, ...]


def moves(tags: Mapping[str, str], alias: str) -> list[Move]:
    """Return the newest `KEPT` moves of the alias, oldest first.

    The next recorded move reveals one that nobody recorded: it is added, by ``unknown``. Tags that
    cannot be read are left out: serving matters more.

    Args:
        tags: all tags of the registered model.
        alias: such as ``champion``.
    """
    return with_unrecorded(recorded(tags, alias)[-KEPT:])


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
        version: the version that it points to from now on.
        before: the version that it pointed to, None if none.
        by: who moves it.
        back: whether this is a rollback.
        reports: the hosts' reports, which a replaced host forgets.
        now: the time, with a time zone; this machine's time by default.
    """
    known = recorded(tags, alias)
    now = (now or datetime.now(UTC)).astimezone(UTC)
    if known:
        # The clock of another machine may be ahead: an entry comes after those its writer has seen.
        now = max(now, known[-1].at + INSTANT)
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


def rollback_target(
    tags: Mapping[str, str],
    alias: str,
    current: str | None,
    reports: Collection[Report],
    existing: Collection[str],
) -> Target:
    """Return the version that a rollback returns to.

    It is the version that began to serve last, other than the current one. It is never a version
    that no host reports as having served, that failed on a host in its last attempt, that was
    rolled back from and not promoted again since, or that was deleted.

    Args:
        tags: all tags of the registered model.
        alias: such as ``champion``.
        current: the version that the alias points to, None if to none.
        reports: those of the hosts that answered.
        existing: the model's versions.
    """
    return rules.target(moves(tags, alias), alias, current, reports, existing, kept=KEPT)


def rolled_back(tags: Mapping[str, str], alias: str) -> set[str]:
    """Return the versions that were rolled back from and not promoted again since.

    An automatic promotion must leave them out: a retried task would undo a rollback.
    """
    return rules.rolled_back(moves(tags, alias), kept=KEPT)
