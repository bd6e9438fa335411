"""The manifest of a prepared version: what its preparation found out, and how it is read."""

from pathlib import Path
from typing import Any, TypedDict, cast

import msgspec

from model_api.model.decoding import Decoder
from model_api.model.engines import PyfuncEngine
from model_api.model.untyped import JsonObject, Value

MANIFEST = "manifest.json"
FORMAT = 2


class Signature(TypedDict):
    """A model's signature, as MLflow writes it, parsed; None for what it has not."""

    inputs: list[JsonObject]
    outputs: list[JsonObject] | None
    params: list[JsonObject] | None


class Manifest(TypedDict):
    """What the preparation of a version found out.

    Attributes:
        format: of the manifest: `FORMAT`.
        name: of the registered model.
        version: its number.
        run_id: the run that trained it, if one did.
        prepared_at: when, in ISO format.
        signature: of the model.
        categories: by column, the only values that the model takes.
        gaps: the required columns in which the model answers null all the same.
        engine_fills_gaps: whether the engine answers rows with gaps as the original does.
        type_hints: whether the signature comes from type hints.
        request: the body of a request with the input example.
        example: rows of that.
        example_note: why the example is none of the model's own, if so.
        engine: the name of the engine that answers.
        options: of the engine.
        engine_note: how it agrees with the original, or why the model is not compiled.
        classes: what the probabilities are of; None if there are none.
        requirements: remarks about the model's requirements.
        flavors: of MLflow.
        files: in the folder of the version.
        seconds: that a prediction takes: what each has, and what each row adds.
    """

    format: int
    name: str
    version: str
    run_id: str | None
    prepared_at: str
    signature: Signature
    categories: dict[str, list[Value]]
    gaps: list[str]
    engine_fills_gaps: bool
    type_hints: bool
    request: str
    example: Value
    example_note: str | None
    engine: str
    options: JsonObject
    engine_note: str
    classes: list[Value] | None
    requirements: list[str]
    flavors: list[str]
    files: list[str]
    seconds: tuple[float, float]


class VersionError(RuntimeError):
    """A prepared version that cannot serve."""


# The original model serves a version that the previous release prepared, until this release has
# prepared it again: compiled files of that release are not certified and cannot be opened. That
# release did not look for gaps, and only MLflow knows whether the signature comes from type hints.
_BEFORE: dict[str, Any] = {
    "engine": PyfuncEngine.name,
    "options": {},
    "engine_note": "served by MLflow's pyfunc until this release has prepared it again",
    "gaps": [],
    "engine_fills_gaps": False,
    "type_hints": True,
    "example_note": None,
}


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a prepared version, with defaults where the previous release wrote it.

    Raises:
        VersionError: another release wrote it.
        OSError: the folder has none.
    """
    manifest = _manifest(folder)
    if manifest.get("format") == 1:
        return cast(Manifest, manifest | _BEFORE)
    if manifest.get("format") != FORMAT:
        raise VersionError("it was prepared by another release: prepare it again")
    return cast(Manifest, manifest)


def _manifest(folder: Path) -> dict[str, Any]:
    return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, Any])


def decoder_of(manifest: Manifest) -> Decoder:
    """Return the decoder of requests for a prepared version."""
    signature, gaps = manifest["signature"], manifest.get("gaps", _BEFORE["gaps"])
    return Decoder(signature["inputs"], signature.get("params"), manifest["categories"], gaps)


def decoder_in(folder: Path) -> Decoder:
    """Return the decoder of requests for a version, whichever release has prepared it.

    Raises:
        OSError: the folder has no manifest.
    """
    return decoder_of(cast(Manifest, _manifest(folder)))
