"""Problem documents, made from the errors of the model's side."""

from collections.abc import Iterator

import pytest

from model_api.http.problems import STATUSES, from_request_error
from model_api.model.errors import InvalidRows, RequestError, UnsupportedMediaType


def kinds(base: type[RequestError]) -> Iterator[type[RequestError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


@pytest.mark.parametrize("kind", kinds(RequestError))
def test_every_error_of_a_request_has_a_status(kind: type[RequestError]) -> None:
    assert 400 <= STATUSES[kind] < 500


def test_a_problem_has_the_errors_details() -> None:
    error = InvalidRows([{"row": 1, "field": "hue", "detail": "is missing"}], 3)
    problem = from_request_error(error)
    assert (problem.status, problem.kind, problem.detail) == (422, "invalid-rows", str(error))
    assert problem.members == {"errors": error.members["errors"], "count": 3}


def test_a_refused_media_type_says_which_are_accepted() -> None:
    problem = from_request_error(UnsupportedMediaType("it is XML"))
    assert problem.headers == {"Accept": "application/json, text/csv"}
