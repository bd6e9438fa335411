"""The rules of `lastro_promotion`: which version a rollback returns to."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import lastro_promotion as promotion
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lastro_promotion import Report, aliases, moves, record, report, rollback_target

ALIAS = "champion"
TAG = "lastro.history.champion"
BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


class World:
    """A registered model, the hosts that follow its champion, and what a rollback may return to.

    The rule is kept here the naive way: by everything that ever happened.
    """

    def __init__(self, hosts: int = 2) -> None:
        self.seconds = 0
        self.tags: dict[str, str] = {}
        self.versions = {str(number) for number in range(1, 7)}
        self.current: str | None = None
        # One entry per version and host: the last time that it served or failed there.
        self.words: list[dict[str, tuple[str, datetime]]] = [{} for _ in range(hosts)]
        self.left: set[str] = set()

    @property
    def now(self) -> datetime:
        self.seconds += 1
        return BEGAN + timedelta(seconds=self.seconds)

    @property
    def reports(self) -> list[Report]:
        return [
            Report(
                f"host-{number}",
                {v: at for v, (outcome, at) in words.items() if outcome == "served"},
                {v: at for v, (outcome, at) in words.items() if outcome == "failed"},
            )
            for number, words in enumerate(self.words)
        ]

    def promote(self, version: str, by: str = "ana", seen: dict[str, str] | None = None) -> None:
        if version in self.versions and version != self.current:
            before, self.current = self.current, version
            self._record(version, before, by, False, seen)
            self.left.discard(version)

    def promote_two_at_once(self, first: str, second: str) -> None:
        """Both read the model before either moves the alias."""
        if {first, second} <= self.versions - {self.current}:
            seen, before = dict(self.tags), self.current
            self.promote(first, "ana", seen)
            self.current = second
            self._record(second, before, "bob", False, seen)
            self.left.discard(second)

    def roll_back(self) -> None:
        target = self.target().version
        if target is not None:
            before, self.current = self.current, target
            self._record(target, before, "eva", True, None)
            if before is not None:
                self.left.add(before)

    def move_unrecorded(self, version: str) -> None:
        if version in self.versions:
            self.current = version
            self.left.discard(version)

    def _record(
        self, version: str, before: str | None, by: str, back: bool, seen: dict[str, str] | None
    ) -> None:
        writing = record(
            self.tags if seen is None else seen,
            ALIAS,
            version,
            before=before,
            by=by,
            back=back,
            reports=self.reports,
            now=self.now,
        )
        self.tags[writing.key] = writing.value
        for key in writing.surplus:
            self.tags.pop(key, None)

    def serve(self, host: int) -> None:
        if self.current is not None:
            self.words[host][self.current] = "served", self.now

    def fail(self, host: int) -> None:
        if self.current is not None:
            self.words[host][self.current] = "failed", self.now

    def let_serve(self, version: str, host: int) -> None:
        self.promote(version)
        self.serve(host)

    def let_fail(self, version: str, host: int) -> None:
        self.promote(version)
        self.fail(host)

    def delete(self, version: str) -> None:
        self.versions.discard(version)
        if self.current == version:
            # As MLflow does.
            self.current = None

    def target(self) -> promotion.Target:
        return rollback_target(self.tags, ALIAS, self.current, self.reports, self.versions)

    def allowed(self) -> list[str]:
        """The versions that a rollback may return to, the best last."""
        served: dict[str, datetime] = {}
        failed: set[str] = set()
        for words in self.words:
            for version, (outcome, at) in words.items():
                if outcome == "failed":
                    failed.add(version)
                else:
                    served[version] = max(at, served.get(version, at))
        fit = served.keys() & self.versions - failed - self.left - {self.current}
        return sorted(fit, key=served.__getitem__)


version = st.integers(1, 6).map(str)
host = st.integers(0, 1)
# Mostly steps that belong together: unrelated ones rarely leave two versions to choose from.
steps = st.one_of(
    *[st.tuples(st.just("let_serve"), version, host)] * 3,
    st.tuples(st.just("let_fail"), version, host),
    st.tuples(st.just("promote"), version),
    st.tuples(st.just("promote_two_at_once"), version, version),
    st.tuples(st.just("serve"), host),
    st.tuples(st.just("fail"), host),
    *[st.tuples(st.just("roll_back"))] * 2,
    st.tuples(st.just("delete"), version),
)
Steps = list[tuple[Any, ...]]


def play(steps: Iterable[tuple[Any, ...]]) -> World:
    world = World()
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    return world


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(steps, min_size=5, max_size=18))
# After three promotions of versions that never served, the one that serves; then nothing.
@example(
    [("promote", "1"), ("serve", 0), ("promote", "2"), ("promote", "3"), ("promote", "4")]
    + [("roll_back",)] * 2
)
def test_a_rollback_returns_to_the_last_that_served_and_may_serve(steps: Steps) -> None:
    world = play(steps)
    for _ in range(7):
        allowed = world.allowed()
        target = world.target()
        assert target.version == (allowed[-1] if allowed else None), target.reason
        if not allowed:
            break
        world.roll_back()
    else:
        pytest.fail("rollbacks go round in a circle")


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(steps | st.tuples(st.just("move_unrecorded"), version), min_size=8, max_size=30))
# The entry of the rollback is forgotten.
@example(
    [
        ("promote", "1"),
        ("promote", "2"),
        ("serve", 0),
        ("promote", "1"),
        ("serve", 0),
        ("promote", "2"),
        ("serve", 0),
        ("roll_back",),
        ("promote", "3"),
        ("promote", "4"),
        ("promote", "5"),
        ("delete", "1"),
    ]
)
def test_a_short_memory_never_leads_to_a_version_that_may_not_serve(steps: Steps) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion, "KEPT", 3)
        world = play(steps)
        assert len(world.tags) <= 3 + 1  # two at once each leave room for their own entry only
        target = world.target().version
        assert target is None or target in world.allowed()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(steps, min_size=3, max_size=10))
def test_the_record_tells_every_promotion_once_and_nothing_else(steps: Steps) -> None:
    world = World()
    told: list[tuple[str, str]] = []
    for name, *arguments in steps:
        before = len(world.tags)
        getattr(world, name)(*arguments)
        if len(world.tags) > before:
            told += {
                "promote_two_at_once": [*zip(arguments, ("ana", "bob"), strict=False)],
                "roll_back": [(world.current, "eva")],
            }.get(name, [(arguments[0], "ana")] if arguments else [])
    assert [(move.version, move.by) for move in moves(world.tags, ALIAS)] == told


def test_a_second_rollback_goes_one_further_back() -> None:
    world = World()
    for number in "123":
        world.promote(number)
        world.serve(0)
    for expected in ("2", "1"):
        world.roll_back()
        world.serve(0)
        assert world.current == expected
    reason = world.target().reason
    assert "there is no version to roll back to: champion points to version 1 now" in reason
    assert "version 2 was rolled back from" in reason and "version 3 was rolled back" in reason
    # Promoted again, it may serve, and a later rollback returns to it.
    world.promote("3")
    world.serve(0)
    world.promote("4")
    world.serve(0)
    assert world.target().version == "3"


def test_hosts_that_disagree_bar_a_version_that_failed_on_one_of_them() -> None:
    world = World()
    for number in "12":
        world.promote(number)
        world.serve(0)
        world.serve(1)
    world.promote("3")
    world.serve(0)
    world.fail(1)
    world.promote("4")
    assert world.target().version == "2"
    # Its failure is over: the last attempt counts.
    world.promote("3")
    world.serve(1)
    world.promote("4")
    assert world.target().version == "3"


def test_the_record_keeps_the_reports_of_replaced_hosts() -> None:
    world = World(hosts=1)
    for number in "123":
        world.promote(number)
        world.serve(0)
    world.promote("4")
    world.fail(0)
    world.promote("5")
    world.words = [{}]
    world.serve(0)
    assert world.target().version == "3"
    world.roll_back()
    assert world.target().version == "2"


def test_the_record_keeps_the_failures_of_replaced_hosts() -> None:
    world = World()
    world.promote("1")
    world.serve(0)
    world.promote("2")
    world.serve(1)
    world.fail(0)
    world.promote("3")
    world.words[0] = {}
    assert world.target().version == "1"
    world.promote("2")
    world.serve(0)
    world.promote("3")
    assert world.target().version == "2"


def test_hosts_with_different_clocks_do_not_hide_a_failure() -> None:
    """One host served a version before it failed on the other, by a clock that is ahead."""
    world = World()
    world.promote("1")
    world.serve(1)
    world.promote("2")
    world.words[1]["2"] = "served", world.now + timedelta(minutes=1, microseconds=1)
    world.fail(0)
    world.promote("3")
    world.words[0] = {}
    assert world.target().version == "1"
    # The host that served it is replaced as well.
    world.promote("4")
    world.words[1] = {}
    assert world.target().version == "1"
    # A later report of it.
    world.words[1]["2"] = "served", world.now + timedelta(minutes=2)
    assert world.target().version == "2"


def test_an_unrecorded_move_shows_and_may_be_the_target() -> None:
    world = World(hosts=1)
    for number in "123":
        world.promote(number)
        world.serve(0)
    world.roll_back()
    world.serve(0)
    world.move_unrecorded("3")
    world.serve(0)
    world.promote("4")
    told = [(move.version, move.by) for move in moves(world.tags, ALIAS)]
    assert told[-3:] == [("2", "eva"), ("3", "unknown"), ("4", "ana")]
    assert world.target().version == "3"


def test_two_first_promotions_at_once_find_one_unrecorded_move() -> None:
    world = World()
    world.move_unrecorded("1")
    world.promote_two_at_once("2", "3")
    told = [(move.version, move.by) for move in moves(world.tags, ALIAS)]
    assert told == [("1", "unknown"), ("2", "ana"), ("3", "bob")]


def legacy(*versions: str, seconds: int = 60) -> dict[str, str]:
    """The tag of the previous release, with that many seconds between two entries."""
    entries = [
        {
            "version": v,
            "by": "ana",
            "at": f"{BEGAN + timedelta(seconds=i * seconds):%Y-%m-%dT%H:%M:%SZ}",
        }
        for i, v in enumerate(versions)
    ]
    return {TAG: json.dumps(entries)}


@pytest.mark.parametrize("seconds", [0, 60])
@pytest.mark.parametrize(
    ("versions", "target"),
    [("123", "2"), ("1232", "1"), ("123212", None), ("12324", "2"), ("1", None), ("", None)],
)
def test_a_record_of_the_previous_release_is_read(
    versions: str, target: str | None, seconds: int
) -> None:
    tags = legacy(*versions, seconds=seconds)
    assert [move.version for move in moves(tags, ALIAS)] == list(versions)
    current = versions[-1] if versions else None
    assert rollback_target(tags, ALIAS, current, [], set("12345")).version == target


def test_a_version_of_the_previous_release_that_never_served_is_no_target() -> None:
    entry = {
        "version": "1",
        "since": (BEGAN + timedelta(seconds=5)).isoformat(),
        "wanted_version": "4",
        "moved_at": BEGAN.isoformat(),
        "previous_version": None,
        "failure": None,
    }
    listing = {"models": [{"name": "wine", "aliases": {ALIAS: entry}}]}
    known = report("api-1", listing, "wine", ALIAS)
    assert known is not None
    tags = legacy("1", "2", "3", "4")
    assert rollback_target(tags, ALIAS, "4", [known], set("1234")).version == "1"
    assert rollback_target(tags, ALIAS, "1", [known], set("1234")).version is None


def test_a_record_of_the_previous_release_continues_in_the_new_form() -> None:
    world = World(hosts=1)
    world.tags, world.current, world.seconds = legacy("1", "2"), "2", 3600
    world.serve(0)
    world.promote("3")
    world.serve(0)
    told = [(move.version, move.by) for move in moves(world.tags, ALIAS)]
    assert told == [("1", "ana"), ("2", "ana"), ("3", "ana")]
    assert world.target().version == "2"
    # The old tag goes once newer moves have replaced all of its own.
    for i in range(promotion.KEPT - 1):
        assert TAG in world.tags
        world.promote("45"[i % 2])
    assert TAG not in world.tags
    assert len(world.tags) == len(moves(world.tags, ALIAS)) == promotion.KEPT


def entry(**changes: Any) -> str:
    """A readable entry with these changes."""
    return json.dumps({"version": "1", "by": "ana", "at": BEGAN.isoformat()} | changes)


@pytest.mark.parametrize(
    "text",
    [
        "no list",
        '{"a": 1}',
        '[1, {"version": "2"}, {"at": "x"}]',
        "[[]]",
        "null",
        "",
        "[" * 100_000,
        entry(at="0001-01-01T00:00:00+14:00"),
        entry(at="9999-12-31T23:59:59.999999Z"),
        entry(served={"1": "0001-01-01T00:00:00+14:00"}),
        f"[{entry(at='9999-12-31T23:59:59-10:00')}]",
    ],
    ids=lambda text: text[:60],
)
def test_invalid_records_are_ignored(text: str) -> None:
    tags = {TAG: text, f"{TAG}/x": text, "lastro.history.other": "[]", "team": "a"}
    assert moves(tags, ALIAS) == []
    assert aliases(tags) == ["champion", "other"]
    written = record(tags, ALIAS, "2", before="1", by="ana")
    tags[written.key] = written.value
    told = [(move.version, move.by) for move in moves(tags, ALIAS)]
    assert told == [("1", "unknown"), ("2", "ana")]


@pytest.mark.parametrize("after", [[], {}, 5, "unknown"])
def test_an_entry_that_names_no_entry_before_it_is_read(after: Any) -> None:
    tags = {f"{TAG}/x": entry(before="7", after=after)}
    assert [move.version for move in moves(tags, ALIAS)] == ["1"]
    assert record(tags, ALIAS, "2", before="1", by="ana").key.startswith(TAG)


@pytest.mark.parametrize(
    "listing",
    [None, {}, {"models": []}, {"models": [{"name": "wine", "aliases": {}}]}, {"models": [{}]}, []],
)
def test_an_answer_without_the_alias_is_no_report(listing: Any) -> None:
    assert report("api-1", listing, "wine", ALIAS) is None


def test_a_version_that_a_worker_cannot_open_has_failed() -> None:
    at = BEGAN.isoformat()
    entry = {
        "version": None,
        "since": None,
        "wanted_version": "2",
        "moved_at": at,
        "previous_version": "1",
        "failure": {"version": "2", "reason": "no memory", "attempts": 1, "at": at},
        "history": [
            {"version": v, "at": at, "outcome": "served", "reason": None} for v in ("1", "2")
        ],
    }
    known = report("api-1", {"models": [{"name": "w", "aliases": {ALIAS: entry}}]}, "w", ALIAS)
    assert known is not None and set(known.served) == {"1"} and set(known.failed) == {"2"}
    target = rollback_target({}, ALIAS, "3", [known], {"2", "3"})
    assert "version 2 failed on api-1 (no memory)" in target.reason
    assert "version 1 was deleted" in target.reason


def test_a_clock_that_is_behind_does_not_change_the_order() -> None:
    tags: dict[str, str] = {}
    for before, version, hour in ((None, "1", 12), ("1", "2", 3)):
        now = datetime(2026, 11, 1, hour, tzinfo=UTC)
        written = record(tags, ALIAS, version, before=before, by="ana", now=now)
        tags[written.key] = written.value
    assert [move.version for move in moves(tags, ALIAS)] == ["1", "2"]
