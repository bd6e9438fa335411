"""The JSON values that the steps and the batch return."""

from typing import TypedDict


class Validated(TypedDict):
    """The result of `steps.validate`; ``rows`` is the number of rows in each split."""

    dataset_hash: str
    rows: dict[str, int]
    parent_run_id: str


class Trained(TypedDict):
    """The result of `steps.train`; ``metrics`` are those on the validation split."""

    candidate: str
    run_id: str
    model_uri: str
    metrics: dict[str, float]


class Champion(TypedDict):
    """The serving version, with its metrics on the test split."""

    version: str
    metrics: dict[str, float]


class Summary(TypedDict):
    """The result of `steps.register_and_promote`."""

    model: str
    version: str
    run_id: str
    candidate: str
    metrics: dict[str, float]
    champion: Champion | None
    comparison: dict[str, float | None] | None
    promoted: bool
    reason: str


class ScoredModel(TypedDict):
    """The model of a batch; ``alias`` is None if the caller named the version."""

    model: str
    version: str
    alias: str | None


class ScoredFile(TypedDict):
    """One file of a batch: its ``size`` in bytes, and the name of its ``output``."""

    path: str
    size: int
    etag: str | None
    rows: int
    output: str


class Lineage(ScoredModel):
    """The content of ``_lineage.json``; times are ISO 8601 in UTC."""

    run_id: str | None
    engine: str
    source: str
    files: list[ScoredFile]
    rows: int
    started: str
    finished: str
    pipeline_run_id: str
    mlflow_run_id: str


class Batch(Lineage):
    """The result of `batch.score`; ``output`` is the address of the folder."""

    output: str
