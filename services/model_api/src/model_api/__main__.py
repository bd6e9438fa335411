"""Run the service: ``python -m model_api``."""

import os
import sys

import uvicorn
from pydantic import ValidationError

from model_api.logs import CONFIG
from model_api.settings import Settings


def main() -> None:
    """Serve until SIGTERM; exit with 2 when the settings are not acceptable."""
    try:
        settings = Settings.from_environment()
    except ValidationError as error:
        for fault in error.errors(include_input=False):
            field = str(fault["loc"][0])
            name = field if field.isupper() else f"MODEL_API_{field.upper()}"
            print(f"model-api: {name}: {fault['msg']}", file=sys.stderr)
        sys.exit(2)

    # MLflow reads it when it is imported, and sends usage data unless told not to.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from model_api.app import create_app

    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=CONFIG,
        server_header=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
