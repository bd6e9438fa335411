"""The reports of the hosts of the model API: which versions have served, and which have failed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lastro_promotion.times import INSTANT, parse


@dataclass(frozen=True)
class Report:
    """One host's report on an alias of a model.

    Attributes:
        host: its name, for messages.
        served: version -> when it last began to serve under the alias.
        failed: version -> when it failed, for versions whose last attempt failed.
        reasons: version -> why it failed.
    """

    host: str
    served: Mapping[str, datetime]
    failed: Mapping[str, datetime]
    reasons: Mapping[str, str] = field(default_factory=dict)


def report(host: str, listing: Mapping[str, object] | None, name: str, alias: str) -> Report | None:
    """Read a host's report on an alias from its answer to ``GET /models``.

    Args:
        host: its name, for messages.
        listing: the answer; None if there was none.
        name: the registered model.
        alias: such as ``champion``.

    Returns:
        None if the host does not follow that alias, or its answer cannot be used.
    """
    try:
        models: Any = (listing or {})["models"]
        model = next(one for one in models if one["name"] == name)
        entry = model["aliases"][alias]
    except (StopIteration, LookupError, TypeError):
        return None
    return alias_report(host, entry)


def alias_report(host: str, entry: Mapping[str, object]) -> Report | None:
    """Read a host's report on one alias: an object in ``aliases`` of ``GET /models``.

    A host of the previous release has no ``history``: then the version that serves now and the one
    that served before it count.

    Returns:
        None if it cannot be used.
    """
    served: dict[str, datetime] = {}
    failed: dict[str, datetime] = {}
    reasons: dict[str, str] = {}
    # JSON as it came: an entry of another form ends in one of the errors below.
    said: Any = entry
    try:
        for word in said.get("history") or ():
            # One entry per version, the newest: one that served and failed later has failed.
            outcome = served if word["outcome"] == "served" else failed
            outcome[str(word["version"])] = parse(word["at"])
            reasons[str(word["version"])] = str(word.get("reason") or "")
        if "history" not in said and said["version"]:
            since = parse(said["since"])
            served[str(said["version"])] = since
            if said["previous_version"]:
                served[str(said["previous_version"])] = since - INSTANT
        if (failure := said.get("failure")) and failure["version"] != said.get("version"):
            version = str(failure["version"])
            served.pop(version, None)
            failed[version] = parse(failure["at"])
            reasons[version] = str(failure["reason"])
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    return Report(host, served, failed, reasons)
