"""Downloads a version of a registered model: ``download``."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from model_api.model.engines import MODEL_FOLDER
from model_api.model.words import first_line

DOWNLOADED = "downloaded.json"
"""The file that describes the download, next to the model's folder."""


class DownloadError(RuntimeError):
    """The files of a version cannot be downloaded or used."""


class Downloaded(msgspec.Struct, frozen=True):
    """The description of a download.

    Attributes:
        run_id: the run that trained the version, if any.
        digest: the digest of its files; see `digest_of`.
        bytes: the size of its files.
    """

    run_id: str | None
    digest: str
    bytes: int


def download(name: str, version: str, folder: Path) -> Downloaded:
    """Download a version into ``folder``, which exists: MLflow's files into `MODEL_FOLDER` there.

    Args:
        name: the registered model's name.
        version: the version's number.
        folder: gets the files and their description.

    Raises:
        DownloadError: the files do not exist or cannot be used.
        Exception: the registry is unreachable.
    """
    import mlflow.artifacts
    from mlflow import MlflowClient

    client = MlflowClient()
    registered = client.get_model_version(name, version)
    # Next to the result and not in a shared temporary folder, so that the final move is atomic.
    arriving = Path(tempfile.mkdtemp(prefix=".arriving-", dir=folder))
    try:
        # Not models:/<name>/<version>: MLflow cuts such an address at a "?" in the name.
        address = client.get_model_version_download_uri(name, version)
        if not _is_of(address, mlflow.get_tracking_uri()):
            raise DownloadError(
                f"its files are at {address[:200]}, and only MLflow's own artifacts serve: log the"
                " model in a run, and register it from there"
            )
        found = Path(mlflow.artifacts.download_artifacts(address, dst_path=str(arriving)))
        shutil.move(_copied(found, arriving), folder / MODEL_FOLDER)
    except DownloadError:
        raise
    except Exception as error:
        raise DownloadError(f"its artifact cannot be downloaded: {first_line(error)}") from error
    finally:
        shutil.rmtree(arriving, ignore_errors=True)
    downloaded = Downloaded(registered.run_id or None, *_measure(folder / MODEL_FOLDER))
    (folder / DOWNLOADED).write_bytes(msgspec.json.encode(downloaded))
    return downloaded


def read_downloaded(folder: Path) -> Downloaded:
    """Return the description that `download` wrote into a folder.

    Raises:
        OSError: the file does not exist.
        msgspec.MsgspecError: the file is not such a description.
    """
    return msgspec.json.decode((folder / DOWNLOADED).read_bytes(), type=Downloaded)


def digest_of(model: Path) -> str:
    """Return the SHA-256 of a folder's file names and contents, in the order of the names.

    Raises:
        DownloadError: it contains something that is neither a file nor a folder, such as a link.
    """
    return _measure(model)[0]


def _is_of(address: str, tracking: str) -> bool:
    """Tell whether an address points to artifacts that the tracking server itself serves.

    Whoever registers a version chooses the address. MLflow's client would send its password to any
    address, or use the host's credentials there.
    """
    at, server = urlsplit(address), urlsplit(tracking)
    if at.scheme == "mlflow-artifacts":
        return at.netloc in ("", server.netloc)
    # A registry in a folder of this machine also has its artifacts there.
    return server.scheme in ("", "file") and at.scheme in ("", "file") and not at.netloc


def _copied(found: Path, arriving: Path) -> Path:
    # If the registry is a folder on this machine, MLflow returns the original folder.
    if found.is_relative_to(arriving):
        return found
    return Path(shutil.copytree(found, arriving / "copied"))


def _measure(model: Path) -> tuple[str, int]:
    """Return the digest of a folder, and its size in bytes."""
    whole, size = hashlib.sha256(), 0
    files = []
    for parent, folders, names in os.walk(model):
        for name in (*folders, *names):
            path = Path(parent, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise DownloadError(f"{path.relative_to(model)} is neither a file nor a folder")
        files += [Path(parent, name) for name in names]
    for path in sorted(files, key=lambda path: path.relative_to(model).as_posix()):
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256")
        # A name can contain anything except NUL, so two different folders never have the same text.
        whole.update(path.relative_to(model).as_posix().encode("utf-8", "surrogateescape"))
        whole.update(b"\0" + digest.digest())
        size += path.stat().st_size
    return f"sha256:{whole.hexdigest()}", size
