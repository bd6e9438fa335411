"""The properties that every role of Terraform needs, so that CI can create it."""

from __future__ import annotations

from typing import Any

import hcl2
from wiring import PROJECT


def roles() -> dict[str, dict[str, Any]]:
    """The IAM roles of the environments: name in Terraform -> its arguments."""
    found = {}
    for path in sorted((PROJECT / "terraform").glob("*.tf")):
        for block in hcl2.loads(path.read_text()).get("resource", []):
            for kind, named in block.items():
                if kind.strip('"') == "aws_iam_role":
                    found |= {name.strip('"'): arguments for name, arguments in named.items()}
    return found


def test_every_role_has_the_boundary_and_a_name_that_ci_may_use() -> None:
    assert {"host", "data_scientist"} <= roles().keys()
    for name, arguments in roles().items():
        boundary = arguments.get("permissions_boundary")
        assert boundary == "${local.permissions_boundary}", f"aws_iam_role.{name}: {boundary}"
        assert arguments["name"].strip('"').startswith("${local.prefix}-"), name
