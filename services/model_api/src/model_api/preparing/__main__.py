"""Prepare one version: ``python -m model_api.preparing NAME VERSION RUN FOLDER``.

It runs in a sandbox (`model_api.sandbox`), because loading a model runs the code that came with it.
RUN may be empty. If a version is not fit to serve, the last line on the standard error says why.
"""

import os
import sys
import warnings
from pathlib import Path

from model_api.model.words import first_line
from model_api.preparing.prepare import prepare


def main() -> None:
    """Prepare the version in the folder from the command line."""
    match sys.argv[1:]:
        case ["--native", name, version, run, folder]:
            compiled = False
        case [name, version, run, folder]:
            compiled = True
        case _:
            sys.exit("usage: python -m model_api.preparing [--native] NAME VERSION RUN FOLDER")
    warnings.simplefilter("ignore")
    try:
        prepare(Path(folder), name=name, version=version, run_id=run or None, compiled=compiled)
    except Exception as error:
        sys.exit(str(first_line(error)))
    # Threads that the model left behind must not keep the process alive.
    os._exit(0)


if __name__ == "__main__":
    main()
