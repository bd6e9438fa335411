"""Makes a version of a registered model ready to serve: ``prepare``.

It runs in a process of its own, as loading a model runs whatever code is in it:
``python -m model_api.preparing NAME VERSION FOLDER``, with the registry from MLflow's own
variables. When a version is not fit to serve, the last line on the standard error says why.
"""

import contextlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion
from packaging.version import Version as PackageVersion

from model_api import gaps, generating
from model_api.batch import Batch
from model_api.decoding import Decoder
from model_api.engines import MODEL_FOLDER, PyfuncEngine
from model_api.problems import Problem
from model_api.signature import NUMERIC, SignatureError
from model_api.version import FORMAT, MANIFEST, count, encode, first_line, open_version

# Other names of what serves just as well.
_SAME = {
    "mlflow": "mlflow-skinny",
    "xgboost": "xgboost-cpu",
    "onnxruntime-gpu": "onnxruntime",
}
# What MLflow finds imported where a model is trained, but no prediction has use for.
_IRRELEVANT = frozenset(
    {
        "boto3",
        "botocore",
        "databricks-sdk",
        "dvc",
        "hyperopt",
        "ipykernel",
        "ipython",
        "ipywidgets",
        "jupyter",
        "jupyterlab",
        "matplotlib",
        "mlflow",
        "notebook",
        "optuna",
        "pip",
        "pre-commit",
        "psutil",
        "psycopg2",
        "psycopg2-binary",
        "pynvml",
        "pytest",
        "ruff",
        "s3fs",
        "seaborn",
        "setuptools",
        "shap",
        "sqlalchemy",
        "tensorboard",
        "tqdm",
        "uv",
        "wandb",
        "wheel",
    }
)


_LOG_EXAMPLE = "log the model with input_example=X.head(), or by autolog(log_input_examples=True)"


class PrepareError(RuntimeError):
    """A version is not fit to serve; the message is one sentence that says why."""


def prepare(name: str, version: str, folder: Path, compiled: bool = True) -> dict[str, Any]:
    """Download a version and make it ready in ``folder``, which appears only when all is done.

    Args:
        name: of the registered model.
        version: its number.
        folder: does not exist yet.
        compiled: whether it may be compiled.

    Returns:
        the manifest.

    Raises:
        PrepareError: the version is not fit to serve.
        Exception: the registry does not answer.
    """
    import mlflow.artifacts
    from mlflow import MlflowClient

    client = MlflowClient()
    registered = client.get_model_version(name, version)
    with _temporary(folder) as work:
        try:
            # Not models:/<name>/<version>: MLflow cuts such an address at a "?" in the name.
            address = client.get_model_version_download_uri(name, version)
            found = mlflow.artifacts.download_artifacts(address, dst_path=str(work))
        except Exception as error:
            raise PrepareError(f"its artifact cannot be downloaded: {first_line(error)}") from error
        return prepare_downloaded(
            Path(found),
            folder,
            name=name,
            version=version,
            run_id=registered.run_id or None,
            compiled=compiled,
        )


def prepare_downloaded(
    model: Path,
    folder: Path,
    *,
    name: str,
    version: str,
    run_id: str | None,
    compiled: bool = True,
) -> dict[str, Any]:
    """Make a model, as MLflow saves it in a folder, ready in another; the rest as ``prepare``."""
    with _temporary(folder) as work:
        # Hard links: a large model need not lie on the disk twice.
        shutil.copytree(model, work / MODEL_FOLDER, copy_function=_link)
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
            # As the service will: what is written here must be what opens there.
            opened = open_version(work)
            manifest["seconds"] = opened.measure()
            if manifest["gaps"] and manifest["engine"] != PyfuncEngine.name:
                manifest["engine_fills_gaps"] = gaps.fills_alike(
                    work, manifest, opened.warm(), original
                )
        except Exception as error:
            raise PrepareError(first_line(error)) from error
        written = _write_manifest(work, manifest)
        if folder.exists():
            shutil.rmtree(folder)
        work.rename(folder)
    return written


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    # Beside the folder, for the renaming at the end to be one step.
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_manifest(work: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest as whoever reads it will find it."""
    # MLflow puts numpy's numbers into the objects of an input example.
    written = encode(manifest)
    (work / MANIFEST).write_bytes(msgspec.json.format(written, indent=1) + b"\n")
    return msgspec.json.decode(written)


def _examine(work: Path, compiled: bool) -> tuple[dict[str, Any], Any]:
    """Return what the manifest says of the model, and MLflow's pyfunc of it; compiles it beside."""
    import mlflow.pyfunc
    from mlflow.models import Model

    from model_api import compiling

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
    request = _example_request(description, path)
    generated = request is None
    if request is None:
        request = generating.request(decoder)
    remarks = check_requirements(_read(path / "requirements.txt"))
    python = description.flavors.get("python_function", {}).get("python_version")
    if python and python.split(".")[:2] != platform.python_version().split(".")[:2]:
        remarks.append(f"it was made with Python {python}; {platform.python_version()} runs here")
    try:
        batch = _decode_example(decoder, request)
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
        "example": _example_rows(batch),
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


def _example_request(description: Any, path: Path) -> str | None:
    """Return the input example as a request's body; None if the model has none."""
    from mlflow.models import convert_input_example_to_serving_input

    try:
        request = description.get_serving_input(str(path))
        if request is None and description.saved_input_example_info is not None:
            request = convert_input_example_to_serving_input(
                description.load_input_example(str(path))
            )
    except Exception as error:
        raise PrepareError(f"its input example cannot be read: {first_line(error)}") from error
    return request or None


def _decode_example(decoder: Decoder, request: str) -> Batch:
    """Return the rows of an input example; a required column of floats may lack values in it.

    The signature may be inferred from other rows. Whether the model answers such a row, it is asked
    next.
    """
    body = request.encode()
    try:
        return decoder.decode(body, 10**9)
    except Problem:
        if decoder.tensors:
            raise
        try:
            return gaps.relaxed(decoder).decode(body, 10**9)
        except Problem:
            pass
        raise


def _example_rows(batch: Batch) -> Any:
    columns = batch.columns()
    tensors = batch.tensors()
    if tensors is not None:
        nested = {name: tensor.tolist() for name, tensor in tensors.items()}
        return nested.get(None, nested)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


# ---- requirements -------------------------------------------------------------------------------


def check_requirements(lines: str) -> list[str]:
    """Compare a model's requirements with what is installed.

    Args:
        lines: a requirements file.

    Returns:
        a sentence for each difference that may stand.

    Raises:
        PrepareError: a package is missing, or another minor release of it is installed.
    """
    remarks = []
    for line in lines.splitlines():
        try:
            requirement = Requirement(line.split(" #")[0].strip())
        except InvalidRequirement:
            continue
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        if (remark := _difference(requirement)) is not None:
            remarks.append(remark)
    return remarks


def _difference(requirement: Requirement) -> str | None:
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    wanted = f"{name}{requirement.specifier}"
    present = _installed(name)
    if present is None:
        if name in _IRRELEVANT:
            return f"{wanted} is not installed; predictions have no use for it"
        raise PrepareError(
            f"it needs {wanted}, of which none is installed here: train it without {name}, or add"
            " it to the service's dependencies"
        )
    have = PackageVersion(present)
    if requirement.specifier.contains(have, prereleases=True):
        return None
    pinned = [s.version for s in requirement.specifier if s.operator in ("==", "===")]
    with contextlib.suppress(InvalidVersion, IndexError):
        if PackageVersion(pinned[0]).release[:2] == have.release[:2]:
            return f"it was made with {name} {pinned[0]}; {present} is installed"
    if name in _IRRELEVANT:
        return f"it was made with {wanted}; {present} is installed"
    raise PrepareError(
        f"it needs {wanted}, but {present} is installed here: train it with {name} {present},"
        f" or serve it where {wanted} is installed"
    )


def _installed(name: str) -> str | None:
    for candidate in (name, _SAME.get(name)):
        with contextlib.suppress(PackageNotFoundError):
            if candidate is not None:
                return installed_version(candidate)
    return None


# ---- compatibility ------------------------------------------------------------------------------

# What a column may become, so that all its values stay valid.
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


def check_compatible(new: dict[str, Any], serving: dict[str, Any]) -> str | None:
    """Tell whether every request that the serving version takes is one for the new version too.

    Args:
        new: manifest.
        serving: manifest.

    Returns:
        None, or a sentence that names the column that is in the way.
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


def _compare_columns(new: dict[str, Any], serving: dict[str, Any]) -> str | None:
    ours = {c.name: c for c in _decoder(new).columns}
    theirs = {c.name: c for c in _decoder(serving).columns}
    if _decoder(new).named != _decoder(serving).named:
        return "the columns of one version have names, those of the other have none"
    for name, column in theirs.items():
        if name not in ours:
            return f"it no longer takes the column {name!r}, which requests send"
        mine = ours[name]
        # Whether today's example had a gap says nothing of a model that answers one.
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
            if lost := [c for c in column.categories if c not in mine.categories]:
                return f"its column {name!r} no longer takes {lost[0]!r}"
    for name, column in ours.items():
        if column.required and name not in theirs:
            return f"it requires the column {name!r}, which requests do not send"
    if [name for name in ours if name in theirs] != list(theirs):
        return "its columns come in another order, which requests that send lists rely on"
    return None


def _compare_tensors(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str | None:
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


def _compare_params(ours: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    mine = {spec["name"]: spec for spec in ours.get("params") or []}
    for spec in theirs.get("params") or []:
        other = mine.get(spec["name"])
        if other is None:
            return f"it no longer takes the parameter {spec['name']!r}"
        if (other.get("type"), other.get("shape")) != (spec.get("type"), spec.get("shape")):
            return f"its parameter {spec['name']!r} is of another type"
    return None


def _decoder(manifest: dict[str, Any]) -> Decoder:
    return Decoder(manifest["signature"]["inputs"], categories=manifest["categories"])


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def main() -> None:
    """Prepare the version that the command line names."""
    match sys.argv[1:]:
        case ["--native", name, version, folder]:
            compiled = False
        case [name, version, folder]:
            compiled = True
        case _:
            sys.exit("usage: python -m model_api.preparing [--native] NAME VERSION FOLDER")
    warnings.simplefilter("ignore")
    try:
        manifest = prepare(name, version, Path(folder), compiled)
    except Exception as error:
        sys.exit(str(first_line(error)))
    print(json.dumps({key: manifest[key] for key in ("engine", "engine_note", "requirements")}))
    sys.stdout.flush()
    # Threads that the model left behind must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
