"""Moves an alias with MLflow's client and records the move, by the rules of `lastro_promotion`."""

import lastro_promotion
from mlflow import MlflowClient


def rolled_back(client: MlflowClient, model: str, alias: str) -> set[str]:
    """Return the versions that were rolled back from and not promoted again since."""
    return lastro_promotion.rolled_back(client.get_registered_model(model).tags, alias)


def promote(
    client: MlflowClient, model: str, alias: str, version: str, *, before: str | None, by: str
) -> str | None:
    """Point an alias at a version and record who did; do nothing if it already points there.

    Args:
        client: of the registry.
        model: the registered model.
        alias: such as ``champion``.
        version: its number.
        before: the version that the alias is expected to point to, None for none.
        by: who moves it.

    Returns:
        None if it is done. Otherwise why not: somebody else moved the alias meanwhile.
    """
    registered = client.get_registered_model(model)
    current = registered.aliases.get(alias)
    if current == version:
        return None
    if current != before:
        found = f"version {current}" if current else "no version"
        return f"somebody else moved {alias} meanwhile: it now points to {found}"
    writing = lastro_promotion.record(registered.tags, alias, version, before=current, by=by)
    client.set_registered_model_alias(model, alias, version)
    client.set_registered_model_tag(model, writing.key, writing.value)
    for key in writing.surplus:
        client.delete_registered_model_tag(model, key)
    return None
