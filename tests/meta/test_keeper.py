"""Memory and database, kept together: nothing is lost, whatever fails, and two metas on one database come to the same."""

import shutil
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.databases import KINDS, database, execute
from helpers.meta_server import until
from meta import query
from meta.auth import Tokens, mint
from meta.errors import TryLater
from meta.hostrows import row_of
from meta.hosts import HostTable
from meta.keeper import Backlog, Keeper, Lifetimes
from meta.records import Record, RecordSet
from meta.revisions import Edit
from meta.store import Store, Token
from meta.tidy import retire_silent
from updater.wire import Outcome, RealAgent, Report

A1, A2 = RealAgent("a", "1", "started", 7), RealAgent("a", "2", "started", 8)
NOW = 1_000_000.0
AGES = query.Ages()


class Sometimes:
    """A store whose database is away when somebody says so."""

    def __init__(self, store):
        self._store = store
        self.is_away = False

    def __getattr__(self, name):
        if self.is_away:
            raise TryLater("the database is away")
        return getattr(self._store, name)


class Meta:
    """The part of a meta that this is about, without its thread."""

    def __init__(self, url, now=NOW, **lifetimes):
        self.store = Store(url)
        self.database = Sometimes(self.store)
        times = Lifetimes(**lifetimes)
        self.table = HostTable(late_after=times.late_after)
        self.tokens = Tokens()
        self.keeper = Keeper(self.table, self.database, self.tokens, self.table.put_in_force, times)
        self.keeper.load(now)

    def beat(self, name, *agents, now=NOW, **more):
        self.table.beat(Report(name, list(agents), **more), "10.0.0.1", now)

    def hosts(self):
        """What both metas and the database must agree on."""
        with self.table.locked() as hosts:
            rows = [row_of(self.table, host) for host in hosts.values()]
        return {row.hostname: row._replace(first_seen=0.0, last_seen=0.0, since="") for row in rows}

    def last_seen(self):
        with self.table.locked() as hosts:
            return {name: host.last_seen for name, host in hosts.items()}

    def close(self):
        self.keeper.close(10)
        self.store.close()


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    with database(request.param, tmp_path) as url:
        with closing(Store(url)) as store:
            store.upgrade()
        yield url


@pytest.fixture
def metas(url):
    """Makes metas on the same database."""
    with ExitStack() as stack:
        yield lambda **more: stack.enter_context(closing(Meta(url, **more)))


@pytest.fixture(scope="module")
def template():
    with tempfile.TemporaryDirectory() as directory:
        with closing(Store(f"sqlite:///{directory}/meta.db")) as store:
            store.upgrade()
        yield Path(directory) / "meta.db"


@contextmanager
def fresh(template):
    """The URL of a copy of it."""
    with tempfile.TemporaryDirectory() as directory:
        shutil.copy(template, f"{directory}/meta.db")
        yield f"sqlite:///{directory}/meta.db"


def settle(*metas, now=NOW):
    """Rounds in turns until nobody has anything to say; not many, or they would never end."""
    for number in range(8):
        for meta in metas:
            meta.keeper.step(now + number / 10)
            assert meta.keeper.condition(now).trouble == ""
    assert [meta.table.dirty for meta in metas] == [set()] * len(metas)


def restarted(url, now=NOW):
    with closing(Meta(url, now)) as meta:
        return meta.hosts()


# --- one meta ---


def test_what_hosts_said_is_there_after_a_restart(metas, url):
    meta = metas()
    meta.beat("h1", A1, outcomes=[Outcome("a", to="1")])
    meta.beat("h2", A1)
    meta.table.retire("h2", NOW)
    meta.keeper.step(NOW)
    assert (meta.keeper.condition(NOW), restarted(url)) == ((0, 0.0, ""), meta.hosts())


def test_the_thread_writes_within_a_second_or_so_and_the_rest_when_it_stops(metas, url):
    meta = metas(now=time.time())
    meta.keeper.start()
    meta.beat("h1", A1, now=time.time())
    until(lambda: not meta.table.dirty and list(meta.store.load_hosts()), "h1 is written")
    meta.beat("h1", A2, now=time.time())
    meta.beat("h2", A1, now=time.time())
    assert meta.keeper.close(10)
    assert restarted(url) == meta.hosts()


def test_a_keeper_that_never_started_may_be_closed(metas):
    assert metas().keeper.close(1)


def test_of_a_database_that_is_away_the_log_tells_once(metas, caplog):
    meta = metas()
    meta.database.is_away = True
    for number in range(5):
        meta.beat("h", A1, now=NOW + number)
        meta.keeper.step(NOW + number)
    assert meta.keeper.condition(NOW + 4) == (1, 4.0, "the database is away")
    meta.database.is_away = False
    meta.keeper.step(NOW + 5)
    assert meta.keeper.condition(NOW + 5) == (0, 0.0, "")
    assert [record.message for record in caplog.records] == [
        "the database fails, will go on trying: the database is away",
        "the database works again, and holds everything",
    ]


def test_who_closes_while_the_database_is_away_is_told_that_something_is_lost(metas):
    meta = metas()
    meta.database.is_away = True
    meta.beat("h", A1)
    meta.keeper.start()
    assert not meta.keeper.close(10)


def test_a_database_that_is_away_for_an_hour_loses_nothing(metas, url):
    """Neither who changed, nor when anybody was last heard of."""
    meta = metas()
    for number in range(60):
        meta.beat(f"h{number}", A1, now=NOW)
    meta.keeper.step(NOW)
    meta.database.is_away = True
    for second in range(0, 3600, 10):
        for number in range(60):
            if (second // 10 + number) % 30 == 0 and second < 60 * number:
                meta.beat(f"h{number}", A2 if number % 3 else A1, now=NOW + second)
        meta.keeper.step(NOW + second + 5)
    meta.beat("new", A1, now=NOW + 3600)
    meta.database.is_away = False
    meta.keeper.step(NOW + 3605)
    assert meta.keeper.condition(NOW + 3605) == (0, 0.0, "")
    with closing(Meta(url, NOW + 3606)) as after:
        assert after.hosts() == meta.hosts()
        late = {name: after.last_seen()[name] - at for name, at in meta.last_seen().items()}
        assert {name: 0 <= by <= 5 for name, by in late.items()} == dict.fromkeys(late, True)


@given(st.lists(st.lists(st.integers(0, 30), unique=True), max_size=30))
def test_a_backlog_keeps_the_last_time_of_everybody(ticks):
    backlog = Backlog(few=20)
    for at, seen in enumerate(ticks):
        backlog.add(float(at), seen)
    found = {}
    while (first := backlog.first()) is not None:
        found.update(dict.fromkeys(first[1], first[0]))
        backlog.drop_first()
    assert found == {number: float(at) for at, seen in enumerate(ticks) for number in seen}
    assert backlog.waiting == 0


def test_a_backlog_grows_no_longer_than_the_hosts_are_many():
    backlog = Backlog(few=10)
    for at in range(1000):
        backlog.add(float(at), range(1, 51))
        assert backlog.waiting <= 110 + 50


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.sampled_from(["h1", "h2", "h3", "step", "step", "minute", "crash"]), max_size=60))
def test_no_crash_takes_more_than_the_last_round(template, steps):
    """Beats are folded meanwhile, since a host is late after 30 seconds here."""
    with fresh(template) as url, ExitStack() as stack:
        meta, now, safe = stack.enter_context(closing(Meta(url, late_after=30))), NOW, {}
        for step in steps:
            now += 60.0 if step == "minute" else 1.0
            if step.startswith("h"):
                meta.beat(step, A1, now=now)
            elif step != "crash":
                meta.keeper.step(now)
                safe = meta.last_seen()
            else:
                meta.database.is_away = True
                meta = stack.enter_context(closing(Meta(url, now, late_after=30)))
                found = meta.last_seen()
                assert {name: found.get(name, 0) >= at for name, at in safe.items()} == dict.fromkeys(safe, True)


def test_a_host_that_beats_while_its_old_beat_is_folded_keeps_it(metas, url):
    """The new beat is not written yet: if we die now, the old one is all that there is."""
    meta = metas(late_after=30)
    meta.beat("h", A1, now=NOW)
    meta.keeper.step(NOW + 1)
    meta.beat("h", A1, now=NOW + 10)
    meta.keeper.step(NOW + 11)

    class Beating(Sometimes):
        def fold(self, before, last_seen, limit):
            meta.beat("h", A1, now=NOW + 100)
            return self._store.fold(before, last_seen, limit)

    late = Keeper(
        meta.table,
        Beating(meta.store),
        meta.tokens,
        meta.table.put_in_force,
        Lifetimes(late_after=30),
    )
    late.step(time.time() + 100)
    with closing(Store(url)) as store:
        (row,) = store.load_hosts()
    assert row.last_seen == NOW + 11


def test_hosts_that_are_silent_for_too_long_are_retired_and_then_forgotten(metas, url, caplog):
    caplog.set_level("INFO")
    meta = metas(late_after=10, retire_after=100, forget_after=1000)
    meta.beat("h1", A1, now=NOW)
    meta.keeper.step(NOW + 1)
    for after in (50, 100, 115):
        meta.beat("h2", A1, now=NOW + after)
        meta.keeper.step(NOW + after + 1)
    assert query.states(meta.table, NOW + 116, AGES)["retired"] == 1
    assert "retired 1 hosts that were silent for too long: h1" in caplog.text
    meta.beat("h2", A1, now=NOW + 1190)
    meta.keeper.step(NOW + 1200)
    assert list(meta.hosts()) == ["h2"] == list(restarted(url))


def test_a_meta_that_was_down_for_long_does_not_blame_the_hosts(metas):
    first = metas(late_after=10, retire_after=100)
    first.beat("h", A1, now=NOW)
    first.keeper.step(NOW + 1)
    later = NOW + 10_000
    second = metas(now=later, late_after=10, retire_after=100)
    second.keeper.step(later + 10.5 - 1)
    assert second.table.retired == {}
    second.keeper.step(later + 21)
    assert [host.name for host in second.table.retired] == ["h"]


def test_moved_hosts_are_told_together(metas, caplog):
    meta = metas()
    meta.keeper.step(NOW)
    for number in range(20):
        meta.beat(f"h{number:02}", A1)
        meta.table.beat(Report(f"h{number:02}", [A1]), "10.9.9.9", NOW)
    meta.keeper.step(NOW + 20)
    (told,) = [record.message for record in caplog.records if "another address" in record.message]
    assert told.startswith("20 hosts report from another address")
    assert "h00 from 10.9.9.9, before from 10.0.0.1" in told
    assert "h15" not in told


def test_a_database_that_was_restored_is_not_followed_silently(metas, url):
    meta = metas()
    commit(meta, "1")
    commit(meta, "2")
    execute(url, "UPDATE head SET revision = 1")
    meta.keeper.step(NOW)
    assert meta.keeper.condition(NOW).trouble == "the database holds revision 1, and 2 is in force: restart meta"


# --- two metas on one database ---


def commit(meta, version):
    """An edit made at this meta."""
    before = meta.table.classes.records
    after = RecordSet(records=(Record("a", version, "http://r"),))
    meta.store.commit(before, after, Edit(NOW, "ann", "", "set"))
    meta.table.put_in_force(meta.store.load_records())


def test_two_metas_see_each_others_hosts_records_and_tokens_soon(metas):
    one, other = metas(now=time.time()), metas(now=time.time())
    one.keeper.start()
    other.keeper.start()
    one.beat("h", A1, now=time.time())
    until(lambda: other.table.get("h"), "the other one knows h")
    commit(other, "9")
    until(lambda: one.table.classes.records.revision == 1, "the record is in force here too")
    _, hashed = mint("operator")
    token = one.store.add_token(Token(0, "operator", "ann", "editor", hashed, NOW)).token
    until(lambda: other.tokens.all() == [token], "ann is known there")
    other.store.revoke_token(token.id, NOW)
    until(lambda: any(token.revoked for token in one.tokens.all()), "ann is known there no more")
    other.table.retire("h", time.time())
    until(lambda: one.table.retired, "h is retired here too")
    one.beat("h", A2, now=time.time())
    until(lambda: not other.table.retired, "h is back there too")
    until(lambda: one.hosts() == other.hosts(), "both know the same")


def test_tokens_of_hosts_reach_the_other_meta(metas):
    one, other = metas(), metas()
    _, enrolment = mint("enrolment")
    made = one.store.add_token(Token(0, "enrolment", "e", "", enrolment, NOW)).token
    text, hashed = mint("host")
    assert one.store.use_enrolment(made.id, "h", hashed, NOW)
    settle(one, other)
    assert other.tokens.hosts.may_report("h", f"Bearer {text}", False) == ""
    assert one.store.revoke_host_token("h", NOW)
    settle(one, other)
    assert "h" not in other.tokens.hosts


def test_a_host_that_reports_here_is_heard_of_there(metas):
    one, other = metas(late_after=30), metas(late_after=30)
    one.beat("h", A1, now=NOW)
    settle(one, other)
    for second in range(5, 100, 5):
        one.beat("h", A1, now=NOW + second)
        one.keeper.step(NOW + second)
        other.keeper.step(NOW + second)
    assert other.last_seen() == {"h": NOW + 95}
    assert set(other.table.seen.silent) == set()
    other.keeper.step(NOW + 126)
    assert [host.name for host in other.table.seen.silent] == ["h"]


def test_the_later_report_counts_whoever_wrote_last(metas):
    """One is cut off, and comes back with what is old."""
    one, other = metas(), metas()
    one.beat("h", A1, now=NOW, outcomes=[Outcome("x", to="1", at=1)])
    settle(one, other)
    one.database.is_away = True
    one.beat("h", RealAgent("a", "1.5", "started", 5), now=NOW + 10, outcomes=[Outcome("y", to="1", at=2)])
    one.keeper.step(NOW + 11)
    other.beat("h", A2, now=NOW + 20, outcomes=[Outcome("x", to="2", at=3)])
    other.keeper.step(NOW + 21)
    one.database.is_away = False
    settle(one, other, now=NOW + 30)
    assert one.hosts() == other.hosts()
    found = query.find(one.table, "h", NOW + 31, AGES)
    assert [(agent.name, agent.version) for agent in found.agents] == [("a", "2")]
    assert other.table.get("h").outcomes == {"x": Outcome("x", to="2", at=3), "y": Outcome("y", to="1", at=2)}


def test_a_retirement_and_a_later_beat_elsewhere_end_with_the_beat(metas):
    one, other = metas(), metas()
    one.beat("h", A1, now=NOW)
    settle(one, other)
    other.table.retire("h", NOW + 5)
    one.beat("h", A1, now=NOW + 6)
    settle(one, other, now=NOW + 7)
    assert (one.table.retired, other.table.retired) == ({}, {})
    one.table.retire("h", NOW + 10)
    settle(one, other, now=NOW + 11)
    assert [host.name for host in other.table.retired] == ["h"]
    other.table.unretire("h", NOW + 20)
    settle(one, other, now=NOW + 21)
    assert one.table.retired == {}
    assert retire_silent(one.table, NOW + 15, NOW + 30) == []


def test_two_that_retire_the_same_silent_host_do_not_quarrel(metas):
    one, other = metas(), metas()
    one.beat("h", A1, now=NOW)
    settle(one, other)
    one.table.retire("h", NOW + 5)
    other.table.retire("h", NOW + 6)
    settle(one, other, now=NOW + 7)
    assert one.hosts() == other.hosts()
    assert one.hosts()["h"].retired_at == NOW + 6


def test_a_host_that_comes_back_here_while_it_is_forgotten_there_stays(metas, url):
    one, other = metas(), metas(late_after=10, retire_after=20, forget_after=100)
    one.beat("h", A1, now=NOW)
    settle(one, other)
    one.table.retire("h", NOW + 1)
    settle(one, other, now=NOW + 2)
    one.beat("h", A1, now=NOW + 200)
    other.keeper.step(NOW + 201)
    assert other.hosts() == {}
    settle(one, other, now=NOW + 202)
    assert one.hosts() == other.hosts() == restarted(url)
    assert (list(one.hosts()), one.table.retired, one.hosts()["h"].id) == (["h"], {}, 2)


def test_a_clock_that_is_ahead_does_not_make_hosts_immortal(metas):
    one, ahead = metas(late_after=30), metas(late_after=30)
    ahead.beat("h", A1, now=NOW + 5000)
    ahead.keeper.step(NOW + 5000)
    one.keeper.step(NOW)
    assert one.last_seen() == {"h": NOW}
    one.keeper.step(NOW + 32)
    assert [host.name for host in one.table.seen.silent] == ["h"]


HOSTS = st.sampled_from(["h1", "h2", "h3"])
OUTCOMES = st.lists(
    st.builds(Outcome, st.sampled_from("ab"), to=st.sampled_from("12"), at=st.integers(0, 2)), max_size=2
)
STEPS = st.tuples(
    st.booleans(),
    st.one_of(
        st.tuples(st.just("beat"), HOSTS, st.sampled_from([[], [A1], [A2]]), OUTCOMES),
        st.tuples(st.sampled_from(["retire", "unretire"]), HOSTS),
        st.tuples(st.sampled_from(["step", "step", "away", "back", "restart"])),
    ),
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, max_size=30))
def test_two_metas_come_to_the_same_whatever_happened_to_them(template, steps):
    with fresh(template) as url, ExitStack() as stack:
        make = lambda now: stack.enter_context(closing(Meta(url, now)))  # noqa: E731
        metas, now = [make(NOW), make(NOW)], NOW
        for which, step in steps:
            now, meta = now + 1.0, metas[which]
            match step:
                case "beat", name, agents, outcomes:
                    meta.beat(name, *agents, now=now, outcomes=outcomes)
                case "retire", name:
                    meta.table.retire(name, now)
                case "unretire", name:
                    meta.table.unretire(name, now)
                case ("step",):
                    meta.keeper.step(now)
                case ("away",) | ("back",):
                    meta.database.is_away = step == ("away",)
                case ("restart",) if not meta.database.is_away:
                    meta.keeper.step(now)
                    metas[which] = make(now)
        for meta in metas:
            meta.database.is_away = False
        settle(*metas, now=now + 1)
        assert metas[0].hosts() == metas[1].hosts() == restarted(url, now + 10)
