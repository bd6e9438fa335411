"""`site.yml` stops on hosts of an earlier version until breaking changes are acknowledged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from wiring import PROJECT, play

CHANGES = yaml.safe_load((PROJECT / "ansible/playbooks/breaking_changes.yml").read_text())
SETTINGS = yaml.safe_load((PROJECT / "inventory/common/group_vars/all/platform.yml").read_text())
VERSION = SETTINGS["lastro_version"]
NEWEST = CHANGES[-1]["version"]


def run(folder: Path, acknowledged: str = "", hosts: str = "lastro,") -> tuple[int, str]:
    """Run the tasks of hosts configured in folders of their names; return status and output."""
    tasks = (PROJECT / "ansible/playbooks/tasks/acknowledge.yml").read_text()
    # The tests need no root.
    tasks = re.sub(r"^    (owner|group): root\n", "", tasks, flags=re.MULTILINE)
    variables: dict[str, Any] = {
        "lastro_project_dir": str(PROJECT),
        "lastro_environment": "prod",
        "lastro_version": VERSION,
        "lastro_version_file": str(folder / "{{ inventory_hostname }}/version"),
        "lastro_acknowledged": acknowledged,
    }
    book = [
        {
            "hosts": "all",
            "connection": "local",
            "gather_facts": False,
            "vars": variables,
            "tasks": yaml.safe_load(tasks),
        }
    ]
    (folder / "play.yml").write_text(yaml.safe_dump(book))
    return play(hosts, folder / "play.yml")


def configured(folder: Path, version: str | None, host: str = "lastro") -> Path:
    """Leave the files of a version on a host; None: the first versions, which recorded none."""
    (folder / host).mkdir()
    if version:
        (folder / host / "version").write_text(f"{version}\n")
    return folder / host / "version"


def test_a_new_host_is_configured_and_knows_its_version_at_once(tmp_path: Path) -> None:
    status, output = run(tmp_path)
    assert status == 0, output
    assert (tmp_path / "lastro/version").read_text() == f"{VERSION}\n"
    assert run(tmp_path)[0] == 0


@pytest.mark.parametrize("version", [None, "0.1.0"])
@pytest.mark.parametrize("acknowledged", ["", "0.1.9"])
def test_a_host_of_an_earlier_version_stays_as_it_is_and_says_what_to_do(
    version: str | None, acknowledged: str, tmp_path: Path
) -> None:
    file = configured(tmp_path, version)
    status, output = run(tmp_path, acknowledged)
    assert status != 0
    assert "was configured by version 0.1.0 of Lastro. No host was changed." in output
    for change in CHANGES[-1]["changes"]:
        assert " ".join(change["what"].split()) in output
        assert " ".join(change["do"].split()) in output
    assert f"make up ENV=prod ACKNOWLEDGE={NEWEST}" in output
    assert file.exists() == bool(version)


def test_one_host_of_an_earlier_version_stops_all_with_one_list(tmp_path: Path) -> None:
    configured(tmp_path, None, "old")
    configured(tmp_path, VERSION, "current")
    status, output = run(tmp_path, hosts="new,old,current,")
    assert status != 0
    assert "old was configured by version 0.1.0 of Lastro. No host was changed." in output
    assert "current was configured" not in output
    assert output.count(f"ACKNOWLEDGE={NEWEST}, for example") == 1
    assert not (tmp_path / "new").exists()


def test_acknowledged_changes_do_not_stop_it(tmp_path: Path) -> None:
    configured(tmp_path, None)
    status, output = run(tmp_path, NEWEST)
    assert status == 0, output


@pytest.mark.parametrize("version", [NEWEST, "99.0.0"])
def test_a_host_of_this_version_or_a_later_one_needs_nothing(version: str, tmp_path: Path) -> None:
    configured(tmp_path, version)
    assert run(tmp_path)[0] == 0


def test_the_versions_of_breaking_changes_are_those_of_the_changelog() -> None:
    released = re.findall(
        r"^## \[?(\d+\.\d+\.\d+)", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert released[0] == VERSION
    versions = [entry["version"] for entry in CHANGES]
    assert set(versions) <= set(released)
    assert versions == sorted(versions, key=lambda text: [int(part) for part in text.split(".")])
