"""Import each Python file below a folder as Airflow's DAG processor would.

Prints {file: error} as JSON; an empty object when all of them import.

Each file has a process of its own, so that one that exits, hangs or pollutes is held back alone.

Usage: check_dags.py FOLDER
"""

import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import LazyDeserializedDAG

SECONDS_PER_FILE = 60


def import_error(path: Path, folder: Path) -> str | None:
    """The error of importing a file or serializing its DAGs, if there is one."""
    bag = BundleDagBag(
        dag_folder=path,
        bundle_path=folder,
        bundle_name="candidate",
        safe_mode=False,
        load_op_links=False,
    )
    if bag.import_errors:
        return "\n".join(bag.import_errors.values())
    for dag in bag.dags.values():
        LazyDeserializedDAG.from_dag(dag)
    return None


def check(path: Path, folder: Path) -> str | None:
    """As ``import_error``, for a file that may do anything."""
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=fork) as pool:
        task = pool.submit(import_error, path, folder)
        try:
            return task.result(timeout=SECONDS_PER_FILE)
        except TimeoutError:
            for process in list(pool._processes.values()):
                process.kill()
            return (
                f"importing takes more than {SECONDS_PER_FILE} s; a DAG file must only define tasks"
            )
        except BrokenProcessPool:
            return "the file ends the process that imports it"
        except Exception as error:
            return f"{type(error).__name__}: {error}"


def main() -> None:
    # Airflow logs to standard output, which here is for the answer alone.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    folder = Path(sys.argv[1])
    errors = {
        path.relative_to(folder).as_posix(): error
        for path in sorted(folder.rglob("*.py"))
        if (error := check(path, folder)) is not None
    }
    json.dump(errors, answer)
    answer.flush()


if __name__ == "__main__":
    main()
