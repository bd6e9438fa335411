"""Lookup plugin: the seconds of a clock that nobody sets, for waits that end at a time."""

from __future__ import annotations

import time

from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: monotonic
short_description: Seconds of the controller's monotonic clock
description:
  - The retries of a task are tries, not seconds. One that is refused takes no time, one that hangs
    takes as long as its own timeout, so the same number of tries is two minutes or twenty.
  - A task that waits compares this clock with a deadline instead. Its retries, one a second, are
    then never used up before the deadline.
"""

EXAMPLES = """
- ansible.builtin.set_fact:
    deadline: "{{ lookup('monotonic') + 300 }}"

- ansible.builtin.uri:
    url: http://127.0.0.1:8000/health/ready
    timeout: 10
  register: answer
  until: answer is succeeded or lookup('monotonic') > deadline
  retries: 300
  delay: 1
"""

RETURN = """
_raw:
  description: Seconds since some moment in the past.
  type: list
  elements: float
"""


class LookupModule(LookupBase):
    """See ``DOCUMENTATION``."""

    def run(
        self, terms: list[str], variables: dict[str, object] | None = None, **kwargs: object
    ) -> list[float]:
        return [time.monotonic()]
