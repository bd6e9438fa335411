"""The answers of visitors are limited: by bytes, number and time, and for all visitors together."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import Clock

from dashboard import answers
from dashboard.answers import KEPT_SECONDS, VISITOR_BYTES, Answers, TooLarge

# Pages Drift: each time window is another answer of some 20,000 rows.
BROWSING = """
import numpy as np, pandas as pd, resource, sys
from pathlib import Path
from dashboard.session import ANSWERS, Session
from dashboard.settings import Settings

def rss():
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()

def load():
    return pd.DataFrame(np.random.default_rng().random((20_000, 10)))

settings = Settings("http://a", "http://b", "key")

def browse(visitors, pages):
    for _ in range(visitors):
        visit = Session("x", settings, None, ())
        for page in range(pages):
            visit.begin()
            visit.read("log", page, load, seconds=60)

browse(1, 60)
one = rss()
browse(1, 300)
more_pages = rss()
browse(6, 30)
many_visitors = rss()
kept = ANSWERS.bytes
browse(12, 30)
print(one, more_pages, many_visitors, rss(), kept, ANSWERS.bytes)
"""


@pytest.fixture
def store(clock: Clock) -> Answers:
    return Answers(clock)


def test_memory_does_not_grow_with_pages_or_visitors() -> None:
    result = subprocess.run(
        [sys.executable, "-c", BROWSING], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    one, more_pages, six, eighteen, kept, kept_later = map(int, result.stdout.split())
    # Without a limit, five times the pages would need five times the memory.
    assert more_pages < 1.5 * one, "memory grows with the pages that one visitor opens"
    assert eighteen < 1.3 * six, "memory grows with the number of visitors"
    assert kept <= answers.TOTAL_BYTES and kept_later <= answers.TOTAL_BYTES


def test_a_visitor_cannot_use_more_than_one_share(store: Answers) -> None:
    for i in range(10):
        store.put("alice", ("s", i), b"x" * (VISITOR_BYTES // 4))
    assert len(store) == 3 and store.bytes <= VISITOR_BYTES
    store.put("bob", ("s", 0), b"x" * (VISITOR_BYTES // 2))
    assert store.get("alice", ("s", 9)) and store.get("bob", ("s", 0))


def test_the_least_recently_used_answer_is_dropped_first(store: Answers) -> None:
    third = b"x" * (VISITOR_BYTES // 3 - 1000)
    for i in range(3):
        store.put("alice", ("s", i), third)
    assert store.get("alice", ("s", 0))
    store.put("alice", ("s", 3), third)
    assert store.get("alice", ("s", 0)) and store.get("alice", ("s", 1)) is None


def test_an_answer_larger_than_a_share_is_kept_alone(store: Answers) -> None:
    store.put("alice", ("s", 0), 1)
    store.put("alice", ("s", 1), b"x" * (VISITOR_BYTES + 1))
    assert store.get("alice", ("s", 1)) and store.get("alice", ("s", 0)) is None
    store.put("alice", ("s", 2), 2)
    assert len(store) == 1 and store.get("alice", ("s", 2))


def test_an_answer_larger_than_the_store_is_refused(
    store: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "TOTAL_BYTES", 1000)
    with pytest.raises(TooLarge):
        store.put("alice", ("s", 0), b"x" * 1001)


def test_the_number_of_answers_is_limited(store: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_ANSWERS", 50)
    for i in range(200):
        store.put(f"visitor-{i % 7}", ("s", i), i)
    assert len(store) == 50 and store.get("visitor-3", ("s", 199)).value == 199


def test_an_old_answer_is_dropped(store: Answers, clock: Clock) -> None:
    store.put("alice", ("s", 0), 1)
    clock.now += KEPT_SECONDS + 1
    assert store.get("alice", ("s", 0)) is None and len(store) == 0 and store.bytes == 0


def test_dropping_a_visitor_s_answers_keeps_those_of_others(store: Answers) -> None:
    store.put("alice", ("s", 0), 1)
    store.put("bob", ("s", 0), 2)
    store.forget("alice")
    assert store.get("alice", ("s", 0)) is None and store.get("bob", ("s", 0)).value == 2


def test_a_page_cannot_change_a_kept_answer(store: Answers) -> None:
    store.put("alice", ("s", 0), [1])
    store.get("alice", ("s", 0)).value.append(2)
    assert store.get("alice", ("s", 0)).value == [1]
