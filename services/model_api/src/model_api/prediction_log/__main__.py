"""Run the writing process: ``python -m model_api.prediction_log``."""

import logging.config
import signal
import sys

from model_api.common.logs import CONFIG
from model_api.common.settings import read_or_exit
from model_api.prediction_log.settings import Settings
from model_api.prediction_log.writer import Writer


def main() -> None:
    """Receive and write until SIGTERM.

    Exit with 2 if the settings are invalid, with 1 if receiving no longer works.
    """
    settings = read_or_exit(Settings, "prediction-log")
    if settings.url is None:
        print(
            "prediction-log: MODEL_API_PREDICTION_LOG_URL is not set: set it to where the files"
            " go, such as s3://bucket/predictions",
            file=sys.stderr,
        )
        sys.exit(2)
    logging.config.dictConfig(CONFIG)
    writer = Writer(settings)
    signal.signal(signal.SIGTERM, lambda *_: writer.stop())
    signal.signal(signal.SIGINT, lambda *_: writer.stop())
    if not writer.run():
        sys.exit(1)


if __name__ == "__main__":
    main()
