"""Clocks that are apart are told, and one that is set makes no host late and retires none."""

import time
from contextlib import ExitStack, closing

import pytest
from msgspec.structs import replace

from helpers.databases import KINDS, database
from helpers.keeping import NOW, Meta, restarted, settle
from meta.access.tokens import Tokens
from meta.hosts.table import HostTable
from meta.queries import counting, host_pages
from meta.records.history import Edit
from meta.records.model import Record, Release
from meta.store import Store
from meta.sync.backlog import Backlog
from meta.sync.clocks import Clocks, Reading, read, was_set_by
from meta.sync.follower import Follower
from updater.wire.heartbeat import RealAgent

AGES = host_pages.Ages(new_for=0.0)
A1, A2 = RealAgent("a", "1", "started", 7), RealAgent("a", "2", "started", 8)
HOUR, DAY = 3600.0, 86400.0


@pytest.mark.parametrize(
    ("before", "after", "by"),
    [
        (Reading(100, 5), Reading(101, 6), 0),
        (Reading(100, 5), Reading(102.9, 6), 0),  # slewed, or slow
        (Reading(100, 5), Reading(3701, 6), 3600),
        (Reading(3701, 6), Reading(102, 7), -3600),
        (None, Reading(102, 7), 0),
        (Reading(100, 5), None, 0),
    ],
)
def test_a_clock_that_leaves_the_monotonic_one_was_set(before, after, by):
    assert was_set_by(before, after) == by


def test_two_clocks_that_cannot_be_read_together_tell_nothing():
    moments = iter([10.0, 10.1, 20.0, 21.0])
    assert read(lambda: 100.0, lambda: next(moments)) == Reading(100.0, 10.0)
    assert read(lambda: 100.0, lambda: next(moments)) is None


@pytest.mark.parametrize(
    ("before", "theirs", "after", "warnings"),
    [
        (100, None, 100, []),
        (100, 104, 100, []),
        (100, 107, 100, ["this machine's clock is 7 s behind the database's"]),
        (100, 93, 100, ["this machine's clock is 7 s ahead of the database's"]),
        (100, 97, 110, []),  # 8 s, but it may have been asked at any time of these 10
    ],
)
def test_a_clock_that_is_not_the_databases_is_told(before, theirs, after, warnings):
    clocks = Clocks()
    clocks.asked(before, theirs, after)
    assert clocks.warnings(after) == warnings


def test_times_are_moved_by_whole_seconds_and_only_where_the_clocks_are_surely_apart():
    clocks, found = Clocks(), []
    for before, theirs, after in (
        (100, 96, 100),
        (100, 92.4, 100),
        (100, 91.8, 100),
        (100, 107, 120),
        (100, 100.3, 100),
    ):
        clocks.asked(before, theirs, after)
        found.append(clocks.ahead)
    assert found == [0, 8, 8, 8, 0]
    clocks.was_set(-7200)
    assert clocks.ahead == -7200
    clocks.asked(100, None, 100)
    assert clocks.ahead == 0


def test_another_metas_clock_that_is_ahead_is_told_while_it_writes_and_no_third_one_hides_it():
    clocks = Clocks()
    clocks.wrote({"m": 104}, 100)
    assert clocks.warnings(100) == []
    clocks.wrote({"m": 108, "n": 99}, 101)
    clocks.wrote({"n": 101}, 102)
    assert clocks.warnings(102) == ["another meta's clock is 7 s ahead of this machine's"]
    clocks.wrote({"n": 163}, 163)
    assert clocks.warnings(163) == []


def test_another_metas_clock_is_told_as_that_meta_says_it_ahead_or_behind_and_however_late_that_is_read():
    clocks = Clocks()
    clocks.wrote({"n": 99}, 100, {"m": 20})
    assert clocks.warnings(101) == ["another meta's clock is 20 s ahead of this machine's"]
    clocks.wrote({}, 130, {"m": -7200})
    assert clocks.warnings(131) == ["another meta's clock is 7200 s behind this machine's"]
    clocks.wrote({"m": 131}, 132)
    assert (clocks.warnings(132), clocks.metas(132)) == ([], 0.0)


def test_a_meta_whose_own_clock_is_wrong_finds_those_of_others_apart_from_it_but_not_one_as_wrong():
    clocks = Clocks()
    clocks.asked(100, 80, 100)
    clocks.wrote({}, 100, {"m": 20})
    assert clocks.warnings(100) == ["this machine's clock is 20 s ahead of the database's"]
    clocks.wrote({"m": 99}, 101)
    assert clocks.warnings(101)[1:] == ["another meta's clock is 20 s behind this machine's"]


def test_a_meta_whose_clock_was_set_right_is_not_told_any_more():
    clocks = Clocks()
    clocks.wrote({"m": 108}, 101)
    clocks.wrote({"m": 103}, 103)
    assert clocks.warnings(103) == []


class SlowHead:
    """A store whose head takes 20 seconds of the clock `moments`, in which another meta writes."""

    def __init__(self, store, moments, write):
        self._store, self._moments, self._write = store, moments, write

    def head(self):
        self._moments.append(self._moments[-1] + 20.0)
        self._write()
        return self._store.head()

    def __getattr__(self, name):
        return getattr(self._store, name)


def test_a_slow_round_is_not_taken_for_another_metas_clock(meta):
    def write():
        meta.beat("alive", A1, now=NOW + 19)
        meta.keeper.step(NOW + 19)

    moments = [5.0]
    store = SlowHead(meta.store, moments, write)
    table = HostTable()
    follower = Follower(table, store, Tokens(), table.activate, Backlog(), "other", lambda: moments[-1])
    follower.follow(NOW, NOW)
    assert follower.troubles == {}
    assert "alive" in table.names()
    assert follower.clocks.metas(NOW + 20) == 0.0


@pytest.fixture
def meta(tmp_path):
    with database("sqlite", tmp_path) as url:
        with closing(Store(url)) as store:
            store.upgrade()
        with closing(Meta(url, retire_after=30 * DAY, forget_after=90 * DAY)) as meta:
            for name in ("alive", "dead", "retired"):
                meta.beat(name, A1)
            meta.table.retire("retired", NOW + 1)
            meta.keeper.step(NOW + 1)
            yield meta


def started(metas, url, now):
    """A meta on this database, whose clock says so."""
    with closing(Store(url)) as store:
        store.upgrade()
    return metas.enter_context(closing(Meta(url, now)))


def states(meta, now):
    counted = counting.states(meta.table, now, AGES)
    assert sum(counted.values()) == len(meta.hosts())
    judged = {name: host_pages.judge(meta.table.get(name), now, AGES) for name in meta.hosts()}
    return {name: "ok" if state == "new" else state for name, state in judged.items()}  # by a clock that was set back


def beats_until(meta, now, end, is_late=False):
    """The living one's, each minute; returns when the dead one was late, or goes on where it is."""
    while now < end:
        meta.beat("alive", A1, now=now)
        meta.keeper.step(now)
        now += 60
        if not is_late and states(meta, now)["dead"] == "late":
            return now
    return None


@pytest.mark.parametrize("by", [2 * HOUR, 400 * DAY, -2 * HOUR])
def test_a_clock_that_is_set_makes_no_host_late_retires_and_forgets_none_and_hides_no_silence(meta, by):
    meta.keeper.step(NOW + 600)
    meta.beat("alive", A1, now=NOW + 600)
    since = NOW + 601 + by
    meta.keeper.clock_was_set(by, since)
    meta.keeper.step(since)
    assert states(meta, since + 1) == {"alive": "ok", "dead": "ok", "retired": "retired"}
    late = beats_until(meta, since, since + 1200)
    assert since + 240 < late < since + 420  # 15 minutes after its last beat
    assert states(meta, late)["alive"] == "ok"
    beats_until(meta, late, since + 1800, is_late=True)  # by which it would retire and forget
    assert states(meta, since + 1800) == {"alive": "ok", "dead": "late", "retired": "retired"}


def test_after_a_clock_was_set_forward_a_restart_finds_who_was_silent_for_how_long(meta):
    now = NOW + 600 + 400 * DAY
    meta.keeper.clock_was_set(400 * DAY, now)
    meta.keeper.step(now)
    with closing(Meta(meta.url, now + 1, retire_after=30 * DAY, forget_after=90 * DAY)) as again:
        again.keeper.step(now + 1800)
        assert states(again, now + 1800) == {"alive": "late", "dead": "late", "retired": "retired"}
        assert again.last_seen() == meta.last_seen()


def excuse(meta, now):
    moment = meta.table.moment(now)
    return moment.excused, moment.patience


@pytest.mark.parametrize("by", [2 * HOUR, -2 * HOUR])
def test_all_that_happened_before_a_clock_was_set_is_as_long_ago_as_it_was(meta, by):
    def ages(now):
        hosts = {name: meta.table.get(name) for name in meta.table.names()}
        times = {name: (h.first_seen, h.last_seen, h.retired_at or now, h.since) for name, h in hosts.items()}
        del times["dead"]
        return {name: tuple(now - at for at in its) for name, its in times.items()}

    for at, machine in ((10, "1"), (11, "2"), (12, "1"), (13, "2")):
        meta.beat("alive", A1, now=NOW + at, machine=machine * 64)
    meta.beat("dead", RealAgent("b", "1", "started", 7), A1, now=NOW + 20)
    meta.table.unretire("dead", NOW + 21)
    meta.keeper.step(NOW + 100)
    dead = meta.table.get("dead")
    before = dead.since = (NOW + 20.0, NOW)
    states_before = counting.states(meta.table, NOW + 100, host_pages.Ages())
    excuse_before = excuse(meta, NOW + 100)
    since = NOW + 100 + by
    ages_before = ages(NOW + 100)
    meta.keeper.clock_was_set(by, since)
    assert ages(since) == ages_before
    assert dead.since == tuple(at + by for at in before)
    assert {name: meta.table.saved(name).unretired_at for name in meta.hosts()} == dict.fromkeys(meta.hosts(), 0.0) | {
        "dead": NOW + 21 + by
    }
    assert counting.states(meta.table, since, host_pages.Ages()) == states_before
    last, patience = excuse(meta, since)
    assert (last - by, patience) == excuse_before
    assert meta.table.doubled(since) == [meta.table.get("alive")]
    assert meta.table.doubled(since + 2912) == [meta.table.get("alive")]
    assert meta.table.doubled(since + 2914) == []


def test_while_clocks_are_apart_no_host_is_retired_or_forgotten(meta):
    now = NOW + 100 * DAY
    meta.keeper.clocks.wrote({"other": now + 6}, now)
    meta.keeper.step(now)
    assert states(meta, now) == {"alive": "lost", "dead": "lost", "retired": "retired"}
    assert meta.keeper.warnings(now) == [
        "another meta's clock is 6 s ahead of this machine's",
        "no host is retired or forgotten until the clocks agree",
    ]
    meta.keeper.step(now + 70)
    assert meta.keeper.warnings(now + 70) == []
    assert states(meta, now + 70) == {"alive": "retired", "dead": "retired"}


def test_a_silence_of_all_hosts_before_meta_started_is_not_theirs(meta):
    """It was away, or its clock is ahead now."""
    start = NOW + 100 * DAY
    with closing(Meta(meta.url, start, retire_after=30 * DAY, forget_after=90 * DAY)) as again:
        again.beat("alive", A1, now=start + 60)
        for now in (start + 61, start + 1000, start + 29 * DAY):
            again.keeper.step(now)
            assert states(again, now)["dead"] == "lost"
            assert states(again, now)["retired"] == "retired"
        (warning,) = again.keeper.warnings(now)
        assert "no host was heard of for 100 days before meta started" in warning
        again.keeper.step(start + 31 * DAY)
        assert states(again, start + 31 * DAY)["dead"] == "retired"


def test_a_clock_that_is_set_forward_and_back_leaves_all_as_it_was(meta):
    meta.keeper.step(NOW + 100)
    before = meta.last_seen()
    meta.keeper.clock_was_set(40 * DAY, NOW + 100 + 40 * DAY)
    meta.keeper.step(NOW + 101 + 40 * DAY)
    meta.keeper.clock_was_set(-40 * DAY, NOW + 102)
    meta.keeper.step(NOW + 103)
    assert meta.last_seen() == before
    assert states(meta, NOW + 103) == {"alive": "ok", "dead": "ok", "retired": "retired"}


def served(meta, name):
    """The version that the host runs, as this meta knows it."""
    return meta.table.get(name).group.agent_set.agents[0][1]


def test_after_a_clock_was_set_back_a_restart_finds_what_hosts_said_since_and_who_was_silent(tmp_path):
    """By the real clock, which the file has: it was two hours ahead of it at first. A server has a clock of its own."""
    now = time.time()
    ahead = now + 2 * HOUR
    with database("sqlite", tmp_path) as url, ExitStack() as metas:
        meta = started(metas, url, ahead - 100)
        for name in ("alive", "dead"):
            meta.beat(name, A1, now=ahead - 90)
            meta.keeper.step(ahead - 89)
            meta.beat(name, A1, now=ahead - 80)
        meta.keeper.step(ahead - 79)
        meta.beat("alive", A1, now=ahead)
        meta.keeper.step(ahead + 0.5)
        meta.keeper.clock_was_set(-2 * HOUR, now + 1)
        meta.keeper.step(now + 1)
        meta.beat("alive", A2, now=now + 2)
        meta.keeper.step(now + 3)
        again = started(metas, url, now + 4)
        assert served(again, "alive") == "2"
        assert again.last_seen() == meta.last_seen() == {"alive": now + 2, "dead": pytest.approx(now - 80, abs=1)}
        again.beat("alive", A1, now=now + 2000)
        again.keeper.step(now + 2001)
        assert host_pages.judge(again.table.get("dead"), now + 2001, AGES) == "late"


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_meta_wrote_ahead_of_its_time_is_believed_once_by_who_starts_with_the_clock_set_right(tmp_path, kind):
    now = time.time()
    with database(kind, tmp_path) as url, ExitStack() as metas:
        ahead = started(metas, url, now + 2 * HOUR)
        ahead.beat("h1", A1, now=now + 2 * HOUR)
        ahead.keeper.step(now + 2 * HOUR)
        ahead.beat("h1", A1, now=now + 2 * HOUR + 1)
        ahead.keeper.step(now + 2 * HOUR + 1)
        first = started(metas, url, now)
        assert first.last_seen() == {"h1": now}
        h1 = first.table.get("h1")
        assert (h1.first_seen, h1.since) == (now, now)
        first.keeper.step(now)
        assert started(metas, url, now + 600).last_seen() == {"h1": now}


def test_two_metas_of_which_one_was_ahead_come_to_what_hosts_said_last(tmp_path):
    now = time.time()
    with database("sqlite", tmp_path) as url, ExitStack() as metas:
        one, other = started(metas, url, now + 2 * HOUR), started(metas, url, now)
        one.beat("h1", A1, now=now + 2 * HOUR)
        one.keeper.step(now + 2 * HOUR)
        one.keeper.clock_was_set(-2 * HOUR, now + 1)
        for at, teller, version in ((now + 2, other, A2), (now + 4, one, A1), (now + 6, other, A2)):
            for meta in (one, other):
                meta.keeper.step(at)
            teller.beat("h1", version, now=at + 0.5)
            settle(one, other, now=at + 1)
            assert [served(meta, "h1") for meta in (one, other)] == [version.version] * 2
            assert one.hosts() == other.hosts() == restarted(url, at + 1.8)


def test_what_waits_for_the_database_is_moved_along_with_the_clock():
    backlog = Backlog()
    for at, seen in ((100.0, [1]), (200.0, [2])):
        backlog.add(at, seen)
    backlog.move_along(-50.0, 120.0)
    assert [(beat.at, list(beat.seen)) for beat in backlog.first(9)] == [(50.0, [1]), (120.0, [2])]


def test_a_host_that_was_heard_of_before_the_set_clock_was_noticed_counts_as_heard_of_now(meta):
    for by in (2 * HOUR, -4 * HOUR):
        now = max(meta.last_seen().values()) + by + 100
        meta.beat("alive", A1, now=now - 0.5)
        meta.keeper.clock_was_set(by, now)
        assert now - 1 < meta.last_seen()["alive"] <= now
        meta.keeper.step(now)


def test_history_is_in_the_order_of_revisions_whatever_their_clocks_said(meta):
    for at, version in ((NOW, "1"), (NOW - 2 * HOUR, "2")):
        records = (Record("a", Release(version), "http://r"),)
        meta.editor.apply(Edit(at, "ann", "", "set"), lambda before, records=records: replace(before, records=records))
    assert [one.number for one in meta.store.revisions()] == [2, 1]
