"""`python -m dashboard`: check the settings, then become Streamlit's server."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dashboard.settings import Settings, SettingsError


def main() -> None:
    """Replace this process by Streamlit; exit with status 2 when a setting is wrong."""
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        print(f"dashboard: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    env = dict(os.environ)
    if settings.cookie_secret:
        env["STREAMLIT_SERVER_COOKIE_SECRET"] = settings.cookie_secret
    arguments = [
        *("-m", "streamlit", "run", str(Path(__file__).with_name("app.py"))),
        *("--server.address", settings.host, "--server.port", str(settings.port)),
    ]
    os.execve(sys.executable, [sys.executable, *arguments], env)


if __name__ == "__main__":
    main()
