"""The rules in a list of permitted parameters."""

from collections.abc import Callable, Mapping
from types import FunctionType

from model_api.model.untyped import Estimator, Value


class NotCompiled(Exception):
    """A model must not be compiled; the message says which part of it, and why."""


type Rule = Callable[[Value], bool]


def anything(value: object) -> bool:
    """Permit a parameter that changes no answer, or only changes the learnt values."""
    return True


def only(*permitted: object) -> Rule:
    """Permit only these values."""
    return lambda value: any(type(value) is type(one) and value == one for one in permitted)


def is_nan(value: object) -> bool:
    """Permit only NaN."""
    return isinstance(value, float) and value != value


def check(step: Estimator, rules: Mapping[str, Rule]) -> None:
    """Raise NotCompiled unless the step is unmodified and its parameters are listed.

    A parameter without a rule is refused: a newer release of the library may have added it.
    """
    if reason := tampered(step):
        raise NotCompiled(f"{name_of(step)} {reason}")
    for name, value in step.get_params(deep=False).items():
        rule = rules.get(name)
        if rule is None or not rule(value):
            raise NotCompiled(f"{name_of(step)} with {name}={str(value)[:40]} is not compiled")


def tampered(step: Estimator) -> str | None:
    """Return how a step differs from its class in the library; None if it does not."""
    kind = type(step)
    for name in vars(step):
        if callable(getattr(kind, name, None)):
            return f"has a {name} of its own"
    outputs = vars(step).get("_sklearn_output_config", {})
    if not set(outputs.values()) <= {None, "default"}:
        return "has an output of its own, by set_output"
    for base in kind.__mro__[:-1]:
        library = base.__module__.partition(".")[0]
        for name, member in vars(base).items():
            if isinstance(member, FunctionType) and _library(member) != library:
                return f"has a {name} that is not {library}'s"
    return None


def _library(function: FunctionType) -> str:
    name: str = function.__globals__.get("__name__", "")
    return name.partition(".")[0]


def name_of(step: object) -> str:
    """Return the name of a step's class."""
    return type(step).__name__
