"""Run the HTTP side: ``python -m model_api [--check]``."""

from model_api.http.server import main

if __name__ == "__main__":
    main()
