"""The manifest of a prepared version: what its preparation found out, and how it is read."""

from pathlib import Path
from typing import Any

import msgspec

from model_api.model.decoding import Decoder
from model_api.model.engines import PyfuncEngine

MANIFEST = "manifest.json"
FORMAT = 2


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


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a prepared version, with defaults where the previous release wrote it.

    Raises:
        VersionError: another release wrote it.
        OSError: the folder has none.
    """
    manifest = _manifest(folder)
    if manifest.get("format") == 1:
        return manifest | _BEFORE
    if manifest.get("format") != FORMAT:
        raise VersionError("it was prepared by another release: prepare it again")
    return manifest


def _manifest(folder: Path) -> dict[str, Any]:
    return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, Any])


def decoder_of(manifest: dict[str, Any]) -> Decoder:
    """Return the decoder of requests for a prepared version."""
    signature, gaps = manifest["signature"], manifest.get("gaps", _BEFORE["gaps"])
    return Decoder(signature["inputs"], signature.get("params"), manifest["categories"], gaps)


def decoder_in(folder: Path) -> Decoder:
    """Return the decoder of requests for a version, whichever release has prepared it.

    Raises:
        OSError: the folder has no manifest.
    """
    return decoder_of(_manifest(folder))
