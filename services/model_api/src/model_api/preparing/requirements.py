"""A model's requirements, compared with what is installed."""

import contextlib
import re
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion
from packaging.version import Version as PackageVersion

from model_api.preparing.errors import PrepareError

# Packages that can replace each other.
_SAME = {
    "mlflow": "mlflow-skinny",
    "xgboost": "xgboost-cpu",
    "onnxruntime-gpu": "onnxruntime",
}
# Packages that MLflow finds imported during training, but that no prediction needs.
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


def check_requirements(lines: str) -> list[str]:
    """Compare a model's requirements with what is installed.

    Args:
        lines: a requirements file.

    Returns:
        a sentence for each acceptable difference.

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
