"""Moving an alias: by the visitor's own MLflow login, with a record of who did it and when.

The record and its rules are those of `lastro_promotion`, as for `make promote` and the pipelines.
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
    """What a visitor is about to do; `before` is None where the alias points to no version yet.

    `back` says that it is a rollback, `reports` what the hosts said of the alias then.
    """

    model: str
    alias: str
    before: str | None
    after: str
    back: bool = False
    reports: tuple[Report, ...] = ()


def history(model: RegisteredModel, alias: str) -> list[Move]:
    """Who moved the alias to which version when, newest last; what cannot be read is left out."""
    return moves(model.tags, alias)


def rollback_target(
    model: RegisteredModel,
    alias: str,
    reports: Collection[Report] = (),
    existing: Collection[str] | None = None,
) -> Target:
    """The version that a rollback returns to, or why there is none.

    Args:
        model: as MLflow has it.
        alias: such as `champion`.
        reports: what the hosts of the model API say of the alias.
        existing: the model's versions; if not given, all on record.
    """
    if existing is None:
        existing = {move.version for move in history(model, alias)}
    return _rollback_target(model.tags, alias, model.aliases.get(alias), reports, existing)


def apply(tracking: Tracking, change: Change, by: str) -> None:
    """Move the alias and record it.

    Args:
        tracking: MLflow with the visitor's login; its permissions decide.
        change: what the visitor has confirmed.
        by: the visitor's name.

    Raises:
        Refused: somebody moved the alias since `change` was drawn up, or MLflow does not allow
            the move; the message says which, and nothing has changed.
        HistoryLost: the alias is moved, but that could not be recorded.
        ServiceError: MLflow is away.
    """
    model = tracking.registered_model(change.model)
    now = model.aliases.get(change.alias)
    if now != change.before:
        raise Refused(
            f"{change.alias} was moved meanwhile and points to "
            f"{f'version {now}' if now else 'no version'} now. Nothing was changed."
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
                f"MLflow does not let {by} change {change.model}: it takes EDIT permission on "
                "this model. Nothing was changed."
            ) from None
        raise
    try:
        tracking.set_model_tag(change.model, writing.key, writing.value)
    except ServiceError as error:
        raise HistoryLost(
            f"{change.alias} points to version {change.after} now, but who did it could not be "
            f"recorded: {error}"
        ) from error
    for key in writing.surplus:
        # Whoever moves the alias next deletes it.
        with suppress(ServiceError):
            tracking.delete_model_tag(change.model, key)


class HistoryLost(ServiceError):
    """The alias is moved, which is not recorded."""
