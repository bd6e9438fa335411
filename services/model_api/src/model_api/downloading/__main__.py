"""Download one version: ``python -m model_api.downloading NAME VERSION FOLDER``.

MLflow's own variables define the registry. If the download fails, the last line on the standard
error says why.
"""

import sys
import warnings
from pathlib import Path

from model_api.downloading.download import download
from model_api.model.words import first_line


def main() -> None:
    """Download the version from the command line."""
    match sys.argv[1:]:
        case [name, version, folder]:
            pass
        case _:
            sys.exit("usage: python -m model_api.downloading NAME VERSION FOLDER")
    warnings.simplefilter("ignore")
    try:
        download(name, version, Path(folder))
    except Exception as error:
        sys.exit(str(first_line(error)))


if __name__ == "__main__":
    main()
