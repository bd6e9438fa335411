"""`/health/ready` draws the pages and reports those that raise."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest
from conftest import MLflow, running

import dashboard

RAISING = '\nraise RuntimeError("s3cret of this page")\n'


def ready(url: str, login: tuple[str, str] | None = None) -> httpx.Response:
    return httpx.get(f"{url}/health/ready", auth=login, timeout=300)


def copy_of_the_package(folder: Path, *broken: str) -> Path:
    """Copy the package, make some files raise, and return the folder to import it from."""
    package = folder / "source/dashboard"
    shutil.copytree(Path(dashboard.__file__).parent, package)
    for file in broken:
        path = package / file
        path.write_text(path.read_text() + RAISING)
    return package.parent


def test_every_page_is_drawn_with_a_login_and_the_form_without_one(
    mlflow: MLflow, tmp_path: Path
) -> None:
    login = mlflow.create_user("prober")
    with running(tmp_path, mlflow.url) as service:
        assert ready(service.url, login).text == "Ready: every page can be drawn"
        assert ready(service.url).text == "Ready: the sign-in form can be drawn"
        refused = ready(service.url, (login[0], "wrong"))
        assert refused.status_code == 200
        assert "no other page was checked. Wrong username or password" in refused.text
        odd = httpx.get(
            f"{service.url}/health/ready", headers={"Authorization": b"Basic \xe4"}, timeout=300
        )
        assert odd.status_code == 200
    assert "Traceback" not in service.log.read_text()


def test_a_dashboard_with_a_page_that_raises_is_not_ready(mlflow: MLflow, tmp_path: Path) -> None:
    login = mlflow.create_user("prober-of-faults")
    source = copy_of_the_package(tmp_path, "views/models.py")
    with running(tmp_path, mlflow.url, PYTHONPATH=str(source)) as service:
        answer = ready(service.url, login)
        assert (answer.status_code, answer.text.count("raises")) == (503, 1)
        assert "Not ready: Models raises" in answer.text
        assert "s3cret" not in answer.text
        # Streamlit's own health check does not notice.
        assert httpx.get(f"{service.url}/_stcore/health").text == "ok"


@pytest.mark.parametrize("fault", ["raises", "cannot be compiled"])
def test_a_dashboard_with_a_broken_entry_script_is_not_ready(fault: str, tmp_path: Path) -> None:
    source = copy_of_the_package(tmp_path, *(["app.py"] if fault == "raises" else []))
    if fault != "raises":
        (source / "dashboard/app.py").write_text("def main(:\n")
    with running(tmp_path, "http://127.0.0.1:9", PYTHONPATH=str(source)) as service:
        assert ready(service.url).status_code == 503


def test_a_dashboard_is_ready_while_mlflow_is_unavailable(tmp_path: Path) -> None:
    with running(tmp_path, "http://127.0.0.1:9") as service:
        answer = ready(service.url, ("admin", "a password"))
        assert answer.status_code == 200
        assert "no other page was checked. MLflow is unavailable" in answer.text
