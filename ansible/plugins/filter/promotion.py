"""Filter plugin: what moving an alias of a registered model takes, by the rules of the platform."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

DOCUMENTATION = """
name: promotion_plan
short_description: The version to point an alias at, and the tags that record it
description:
  - The rules are those of services/promotion, which the dashboard and the pipelines share.
options:
  _input:
    description: The registered model, as MLflow answers.
    type: dict
    required: true
  alias:
    description: Such as champion.
    type: str
    required: true
  version:
    description: The version to promote; empty to roll back.
    type: str
    required: true
  by:
    description: Who moves the alias.
    type: str
    required: true
  existing:
    description: The numbers of the model's versions.
    type: list
    elements: str
    required: true
  answers:
    description: Host -> its answer to GET /models; none where it did not answer.
    type: dict
    required: true
"""

EXAMPLES = """
plan: "{{ registered_model | promotion_plan('champion', '', 'ana', ['1', '2'], answers) }}"
"""

RETURN = """
_value:
  description:
    - version (empty if there is none), current (what the alias points to now, empty if nothing),
      reason (why this version, or why none), key and value of the tag to set, surplus, the tags to
      delete, and back, the version that a rollback returns to after this move (empty if to none).
  type: dict
"""

LIBRARY = Path(__file__).parents[3] / "services/promotion/src/lastro_promotion/__init__.py"


def library() -> ModuleType:
    """The package, from where it is in the project: the controller installs none of ours."""
    name = "lastro_promotion"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, LIBRARY)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def promotion_plan(
    registered: Mapping[str, Any],
    alias: str,
    version: str,
    by: str,
    existing: Sequence[str],
    answers: Mapping[str, Mapping[str, Any] | None],
) -> dict[str, Any]:
    """See ``DOCUMENTATION``."""
    promotion = library()
    name = str(registered["name"])
    tags = {str(tag["key"]): str(tag["value"]) for tag in registered.get("tags") or ()}
    aliases = {str(a["alias"]): str(a["version"]) for a in registered.get("aliases") or ()}
    current = aliases.get(alias)
    found = [promotion.report(host, answer, name, alias) for host, answer in answers.items()]
    reports = [report for report in found if report is not None]
    plan: dict[str, Any] = {
        "version": version,
        "current": current or "",
        "reason": "",
        "key": "",
        "value": "",
        "surplus": [],
    }
    back = not version
    if back:
        target = promotion.rollback_target(tags, alias, current, reports, set(map(str, existing)))
        plan |= {"version": target.version or "", "reason": target.reason}
    if plan["version"] and plan["version"] != current:
        writing = promotion.record(
            tags, alias, plan["version"], before=current, by=by, back=back, reports=reports
        )
        plan |= {"key": writing.key, "value": writing.value, "surplus": list(writing.surplus)}
        tags[writing.key] = writing.value
    afterwards = promotion.rollback_target(
        tags, alias, plan["version"], reports, set(map(str, existing))
    )
    return plan | {"back": afterwards.version or ""}


class FilterModule:
    """See ``DOCUMENTATION``."""

    def filters(self) -> dict[str, Any]:
        return {"promotion_plan": promotion_plan}
