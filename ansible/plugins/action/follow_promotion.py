"""Action plugin: wait until a host of the model API serves a version, and say what for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible import constants as C
from ansible.plugins.action import ActionBase

DOCUMENTATION = """
module: follow_promotion
short_description: Wait until the model API of a host serves a version under an alias
description:
  - Ends when it serves, when the host reports that the version failed, or at the deadline. A task
    with until counts tries, and shows nothing of what it waits for.
  - Prints what it waits for whenever that changes, and every I(remind) seconds.
options:
  url:
    description: Of the model API, as the host reaches it.
    type: str
    required: true
  key:
    description: A bearer key of the model API.
    type: str
    required: true
  model:
    description: The registered model.
    type: str
    required: true
  alias:
    description: Such as champion.
    type: str
    required: true
  version:
    description: The version to wait for.
    type: str
    required: true
  seconds:
    description: How long to wait.
    type: int
    required: true
  remind:
    description: Seconds between two lines where nothing changes.
    type: int
    default: 15
"""

EXAMPLES = """
- name: Wait until the model API serves it
  follow_promotion:
    url: http://127.0.0.1:8000
    key: "{{ key }}"
    model: wine-classifier
    alias: champion
    version: "3"
    seconds: 360
  register: followed
"""

RETURN = """
serves:
  description: Whether the host serves the version.
  type: bool
state:
  description: What the host said last, as a clause.
  type: str
serving:
  description: The version that the host serves under the alias, or none.
  type: str
entry:
  description: What the host says of the model, empty if nothing.
  type: dict
waited:
  description: Seconds.
  type: int
"""

SECONDS_BETWEEN_LOOKS = 1
# For one answer: the deadline must not be overrun by one that hangs.
ANSWER_SECONDS = 10


def describe(
    answer: Mapping[str, Any], model: str, alias: str, version: str
) -> tuple[bool | None, str, str | None, Mapping[str, Any]]:
    """Read a host's answer.

    Args:
        answer: the result of the module uri.
        model: the registered model.
        alias: such as champion.
        version: what it is to serve.

    Returns:
        Whether it serves (None: not yet), what the host says, the version that serves, and what
        the host says of the model.
    """
    listing = answer.get("json")
    if answer.get("status") != 200 or not isinstance(listing, Mapping):
        return None, f"the model API is unreachable ({answer.get('msg', 'no reason')})", None, {}
    models = listing.get("models") or []
    entry: Mapping[str, Any] = next((one for one in models if one["name"] == model), {})
    state = (entry.get("aliases") or {}).get(alias) or {}
    serving = state.get("version")
    others = f"version {serving} is served" if serving else "no version is served"
    failure = state.get("failure") or {}
    if serving == version:
        return True, "it serves", serving, entry
    if failure.get("version") == version:
        return False, str(failure["reason"]), serving, entry
    if listing.get("registry_error"):
        why = f"the host cannot reach MLflow: {listing['registry_error']}; {others}"
        return None, why, serving, entry
    if state.get("wanted_version") != version:
        return None, f"the host has not seen the move yet; {others}", serving, entry
    return None, f"the host is preparing it; {others}", serving, entry


class ActionModule(ActionBase):
    """See ``DOCUMENTATION``."""

    _supports_check_mode = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Look once a second until there is an end to it."""
        super().run(tmp, task_vars)
        texts = ("url", "key", "model", "alias", "version")
        _, given = self.validate_argument_spec(
            argument_spec={
                **{name: {"type": "str", "required": True} for name in texts},
                "seconds": {"type": "int", "required": True},
                "remind": {"type": "int", "default": 15},
            }
        )
        host = (task_vars or {}).get("inventory_hostname", "")
        began = time.monotonic()
        deadline = began + given["seconds"]
        said, said_at = "", began
        while True:
            answer = self._execute_module(
                module_name="ansible.builtin.uri",
                module_args={
                    "url": f"{given['url']}/models",
                    "headers": {"Authorization": f"Bearer {given['key']}"},
                    "timeout": ANSWER_SECONDS,
                },
                task_vars=task_vars,
            )
            serves, state, serving, entry = describe(
                answer, given["model"], given["alias"], given["version"]
            )
            now = time.monotonic()
            if serves is not None or now >= deadline:
                break
            if state != said or now - said_at >= given["remind"]:
                said, said_at = state, now
                waited = f"{now - began:.0f} of {given['seconds']} s"
                self._display.display(
                    f"{'waiting':<8} {host:<24} for version {given['version']} of"
                    f" {given['model']}: {state} ({waited})",
                    color=C.COLOR_VERBOSE,
                )
            time.sleep(SECONDS_BETWEEN_LOOKS)
        seconds = round(now - began)
        if serves is None:
            state = f"{state}, after {seconds} s"
        return {
            "changed": False,
            "serves": serves is True,
            "state": state,
            "serving": serving,
            "entry": entry,
            "waited": seconds,
        }
