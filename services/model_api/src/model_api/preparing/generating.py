"""A request made only from a signature, for models logged without an input example."""

from typing import Any

import msgspec

from model_api.model.decoding import Decoder

_VALUES: dict[str, Any] = {
    "boolean": True,
    "integer": 1,
    "long": 1,
    "float": 1.0,
    "double": 1.0,
    "string": "a",
    "binary": "YQ==",
    "datetime": "2026-01-01T00:00:00",
    "any": None,
}


def request(decoder: Decoder) -> str:
    """Return the body of a request with one row of arbitrary values of the right types."""
    inputs: Any
    if decoder.tensors:
        tensors = {tensor.name: _tensor(tensor) for tensor in decoder.tensors}
        inputs = tensors if decoder.named else tensors[None]
    else:
        inputs = [{c.name: _value(c.spec | {"type": c.type}) for c in decoder.columns}]
    return msgspec.json.encode({"inputs": inputs}).decode()


def _value(spec: dict[str, Any]) -> Any:
    match spec["type"]:
        case "array":
            return [_value(spec["items"])]
        case "map":
            return {"a": _value(spec["values"])}
        case "object":
            return {name: _value(inner) for name, inner in spec["properties"].items()}
    return _VALUES[spec["type"]]


def _tensor(tensor: Any) -> Any:
    kinds = {"b": True, "f": 1.0, "i": 1, "u": 1}
    nested: Any = kinds.get(tensor.dtype.kind, "a")
    for length in reversed(tensor.shape):
        nested = [nested] * (1 if length == -1 else length)
    return nested
