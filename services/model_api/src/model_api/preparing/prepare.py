"""Prepares a version of a model to serve: ``prepare``."""

import contextlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from model_api.model.answers import count, encode
from model_api.model.decoding import Decoder
from model_api.model.engines import MODEL_FOLDER, PyfuncEngine
from model_api.model.manifest import FORMAT, MANIFEST, Manifest
from model_api.model.signature import SignatureError
from model_api.model.untyped import JsonObject
from model_api.model.version import open_version
from model_api.model.words import first_line
from model_api.preparing import examples, gaps, generating
from model_api.preparing.errors import PrepareError
from model_api.preparing.requirements import check_requirements

_LOG_EXAMPLE = "log the model with input_example=X.head(), or by autolog(log_input_examples=True)"


def prepare_downloaded(
    model: Path,
    folder: Path,
    *,
    name: str,
    version: str,
    run_id: str | None,
    compiled: bool = True,
) -> Manifest:
    """Prepare a model, as saved by MLflow, in a folder that appears only once it is complete.

    Args:
        model: MLflow's folder.
        folder: the new folder; replaced if it exists.
        name, version, run_id, compiled: see `prepare`.

    Returns:
        the manifest.

    Raises:
        PrepareError: the version is not fit to serve.
    """
    with _temporary(folder) as work:
        # Hard links, so that a large model is not on the disk twice.
        shutil.copytree(model, work / MODEL_FOLDER, copy_function=_link)
        written = prepare(work, name=name, version=version, run_id=run_id, compiled=compiled)
        if folder.exists():
            shutil.rmtree(folder)
        work.rename(folder)
    return written


def prepare(
    work: Path, *, name: str, version: str, run_id: str | None, compiled: bool = True
) -> Manifest:
    """Prepare the model in the folder `MODEL_FOLDER` of ``work``; write all files to ``work``.

    This loads the model, and therefore runs the code that came with it.

    Args:
        work: the folder that `open_version` opens afterwards.
        name: the registered model's name.
        version: the version's number.
        run_id: the run that trained it, if any.
        compiled: whether it may be compiled.

    Returns:
        the manifest, which is written last.

    Raises:
        PrepareError: the version is not fit to serve.
    """
    described, original = _examine(work, compiled)
    manifest = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "run_id": run_id,
        "prepared_at": datetime.now(UTC).isoformat(timespec="seconds"),
    } | described
    _write_manifest(work, manifest | {"seconds": (0, 0)})
    try:
        # As the service will do, to prove that it can open these files.
        opened = open_version(work)
        manifest["seconds"] = opened.measure()
        if manifest["gaps"] and manifest["engine"] != PyfuncEngine.name:
            manifest["engine_fills_gaps"] = gaps.fills_alike(
                work, cast(Manifest, manifest), opened.warm(), original
            )
    except Exception as error:
        raise PrepareError(first_line(error)) from error
    return _write_manifest(work, manifest)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    # In the folder's parent, so that the final rename is atomic.
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_manifest(work: Path, manifest: JsonObject) -> Manifest:
    """Write the manifest; return it as a reader will see it."""
    # MLflow puts numpy's numbers into the objects of an input example.
    written = encode(manifest)
    (work / MANIFEST).write_bytes(msgspec.json.format(written, indent=1) + b"\n")
    return cast(Manifest, msgspec.json.decode(written))


def _examine(work: Path, compiled: bool) -> tuple[dict[str, Any], Any]:
    """Compile the model; return the model's part of the manifest, and MLflow's pyfunc."""
    import mlflow.pyfunc
    from mlflow.models import Model

    from model_api.preparing import compiling

    path = work / MODEL_FOLDER
    try:
        description = Model.load(str(path))
    except Exception as error:
        raise PrepareError(f"its MLmodel file cannot be read: {first_line(error)}") from error
    signature = description.signature
    if signature is None or signature.inputs is None:
        raise PrepareError("it has no signature: log it with signature=infer_signature(X, y)")
    described = {
        "inputs": signature.inputs.to_dict(),
        "outputs": signature.outputs.to_dict() if signature.outputs else None,
        "params": signature.params.to_dict() if signature.params else None,
    }
    try:
        decoder = Decoder(described["inputs"], described["params"])
    except SignatureError as error:
        raise PrepareError(f"its signature cannot be served: {error}") from error
    request = examples.request_of(description, path)
    generated = request is None
    if request is None:
        request = generating.request(decoder)
    remarks = check_requirements(_read(path / "requirements.txt"))
    python = description.flavors.get("python_function", {}).get("python_version")
    if python and python.split(".")[:2] != platform.python_version().split(".")[:2]:
        remarks.append(f"it was made with Python {python}; {platform.python_version()} runs here")
    try:
        batch = examples.decode(decoder, request)
    except Exception as error:
        raise PrepareError(
            f"its input example does not fit its signature: {first_line(error)}"
        ) from error
    try:
        original = mlflow.pyfunc.load_model(str(path))
    except ModuleNotFoundError as error:
        raise PrepareError(
            f"it needs the package {error.name!r}, which is not installed here: add it to the"
            " service's dependencies, or train without it"
        ) from error
    except Exception as error:
        raise PrepareError(f"it does not load: {first_line(error)}") from error
    try:
        answer = original.predict(batch.native(), params=batch.params)
    except Exception as error:
        if generated:
            raise PrepareError(
                "it has no input example, and fails on a row made from its signature"
                f" ({first_line(error)}): {_LOG_EXAMPLE}"
            ) from error
        raise PrepareError(f"it fails on its own input example: {first_line(error)}") from error
    if count(answer) != batch.rows:
        raise PrepareError(
            f"it answers the {batch.rows} row(s) of its input example with"
            f" {count(answer) if count(answer) is not None else 'no list of'} predictions"
        )
    chosen = compiling.choose(work, description, decoder, batch, original, compiled)
    manifest = {
        "signature": described,
        "categories": chosen.categories,
        "gaps": gaps.columns_that_take(decoder, batch, original),
        "engine_fills_gaps": False,
        "type_hints": bool(description._is_signature_from_type_hint()),
        "request": request,
        "example": examples.rows_of(batch),
        "example_note": f"made from the signature: {_LOG_EXAMPLE}" if generated else None,
        "engine": chosen.engine,
        "options": chosen.options,
        "engine_note": chosen.note,
        "classes": chosen.classes,
        "requirements": remarks,
        "flavors": sorted(description.flavors),
        "files": sorted(str(p.relative_to(work)) for p in work.rglob("*") if p.is_file()),
    }
    return manifest, original


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
