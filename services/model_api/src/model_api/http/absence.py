"""The reasons why a model, an alias or a version gives no answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from model_api.common.state import Model, State, version_number
from model_api.model.words import short

type Key = tuple[str, str]
"""Name of a model, and number of a version or an alias."""

NAMES_SHOWN = 20


class UnknownModel(LookupError):
    """The registry has no such model, alias or version."""


class NotLoaded(LookupError):
    """The version exists, but this worker cannot answer with it yet."""


@dataclass(frozen=True)
class OpenFailure:
    """Why a prepared version could not be opened in this process.

    ``at`` is the time of the failure; ``retry_at`` is on the monotonic clock.
    """

    folder: str
    reason: str
    attempts: int
    at: datetime
    retry_at: float


@dataclass(frozen=True)
class Absence:
    """The reasons why a model or version is missing.

    Attributes:
        state: the follower's state.
        registry_error: why the registry was unreachable at the last poll; None if it was reachable.
        failures: this process's failures, by name and number.
    """

    state: State
    registry_error: str | None
    failures: Mapping[Key, OpenFailure]

    def of_alias(self, name: str, alias: str) -> LookupError:
        """Return why no version answers under an alias."""
        model = self.state.models.get(name)
        if model is not None and (entry := model.aliases.get(alias)):
            if entry.serves is not None:
                failure = self.failures.get((name, entry.serves))
                return NotLoaded(
                    f"version {entry.serves} of {name!r} cannot be opened: {failure.reason}"
                    if failure
                    else f"version {entry.serves} of {name!r} is being loaded"
                )
            failed = entry.failure
            return NotLoaded(
                f"version {failed.version} of {name!r} cannot be served: {failed.reason}"
                if failed
                else f"version {entry.wanted} of {name!r} is being prepared"
            )
        if self.registry_error:
            return NotLoaded(f"the registry is unreachable: {self.registry_error}")
        if model is not None:
            return UnknownModel(
                f"no version of {name!r} serves as {short(alias)}:"
                f" aliases with a version are {_listed(model.aliases)}"
            )
        return self._of_model(name)

    def of_version(self, name: str, number: str) -> LookupError:
        """Return why a version does not answer by its number."""
        model = self.state.models.get(name)
        if model is None:
            if self.registry_error:
                return NotLoaded(f"the registry is unreachable: {self.registry_error}")
            return self._of_model(name)
        if not exists(model, number):
            if version_number(number) is None:
                return UnknownModel(f"{short(number)} is not a version number: use 1, 2, 3 ...")
            return UnknownModel(
                f"unknown version {number} of {name!r}: the latest is {model.latest}"
            )
        if failure := model.failures.get(number):
            return NotLoaded(f"version {number} of {name!r} cannot be served: {failure.reason}")
        if opening := self.failures.get((name, number)):
            return NotLoaded(f"version {number} of {name!r} cannot be opened: {opening.reason}")
        return NotLoaded(
            f"version {number} of {name!r} is being prepared for this request: retry later"
        )

    def _of_model(self, name: str) -> UnknownModel:
        served = _listed(n for n, m in self.state.models.items() if m.aliases)
        return UnknownModel(f"unknown model {short(name)}: served models are {served}")


def exists(model: Model, number: str) -> bool:
    """Tell whether a registered model has a version of that number."""
    place = version_number(number)
    return place is not None and place <= model.latest


def _listed(names: Iterable[str]) -> str:
    """Return some of the names: a registry may have thousands, and each refusal shows them."""
    found = list(islice(names, NAMES_SHOWN + 1))
    return ", ".join(sorted(found[:NAMES_SHOWN]) + ["..."] * (len(found) > NAMES_SHOWN)) or "none"
