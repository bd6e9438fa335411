"""Moving an alias: by the visitor's own MLflow login, with a record of who did it and when.

The record is a tag of the registered model, `lastro.history.<alias>`: a JSON list of
`{"version", "by", "at"}`, newest last. Whoever moves an alias for Lastro appends to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from dashboard.services import Refused, ServiceError
from dashboard.tracking import RegisteredModel, Tracking

TAG = "lastro.history."
KEPT = 20
"""Entries of a history; older ones are dropped."""


@dataclass(frozen=True)
class Move:
    """One entry of an alias's history."""

    version: str
    by: str
    at: datetime


@dataclass(frozen=True)
class Change:
    """What a visitor is about to do; `before` is None where the alias names no version yet."""

    model: str
    alias: str
    before: str | None
    after: str


def history(model: RegisteredModel, alias: str) -> list[Move]:
    """Who moved the alias to which version when, newest last; what cannot be read is left out."""
    try:
        entries = json.loads(model.tags.get(f"{TAG}{alias}", "[]"))
    except ValueError:
        return []
    moves = []
    for entry in entries if isinstance(entries, list) else ():
        try:
            at = datetime.fromisoformat(entry["at"])
            moves.append(
                Move(
                    str(entry["version"]),
                    str(entry["by"]),
                    at if at.tzinfo else at.replace(tzinfo=UTC),
                )
            )
        except (LookupError, TypeError, ValueError):
            continue
    return moves


def rollback_target(model: RegisteredModel, alias: str) -> str | None:
    """The version that the alias named before this one, None when no history tells."""
    now = model.aliases.get(alias)
    return next(
        (move.version for move in reversed(history(model, alias)) if move.version != now), None
    )


def apply(tracking: Tracking, change: Change, by: str) -> None:
    """Move the alias and append to its history.

    Args:
        tracking: MLflow with the visitor's login; its permissions decide.
        change: what the visitor has confirmed.
        by: the visitor's name.

    Raises:
        Refused: somebody moved the alias since `change` was drawn up, or MLflow does not allow
            the move; the message says which, and nothing has changed.
        HistoryLost: the alias is moved, but its history could not be written.
        ServiceError: MLflow is away.
    """
    model = tracking.registered_model(change.model)
    now = model.aliases.get(change.alias)
    if now != change.before:
        raise Refused(
            f"{change.alias} was moved meanwhile and names "
            f"{f'version {now}' if now else 'no version'} now. Nothing was changed."
        )
    try:
        tracking.set_alias(change.model, change.alias, change.after)
    except Refused as error:
        if error.status == 403:
            raise Refused(
                f"MLflow does not let {by} change {change.model}: it takes EDIT permission on "
                "this model. Nothing was changed."
            ) from None
        raise
    moves = [*_with_start(model, change), Move(change.after, by, datetime.now(UTC))]
    tag = json.dumps([_entry(move) for move in moves[-KEPT:]], separators=(",", ":"))
    try:
        tracking.set_model_tag(change.model, f"{TAG}{change.alias}", tag)
    except ServiceError as error:
        raise HistoryLost(
            f"{change.alias} names version {change.after} now, but who did it could not be "
            f"written to the history: {error}"
        ) from error


class HistoryLost(ServiceError):
    """The alias is moved, its history is not written."""


def _with_start(model: RegisteredModel, change: Change) -> list[Move]:
    """The history so far; what the alias named before is added where nobody had noted it.

    Else the first change ever noted could not be rolled back.
    """
    moves = history(model, change.alias)
    if change.before and (not moves or moves[-1].version != change.before):
        moves.append(Move(change.before, "unknown", model.updated or datetime.now(UTC)))
    return moves


def _entry(move: Move) -> dict[str, str]:
    at = move.at.astimezone(UTC).isoformat(timespec="seconds")
    return {"version": move.version, "by": move.by, "at": at}
