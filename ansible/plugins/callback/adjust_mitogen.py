"""Callback plugin: changes two things for which Mitogen has no setting."""

from __future__ import annotations

from typing import Any

import ansible_mitogen.affinity
import ansible_mitogen.planner
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: adjust_mitogen
type: aggregate
short_description: keep Mitogen from pinning processes to a core and from reading every collection
description:
  - Mitogen pins each of its processes to one core, and what they start inherits that. On a machine
    with two cores everything would run on the second one, including the containers that stand in
    for hosts, for as long as they live.
  - Before it runs a module of a collection, Mitogen reads the metadata of every collection. One of
    them is part of ansible-core and has none, of which Ansible warns. Here Mitogen sees only the
    module's own collection.
  - A callback, because callbacks are loaded before Mitogen's strategy starts.
"""


def add_own_collection(invocation: Any) -> None:
    """Let a module import the rest of its collection.

    Args:
        invocation: Mitogen's record of one run of a module, whose path is below
            ansible_collections/<namespace>/<name>/.
    """
    root, _, below = invocation.module_path.rpartition("/ansible_collections/")
    namespace, name = below.split("/")[:2]
    invocation._extra_sys_paths.add(f"{root}/ansible_collections/{namespace}/{name}")


class CallbackModule(CallbackBase):
    """See ``DOCUMENTATION``."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "adjust_mitogen"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        # The policy that Mitogen itself uses where a system cannot pin: it does nothing.
        ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()
        ansible_mitogen.planner._load_collections = add_own_collection
