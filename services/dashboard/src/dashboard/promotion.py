"""Move an alias with the visitor's MLflow login, and record who did it and when.

`lastro_promotion` defines the record and its rules, for `make promote` and the pipelines as well.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from lastro_promotion import Move, Report, Target, moves, record
from lastro_promotion import rollback_target as _rollback_target

from dashboard.services import Refused, ServiceError
from dashboard.tracking import RegisteredModel, Tracking


@dataclass(frozen=True)
class Change:
    """The move that a visitor confirms; `before` is None if the alias points to no version yet.

    `back` is true for a rollback. `reports` are the hosts' reports on the alias at that time.
    """

    model: str
    alias: str
    before: str | None
    after: str
    back: bool = False
    reports: tuple[Report, ...] = ()


def history(model: RegisteredModel, alias: str) -> list[Move]:
    """The recorded moves of an alias, newest last, without unreadable records."""
    return moves(model.tags, alias)


def rollback_target(
    model: RegisteredModel,
    alias: str,
    reports: Collection[Report] = (),
    existing: Collection[str] | None = None,
) -> Target:
    """The version that a rollback returns to, or why there is none.

    Args:
        model: the model in MLflow.
        alias: such as `champion`.
        reports: the reports of the model API's hosts on the alias.
        existing: the model's versions; by default, all versions on record.
    """
    if existing is None:
        existing = {move.version for move in history(model, alias)}
    return _rollback_target(model.tags, alias, model.aliases.get(alias), reports, existing)


def apply(tracking: Tracking, change: Change, by: str) -> None:
    """Move the alias and record it.

    Args:
        tracking: MLflow with the visitor's login, whose permissions apply.
        change: the move that the visitor confirmed.
        by: the visitor's name.

    Raises:
        Refused: somebody else moved the alias in the meantime, or MLflow does not allow the move.
            The message says which; nothing has changed.
        HistoryLost: the alias is moved, but the move could not be recorded.
        ServiceError: MLflow is unavailable.
    """
    model = tracking.registered_model(change.model)
    now = model.aliases.get(change.alias)
    if now != change.before:
        raise Refused(
            f"{change.alias} was moved in the meantime and now points to "
            f"{f'version {now}' if now else 'no version'}. Nothing was changed."
        )
    writing = record(
        model.tags,
        change.alias,
        change.after,
        before=now,
        by=by,
        back=change.back,
        reports=change.reports,
    )
    try:
        tracking.set_alias(change.model, change.alias, change.after)
    except Refused as error:
        if error.status == 403:
            raise Refused(
                f"MLflow does not let {by} change {change.model}: this requires EDIT permission "
                "on the model. Nothing was changed."
            ) from None
        raise
    try:
        tracking.set_model_tag(change.model, writing.key, writing.value)
    except ServiceError as error:
        raise HistoryLost(
            f"{change.alias} now points to version {change.after}, but the move could not be "
            f"recorded: {error}"
        ) from error
    for key in writing.surplus:
        # The next move of the alias deletes it.
        with suppress(ServiceError):
            tracking.delete_model_tag(change.model, key)


class HistoryLost(ServiceError):
    """The alias is moved, but the move is not recorded."""
