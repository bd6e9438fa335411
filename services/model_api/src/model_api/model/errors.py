"""Errors for requests that a model cannot answer, one type for each kind of refusal.

They are independent of HTTP: `model_api.http.problems` has the status of each kind, and batch
scoring needs none.
"""

from collections.abc import Mapping
from typing import ClassVar

from model_api.model.untyped import JsonObject, Value


class RequestError(Exception):
    """A request that a model cannot answer.

    Args:
        detail: what is wrong with this request, and what to do.

    Attributes:
        kind: the short name of the kind of error, as clients see it.
        members: further details, as JSON.
    """

    kind: ClassVar[str]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members: Mapping[str, Value] = {}


class InvalidJson(RequestError):
    """The body is not JSON in UTF-8.

    Args:
        reason: the place or kind of the fault.
    """

    kind = "invalid-json"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the body is not JSON: {reason}")


class InvalidBody(RequestError):
    """The body is JSON, but not a request."""

    kind = "invalid-body"


class TooManyRows(RequestError):
    """The request has more rows than are allowed.

    Args:
        rows: the number of its rows.
        most: the most that are allowed.
    """

    kind = "too-many-rows"

    def __init__(self, rows: int, most: int) -> None:
        super().__init__(
            f"the body has {rows} rows, but at most {most} are allowed per request: split them"
        )


class TableTooLarge(RequestError):
    """The request's table needs more memory than one request may use.

    Args:
        reason: why it is so large.
    """

    kind = "table-too-large"

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}: send less at a time")


class InvalidRows(RequestError):
    """Rows do not fit the model.

    Args:
        errors: the first errors, each with ``row``, ``field`` (either may be None) and ``detail``;
            at least one.
        count: the number of all errors.
    """

    kind = "invalid-rows"

    def __init__(self, errors: list[JsonObject], count: int) -> None:
        first = errors[0]
        place = "" if first["row"] is None else f"row {first['row']}"
        if first["field"] is not None:
            place += f"{', ' if place else ''}field {first['field']!r}"
        more = f" (and {count - 1} more)" if count > 1 else ""
        super().__init__(f"the rows do not fit the model: {place}: {first['detail']}{more}")
        self.members = {"errors": errors, "count": count}


class NoProbabilities(RequestError):
    """The request asks for probabilities that this version does not provide for its rows."""

    kind = "no-probabilities"


class InvalidInput(RequestError):
    """MLflow's own code refuses the body."""

    kind = "invalid-input"


class ModelRefuses(RequestError):
    """The model refuses rows that MLflow's own code accepts.

    Args:
        reason: the model's message.
    """

    kind = "model-refuses"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the model rejects the rows: {reason}")


class UnsupportedMediaType(RequestError):
    """The body is neither JSON nor CSV.

    Args:
        reason: the actual content type.
    """

    kind = "unsupported-media-type"

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}: send application/json or text/csv, in UTF-8")


def refusal(kind: str, detail: str, members: JsonObject) -> RequestError:
    """Return the same error that another process raised.

    Raises:
        KeyError: the kind is unknown.
    """
    error_type = _KINDS[kind]
    error = error_type.__new__(error_type)
    RequestError.__init__(error, detail)
    error.members = members
    return error


_KINDS = {error.kind: error for error in RequestError.__subclasses__()}
