"""Moves an alias by MLflow's client, on record. The record and its rules: `lastro_promotion`."""

import lastro_promotion
from mlflow import MlflowClient


def promote(client: MlflowClient, model: str, alias: str, version: str, *, by: str) -> None:
    """Point an alias at a version and record who did; nothing if it points to it already.

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
    writing = lastro_promotion.record(registered.tags, alias, version, before=current, by=by)
    client.set_registered_model_alias(model, alias, version)
    client.set_registered_model_tag(model, writing.key, writing.value)
    for key in writing.surplus:
        client.delete_registered_model_tag(model, key)
