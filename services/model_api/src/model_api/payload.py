"""The three ways to write rows in a request's body."""

from http import HTTPStatus
from typing import Any

from pydantic_core import from_json

from model_api.problems import Problem

FORMATS = ("inputs", "dataframe_records", "dataframe_split")

OPENAPI_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "inputs": {
                            "description": "one object a row; `GET /models` tells the fields",
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "object"},
                        },
                        "dataframe_records": {
                            "description": "the same, as MLflow's own server calls it",
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "object"},
                        },
                        "dataframe_split": {
                            "type": "object",
                            "required": ["columns", "data"],
                            "properties": {
                                "columns": {"type": "array", "items": {"type": "string"}},
                                "data": {"type": "array", "items": {"type": "array"}},
                                "index": {"type": "array", "items": {}},
                            },
                        },
                    },
                    "additionalProperties": False,
                    "minProperties": 1,
                    "maxProperties": 1,
                },
                "example": {"inputs": [{"alcohol": 13.2, "hue": 1.05}]},
            }
        },
    }
}


def rows(body: bytes, max_rows: int) -> list[Any]:
    """Return the rows of a request's body, each as parsed, not yet checked.

    Raises:
        Problem: the body is no JSON, is not in one of the ``FORMATS``, or has no or too many rows.
    """
    try:
        document = from_json(body)
    except ValueError as error:
        raise Problem(
            HTTPStatus.BAD_REQUEST, "invalid-json", f"the body is not JSON: {error}"
        ) from None
    if not isinstance(document, dict) or len(document) != 1 or not document.keys() <= {*FORMATS}:
        raise _malformed(f"the body must be an object with exactly one of {', '.join(FORMATS)}")
    [(name, content)] = document.items()
    found = _from_split(content) if name == "dataframe_split" else content
    if not isinstance(found, list):
        raise _malformed(f"{name} must be a list with one object a row")
    if not found:
        raise _malformed(f"{name} has no rows: send at least one")
    if len(found) > max_rows:
        raise Problem(
            HTTPStatus.CONTENT_TOO_LARGE,
            "too-many-rows",
            f"{name} has {len(found)} rows; at most {max_rows} are taken at a time: split them",
        )
    return found


def _from_split(content: Any) -> list[dict[str, Any]]:
    if not isinstance(content, dict) or not {"columns", "data"} <= content.keys() <= {
        "columns",
        "data",
        "index",
    }:
        raise _malformed("dataframe_split must be an object with columns and data")
    columns, data = content["columns"], content["data"]
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise _malformed("dataframe_split.columns must be a list of names")
    if len(set(columns)) != len(columns):
        raise _malformed("dataframe_split.columns has a name twice")
    if not isinstance(data, list):
        raise _malformed("dataframe_split.data must be a list of rows")
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            raise _malformed(
                f"dataframe_split.data, row {number}: must be a list of {len(columns)} values,"
                " one for each column"
            )
    return [dict(zip(columns, row, strict=True)) for row in data]


def _malformed(detail: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_CONTENT, "invalid-body", detail)
