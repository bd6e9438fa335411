"""A platform that is in use is upgraded to this version, as its operator does it.

A checkout of an earlier version brings up the environment `test`. Then the same folder, with its
state in `.lastro`, becomes this version, as by `git pull`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from checkouts import check_out, commit, copy_project, git
from lastro_platform import PROJECT, Platform

pytestmark = pytest.mark.full

# The last commit before 0.2.0, the first version with breaking changes, because no earlier version
# has a tag. From the next release on this is the previous tag.
EARLIER = "2937f8d63b93a7876175860070380a7222c88a14"
ENVIRONMENT = os.environ.get("LASTRO_ENVIRONMENT", "test")
BREAKING = yaml.safe_load((PROJECT / "ansible/playbooks/breaking_changes.yml").read_text())
NEWEST = BREAKING[-1]["version"]


class Upgraded(Platform):
    """The environment of either version."""

    def url(self, service: str) -> str:
        """Return where a service is reached; the contract of EARLIER has no endpoints."""
        hosts = self.contract["hosts"].values()
        address = next(host["private_ip"] for host in hosts if service in host["roles"])
        return f"http://{address}:{self.contract['services'][service]['port']}"


@dataclass(frozen=True)
class Use:
    """The work that people have done of the platform before the upgrade.

    Attributes:
        password: of the colleague ana.
        row: an input of the champion.
        predictions: the answer to it.
        memory: what must survive.
    """

    password: str
    row: dict[str, Any]
    predictions: list[Any]
    memory: dict[str, object]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The environment, in a checkout that is still of the earlier version."""
    Platform(ENVIRONMENT).make("destroy", f"CONFIRM={ENVIRONMENT}")
    checkout = tmp_path_factory.mktemp("upgrade") / "lastro"
    check_out(EARLIER, checkout)
    earlier = Upgraded(ENVIRONMENT, checkout)
    yield earlier
    earlier.make("destroy", f"CONFIRM={ENVIRONMENT}")


@pytest.fixture(scope="module")
def used(platform: Platform) -> Use:
    """The earlier version runs, has trained and serves a model, and has a user."""
    platform.make("up")
    output = platform.make("user", "NAME=ana")
    password = re.search(r"Login of ana.*: password (\S+)", output)[1]
    row = platform.example()
    predictions = platform.predict(row).json()["predictions"]
    return Use(password, row, predictions, platform.memory())


@pytest.fixture(scope="module")
def stopped(used: Use, platform: Platform) -> str:
    """`make up` of this version, before the breaking changes are acknowledged: its output."""
    git("rm", "-r", "--quiet", ".", folder=platform.checkout)
    copy_project(platform.checkout)
    commit(platform.checkout, "This version")
    return platform.make("up", check=False)


@pytest.fixture(scope="module")
def upgraded(stopped: str, platform: Platform) -> str:
    """The same once they are acknowledged."""
    return platform.make("up", f"ACKNOWLEDGE={NEWEST}")


def test_upgrade_lists_what_to_do_before_it_changes_a_host(
    stopped: str, used: Use, platform: Platform
) -> None:
    said = " ".join(stopped.split())
    for change in (change for entry in BREAKING for change in entry["changes"]):
        assert " ".join(change["what"].split()) in said
        assert " ".join(change["do"].split()) in said
    assert f"make up ENV={ENVIRONMENT} ACKNOWLEDGE={NEWEST}" in said
    changes = platform.changes(stopped)
    hosts = {host["name"] for host in platform.contract["hosts"].values()}
    assert {host: changes[host] for host in hosts} == dict.fromkeys(hosts, 0)
    assert platform.predict(used.row).json()["predictions"] == used.predictions


def test_runs_models_artifacts_and_dag_history_survive(
    upgraded: str, used: Use, platform: Platform
) -> None:
    memory = platform.memory()
    assert {what: memory.get(what) for what in used.memory} == used.memory


def test_colleague_keeps_the_login(upgraded: str, used: Use, platform: Platform) -> None:
    search = {"user": "ana", "password": used.password, "params": {"max_results": 1}}
    assert platform.mlflow("GET", "experiments/search", **search).status_code == 200
    assert platform.airflow_token("ana", used.password)


def test_model_answers_as_before(upgraded: str, used: Use, platform: Platform) -> None:
    assert platform.predict(used.row).json()["predictions"] == used.predictions


def test_upgraded_platform_is_healthy(upgraded: str, platform: Platform) -> None:
    platform.make("verify")
    platform.make("status")


def test_a_second_configure_changes_nothing(upgraded: str, platform: Platform) -> None:
    output = platform.make("configure")
    changes = platform.changes(output)
    assert changes and not any(changes.values()), changes
    assert not re.search(r"^changed ", output, re.M)
