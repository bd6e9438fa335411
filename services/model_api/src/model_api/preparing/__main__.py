"""Prepare one version: ``python -m model_api.preparing NAME VERSION FOLDER``.

In a process of its own, as loading a model runs whatever code is in it. The registry is that of
MLflow's own variables. When a version is not fit to serve, the last line on the standard error says
why.
"""

import json
import os
import sys
import warnings
from pathlib import Path

from model_api.model.words import first_line
from model_api.preparing.prepare import prepare


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
