"""The first boot of a host in AWS: its user data, run by Debian's own cloud-init.

In containers that boot as an instance does, with a package of the tests' own, signed by a key of
theirs, where AWS's agent is. Only AWS can show AWS's own package.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from lastro_platform import PROJECT

TEMPLATES = PROJECT / "terraform/templates"
VERSION = "9.9.100.0"
URL = "http://127.0.0.1:8000"
NAME = "lastro-first-boot"
# Removed with the project's other images.
IMAGE = "localhost/lastro/first-boot"
CONTAINERFILE = r"""
ARG DEBIAN
FROM ${DEBIAN} AS signer
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
      --no-install-recommends gnupg && rm -rf /var/lib/apt/lists/*

# An instance: cloud-init finds its user data in the firmware, here in a folder.
FROM ${DEBIAN} AS instance
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
      --no-install-recommends cloud-init && rm -rf /var/lib/apt/lists/*
RUN printf 'policy: enabled\n' >/etc/cloud/ds-identify.cfg \
    && printf 'datasource_list: [NoCloud]\nnetwork: {config: disabled}\n' \
      >/etc/cloud/cloud.cfg.d/99_test.cfg \
    && printf '[Service]\nExecStart=/usr/bin/python3 /srv/server.py\n[Install]\n%s\n' \
      WantedBy=sysinit.target >/etc/systemd/system/bucket.service \
    && systemctl enable bucket.service \
    && systemctl mask systemd-logind.service getty.target console-getty.service ssh.service \
      systemd-firstboot.service systemd-networkd.service systemd-resolved.service
STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]
"""
# Two packages and their signatures, by a key that certifies itself by SHA-1, as AWS's does.
SIGN = r"""
set -eu
cd /data
export GNUPGHOME=/tmp/gnupg
mkdir -m 0700 "$GNUPGHOME"
gpg --batch --quiet --cert-digest-algo SHA1 --passphrase '' --quick-generate-key test rsa2048 sign
gpg --export test | base64 -w0 >key
for version in 9.9.100.0 9.9.99.0; do
  mkdir -p tree/DEBIAN tree/usr/lib/systemd/system "$version"
  printf 'Package: amazon-ssm-agent\nVersion: %s-1\nArchitecture: all\nMaintainer: test\n%s\n' \
    "$version" 'Description: stand-in' >tree/DEBIAN/control
  printf '[Service]\nExecStart=/usr/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' \
    >tree/usr/lib/systemd/system/amazon-ssm-agent.service
  dpkg-deb --root-owner-group --build tree "$version/amazon-ssm-agent.deb" >/dev/null
  gpg --batch --quiet --detach-sign --output "$version/amazon-ssm-agent.deb.sig" \
    "$version/amazon-ssm-agent.deb"
done
rm -r tree
bin=tree/usr/local/sessionmanagerplugin/bin
mkdir -p tree/DEBIAN "$bin" plugin
printf 'Package: session-manager-plugin\nVersion: 1\nArchitecture: all\nMaintainer: test\n%s\n' \
  'Description: stand-in' >tree/DEBIAN/control
printf '#!/bin/sh\necho 1.2.835.0\n' >"$bin/session-manager-plugin"
dpkg-deb --root-owner-group --build tree plugin/session-manager-plugin.deb >/dev/null
gpg --batch --quiet --detach-sign plugin/session-manager-plugin.deb
gpg --armor --export test >plugin/key.asc
"""
# The bucket of the region, which does not answer at once.
SERVER = r"""
import http.server
class Handler(http.server.SimpleHTTPRequestHandler):
    failures = FAILURES
    def do_GET(self):
        if Handler.failures:
            Handler.failures -= 1
            self.send_error(503)
        else:
            super().do_GET()
http.server.test(lambda *arguments: Handler(*arguments, directory="/srv/files"), port=8000)
"""


def run(*argv: str | Path, stdin: str | None = None, check: bool = True) -> str:
    """Run a command; both of its outputs."""
    result = subprocess.run(
        list(map(str, argv)),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=PROJECT,
    )
    assert not check or result.returncode == 0, f"{argv}:\n{result.stdout}"
    return result.stdout


def render(folder: Path, **variables: str) -> str:
    """The user data, as Terraform makes it of its template."""
    values = {"script": (TEMPLATES / "install_ssm_agent.sh").read_text(), **variables}
    (folder / "values.json").write_text(json.dumps(values))
    template = TEMPLATES / "user_data.yml.tftpl"
    return evaluate(folder, f'templatefile("{template}", jsondecode(file("values.json")))')


def evaluate(folder: Path, expression: str) -> str:
    """A text that Terraform makes of an expression, outside of any configuration."""
    answer = subprocess.run(
        ["terraform", f"-chdir={folder}", "console"],
        input=f"base64encode({expression})\n",
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"TF_DATA_DIR": str(folder / ".terraform")},
    ).stdout
    return base64.b64decode(answer.strip().strip('"')).decode()


@dataclass(frozen=True)
class Images:
    """Where user data runs, and where packages are signed."""

    instance: str
    signer: str


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The project's plain Debian with cloud-init, and with gpg."""
    folder = tmp_path_factory.mktemp("images")
    tasks = [
        {"include_tasks": str(PROJECT / "ansible/playbooks/local/tasks/images.yml")},
        {"copy": {"dest": str(folder / "debian"), "content": "{{ machine_images.debian }}"}},
    ]
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]
    (folder / "images.yml").write_text(yaml.safe_dump(play))
    run("ansible-playbook", "-i", "inventory/test/localhost.yml", folder / "images.yml")
    (folder / "Containerfile").write_text(CONTAINERFILE)
    names = {}
    for target in ("signer", "instance"):
        names[target] = f"{IMAGE}:{target}"
        argument = f"--build-arg=DEBIAN={(folder / 'debian').read_text()}"
        run(
            *("podman", "build", "--quiet", argument, f"--target={target}"),
            *(f"--tag={names[target]}", folder),
        )
    return Images(**names)


@dataclass(frozen=True)
class Boot:
    """How a first boot went.

    Attributes:
        code: of `cloud-init status`: 0 done, 1 an error.
        output: what the console showed of cloud-init.
        installed: the version of the agent that is installed, or nothing.
        agent: whether the agent runs.
    """

    code: int
    output: str
    installed: str
    agent: bool


def boot(image: str, name: str, seed: Path, bucket: Path) -> Boot:
    """Boot an instance with the user data of a folder, until cloud-init has ended."""
    container = f"{NAME}-{name}"

    def inside(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["podman", "exec", container, *argv], capture_output=True, text=True, timeout=120
        )

    run("podman", "rm", "--force", "--ignore", "--time=0", container)
    run(
        *("podman", "run", "--detach", f"--name={container}", "--systemd=always"),
        *("--cap-add=SYS_ADMIN", f"--volume={seed}:/var/lib/cloud/seed/nocloud:ro"),
        *(f"--volume={bucket}:/srv:ro", image),
    )
    try:
        # Before cloud-init has begun, its status says so without waiting.
        inside("systemctl", "is-system-running", "--wait")
        status = inside("cloud-init", "status", "--wait", "--long")
        console = inside("systemctl", "show", "--property=StandardOutput", "cloud-final.service")
        assert console.stdout.strip() == "StandardOutput=journal+console"
        query = ("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}")
        installed = inside(*query, "amazon-ssm-agent").stdout
        return Boot(
            code=status.returncode,
            output=inside("journalctl", "--no-pager", "--output=cat", "-u", "cloud-final").stdout
            + inside("cat", "/var/log/cloud-init-output.log").stdout
            + status.stdout,
            installed=installed.removeprefix("installed ") if "not-" not in installed else "",
            agent=inside("systemctl", "is-active", "amazon-ssm-agent").stdout.strip() == "active",
        )
    finally:
        run("podman", "rm", "--force", "--time=0", container)


@pytest.fixture(scope="module")
def signed(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages, their signatures and the key."""
    folder = tmp_path_factory.mktemp("signed")
    run("podman", "run", "--rm", f"--volume={folder}:/data", images.signer, "sh", "-c", SIGN)
    return folder


@pytest.fixture(scope="module")
def boots(
    images: Images, signed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Boot]]:
    """Three first boots, side by side: with AWS's package, a tampered one, and an older one."""
    folder = tmp_path_factory.mktemp("boots")
    seed = folder / "seed"
    seed.mkdir()
    user_data = render(folder, url=URL, version=VERSION, key=(signed / "key").read_text())
    (seed / "user-data").write_text(user_data)
    (seed / "meta-data").write_text("instance-id: i-first-boot\nlocal-hostname: first-boot\n")
    buckets = {}
    for name, version, failures in (
        ("good", VERSION, 2),
        ("tampered", VERSION, 0),
        ("older", "9.9.99.0", 0),
    ):
        buckets[name] = folder / name
        files = buckets[name] / "files"
        files.mkdir(parents=True)
        for file in (signed / version).iterdir():
            (files / file.name).write_bytes(file.read_bytes())
        (buckets[name] / "server.py").write_text(SERVER.replace("FAILURES", str(failures)))
    package = buckets["tampered"] / "files/amazon-ssm-agent.deb"
    package.write_bytes(package.read_bytes() + b"\n")
    with ThreadPoolExecutor() as pool:
        started = {
            name: pool.submit(boot, images.instance, name, seed, bucket)
            for name, bucket in buckets.items()
        }
        yield {name: future.result() for name, future in started.items()}


def test_a_signed_agent_is_installed_and_runs_though_the_bucket_failed_at_first(
    boots: dict[str, Boot],
) -> None:
    good = boots["good"]
    assert (good.code, good.installed, good.agent) == (0, f"{VERSION}-1", True), good.output


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tampered", f"install_ssm_agent: {URL}/amazon-ssm-agent.deb is not signed by AWS"),
        ("older", f"install_ssm_agent: {URL}/amazon-ssm-agent.deb is version 9.9.99.0-1, not"),
    ],
)
def test_an_agent_that_aws_has_not_signed_is_refused(
    boots: dict[str, Boot], name: str, said: str
) -> None:
    refused = boots[name]
    assert (refused.code, refused.installed, refused.agent) == (1, "", False), refused.output
    assert said in refused.output
    assert "status: error" in refused.output


def test_the_user_data_of_hosts_is_valid_and_its_key_is_the_one_that_is_named(
    images: Images, tmp_path: Path
) -> None:
    access = (PROJECT / "terraform/access.tf").read_text()
    # Terraform's own expression, with its own file.
    expression = re.search(r"key\s+= (replace\(.*\))\n", access)[1]
    key = evaluate(tmp_path, expression.replace("${path.module}", str(PROJECT / "terraform")))
    version = re.search(r'version = "([\d.]+)"', access)[1]
    user_data = render(tmp_path, url="https://s3.eu-west-1.amazonaws.com", version=version, key=key)
    assert len(user_data) < 16384, "EC2 takes no more"
    (tmp_path / "user-data").write_text(user_data)
    (tmp_path / "key.gpg").write_bytes(base64.b64decode(key))
    here = f"--volume={tmp_path}:/data:ro"
    checked = run(
        *("podman", "run", "--rm", here, images.instance),
        *("cloud-init", "schema", "--config-file", "/data/user-data"),
    )
    assert "Valid schema" in checked
    shown = run(
        *("podman", "run", "--rm", here, images.signer),
        *("gpg", "--quiet", "--show-keys", "--with-colons", "/data/key.gpg"),
    )
    fingerprint = re.search(r"^fpr:+(\w+):", shown, re.M)[1]
    named = "".join(re.search(r"The key is AWS's ((?:\w{4} ?){10})", access)[1].split())
    assert fingerprint == named


def test_a_signed_session_manager_plugin_is_kept(signed: Path, tmp_path: Path) -> None:
    """The controller's side: scripts/fetch_session_manager_plugin, with the key of the tests."""
    script = Path(shutil.copy(PROJECT / "scripts/fetch_session_manager_plugin", tmp_path))
    shutil.copy(signed / "plugin/key.asc", tmp_path / "session_manager_plugin_key.asc")
    curl = tmp_path / "curl"
    curl.write_text(
        '#!/bin/sh\nfor last; do :; done\nwhile [ "$1" != --output ]; do shift; done\n'
        f'cp "{signed}/plugin/${{last##*/}}" "$2"\n'
    )
    curl.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([script, tmp_path / "plugin"], check=True, env=environment)
    assert run(tmp_path / "plugin", "--version").strip() == "1.2.835.0"
