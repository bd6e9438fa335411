"""The manifest of a prepared version, which its preparation writes."""

from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict, cast

import msgspec

from model_api.model.decoding import Decoder
from model_api.model.engines import COMPILED, PyfuncEngine
from model_api.model.untyped import JsonObject, Value

MANIFEST = "manifest.json"
FORMAT = 2


class Signature(TypedDict):
    """A model's signature as MLflow writes it, parsed; None for missing parts."""

    inputs: list[JsonObject]
    outputs: list[JsonObject] | None
    params: list[JsonObject] | None


class Manifest(TypedDict):
    """The findings of a version's preparation.

    Attributes:
        format: the manifest's format, `FORMAT`.
        name: the registered model's name.
        version: the version's number.
        run_id: the run that trained it, if any.
        prepared_at: when, in ISO format.
        signature: the model's signature.
        categories: by column, the only values that the model takes.
        gaps: the required columns in which the model nevertheless answers null.
        engine_fills_gaps: whether the engine answers rows with gaps as the original does.
        type_hints: whether the signature comes from type hints.
        request: the body of a request with the input example.
        example: the rows of that request.
        example_note: why the example does not come from the model; None if it does.
        engine: the name of the engine that answers.
        options: the engine's options.
        engine_note: how well it agrees with the original, or why the model is not compiled.
        classes: the classes of the probabilities; None if there are none.
        requirements: remarks about the model's requirements.
        flavors: the model's flavors in MLflow.
        files: the files in the version's folder.
        seconds: the time of a prediction: a fixed part, and a part per row.
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
    """The prepared version cannot serve."""


# The original model serves a version that the previous release prepared, until this release has
# prepared it again: that release's compiled files are not certified and cannot be opened. That
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
    """Return the manifest of a prepared version, with defaults if the previous release wrote it.

    Raises:
        VersionError: a release with another format wrote it.
        OSError: the folder has none.
    """
    manifest = _manifest(folder)
    if manifest.get("format") == 1:
        return cast(Manifest, manifest | _BEFORE)
    if manifest.get("format") != FORMAT:
        raise VersionError("it was prepared by another release: prepare it again")
    return cast(Manifest, manifest)


def needs_runner(folder: Path) -> bool:
    """Tell whether code that came with a prepared version, or its library, computes its answers."""
    try:
        return _engine_of(folder) not in COMPILED
    except (OSError, VersionError, msgspec.MsgspecError, KeyError):
        # Opening it reports the fault.
        return False


@lru_cache(maxsize=1000)
def _engine_of(folder: Path) -> str:
    # A folder is written once.
    return read_manifest(folder)["engine"]


def _manifest(folder: Path) -> dict[str, Any]:
    return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, Any])


def decoder_of(manifest: Manifest) -> Decoder:
    """Return the decoder of requests for a prepared version."""
    signature, gaps = manifest["signature"], manifest.get("gaps", _BEFORE["gaps"])
    return Decoder(signature["inputs"], signature.get("params"), manifest["categories"], gaps)


def decoder_in(folder: Path) -> Decoder:
    """Return the decoder of requests for a version that any release prepared.

    Raises:
        OSError: the folder has no manifest.
    """
    return decoder_of(cast(Manifest, _manifest(folder)))
