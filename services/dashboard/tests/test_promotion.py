"""Promotions and rollbacks: a confirmed move uses the visitor's own login and is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import lastro_promotion
import pytest
from conftest import Gate, MLflow, ModelApi, alias, go, held, press, shown
from lastro_promotion import moves
from streamlit.testing.v1 import AppTest

from dashboard import promotion
from dashboard.promotion import Change
from dashboard.services import Refused
from dashboard.tracking import Tracking

App = Callable[..., AppTest]
Login = tuple[str, str]

MODEL = "churn"


@pytest.fixture(scope="module")
def owner(mlflow: MLflow) -> Login:
    login = mlflow.create_user("owner-of-churn")
    experiment = mlflow.create_experiment(login, "churn")
    runs = [mlflow.create_run(login, experiment, f"r{i}", {"auc": [0.8]}) for i in range(3)]
    mlflow.create_model(login, MODEL, runs)
    return login


@pytest.fixture
def model(mlflow: MLflow, owner: Login, model_api: ModelApi) -> str:
    """The model with champion version 1 and no record; the model API follows immediately."""
    mlflow.set_alias(owner, MODEL, "champion", "1")
    for key in tags(mlflow, owner):
        mlflow.call(
            owner, "DELETE", "registered-models/delete-tag", json={"name": MODEL, "key": key}
        )
    served: dict[str, str] = {}

    def follow() -> None:
        version = champion(mlflow, owner)
        if list(served)[-1:] != [version]:
            served.pop(version, None)
            served[version] = datetime.now(UTC).isoformat()
        history = [{"version": v, "at": at, "outcome": "served"} for v, at in served.items()]
        model_api.models = [
            {
                "name": MODEL,
                "aliases": {"champion": alias(version) | {"history": history}},
                "versions": {version: held(MODEL, version, "r" * 32)},
                "failures": [],
            }
        ]

    model_api.on_models = follow
    return MODEL


def champion(mlflow: MLflow, login: Login) -> str:
    """The version that the alias points to in MLflow."""
    aliases = {a["alias"]: a["version"] for a in mlflow.model(login, MODEL)["aliases"]}
    return str(aliases["champion"])


def tags(mlflow: MLflow, login: Login) -> dict[str, str]:
    """The model's tags."""
    return {tag["key"]: tag["value"] for tag in mlflow.model(login, MODEL).get("tags", [])}


def recorded(mlflow: MLflow, login: Login) -> list[tuple[str, str]]:
    """The alias's history in MLflow as (version, by), oldest first."""
    return [(move.version, move.by) for move in moves(tags(mlflow, login), "champion")]


def choose(at: AppTest, version: str) -> AppTest:
    """Start to promote a version: the dialog opens."""
    at.selectbox(key=f"promote_version_{MODEL}_champion").select(version).run()
    return at.button(key="promote_champion").click().run()


def test_a_promotion_moves_the_alias_records_the_visitor_and_follows_the_version(
    app: App, mlflow: MLflow, owner: Login, model: str
) -> None:
    at = choose(go(app(owner), "models"), "2")
    assert "changes from **version 1** to **version 2**" in shown(at)
    assert champion(mlflow, owner) == "1", "the alias moved before the visitor confirmed"
    at = at.button(key="confirm_change").click().run()
    assert champion(mlflow, owner) == "2"
    assert recorded(mlflow, owner) == [("1", "unknown"), ("2", owner[0])]
    assert "now points to **version 2**, which serves" in at.success[0].value
    assert "changes from" not in shown(at) and "serves v2" in shown(at)
    history = at.dataframe[1].value
    assert list(history["version"]) == ["2", "1"] and history["by"].iloc[0] == owner[0]
    assert not at.button(key="dismiss_followed").click().run().success


def test_a_rollback_returns_to_the_previous_version(
    app: App, mlflow: MLflow, owner: Login, model: str
) -> None:
    at = go(app(owner), "models")
    assert at.button(key="roll_back_champion").disabled
    for version in ("2", "3"):
        at = choose(at, version).button(key="confirm_change").click().run()
    at = press(at, "Roll back to v2")
    assert "changes from **version 3** to **version 2**" in shown(at)
    at = at.button(key="confirm_change").click().run()
    assert champion(mlflow, owner) == "2"
    assert [version for version, _ in recorded(mlflow, owner)] == ["1", "2", "3", "2"]
    assert list(at.dataframe[1].value["what"])[:2] == ["rolled back", "promoted"]
    # Repeated rollbacks never return to the bad version.
    at = press(at.run(), "Roll back to v1").button(key="confirm_change").click().run()
    assert champion(mlflow, owner) == "1"
    button = at.run().button(key="roll_back_champion")
    assert button.disabled and "version 3 was rolled back from" in button.help


def test_cancelling_changes_nothing(app: App, mlflow: MLflow, owner: Login, model: str) -> None:
    at = choose(go(app(owner), "models"), "2").button(key="cancel_change").click().run()
    assert champion(mlflow, owner) == "1" and "changes from" not in shown(at)


def test_a_visitor_with_read_permission_cannot_promote(
    app: App, mlflow: MLflow, owner: Login, model: str
) -> None:
    reader = mlflow.create_user("reader-of-churn")
    mlflow.allow(reader[0], "registered_model", MODEL, "READ")
    at = choose(go(app(reader), "models"), "2").button(key="confirm_change").click().run()
    assert "MLflow does not let reader-of-churn change churn" in shown(at)
    assert "EDIT permission" in shown(at) and not at.exception
    assert champion(mlflow, owner) == "1" and recorded(mlflow, owner) == []


def test_the_page_says_that_a_promoted_version_could_not_be_loaded(
    app: App, owner: Login, model: str, model_api: ModelApi
) -> None:
    at = choose(go(app(owner), "models"), "2")
    model_api.on_models = lambda: None
    model_api.models[0]["aliases"]["champion"] = alias("1", "2", "it hangs")
    at = at.button(key="confirm_change").click().run()
    assert "now points to **version 2**, which could not be loaded" in shown(at)
    assert "it hangs" in shown(at)


def test_the_page_says_that_a_promoted_version_is_being_loaded(
    app: App, owner: Login, model: str, model_api: ModelApi
) -> None:
    at = choose(go(app(owner), "models"), "2")
    model_api.on_models = lambda: None
    at = at.button(key="confirm_change").click().run()
    assert "The model API is loading it" in at.info[0].value
    model_api.models[0]["aliases"]["champion"] = alias("2")
    assert "which serves" in at.run().success[0].value


def test_the_dialog_says_that_mlflow_is_unavailable(
    app: App, mlflow: MLflow, owner: Login, model: str, gate: Gate
) -> None:
    at = choose(go(app(owner), "models"), "2")
    gate.open = False
    at = at.button(key="confirm_change").click().run()
    assert "MLflow cannot be reached" in shown(at) and not at.exception
    assert champion(mlflow, owner) == "1"


def test_an_alias_moved_by_somebody_else_is_not_moved(
    app: App, mlflow: MLflow, owner: Login, model: str
) -> None:
    at = choose(go(app(owner), "models"), "2")
    mlflow.set_alias(owner, MODEL, "champion", "3")
    at = at.button(key="confirm_change").click().run()
    assert "was moved in the meantime and now points to version 3" in shown(at)
    assert champion(mlflow, owner) == "3"


def test_a_rollback_skips_versions_that_never_served(
    app: App, mlflow: MLflow, owner: Login, model: str, model_api: ModelApi
) -> None:
    at = go(app(owner), "models")
    served = model_api.models[0]["aliases"]["champion"]
    model_api.on_models = lambda: None
    for version in ("2", "3"):
        served |= {"wanted_version": version}
        at = choose(at, version).button(key="confirm_change").click().run()
    press(at, "Roll back to v1").button(key="confirm_change").click().run()
    assert champion(mlflow, owner) == "1"


def test_a_history_keeps_the_newest_entries_and_reads_the_old_format(
    mlflow: MLflow, owner: Login, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lastro_promotion, "KEPT", 3)
    client = Tracking(mlflow.url, *owner)
    for i in range(5):
        now = champion(mlflow, owner)
        after = "2" if now != "2" else "3"
        promotion.apply(client, Change(MODEL, "champion", now, after), f"person-{i}")
    assert len(tags(mlflow, owner)) == 3
    assert [by for _, by in recorded(mlflow, owner)] == ["person-2", "person-3", "person-4"]
    at = "2026-01-01T00:00:00Z"
    old = [{"version": v, "by": "ana", "at": at} for v in ("1", "2", "3", "2")]
    for key in tags(mlflow, owner):
        client.delete_model_tag(MODEL, key)
    client.set_model_tag(MODEL, "lastro.history.champion", json.dumps(old))
    client.set_alias(MODEL, "champion", "2")
    monkeypatch.undo()
    registered = client.registered_model(MODEL)
    assert [move.version for move in promotion.history(registered, "champion")] == list("1232")
    assert promotion.rollback_target(registered, "champion").version == "1"
    with pytest.raises(Refused):
        promotion.apply(client, Change(MODEL, "champion", champion(mlflow, owner), "99"), "x")
    client.close()
