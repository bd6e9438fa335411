"""Who let which version serve: a tag of the registered model, kept by all who move an alias.

`make promote`, the dashboard and the pipeline share its form: ``lastro.history.<alias>`` is a JSON
list of ``{"version", "by", "at"}``, the newest last. A rollback goes to the last entry of another
version than the alias names.
"""

import json
from datetime import UTC, datetime
from typing import Any

from mlflow import MlflowClient

KEPT = 20
"""Entries of an alias."""


def promote(client: MlflowClient, model: str, alias: str, version: str, *, by: str) -> None:
    """Point an alias at a version, and write down who did; nothing if it names it already.

    Args:
        client: of the registry.
        model: the registered model.
        alias: such as ``champion``.
        version: its number.
        by: who moves it.
    """
    registered = client.get_registered_model(model)
    current = registered.aliases.get(alias)
    if current == version:
        return
    tag = f"lastro.history.{alias}"
    entries = _read(registered.tags.get(tag))
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if current is not None and (not entries or entries[-1].get("version") != current):
        # Somebody who writes nothing down moved it last: there is a way back to that, too.
        entries.append({"version": current, "by": "unknown", "at": at})
    entries.append({"version": version, "by": by, "at": at})
    client.set_registered_model_alias(model, alias, version)
    client.set_registered_model_tag(model, tag, json.dumps(entries[-KEPT:]))


def _read(text: str | None) -> list[dict[str, Any]]:
    """Return the entries; none if somebody wrote something else there: serving matters more."""
    try:
        entries = json.loads(text or "[]")
    except ValueError:
        return []
    return entries if isinstance(entries, list) else []
