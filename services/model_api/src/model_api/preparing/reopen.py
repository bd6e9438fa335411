"""Open a prepared version as a worker will: ``python -m model_api.preparing.reopen FOLDER``.

Code that came with the model wrote the sandbox's files, and such data can crash a process. Here it
crashes one that answers no requests.
"""

import os
import sys
import warnings
from pathlib import Path

from model_api.model.version import open_confined
from model_api.model.words import first_line


def main() -> None:
    """Open the version in the folder from the command line."""
    match sys.argv[1:]:
        case [folder]:
            pass
        case _:
            sys.exit("usage: python -m model_api.preparing.reopen FOLDER")
    warnings.simplefilter("ignore")
    try:
        open_confined(Path(folder))
    except Exception as error:
        sys.exit(str(first_line(error)))
    os._exit(0)


if __name__ == "__main__":
    main()
