"""Callback plugin: lets what Ansible starts use every core of the machine."""

from __future__ import annotations

import ansible_mitogen.affinity
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: all_cores
type: aggregate
short_description: keep Mitogen from pinning processes to a core
description:
  - Mitogen pins each of its processes to one core, and what they start inherits that. On a machine
    with two cores everything would run on the second one, including the containers that stand in
    for hosts, for as long as they live.
  - A callback, because Mitogen has no setting for it and callbacks are loaded before its strategy
    starts.
"""


class CallbackModule(CallbackBase):
    """See ``DOCUMENTATION``."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "all_cores"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        # The policy that Mitogen itself uses where a system cannot pin: it does nothing.
        ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()
