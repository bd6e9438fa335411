"""Take the screenshots of the README from a running environment. Needs chromium.

They are written to docs/images. With a FOLDER, only those of the dashboard are taken: they are
written to that folder, each with the text of its page. If the folder has a file expected.json, it
maps an image to texts that its page must show first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, TimeoutError, sync_playwright

from lastro_ops import aws
from lastro_ops.errors import OpsError
from lastro_ops.project import Environment, Platform, Project

# A page ends most waits at once; the limit is for a slow machine that has other work to do.
TIMEOUT_MS = 120_000
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
PAGES = {
    "Overview": "dashboard-overview",
    "Experiments": "dashboard-experiments",
    "Models": "dashboard-models",
    "Try it": "dashboard-try",
    "Drift": "dashboard-drift",
    "Pipelines": "dashboard-pipelines",
}


@dataclass(frozen=True)
class Shots:
    """Where images are written, and what is known of the platform.

    Attributes:
        folder: where the images are written.
        platform: the contract of the environment.
        passwords: service -> its administrator's password.
        with_text: whether the text of each page is kept as well.
        expected: image -> texts that its page must show first.
    """

    folder: Path
    platform: Platform
    passwords: Mapping[str, str]
    with_text: bool
    expected: Mapping[str, Sequence[str]]

    def url(self, service: str) -> str:
        """The address of a service, inside the network of its hosts."""
        hosts = self.platform["hosts"]
        host = next(host for _, host in sorted(hosts.items()) if service in host["roles"])
        return f"http://{host['private_ip']}:{self.platform['services'][service]['port']}"

    def save(self, page: Page, name: str) -> None:
        """Keep an image of the page, and its text if the caller wants it."""
        for text in self.expected.get(name, ()):
            # A page that never shows it is kept as it is, for the reader to see.
            with contextlib.suppress(TimeoutError):
                page.get_by_text(text).first.wait_for()
        page.screenshot(path=self.folder / f"{name}.png")
        if self.with_text:
            text = page.locator("body").inner_text()
            (self.folder / f"{name}.txt").write_text(text, encoding="utf-8")


def settle(page: Page) -> None:
    """Wait until Streamlit has drawn the page."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.wait_for_timeout(1000)


def dashboard(page: Page, shots: Shots) -> None:
    """Sign in with MLflow's login; then every page."""
    page.goto(shots.url("dashboard"))
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").first.fill(shots.passwords["mlflow"])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Latest runs", exact=True).wait_for()
    for label, name in PAGES.items():
        page.get_by_test_id("stSidebarNav").get_by_text(label, exact=True).click()
        page.get_by_role("heading", name=label, exact=True).wait_for()
        settle(page)
        if label == "Experiments":
            # The newest experiment may have a single run: nothing to draw along axes.
            page.get_by_role("combobox", name="Experiment").click()
            page.get_by_role("option", name="wine", exact=True).click()
            settle(page)
            page.get_by_role("tab", name="Parallel coordinates").click()
            settle(page)
        if label == "Try it":
            page.get_by_role("button", name="Predict").click()
            settle(page)
        shots.save(page, name)


def airflow(page: Page, shots: Shots) -> None:
    """Log in; the example's runs."""
    page.goto(shots.url("airflow"))
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(shots.passwords["airflow"])
    page.get_by_role("button", name="Sign In").click()
    page.get_by_text("Health").first.wait_for()
    page.goto(f"{shots.url('airflow')}/dags/wine")
    page.get_by_text("register_and_promote").first.wait_for()
    page.wait_for_timeout(3000)
    shots.save(page, "airflow")


def mlflow(page: Page, shots: Shots) -> None:
    """The registered model."""
    page.goto(f"{shots.url('mlflow')}/#/models/wine-classifier")
    page.get_by_text("champion").first.wait_for()
    page.wait_for_timeout(2000)
    shots.save(page, "mlflow")


def administrator_passwords(environment: Environment, services: Sequence[str]) -> dict[str, str]:
    """Service -> the password of its user `admin`."""
    platform = environment.contract()
    environment.enter_aws()
    with aws.explained(environment.name):
        secrets = aws.client("secretsmanager", platform["region"])
        return {
            service: json.loads(
                secrets.get_secret_value(SecretId=platform["secrets"][service])["SecretString"]
            )["admin_password"]
            for service in services
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops screenshots`."""
    parser.add_argument("environment", metavar="ENV", nargs="?", default="local")
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path)


def run(project: Project, options: argparse.Namespace) -> None:
    """Open each page in a browser and keep its image."""
    environment = project.environment(options.environment)
    folder: Path = options.folder or project.root / "docs" / "images"
    expected = folder / "expected.json"
    shots = Shots(
        folder,
        environment.contract(),
        administrator_passwords(environment, ("mlflow", "airflow")),
        with_text=options.folder is not None,
        expected=json.loads(expected.read_text()) if options.folder and expected.exists() else {},
    )
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if chromium is None:
        raise OpsError("needs chromium on PATH (apt-get install chromium)")
    folder.mkdir(parents=True, exist_ok=True)
    shoots: tuple[Callable[[Page, Shots], None], ...] = (dashboard, airflow, mlflow)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        for shoot in shoots[:1] if options.folder else shoots:
            context = browser.new_context(
                viewport={"width": 1360, "height": 860},
                http_credentials=(
                    {"username": "admin", "password": shots.passwords["mlflow"]}
                    if shoot is mlflow
                    else None
                ),
            )
            context.set_default_timeout(TIMEOUT_MS)
            shoot(context.new_page(), shots)
            context.close()
        browser.close()
