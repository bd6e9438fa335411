"""Whether one version of a model can replace another without breaking requests."""

from collections.abc import Hashable

from model_api.model.decoding import Decoder
from model_api.model.manifest import Manifest, Signature
from model_api.model.signature import NUMERIC
from model_api.model.untyped import JsonObject, Value

# The types that a column may change to without making any of its values invalid.
_WIDER: dict[str, frozenset[str]] = {
    "integer": frozenset({"integer", "long", "float", "double", "any"}),
    "long": frozenset({"long", "float", "double", "any"}),
    "float": frozenset({"float", "double", "any"}),
    "datetime": frozenset({"datetime", "string", "any"}),
    "binary": frozenset({"binary", "string", "any"}),
}


_PIN = (
    "if only the examples differ, log every version with one signature,"
    " such as infer_signature(X.astype('float64'), y) of rows with a gap"
)


def check_compatible(new: Manifest, serving: Manifest) -> str | None:
    """Tell whether the new version takes every request that the serving version takes.

    Args:
        new: its manifest.
        serving: its manifest.

    Returns:
        None, or a sentence that names the incompatible column.
    """
    ours, theirs = new["signature"]["inputs"], serving["signature"]["inputs"]
    if (ours[0]["type"] == "tensor") != (theirs[0]["type"] == "tensor"):
        return "it takes tensors where the serving version takes columns, or the other way round"
    reason = (
        _compare_tensors(ours, theirs)
        if ours[0]["type"] == "tensor"
        else _compare_columns(new, serving)
    )
    return reason or _compare_params(new["signature"], serving["signature"])


def _compare_columns(new: Manifest, serving: Manifest) -> str | None:
    ours = {c.name: c for c in _decoder(new).columns}
    theirs = {c.name: c for c in _decoder(serving).columns}
    if _decoder(new).named != _decoder(serving).named:
        return "the columns of one version have names, those of the other have none"
    for name, column in theirs.items():
        if name not in ours:
            return f"it no longer takes the column {name!r}, which requests send"
        mine = ours[name]
        # If the model answers gaps, it does not matter whether its example has one.
        if mine.required and not column.required and name not in new["gaps"]:
            return f"it requires the column {name!r}, which requests may leave out: {_PIN}"
        nested = column.spec if column.type in ("array", "object", "map") else None
        if mine.type not in _WIDER.get(column.type, frozenset({column.type, "any"})) or (
            nested is not None and mine.type != "any" and mine.spec != nested
        ):
            differ = f"its column {name!r} takes {mine.type}, the serving version's {column.type}"
            return f"{differ}: {_PIN}" if mine.type in _WIDER and column.type in NUMERIC else differ
        if mine.categories is not None:
            if column.categories is None:
                return f"its column {name!r} takes only values that it has seen"
            known = set(map(_hashable, mine.categories))
            if lost := [c for c in column.categories if _hashable(c) not in known]:
                return f"its column {name!r} no longer takes {lost[0]!r}"
    for name, column in ours.items():
        if column.required and name not in theirs:
            return f"it requires the column {name!r}, which requests do not send"
    if [name for name in ours if name in theirs] != list(theirs):
        return "its columns come in another order, which requests that send lists rely on"
    return None


def _compare_tensors(ours: list[JsonObject], theirs: list[JsonObject]) -> str | None:
    mine = {entry.get("name"): entry["tensor-spec"] for entry in ours}
    known = {entry.get("name"): entry["tensor-spec"] for entry in theirs}
    if mine.keys() != known.keys():
        return f"it takes other tensors: {sorted(map(str, mine))}, not {sorted(map(str, known))}"
    for name, spec in known.items():
        fits = len(mine[name]["shape"]) == len(spec["shape"]) and all(
            a in (-1, b) for a, b in zip(mine[name]["shape"], spec["shape"], strict=True)
        )
        if not fits or mine[name]["dtype"] != spec["dtype"]:
            return (
                f"its tensor {name or 'input'} is {mine[name]['dtype']} of shape"
                f" {mine[name]['shape']}, not {spec['dtype']} of shape {spec['shape']}"
            )
    return None


def _compare_params(ours: Signature, theirs: Signature) -> str | None:
    mine = {spec["name"]: spec for spec in ours.get("params") or []}
    for spec in theirs.get("params") or []:
        other = mine.get(spec["name"])
        if other is None:
            return f"it no longer takes the parameter {spec['name']!r}"
        if (other.get("type"), other.get("shape")) != (spec.get("type"), spec.get("shape")):
            return f"its parameter {spec['name']!r} is of another type"
    return None


def _hashable(value: Value) -> Hashable:
    # Code that came with a model wrote the manifest: it may contain anything.
    return value if isinstance(value, Hashable) else repr(value)


def _decoder(manifest: Manifest) -> Decoder:
    return Decoder(manifest["signature"]["inputs"], categories=manifest["categories"])
