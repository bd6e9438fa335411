"""docs/adding-a-service.md, followed word by word in a copy of the project.

Terraform plans with a mocked provider; Ansible runs on this machine. No container is made.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from wiring import PROJECT

PAGE = PROJECT / "docs/adding-a-service.md"
STEP = re.compile(
    r"^(?P<verb>Create|Append to|In) `(?P<path>[^`]+)`(?:, before `(?P<before>[^`]+)`)?:\n\n"
    r"```\w+\n(?P<text>.*?)```$",
    re.MULTILINE | re.DOTALL,
)
# Files that a fresh checkout does not have.
GENERATED = shutil.ignore_patterns(
    *(".git", ".venv", ".lastro", ".terraform", "__pycache__", ".*_cache"),
    *("platform.json", "hosts.aws_ec2.yml", "*.egg-info"),
)
PLAN = """
mock_provider "aws" {
  source = "./tests/mocks"
}

provider "aws" {
  alias                       = "ephemeral"
  region                      = "eu-west-1"
  access_key                  = "unused"
  secret_key                  = "unused"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}

variables {
  environment = "test"
  vpc_cidr    = "10.43.0.0/16"
  domain      = { name = "lastro.test" }

  hosts = {
    mlflow  = { instance_type = "t3.small", roles = ["mlflow"] }
    airflow = { instance_type = "t3.small", roles = ["airflow"] }
    serving = { instance_type = "t3.small", roles = ["model_api", "dashboard", "edge"] }
    page    = { instance_type = "t3.micro", roles = ["example"] }
  }
}

run "a_host_with_the_example" {
  command = plan

  assert {
    condition     = aws_security_group.component["example"].name == "lastro-test-example"
    error_message = "the example has no security group"
  }

  assert {
    condition = {
      for name, rule in aws_vpc_security_group_ingress_rule.component : name => rule.from_port
      if strcontains(name, "example")
    } == { "edge-to-example" = 8600, "example-to-mlflow" = 5000 }
    error_message = "these connections of the example and no others may come in"
  }

  assert {
    condition = keys(local.host_permissions.page) == [
      "agent", "example-list-predictions", "example-predictions",
    ]
    error_message = "rights: ${jsonencode(keys(local.host_permissions.page))}"
  }

  assert {
    condition = (
      keys(local.secret_keys.example) == ["cookie_secret"]
      && contains(keys(output.platform.secrets), "example")
    )
    error_message = "the example has no secret"
  }

  assert {
    condition     = contains(keys(output.dns_records), "example.lastro.test")
    error_message = "the example has no name"
  }

  assert {
    condition = (
      output.platform.services.example.port == 8600
      && output.platform.services.example.public_url == "https://example.lastro.test"
      && jsonencode(output.platform.services.example.hosts) == jsonencode(["page"])
      && aws_instance.host["page"].tags.Roles == "example"
    )
    error_message = "the contract lacks the example"
  }
}

run "a_host_that_is_too_small" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type.main["t3.micro"]
    values = {
      memory_size             = 1024
      supported_architectures = ["x86_64"]
    }
  }

  expect_failures = [aws_instance.host["page"]]
}
"""


@dataclass(frozen=True)
class Tree:
    """A copy of the project with the example.

    Attributes:
        root: its folder.
        changed: the files that the page names, apart from the service's own.
        wiring: the copy's tests/wiring.py.
        contract: the contract of a platform whose host `page` has the example, with a domain.
    """

    root: Path
    changed: set[str]
    wiring: ModuleType
    contract: dict[str, Any]

    def run(self, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy; both outputs in one."""
        return subprocess.run(
            argv,
            cwd=self.root,
            env=os.environ | {"ANSIBLE_CONFIG": str(self.root / "ansible.cfg")} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ops(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `lastro-ops` for the copy, which it finds by where its package is."""
        source = str(self.root / "services/ops/src")
        return self.run(sys.executable, "-m", "lastro_ops", *arguments, PYTHONPATH=source)


def follow(root: Path) -> set[str]:
    """Follow the page; return the files that it names."""
    shutil.copytree(root / "ansible/roles/dashboard", root / "ansible/roles/example")
    for path in (root / "ansible/roles/example").rglob("*"):
        if path.is_file():
            path.write_text(path.read_text().replace("dashboard", "example"))
    changed = set()
    for step in STEP.finditer(PAGE.read_text()):
        path, text = root / step["path"], step["text"]
        if step["verb"] == "Create":
            assert not path.exists(), path
            path.write_text(text)
        elif step["verb"] == "Append to":
            path.write_text(path.read_text() + "\n" + text)
        else:
            old = path.read_text()
            assert old.count(step["before"]) == 1, f"{step['path']}: {step['before']}"
            path.write_text(old.replace(step["before"], text + step["before"]))
        changed.add(step["path"])
    return changed | {"CHANGELOG.md"}


def copy_of(name: str, root: Path) -> ModuleType:
    """A module of the copy's tests, next to the one of this project."""
    own = {key: sys.modules.pop(key) for key in ("catalogue", "wiring") if key in sys.modules}
    sys.path.insert(0, str(root / "tests"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(root / "tests"))
        for key in ("catalogue", "wiring"):
            sys.modules.pop(key, None)
        sys.modules.update(own)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """The copy, and its inventory `local` as `make inventory` would write it."""
    root = tmp_path_factory.mktemp("copy") / "lastro"
    shutil.copytree(PROJECT, root, symlinks=True, ignore=GENERATED)
    (root / ".lastro").mkdir()
    (root / ".lastro/ansible_mitogen").symlink_to((PROJECT / ".lastro/ansible_mitogen").resolve())
    changed = follow(root)
    wiring = copy_of("wiring", root)
    hosts = wiring.DOMAIN_CONTRACT["hosts"] | {"page": wiring.machine("10.42.0.15", "example")}
    contract = wiring.contract(hosts, wiring.DOMAIN)
    variables = root / "inventory/local/group_vars/all"
    (variables / "platform.json").write_text(json.dumps({"platform": contract}))
    yield Tree(root, changed, wiring, contract)
    shutil.rmtree(root)


def test_a_service_takes_few_files_apart_from_its_own(tree: Tree) -> None:
    assert len(tree.changed) <= 8, tree.changed
    assert tree.changed >= {
        "terraform/services.yml",
        "inventory/common/group_vars/all/example.yml",
    }


def test_terraform_makes_its_groups_rights_secrets_and_names(tree: Tree) -> None:
    (tree.root / "terraform/tests/example.tftest.hcl").write_text(PLAN)
    settings = {
        "TF_CLI_CONFIG_FILE": str(PROJECT / ".lastro/terraform.rc"),
        "TF_DATA_DIR": str(tree.root / ".lastro/terraform"),
        "TF_IN_AUTOMATION": "1",
    }
    terraform = ["terraform", "-chdir=terraform"]
    made = tree.run(*terraform, "init", "-input=false", "-no-color", "-backend=false", **settings)
    assert made.returncode == 0, made.stdout
    asked = ["test", "-no-color", "-filter=tests/example.tftest.hcl"]
    result = tree.run(*terraform, *asked, **settings)
    assert "Success! 2 passed, 0 failed." in result.stdout, result.stdout


def test_the_inventory_has_a_group_for_it(tree: Tree, tmp_path: Path) -> None:
    # The rules of the dynamic inventory, for hosts with the tags that Terraform gives them.
    text = (tree.root / "terraform/outputs.tf").read_text()
    key, parent = (
        re.search(rf'^ +{name} += "(.*)"$', text, re.MULTILINE)[1]
        for name in ("key", "parent_group")
    )
    rules = {
        "plugin": "ansible.builtin.constructed",
        "strict": True,
        "keyed_groups": [{"key": key, "prefix": "", "separator": "", "parent_group": parent}],
    }
    hosts = {
        host["name"]: {"aws_ec2_tags": {"Roles": " ".join(host["roles"])}}
        for host in tree.contract["hosts"].values()
    }
    (tmp_path / "1_hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    (tmp_path / "2_groups.yml").write_text(yaml.safe_dump(rules))
    listed = json.loads(tree.run("ansible-inventory", "-i", str(tmp_path), "--list").stdout)
    assert listed["example"]["hosts"] == ["lastro-local-page"]
    assert "example" in listed["platform"]["children"]


def test_validate_takes_the_contract_and_site_applies_the_role(tree: Tree, tmp_path: Path) -> None:
    roles = tmp_path / "roles"
    for role in ("base", "databases", *tree.contract["services"]):
        (roles / role / "tasks").mkdir(parents=True)
        (roles / role / "tasks/main.yml").write_text(
            "- name: Name the role\n  ansible.builtin.debug:\n"
            f"    msg: applied {role} to {{{{ inventory_hostname }}}}\n"
        )
    ours = {
        "ansible_connection": "local",
        "lastro_project_dir": str(tree.root),
        "lastro_secrets": tree.wiring.SECRETS,
    }
    inventory = tree.wiring.write_inventory(tmp_path, tree.contract)
    (inventory / "group_vars/all/zz_test.yml").write_text(json.dumps(ours))
    result = tree.run(
        *("ansible-playbook", "-i", str(inventory), "site.yml"),
        *("-e", f"ansible_python_interpreter={sys.executable}"),
        ANSIBLE_ROLES_PATH=str(roles),
    )
    assert result.returncode == 0, result.stdout
    applied = re.findall(r"^applied (\w+) to (\S+)$", result.stdout, re.MULTILINE)
    assert [host for role, host in applied if role == "example"] == ["lastro-local-page"]
    assert [role for role, host in applied if host == "lastro-local-page"] == ["base", "example"]


def test_its_wiring_gives_the_role_what_it_needs(tree: Tree, tmp_path: Path) -> None:
    wiring = tree.wiring.Wiring(tree.wiring.write_inventory(tmp_path, tree.contract))
    (host,) = wiring.groups["example"]
    assert {
        name: wiring.value(host, "example", f"example_{name}")
        for name in ("host", "port", "tracking_uri", "cookie_secret", "prediction_log_url")
    } == {
        "host": "10.42.0.15",
        "port": 8600,
        "tracking_uri": "http://10.42.0.11:5000",
        "cookie_secret": tree.wiring.SECRETS["example"]["cookie_secret"],
        "prediction_log_url": "s3://artifacts-bucket/predictions",
    }
    (edge,) = wiring.groups["edge"]
    sites = wiring.value(edge, "edge", "edge_sites")
    assert {
        "name": "example.lastro.example.com",
        "title": "The example",
        "upstreams": ["10.42.0.15:8600"],
    } in sites
    # The domain itself stays the default site.
    assert sites[0]["name"] == "lastro.example.com"
    assert wiring.value(host, "example", "lastro_pages")["example"] == (
        "https://example.lastro.example.com"
    )


def test_status_asks_it(tree: Tree, tmp_path: Path) -> None:
    """Where, and by which units: the answers are those of test_playbooks.py."""
    wiring = tree.wiring.Wiring(tree.wiring.write_inventory(tmp_path, tree.contract))
    (play, *_) = yaml.safe_load((tree.root / "ansible/playbooks/status.yml").read_text())
    tasks = {task["name"]: task for task in play["tasks"]}
    (host,) = wiring.groups["example"]

    def rendered(name: str, module: str, argument: str, **more: Any) -> Any:
        task = tasks[name]
        trust = tree.wiring.trust_as_template
        variables = {
            key: trust(text) if isinstance(text, str) else text
            for key, text in task["vars"].items()
        }
        templar = wiring.templar(host, **variables, group_names=["example", "platform"], **more)
        source = task["loop"] if argument == "loop" else task[module][argument]
        return templar.template(trust(source))

    assert "example*" in rendered("Ask systemd", "ansible.builtin.command", "argv")
    assert rendered("Ask each service", "", "loop") == ["example"]
    url = rendered("Ask each service", "ansible.builtin.uri", "url", item="example")
    assert url == "http://10.42.0.15:8600/health"


def test_a_tunnel_leads_to_it(tree: Tree) -> None:
    result = tree.ops("tunnel", "--direct", "local", "example")
    assert "example of local opens directly: http://10.42.0.15:8600." in result.stdout


def test_verify_checks_it(tree: Tree) -> None:
    listed = tree.run(
        *(sys.executable, "-m", "pytest", "tests/platform/verify", "--collect-only", "-q"),
        LASTRO_ENVIRONMENT="local",
    ).stdout
    for test in (
        "test_unit_runs_and_will_after_a_reboot[example-example]",
        "test_service_has_a_user_of_its_own[example]",
        "test_only_root_reads_secrets[example]",
        "test_service_is_ready[example]",
        "test_each_name_answers_by_https_with_a_valid_certificate[example]",
    ):
        assert test in listed, listed


def test_the_lists_of_molecule_of_ci_and_of_the_tests_have_it(tree: Tree) -> None:
    roles = tree.ops("molecule", "--list").stdout
    assert '"example"' in roles
    catalogue = copy_of("catalogue", tree.root)
    assert "example" in catalogue.RELEASES
    result = tree.run(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        "tests/contracts/test_catalogue.py",
        "tests/contracts/test_make.py::test_every_stage_and_every_role_is_tested_by_the_pipeline",
        "tests/contracts/test_make.py::test_molecule_has_a_host_for_every_role",
        "tests/contracts/test_wiring.py::test_every_output_and_every_secret_is_accounted_for",
        "tests/contracts/test_terraform.py::test_the_secrets_of_the_contract_have_the_specified_keys",
        "tests/contracts/test_terraform.py::test_the_services_of_the_contract_have_the_specified_keys",
    )
    assert result.returncode == 0, result.stdout
