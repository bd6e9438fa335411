"""The process that answers HTTP: uvicorn's supervisor and its workers."""

import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from model_api import prediction_log
from model_api.common.logs import CONFIG
from model_api.common.settings import read_or_exit
from model_api.http import keys
from model_api.http.settings import Settings


def main() -> None:
    """Serve until SIGTERM; exit with 2 if the settings or the keys are invalid.

    With `--check`, only check them.
    """
    settings = read_or_exit(Settings, "model-api")
    # The workers read it; this reports an error in it once.
    read_or_exit(prediction_log.Settings, "model-api")
    try:
        keys.read(settings.keys_file)
    except keys.KeysError as error:
        print(f"model-api: MODEL_API_KEYS_FILE: {error}", file=sys.stderr)
        sys.exit(2)
    if sys.argv[1:] == ["--check"]:
        return

    if settings.runtime_directory is not None:
        _serve(settings, settings.runtime_directory)
    else:
        with TemporaryDirectory(prefix="model-api-") as folder:
            _serve(settings, Path(folder))


def _serve(settings: Settings, runtime: Path) -> None:
    # Files of an earlier run are obsolete.
    for name in ("metrics", "rates"):
        shutil.rmtree(runtime / name, ignore_errors=True)
        (runtime / name).mkdir(parents=True)
    # The worker processes read it when they import prometheus_client.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(runtime / "metrics")
    os.environ["MODEL_API_RUNTIME_DIRECTORY"] = str(runtime)

    config = uvicorn.Config(
        "model_api.http.app:from_environment",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http="model_api.http.protocol:Protocol",
        ws="none",
        loop="uvloop",
        log_config=CONFIG,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.body_seconds + settings.prediction_seconds) + 1,
        # A worker that loads a large model may not answer the supervisor for a while.
        timeout_worker_healthcheck=60,
    )
    supervisor = Multiprocess(config, sockets=[config.bind_socket()])
    supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        sys.exit(STARTUP_FAILURE)
