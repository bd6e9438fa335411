"""Answer for one version: ``python -m model_api.running FOLDER LISTENER PROGRESS``.

FOLDER is the version's folder. LISTENER and PROGRESS are the numbers of two open files: the socket
that workers connect to, and a pipe that gets a byte when the version is open and after each answer.
"""

import logging
import os
import socket
import sys
import warnings
from contextlib import suppress
from pathlib import Path

from model_api.model.version import open_version
from model_api.model.words import first_line
from model_api.running.serve import serve


def main() -> None:
    """Open the version and answer until the process is killed."""
    match sys.argv[1:]:
        case [folder, listener, progress]:
            taking, telling = socket.socket(fileno=int(listener)), int(progress)
        case _:
            sys.exit("usage: python -m model_api.running FOLDER LISTENER PROGRESS")
    warnings.simplefilter("ignore")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.set_blocking(telling, False)

    def tell() -> None:
        # A full pipe is fine: one unread byte already shows progress.
        with suppress(BlockingIOError):
            os.write(telling, b".")

    try:
        version = open_version(Path(folder))
    except (Exception, SystemExit) as error:
        sys.exit(str(first_line(error)))
    tell()
    serve(taking, version, tell)


if __name__ == "__main__":
    main()
