"""The base role: an installer, folders, authorities, a journal that lasts."""

import re

from role_tests import PROJECT, STATE, role_defaults
from testinfra.host import Host

testinfra_hosts = ["podman://lastro-molecule-base"]

UV = "/opt/lastro/uv/bin/uv"


def test_packages_are_installed(host: Host) -> None:
    for name in role_defaults("base")["base_packages"]:
        assert host.package(name).is_installed, name


def test_uv_is_the_version_of_its_lock(host: Host) -> None:
    lock = (PROJECT / "locks/uv.txt").read_text()
    pinned = re.search(r"^uv==([0-9.]+)", lock, re.MULTILINE)
    assert pinned is not None
    assert host.check_output(f"{UV} --version").split()[1] == pinned[1]


def test_uv_makes_an_environment(host: Host) -> None:
    folder = host.check_output("mktemp --directory")
    host.check_output(f"{UV} venv --quiet --python /usr/bin/python3 {folder}/venv")
    assert host.check_output(f"{folder}/venv/bin/python -c 'print(6 * 7)'") == "42"
    host.check_output(f"rm -r {folder}")


def test_only_root_writes_to_the_folders(host: Host) -> None:
    for path in ("/opt/lastro", "/etc/lastro", "/opt/lastro/uv", UV):
        file = host.file(path)
        assert (file.user, file.group, file.mode) == ("root", "root", 0o755), path


def test_the_authorities_of_the_database_are_those_of_the_controller(host: Host) -> None:
    installed = host.file("/etc/lastro/database-ca.pem")
    assert installed.content_string.strip() == (STATE / "database-ca.pem").read_text().strip()
    assert installed.mode == 0o644


def test_the_journal_lasts_and_is_bounded(host: Host) -> None:
    settings = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    assert "\nSystemMaxUse=500M" in settings
    host.check_output("logger --tag role-test lasts && journalctl --sync")
    lasting = "journalctl --no-pager --output=cat --directory=/var/log/journal"
    assert "lasts" in host.check_output(f"{lasting} --identifier=role-test")
