"""Imports a file and keeps its error, as Airflow's does."""

from __future__ import annotations

import runpy
from pathlib import Path


class BundleDagBag:
    """The DAG of a file is its variable ``dag``."""

    def __init__(self, dag_folder: Path, *, safe_mode: bool, **options: object) -> None:
        if safe_mode:
            raise ValueError("a file that does not name Airflow would be passed over")
        self.import_errors: dict[str, str] = {}
        self.dags: dict[str, object] = {}
        try:
            self.dags["dag"] = runpy.run_path(str(dag_folder)).get("dag")
        except Exception as error:
            self.import_errors[str(dag_folder)] = f"{type(error).__name__}: {error}"
