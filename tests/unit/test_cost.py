"""`lastro-ops cost`: the cost of plans, computed by hand here, and unpriced resources."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lastro_ops import cli
from lastro_ops.cost import command
from lastro_ops.cost.bill import Prices
from lastro_ops.cost.plans import read_plan
from lastro_ops.cost.pricing import price_all
from lastro_ops.project import Project
from lastro_ops.terraform.process import Output, Terraform

type Run = Callable[..., int]

TODAY = datetime.date(2026, 3, 1)
# Round numbers, so that results can be computed by hand.
FILE = """
date: 2026-01-01
regions:
  eu-west-1:
    instance:
      t3.small: {usd: 0.02, unit: hour, from: [one, two]}
    disk:
      gp3: {usd: 0.1, unit: GB-month, from: [one, two]}
    snapshot:
      storage: {usd: 0.05, unit: GB-month, from: [one, two]}
    database:
      db.t4g.micro: {usd: 0.017, unit: hour, from: [one]}
    database_multi_az:
      db.t4g.micro: {usd: 0.033, unit: hour, from: [one, two]}
    database_disk:
      gp3: {usd: 0.127, unit: GB-month, from: [one, two]}
    database_disk_multi_az:
      gp3: {usd: 0.254, unit: GB-month, from: [one, two]}
    network:
      nat_gateway: {usd: 0.05, unit: hour, from: [one, two]}
      nat_traffic: {usd: 0.05, unit: GB, from: [one, two]}
      public_ipv4: {usd: 0.005, unit: hour, from: [one, two]}
      traffic_out: {usd: 0.09, unit: GB, from: [one, two]}
    bucket:
      storage: {usd: 0.02, unit: GB-month, from: [one, two]}
      lists: {usd: 0.005, unit: 1000 requests, from: [one, two]}
    secret:
      month: {usd: 0.40, unit: month, from: [one, two]}
    key:
      month: {usd: 1, unit: month, from: [one, two]}
    cloudwatch:
      alarm: {usd: 0.10, unit: month, from: [one, two]}
      metric: {usd: 0.30, unit: month, from: [one, two]}
      logs: {usd: 0.57, unit: GB, from: [one, two]}
      logs_kept: {usd: 0.03, unit: GB-month, from: [one, two]}
    mwaa:
      mw1.micro: {usd: 0.3, unit: hour, from: [one, two]}
    mlflow:
      Small: {usd: 0.6, unit: hour, from: [one]}
assumptions:
  s3_gb: {value: 10, unit: GB, why: a reason}
  s3_lists: {value: 1000, unit: requests, why: a reason}
  nat_gb: {value: 10, unit: GB, why: a reason}
  logs_gb: {value: 2, unit: GB, why: a reason}
  out_gb: {value: 0, unit: GB, why: a reason}
  disk_used: {value: 0.5, unit: of a disk, why: a reason}
  disk_changed: {value: 0.1, unit: of a disk, why: a reason}
not_counted: tax
free:
  aws_cloudwatch_log_group: by use
  aws_dlm_lifecycle_policy: by use
  aws_s3_bucket: by use
  aws_vpc: it has no price
comparison:
  mwaa: mw1.micro
  mlflow: Small
  notes: [a note]
"""

HOST = {
    "instance_type": "t3.small",
    "root_block_device": [{"volume_type": "gp3", "volume_size": 30}],
    "tags": {"Roles": "dashboard model_api"},
}
DATABASE = {"instance_class": "db.t4g.micro", "storage_type": "gp3", "allocated_storage": 20}
ALARM = {"namespace": "AWS/EC2", "metric_name": "StatusCheckFailed"}


def change(address: str, after: Any, before: Any = None, mode: str = "managed") -> dict[str, Any]:
    """One entry of a plan's resource_changes."""
    kind = address.removeprefix("module.more.").partition(".")[0]
    sides = {"before": before, "after": after}
    return {"address": address, "mode": mode, "type": kind, "change": sides}


def plan(*changes: dict[str, Any], region: str = "eu-west-1") -> dict[str, Any]:
    """A plan as `terraform show -json` writes it, without unused members."""
    platform = {"before": None, "after": {"region": region}}
    return {"resource_changes": list(changes), "output_changes": {"platform": platform}}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A checkout with one environment, and with a price file of round numbers."""
    files = {
        "terraform/prices.yml": FILE,
        "terraform/environments/prod.tfvars": "",
        "inventory/prod/group_vars/all/environment.yml": "lastro_region: eu-west-1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Project(tmp_path)


@pytest.fixture
def ask(project: Project, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`lastro-ops cost` on a given day."""

    def ask(*arguments: str, today: datetime.date = TODAY) -> int:
        monkeypatch.setattr(command, "today", lambda: today)
        return cli.main(["cost", *arguments], project)

    return ask


@pytest.fixture
def run(ask: Run, tmp_path: Path) -> Run:
    """`lastro-ops cost` with a plan."""

    def run(data: dict[str, Any], *arguments: str, today: datetime.date = TODAY) -> int:
        file = tmp_path / "plan.json"
        file.write_text(json.dumps(data))
        return ask("prod", "--plan", str(file), *arguments, today=today)

    return run


def bill(*changes: dict[str, Any]) -> dict[tuple[str, str], str]:
    """The cost of each item, by resource and item."""
    of = read_plan(plan(*changes))
    prices = Prices(yaml.safe_load(FILE), of.region)
    return {(line.name, line.what): str(line.usd) for line in price_all(of.after, prices)}


def test_a_host_is_its_hours_its_disk_and_its_address() -> None:
    assert bill(change('aws_instance.host["a"]', HOST)) == {
        ('aws_instance.host["a"]', "t3.small"): "14.60",  # 730 x 0.02
        ('aws_instance.host["a"]', "disk gp3"): "3.00",  # 30 x 0.1
        ('aws_instance.host["a"]', "public IPv4 address"): "3.65",  # 730 x 0.005
    }


def test_behind_a_nat_gateway_hosts_have_no_address_of_their_own() -> None:
    edge = HOST | {"tags": {"Roles": "edge"}, "associate_public_ip_address": True}
    lines = bill(
        change('aws_instance.host["a"]', HOST),
        change('aws_instance.host["edge"]', edge),
        change("aws_nat_gateway.main[0]", {}),
        change("aws_eip.nat[0]", {}),
        change("aws_eip.edge[0]", {}),
    )
    assert {name for name, what in lines if what == "public IPv4 address"} == {
        "aws_eip.nat",
        "aws_eip.edge",
    }
    assert lines["aws_nat_gateway.main", "NAT gateway"] == "36.50"  # 730 x 0.05
    assert lines["(use)", "traffic through the NAT gateway"] == "0.50"  # 10 x 0.05


def test_a_host_without_an_address_in_the_plan_pays_for_none() -> None:
    lines = bill(change("aws_instance.a", HOST | {"associate_public_ip_address": False}))
    assert ("aws_instance.a", "public IPv4 address") not in lines


def test_a_database_in_one_zone_and_in_two() -> None:
    assert bill(change("aws_db_instance.main", DATABASE)) == {
        ("aws_db_instance.main", "db.t4g.micro"): "12.41",  # 730 x 0.017
        ("aws_db_instance.main", "storage gp3"): "2.54",  # 20 x 0.127
    }
    more = {"multi_az": True, "manage_master_user_password": True}
    assert bill(change("aws_db_instance.main", DATABASE | more)) == {
        ("aws_db_instance.main", "db.t4g.micro, Multi-AZ"): "24.09",  # 730 x 0.033
        ("aws_db_instance.main", "storage gp3"): "5.08",  # 20 x 0.254
        ("aws_db_instance.main", "master password"): "0.40",
    }


def test_the_same_thing_several_times_is_one_line() -> None:
    secrets = [change(f'aws_secretsmanager_secret.service["{name}"]', {}) for name in "abc"]
    assert bill(*secrets) == {("aws_secretsmanager_secret.service (3)", "secret"): "1.20"}


def test_an_alarm_pays_for_a_metric_of_ours() -> None:
    own = {"namespace": "Lastro", "metric_name": "Edge5xx"}
    assert bill(
        change('aws_cloudwatch_metric_alarm.host["a"]', ALARM),
        change('aws_cloudwatch_metric_alarm.host["b"]', ALARM),
        change("aws_cloudwatch_metric_alarm.edge[0]", own),
    ) == {
        ("aws_cloudwatch_metric_alarm.host (2)", "alarm"): "0.20",
        ("aws_cloudwatch_metric_alarm.edge", "alarm"): "0.10",
        ("aws_cloudwatch_metric_alarm.edge", "metric Edge5xx"): "0.30",
    }


def test_usage_is_assumed() -> None:
    rule = {"policy_details": [{"schedule": [{"retain_rule": [{"count": 7}]}]}]}
    lines = bill(
        change("aws_s3_bucket.main", {}),
        change("aws_cloudwatch_log_group.a", {"retention_in_days": 90}),
        change("aws_instance.a", HOST),
        change("aws_dlm_lifecycle_policy.hosts[0]", rule),
    )
    assert {what: usd for (name, what), usd in lines.items() if name == "(use)"} == {
        "objects in the buckets": "0.20",  # 10 x 0.02
        "looking for new DAGs": "0.01",  # 1 x 0.005, rounded half up
        "logs written": "1.14",  # 2 x 0.57
        "logs kept": "0.18",  # 2 x 3 months x 0.03
        "snapshots of 7 days": "1.65",  # 30 x (0.5 + 6 x 0.1) x 0.05
    }


def test_modules_count_and_data_sources_do_not() -> None:
    assert bill(
        change("module.more.aws_kms_key.a", {}),
        change("data.aws_ami.debian", {}, mode="data"),
        change("aws_vpc.main", {}),
        change("aws_kms_key.gone", None, before={}),
    ) == {("module.more.aws_kms_key.a", "key"): "1.00"}


def test_the_text_adds_up(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(plan(change("aws_instance.a", HOST), change("aws_db_instance.b", DATABASE))) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["aws_instance.a", "t3.small", "730", "hour", "0.02", "14.60"] in lines
    # One source only.
    assert ["aws_db_instance.b", "db.t4g.micro", "730", "hour", "0.017*", "12.41"] in lines
    totals = [line[1] for line in lines if line[:1] == ["total"] and len(line) == 2]
    # 14.60 + 3.00 + 3.65 + 12.41 + 2.54; MWAA 219.00 + MLflow 438.00 + NAT 40.15 + host 21.25
    assert totals == ["36.20", "718.40"]
    assert ["total", "with", "the", "serverless", "MLflow", "280.40"] in lines


def test_markdown_says_what_changes(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    larger = HOST | {"root_block_device": [{"volume_type": "gp3", "volume_size": 50}]}
    assert (
        run(
            plan(
                change("aws_instance.a", larger, before=HOST),
                change("aws_kms_key.new", {}),
                change("aws_nat_gateway.same", {}, before={}),
                change('aws_secretsmanager_secret.service["a"]', {}, before={}),
                change('aws_secretsmanager_secret.service["b"]', {}),
            ),
            "--format=markdown",
        )
        == 0
    )
    output = capsys.readouterr().out
    # 14.60 + 3.00 + 36.50 + 0.50 + 0.40 before
    assert output.startswith("### Monthly cost of prod: 55.00 -> 58.40 USD (+3.40)\n")
    assert [line for line in output.splitlines() if line.startswith("| `")] == [
        "| `aws_instance.a` | disk gp3 | 3.00 | 5.00 |",
        "| `aws_secretsmanager_secret.service` | secret | 0.40 | 0.80 |",
        "| `aws_kms_key.new` | key | 0.00 | 1.00 |",
    ]


def test_markdown_of_a_plan_without_changes(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(plan(change("aws_kms_key.a", {}, before={})), "--format=markdown") == 0
    output = capsys.readouterr().out
    assert "prod: 1.00 USD, unchanged\n" in output
    assert "| resource |" not in output


def test_an_assumption_can_be_replaced(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    buckets = plan(change("aws_s3_bucket.main", {}))
    assert run(buckets, "--assume", "s3_gb=200", "--assume", "out_gb=100") == 0
    output = capsys.readouterr().out
    assert "s3_gb=200 " in output
    lines = [line.split() for line in output.splitlines()]
    assert ["(use)", "objects", "in", "the", "buckets", "200", "GB-month", "0.02", "4.00"] in lines
    assert ["(use)", "traffic", "to", "the", "internet", "100", "GB", "0.09", "9.00"] in lines


@pytest.mark.parametrize(
    ("today", "warned"),
    [(datetime.date(2027, 1, 1), False), (datetime.date(2027, 1, 2), True)],
)
@pytest.mark.parametrize("format_", ["text", "markdown"])
def test_old_prices_cause_a_warning(
    run: Run, capsys: pytest.CaptureFixture[str], today: datetime.date, warned: bool, format_: str
) -> None:
    assert run(plan(change("aws_kms_key.a", {})), f"--format={format_}", today=today) == 0
    assert ("prices are of 2026-01-01, more than a year ago" in capsys.readouterr().out) is warned


@pytest.mark.parametrize(
    ("data", "arguments", "said"),
    [
        (
            plan(change("aws_lb.main", {}), change("aws_lb.other", {})),
            [],
            "aws_lb is neither priced by lastro-ops cost nor listed as free in"
            " terraform/prices.yml",
        ),
        (
            plan(change("aws_instance.a", HOST | {"instance_type": "m7i.large"})),
            [],
            "terraform/prices.yml has no price of m7i.large; "
            "add m7i.large to regions.eu-west-1.instance (aws_instance.a)",
        ),
        (
            plan(change("aws_db_instance.b", DATABASE | {"instance_class": "db.r6g.large"})),
            [],
            "add db.r6g.large to regions.eu-west-1.database (aws_db_instance.b)",
        ),
        (
            plan(change("aws_kms_key.a", {}), region="eu-central-1"),
            [],
            "no prices for the region eu-central-1, only for eu-west-1; add regions.eu-central-1",
        ),
        (
            plan(change("aws_instance.a", HOST | {"instance_type": None})),
            [],
            "aws_instance.a: the plan does not know its instance_type",
        ),
        (
            plan(
                change(
                    "aws_db_instance.b", DATABASE | {"performance_insights_retention_period": 31}
                )
            ),
            [],
            "aws_db_instance.b: lastro-ops cost prices Performance Insights of 7 days only",
        ),
        (plan(), ["--assume", "s3=1"], "there is no assumption 's3'. Choose one of: s3_gb, "),
        (plan(), ["--assume", "s3_gb=much"], "assumption s3_gb is 'much'; give a number"),
    ],
)
def test_an_unpriced_resource_is_named(
    run: Run,
    capsys: pytest.CaptureFixture[str],
    data: dict[str, Any],
    arguments: list[str],
    said: str,
) -> None:
    assert run(data, *arguments) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert said in output.err
    assert "Traceback" not in output.err


def test_all_unpriced_resources_are_named_at_once(
    run: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    host = HOST | {"instance_type": "m7i.large"}
    assert run(plan(change("aws_lb.main", {}), change("aws_instance.a", host))) == 1
    output = capsys.readouterr().err
    assert "aws_lb.main" in output and "m7i.large" in output


def test_an_unknown_environment_or_plan_is_named(
    ask: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("prdo") == 1
    assert "there is no environment 'prdo'. Choose one of: prod" in capsys.readouterr().err
    assert ask("prod", "--plan", "no/such/plan") == 1
    assert "there is no plan no/such/plan" in capsys.readouterr().err


def test_without_a_plan_a_mocked_provider_makes_one(
    ask: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Terraform's events are read; the command itself is run in tests/contracts."""
    events = [
        {"type": "test_run"},
        {"type": "test_plan", "test_plan": plan(change("aws_vpc.a", {}))},
    ]

    def capture(terraform: Terraform, *arguments: str) -> Output:
        asked = arguments[0] == "test" and "-var=region=eu-west-1" in arguments
        return Output(0, "\n".join(json.dumps(event) for event in events if asked), "")

    monkeypatch.setattr(Terraform, "capture", capture)
    assert ask("prod", "--format=markdown") == 0
    # The current resources are unknown, so no change is reported.
    assert capsys.readouterr().out.startswith("### Monthly cost of prod: 0.00 USD\n")

    fault = {"summary": "Resource postcondition failed", "detail": 'host "a" has no such type'}
    events[:] = [{"type": "diagnostic", "diagnostic": fault}]
    assert ask("prod") == 1
    output = capsys.readouterr().err
    assert 'Resource postcondition failed: host "a" has no such type\n' in output
    assert "its price to terraform/prices.yml" in output
