"""A login survives a reload and works in a new tab, by a cookie that scripts cannot read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import ADMIN, BEARER, Clock, MLflow, answers, free_port, wait_until
from visitor import Tab

from dashboard.login_cookie import cookie_name
from dashboard.logins import LONGEST_SECONDS, MOST_LOGINS, TICKET_SECONDS, Logins

IDLE = 3600.0


@pytest.fixture
def store(clock: Clock) -> Logins:
    return Logins(IDLE, clock)


@pytest.fixture(scope="module")
def url(mlflow: MLflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a dashboard in its own process, with a real MLflow and no model API."""
    home, port = tmp_path_factory.mktemp("served"), free_port()
    env = os.environ | {
        "HOME": str(home),
        "MLFLOW_TRACKING_URI": mlflow.url,
        "MODEL_API_URL": "http://127.0.0.1:9",
        "MODEL_API_KEY": BEARER,
        "DASHBOARD_PORT": str(port),
    }
    log = home / "log"
    with log.open("w") as output:
        program = [sys.executable, str(Path(__file__).with_name("served.py"))]
        process = subprocess.Popen(program, cwd=home, env=env, stdout=output, stderr=output)
    try:
        wait_until(
            lambda: answers(f"http://127.0.0.1:{port}/_stcore/health"),
            lambda: f"the dashboard did not start:\n{log.read_text()}",
            alive=lambda: process.poll() is None,
        )
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(120)
    assert "Traceback" not in log.read_text(), log.read_text()


def signed_in(tab: Tab) -> bool:
    return "Signed in as" in tab.text()


def browser(url: str, login: tuple[str, str]) -> httpx.Cookies:
    """The cookies of a signed-in browser."""
    cookies = httpx.Cookies()
    with Tab(url, cookies) as tab:
        tab.sign_in(*login)
        assert tab.fetch_cookie().status_code == 204
    return cookies


def kept(url: str) -> int:
    return int(httpx.get(f"{url}/answers-kept").text)


# ---- the store --------------------------------------------------------------------------------


def test_only_an_idle_login_ends(store: Logins, clock: Clock) -> None:
    login = store.begin("alice", "secret")
    cookie = store.exchange(store.ticket(login))
    for _ in range(5):
        clock.now += IDLE
        assert store.use(login) and store.find(cookie) is login
    clock.now += IDLE + 1
    assert store.find(cookie) is None and not store.use(login)


def test_a_login_in_use_ends_at_its_maximum_age(store: Logins, clock: Clock) -> None:
    login = store.begin("alice", "secret")
    while clock.now <= LONGEST_SECONDS:
        assert store.use(login)
        clock.now += IDLE
    assert not store.use(login)


def test_a_ticket_is_valid_once_and_for_a_minute(store: Logins, clock: Clock) -> None:
    login = store.begin("alice", "secret")
    ticket = store.ticket(login)
    assert store.exchange(ticket) and store.exchange(ticket) is None
    late = store.ticket(login)
    clock.now += TICKET_SECONDS
    assert store.exchange(late) is None and store.exchange("guessed") is None


def test_the_cookie_and_tickets_of_an_ended_login_are_invalid(store: Logins) -> None:
    login, other = store.begin("alice", "secret"), store.begin("alice", "secret")
    cookie, ticket = store.exchange(store.ticket(login)), store.ticket(login)
    kept_cookie = store.exchange(store.ticket(other))
    store.end(login)
    assert store.find(cookie) is None and store.exchange(ticket) is None
    assert store.find(kept_cookie) is other, "another browser of the same person stays signed in"


def test_the_number_of_logins_is_bounded(store: Logins, clock: Clock) -> None:
    first = store.begin("alice", "secret")
    for i in range(MOST_LOGINS):
        clock.now += 1
        last = store.begin(f"visitor-{i}", "secret")
        store.exchange(store.ticket(last))
    assert not store.use(first) and store.use(last)
    assert len(store._alive) == len(store._cookies) == MOST_LOGINS and not store._tickets


def test_secrets_are_not_kept_in_plain_text(store: Logins) -> None:
    login = store.begin("alice", "secret-of-alice")
    ticket = store.ticket(login)
    cookie = store.exchange(ticket)
    assert cookie not in repr(vars(store)) and ticket not in repr(vars(store))
    assert "secret-of-alice" not in repr(vars(store))


def test_behind_tls_no_other_host_can_set_the_cookie() -> None:
    assert cookie_name("https://lastro.example.com") == "__Host-lastro"
    ports = {cookie_name(f"http://127.0.0.1:{port}") for port in (8501, 8502)}
    assert len(ports) == 2 and not any(name.startswith("__Host-") for name in ports)


# ---- the running dashboard --------------------------------------------------------------------


def test_a_reload_and_a_new_tab_are_signed_in(url: str) -> None:
    cookies = browser(url, ADMIN)
    for _ in range(2):
        with Tab(url, cookies) as tab:
            assert signed_in(tab) and tab.ticket() is None
    with Tab(url, httpx.Cookies()) as stranger:
        assert not signed_in(stranger) and stranger.find("text_input", "Password")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_scripts_and_other_sites_cannot_use_the_cookie(url: str, scheme: str) -> None:
    with Tab(url, httpx.Cookies()) as tab:
        tab.sign_in(*ADMIN)
        answer = httpx.post(
            f"{url}/session",
            json={"ticket": tab.ticket()},
            headers={"Origin": url.replace("http", scheme, 1)},
        )
    cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(attributes)
    assert ("Secure" in attributes) == (scheme == "https") == cookie.startswith("__Host-")
    assert answer.headers["Cache-Control"] == "no-store"
    assert ADMIN[0] not in cookie and ADMIN[1] not in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "origin", [None, "https://evil.example", "null", "", "http://[bad", "http://x:1e3"]
)
def test_another_site_cannot_sign_a_visitor_in(url: str, origin: str | None) -> None:
    with Tab(url, httpx.Cookies()) as tab:
        tab.sign_in(*ADMIN)
        headers = {"Origin": origin} if origin is not None else {}
        answer = httpx.post(f"{url}/session", json={"ticket": tab.ticket()}, headers=headers)
        assert answer.status_code == 403 and "Set-Cookie" not in answer.headers
        assert tab.fetch_cookie().status_code == 204, "the refused request used up the ticket"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"ticket": 1}',
        b'{"ticket": "x"}',
        b'{"ticket": "\\ud800"}',
        b"\xff",
        b"[" * 250,
        b"x" * 5000,
    ],
)
def test_a_made_up_ticket_gives_no_cookie(url: str, body: bytes) -> None:
    answer = httpx.post(f"{url}/session", content=body, headers={"Origin": url})
    assert answer.status_code in (403, 413) and "Set-Cookie" not in answer.headers


def test_a_planted_cookie_does_not_become_a_login(url: str) -> None:
    planted = httpx.Cookies({cookie_name(url): "planted-by-somebody-else"})
    with Tab(url, planted) as tab:
        tab.sign_in(*ADMIN)
        tab.fetch_cookie()
    with Tab(url, httpx.Cookies({cookie_name(url): "planted-by-somebody-else"})) as tab:
        assert not signed_in(tab)


def test_signing_out_ends_the_login_in_every_tab(url: str) -> None:
    cookies = browser(url, ADMIN)
    with Tab(url, cookies) as one, Tab(url, cookies) as other:
        one.press("Sign out")
        assert not signed_in(one)
        other.run()
        assert not signed_in(other) and "Your login has ended" in other.text()
    with Tab(url, cookies) as later:
        assert not signed_in(later)


@pytest.mark.parametrize("page", ["overview", "pipelines"])
def test_a_changed_password_ends_the_login(url: str, mlflow: MLflow, page: str) -> None:
    login = mlflow.create_user(f"erin-{page}")
    cookies = browser(url, login)
    body = {"username": login[0], "password": "another-password-now"}
    mlflow.call(ADMIN, "PATCH", "users/update-password", json=body)
    with Tab(url, cookies) as tab:
        tab.run(page=page)
        assert not signed_in(tab)
    with Tab(url, cookies) as later:
        assert not signed_in(later)


def test_the_sign_in_form_disappears_before_the_page_calls_a_service(url: str) -> None:
    with Tab(url, httpx.Cookies()) as tab:
        tab.sign_in(*ADMIN)
        run = tab.seen
    title = next(i for i, page in enumerate(run) if any(e.heading.body for e in page.values()))
    assert not any(e.WhichOneof("type") == "text_input" for e in run[title].values())


def test_the_answers_of_a_tab_are_dropped_when_it_closes(url: str) -> None:
    cookies = browser(url, ADMIN)
    wait_until(lambda: kept(url) == 0, lambda: f"{kept(url)} answers are still kept")
    with Tab(url, cookies) as one, Tab(url, cookies):
        of_two = kept(url)
        assert of_two > 2
        one.run(page="experiments")
    wait_until(lambda: kept(url) == 0, lambda: f"{kept(url)} answers are still kept")
