"""A model's requests as JSON schema, for its documentation."""

import numpy as np

from model_api.model.decoding import Decoder
from model_api.model.signature import SCALARS, Column, Tensor, param_type
from model_api.model.untyped import JsonObject


def body_schema(decoder: Decoder) -> JsonObject:
    """Return the JSON schema (2020-12, as in OpenAPI 3.1) of a request's body."""
    params = {"params": _params_schema(decoder)} if decoder.params else {}

    def wrapped(name: str, schema: JsonObject) -> JsonObject:
        return {
            "type": "object",
            "title": name,
            "required": [name],
            "properties": {name: schema} | params,
            "additionalProperties": False,
        }

    if decoder.tensors:
        shapes = {tensor.name: tensor_schema(tensor) for tensor in decoder.tensors}
        if decoder.named:
            inputs = {
                "type": "object",
                "required": list(shapes),
                "properties": shapes,
                "additionalProperties": False,
            }
            return wrapped("inputs", inputs)
        return {"anyOf": [wrapped("inputs", shapes[None]), wrapped("instances", shapes[None])]}
    values = {column.name: column_schema(column) for column in decoder.columns}
    record = {
        "type": "object",
        "required": [column.name for column in decoder.columns if column.required],
        "properties": values,
        "additionalProperties": False,
    }
    width = len(decoder.columns)
    row = {
        "type": "array",
        "prefixItems": list(values.values()),
        "items": False,
        "minItems": width,
        "maxItems": width,
    }
    records = {"type": "array", "minItems": 1, "items": record}
    rows = {"type": "array", "minItems": 1, "items": row}
    split = {
        "type": "object",
        "required": ["columns", "data"],
        "properties": {
            "columns": {"const": [column.name for column in decoder.columns]},
            "data": rows,
            "index": {"type": "array"},
        },
        "additionalProperties": False,
    }
    ways = [
        wrapped("inputs", records),
        wrapped("instances", rows),
        wrapped("dataframe_records", records),
        wrapped("dataframe_split", split),
        records | {"title": "records"},
    ]
    return {"anyOf": ways}


def _params_schema(decoder: Decoder) -> JsonObject:
    properties = {}
    for spec in decoder.params:
        kind = param_type(spec)
        schema = dict(SCALARS[kind][2]) if kind in SCALARS else {}
        if spec.get("shape") is not None:
            schema = {"type": "array", "items": schema}
        properties[spec["name"]] = schema | {"default": spec.get("default")}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def column_schema(column: Column) -> JsonObject:
    """Return the JSON schema of one value of a column."""
    schema = _type_schema(column.spec | {"type": column.type})
    if column.categories is not None:
        return {"enum": [*column.categories, *([None] if column.nullable else [])]}
    return {"anyOf": [schema, {"type": "null"}]} if column.nullable else schema


def _type_schema(spec: JsonObject) -> JsonObject:
    match spec["type"]:
        case "array":
            return {"type": "array", "items": _type_schema(spec["items"])}
        case "map":
            return {"type": "object", "additionalProperties": _type_schema(spec["values"])}
        case "object":
            properties = spec["properties"]
            return {
                "type": "object",
                "required": [n for n, p in properties.items() if p.get("required", True)],
                "properties": {n: _type_schema(p) for n, p in properties.items()},
                "additionalProperties": False,
            }
        case "any":
            return {}
    return dict(SCALARS[spec["type"]][2])


def tensor_schema(tensor: Tensor) -> JsonObject:
    """Return the JSON schema of a tensor."""
    kinds = {"b": "boolean", "f": "number", "i": "integer", "u": "integer", "U": "string"}
    schema: JsonObject = {"type": kinds[tensor.dtype.kind]} if tensor.dtype.kind in kinds else {}
    if tensor.dtype.kind in "iu":
        bounds = np.iinfo(tensor.dtype)
        schema |= {"minimum": int(bounds.min), "maximum": int(bounds.max)}
    for length in reversed(tensor.shape):
        bound = {"minItems": 1} if length == -1 else {"minItems": length, "maxItems": length}
        schema = {"type": "array", "items": schema} | bound
    return schema
