"""`python -m dashboard [--check]`: check the settings, then run Streamlit's server."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from dashboard.settings import Settings, SettingsError


def main() -> None:
    """Serve until the process is stopped; exit with status 2 if a setting is invalid.

    With `--check`, exit after checking the settings.
    """
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        print(f"dashboard: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if sys.argv[1:] == ["--check"]:
        return
    if settings.cookie_secret:
        os.environ["STREAMLIT_SERVER_COOKIE_SECRET"] = settings.cookie_secret
    # Imported here because Streamlit takes seconds to import: an invalid setting is reported first.
    from streamlit.starlette import App

    from dashboard import login_cookie, readiness

    # Without this, uvicorn shuts down cleanly but then raises the signal again, and the process
    # counts as killed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app = App(Path(__file__).with_name("app.py"), routes=[login_cookie.route(), readiness.route()])
    app.run(config={"server.address": settings.host, "server.port": settings.port})


if __name__ == "__main__":
    main()
