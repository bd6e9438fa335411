"""The command line: start the emulator and serve until SIGTERM."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from werkzeug.serving import make_server

ACCESS_KEY_ID = "LOCAL_AWS_ACCESS_KEY_ID"
SECRET_ACCESS_KEY = "LOCAL_AWS_SECRET_ACCESS_KEY"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the emulator in the foreground."""
    parser = argparse.ArgumentParser(
        prog="local_aws",
        description="AWS on one machine.",
        epilog=f"The root key of the account comes from {ACCESS_KEY_ID} and {SECRET_ACCESS_KEY}.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=4566, help="port to listen on")
    parser.add_argument("--state", type=Path, required=True, help="directory for the state")
    options = parser.parse_args(argv)
    missing = [name for name in (ACCESS_KEY_ID, SECRET_ACCESS_KEY) if not os.environ.get(name)]
    if missing:
        parser.error(f"set {' and '.join(missing)}: the root key of the account is required")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # The application logs requests by the names of their actions.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, _stop)

    # moto takes seconds to import and reads the environment: not before the options are checked.
    from moto.moto_server.werkzeug_app import MotoRequestHandler

    from .app import Settings, StateError, create_app

    settings = Settings(
        state=options.state,
        access_key_id=os.environ[ACCESS_KEY_ID],
        secret_access_key=os.environ[SECRET_ACCESS_KEY],
    )
    try:
        app = create_app(settings)
    except StateError as error:
        sys.exit(f"local_aws: {error}")
    server = make_server(
        options.host, options.port, app, threaded=True, request_handler=MotoRequestHandler
    )
    logging.getLogger(__name__).info("serving on http://%s:%d", options.host, server.server_port)
    try:
        server.serve_forever()
    finally:
        server.server_close()
        app.close()


def _stop(signum: int, frame: FrameType | None) -> None:
    # Every answered change is on disk already: there is nothing to wait for.
    sys.exit(0)
