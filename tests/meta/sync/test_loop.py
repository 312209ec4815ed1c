"""Memory and database, kept together: nothing is lost, whatever fails, and two metas on one database come to the same."""

import shutil
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from helpers.databases import KINDS, connected, database, execute
from helpers.keeping import NOW, Meta, Sometimes, restarted, settle
from lab.fleet import until
from meta.access.tokens import Token, mint
from meta.edits.unlabelling import Unlabelling
from meta.errors import TryLater, Unknown
from meta.queries import counting, failures, host_pages
from meta.store import HostRow, Store
from meta.store.retiring import Stored, judged
from meta.sync.backlog import Backlog
from meta.sync.housekeeping import Lifetimes
from meta.sync.loop import Keeper
from updater.wire.heartbeat import Outcome, RealAgent, Report

A1, A2 = RealAgent("a", "1", "started", 7), RealAgent("a", "2", "started", 8)
AGES = host_pages.Ages()


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
    until("h1 is written", lambda: not meta.table.waiting and list(meta.store.load_hosts()))
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
        "the database fails; heartbeats are answered as before, and it is tried again: the database is away",
        "the database works again, and has everything",
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
        assert {name: -1 <= by <= 0 for name, by in late.items()} == dict.fromkeys(late, True)


@pytest.mark.long
@given(st.lists(st.lists(st.integers(0, 30), unique=True), max_size=30))
def test_a_backlog_keeps_the_last_time_of_everybody(ticks):
    backlog = Backlog(few=20)
    for at, seen in enumerate(ticks):
        backlog.add(float(at), seen)
    found = {}
    while first := backlog.first(3):
        for at, seen in first:
            found.update(dict.fromkeys(seen, at))
        backlog.drop(len(first))
    assert found == {number: float(at) for at, seen in enumerate(ticks) for number in seen}
    assert backlog.waiting == 0


def test_a_backlog_grows_no_longer_than_the_hosts_are_many():
    backlog = Backlog(few=10)
    for at in range(1000):
        backlog.add(float(at), range(1, 51))
        assert backlog.waiting <= 110 + 50


@pytest.mark.long
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
        meta.table.activate,
        Lifetimes(late_after=30),
        Unlabelling(meta.editor),
    )
    late.step(time.time() + 100)
    with closing(Store(url)) as store:
        (row,) = store.load_hosts()
    assert row.last_seen == NOW + 10


def test_hosts_that_are_silent_for_too_long_are_retired_and_then_forgotten(metas, url, caplog):
    caplog.set_level("INFO")
    meta = metas(late_after=10, retire_after=100, forget_after=1000)
    meta.beat("h1", A1, now=NOW)
    meta.keeper.step(NOW + 1)
    for after in (50, 100, 115):
        meta.beat("h2", A1, now=NOW + after)
        meta.keeper.step(NOW + after + 1)
    assert counting.states(meta.table, NOW + 116, AGES)["retired"] == 1
    assert "retired 1 host, silent for too long: h1" in caplog.text
    meta.beat("h2", A1, now=NOW + 1190)
    meta.keeper.step(NOW + 1200)
    assert list(meta.hosts()) == ["h2"] == list(restarted(url))


@pytest.mark.long
def test_a_forgotten_host_must_enrol_again_at_every_meta(metas, caplog):
    caplog.set_level("INFO")
    one, other = metas(late_after=10, retire_after=100, forget_after=1000), metas()
    enrolment = one.add_token("rack", kind="enrolment").id
    for name in ("h1", "h2"):
        one.store.use_enrolment(enrolment, name, name.encode(), NOW - 5000)
        one.beat(name, A1, now=NOW)
    settle(one, other)
    assert [("h1" in meta.tokens.hosts, "h2" in meta.tokens.hosts) for meta in (one, other)] == [(True, True)] * 2
    for after in (50, 115, 1195):
        one.beat("h2", A1, now=NOW + after)
        one.keeper.step(NOW + after + 1)
    settle(one, other, now=NOW + 1200)
    settle(one, other, now=NOW + 1201)
    assert [("h1" in meta.tokens.hosts, "h2" in meta.tokens.hosts) for meta in (one, other)] == [(False, True)] * 2
    assert "forgot 1 host, retired long ago, and revoked the tokens of 1" in caplog.text


def of_meta(meta):
    return [one for one in meta.store.revisions() if one.who == "meta"]


@pytest.mark.long
def test_labels_of_forgotten_hosts_go_with_them_once_a_day(metas, url, caplog):
    caplog.set_level("INFO")
    one, other = metas(late_after=10, forget_after=1000), metas(late_after=10, forget_after=1000)
    for name in ("h1", "h2", "h3", "h4", "plain", "stays"):
        one.beat(name, A1, now=NOW)
    for name in ("h1", "h2", "h3", "h4", "stays", "never"):
        one.label(name, env="staging", rack="r7")
    settle(one, other)
    one.set_aside("h1", NOW + 10, is_retired=True)
    one.set_aside("h2", NOW + 10, is_retired=True)
    one.set_aside("h3", NOW + 2000, is_retired=True)
    one.set_aside("plain", NOW + 2000, is_retired=True)
    one.set_aside("h4", NOW + 86400 + 500, is_retired=True)
    for after in (1100, 1120, 4000):
        settle(one, other, now=NOW + after)
    assert sorted(one.hosts()) == sorted(other.hosts()) == ["h1", "h2", "h3", "h4", "stays"]
    day = NOW + 86400
    for after in (1000, 1020, 1040):
        settle(one, other, now=day + after)
    assert sorted(one.hosts()) == sorted(other.hosts()) == sorted(restarted(url, day + 1050)) == ["h4", "stays"]
    assert sorted(one.in_force().labels) == sorted(other.in_force().labels) == ["h4", "never", "stays"]
    (made,) = of_meta(one)
    assert (made.action, sorted(change.name for change in made.changes)) == ("label", ["h1", "h2", "h3"])
    assert made.changes[0].before == {"env": "staging", "rack": "r7"}
    assert f"revision {made.number}: label h1, h2, h3 by meta: {made.why}" in caplog.text


@pytest.mark.long
def test_hosts_are_forgotten_though_an_edit_of_labels_is_refused_for_now(metas, caplog):
    meta = metas(late_after=10, forget_after=100)
    meta.beat("h1", A1, now=NOW)
    meta.beat("h2", A1, now=NOW)
    meta.label("h1", env="staging")
    meta.keeper.step(NOW)
    for name in ("h1", "h2"):
        meta.set_aside(name, NOW + 1, is_retired=True)
    later = NOW + 86400 + 200
    with meta.editor._turn():  # somebody else's edit hangs
        meta.keeper.step(later)
    assert list(meta.hosts()) == ["h1"]
    assert meta.keeper.condition(later).trouble == ""
    assert "labels of 1 host to be deleted stay for now: another edit has been waiting" in caplog.text
    meta.keeper.step(later + 700)
    assert (meta.hosts(), meta.in_force().labels) == ({}, {})


def test_a_meta_that_was_down_for_long_does_not_blame_the_hosts(metas):
    first = metas(late_after=10, retire_after=100)
    first.beat("h", A1, now=NOW)
    first.keeper.step(NOW + 1)
    later = NOW + 10_000
    second = metas(now=later, late_after=10, retire_after=100)
    second.keeper.step(later + 10.5 - 1)
    assert second.table.retired() == []
    second.keeper.step(later + 21)
    assert [host.name for host in second.table.retired()] == ["h"]


def test_moved_hosts_are_told_together(metas, caplog):
    meta = metas()
    meta.keeper.step(NOW)
    for number in range(20):
        meta.beat(f"h{number:02}", A1)
        meta.table.beat(Report(f"h{number:02}", [A1]), "10.9.9.9", NOW)
    meta.keeper.step(NOW + 20)
    (told,) = [record.message for record in caplog.records if "another address" in record.message]
    assert told.startswith("20 hosts with another address")
    assert "h00 from 10.9.9.9, before from 10.0.0.1" in told
    assert "h15" not in told


@pytest.mark.long
def test_hosts_that_alternate_between_two_addresses_are_told_once_a_day(metas, caplog):
    meta = metas(late_after=1e9)
    meta.keeper.step(NOW)
    for beat in range(200):
        now = NOW + 600 * beat  # a day and nine hours
        for number in range(3):
            meta.table.beat(Report(f"h{number}", [A1]), f"10.0.{beat % 2}.1", now)
        meta.keeper.step(now + 20)
    told = [record.message for record in caplog.records if "another address" in record.message]
    assert [one.partition(" (")[0] for one in told] == ["3 hosts with another address than within the last day"]


@pytest.mark.long
def test_many_moves_are_told_once_an_hour(metas, caplog):
    meta = metas(late_after=1e9)
    meta.keeper.step(NOW)
    for beat in range(36):
        now = NOW + 300 * beat
        for number in range(3):
            meta.table.beat(Report(f"h{number}", [A1]), f"10.0.{beat}.1", now)
        meta.keeper.step(now + 20)
    told = [record.message for record in caplog.records if "another address" in record.message]
    assert len(told) == 3
    assert "h1 from 10.0.13.1, before from 10.0.1.1" in told[1]


# --- two metas on one database ---


@pytest.mark.long
def test_two_metas_see_each_others_hosts_records_and_tokens_soon(metas):
    one, other = metas(now=time.time()), metas(now=time.time())
    one.keeper.start()
    other.keeper.start()
    one.beat("h", A1, now=time.time())
    until("the other one knows h", lambda: other.table.get("h"))
    other.edit("9")
    until("the record is in force here too", lambda: one.table.classes.records.revision == 1)
    _, hashed = mint("operator")
    token = one.store.add_token(Token(0, "operator", "ann", "editor", hashed, NOW)).token
    until("ann is known there", lambda: other.tokens.all() == [token])
    other.store.revoke_token(token.id, NOW)
    until("ann is known there no more", lambda: any(token.revoked for token in one.tokens.all()))
    other.table.retire("h", time.time())
    until("h is retired here too", one.table.retired)
    one.beat("h", A2, now=time.time())
    until("h is back there too", lambda: not other.table.retired())
    until("both know the same", lambda: one.hosts() == other.hosts())


@pytest.mark.long
def test_a_failure_of_a_former_order_is_forgotten_at_every_meta_and_after_a_restart(metas, url):
    refused = Outcome("a", "1", "2", "install", "refused", "another sha256", at=5)
    one, other = metas(), metas()
    one.edit("2")
    one.beat("h", A1, outcomes=[refused])
    settle(one, other)

    def failed():
        return [failures.by_agent(meta.table, time.time()) for meta in (one, other, *again)]

    again = []
    assert failed() == [{"a": 1}, {"a": 1}]
    other.edit("1")
    settle(one, other)
    other.edit("2")
    settle(one, other)
    again.append(metas())
    assert failed() == [{}, {}, {}]
    assert one.hosts() == other.hosts() == again[0].hosts() == restarted(url)
    assert one.table.get("h").outcomes["a"].reason == "another sha256"
    one.beat("h", A1, outcomes=[replace(refused, at=9)], now=NOW + 9)
    settle(one, other, again[0])
    assert failed() == [{"a": 1}] * 3


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


@pytest.mark.long
def test_a_host_that_reports_here_is_heard_of_there(metas):
    one, other = metas(late_after=30), metas(late_after=30)
    one.beat("h", A1, now=NOW)
    settle(one, other)
    for second in range(5, 100, 5):
        one.beat("h", A1, now=NOW + second)
        one.keeper.step(NOW + second)
        other.keeper.step(NOW + second)
    assert other.last_seen() == {"h": NOW + 95}
    assert other.table.silent() == []
    other.keeper.step(NOW + 126)
    assert [host.name for host in other.table.silent()] == ["h"]


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
    found = host_pages.find(one.table, "h", NOW + 31, AGES)
    assert [(agent.name, agent.version) for agent in found.agents] == [("a", "2")]
    assert other.table.get("h").outcomes == {"x": Outcome("x", to="2", at=3), "y": Outcome("y", to="1", at=2)}


def test_a_retirement_and_a_later_beat_elsewhere_end_with_the_beat(metas):
    one, other = metas(), metas()
    one.beat("h", A1, now=NOW)
    settle(one, other)
    other.table.retire("h", NOW + 5)
    one.beat("h", A1, now=NOW + 6)
    settle(one, other, now=NOW + 7)
    assert (one.table.retired(), other.table.retired()) == ([], [])
    one.table.retire("h", NOW + 10)
    settle(one, other, now=NOW + 11)
    assert [host.name for host in other.table.retired()] == ["h"]
    other.table.unretire("h", NOW + 20)
    settle(one, other, now=NOW + 21)
    assert one.table.retired() == []
    assert one.table.retire_silent(NOW + 15, NOW + 30) == []


def test_a_silent_host_that_reports_at_another_meta_in_that_moment_is_not_retired(metas, url):
    """Its report is not written yet when it is judged to be silent."""
    one, other = metas(late_after=10, retire_after=100), metas(late_after=10, retire_after=100)
    one.beat("h", A1, now=NOW)
    one.beat("silent", A1, now=NOW)
    settle(one, other)
    other.beat("h", A1, now=NOW + 150)
    one.keeper.step(NOW + 150.2)
    assert retired(one) == [["h", "silent"]]
    settle(one, other, now=NOW + 150.4)
    assert retired(one, other) == [["silent"]] * 2
    assert restarted(url, NOW + 151)["h"].retired_at == 0


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
    assert (list(one.hosts()), one.table.retired(), one.hosts()["h"].id) == (["h"], [], 2)


def test_a_clock_that_is_ahead_does_not_make_hosts_immortal(metas):
    one, ahead = metas(late_after=30), metas(late_after=30)
    ahead.beat("h", A1, now=NOW + 5000)
    ahead.keeper.step(NOW + 5000)
    one.keeper.step(NOW)
    assert one.last_seen() == {"h": NOW}
    one.keeper.step(NOW + 32)
    assert [host.name for host in one.table.silent()] == ["h"]


# --- what people order about hosts ---


def retired(*metas):
    return [[host.name for host in meta.table.retired()] for meta in metas]


def test_a_beat_before_a_host_was_retired_does_not_bring_it_back_however_late_it_is_written(metas, url):
    one, other = metas(), metas()
    one.beat("h", A1, now=NOW)
    settle(one, other)
    one.beat("h", A1, now=NOW + 10.0)
    assert other.set_aside("h", NOW + 10.05, is_retired=True)
    settle(one, other, now=NOW + 10.4)
    assert retired(one, other) == [["h"], ["h"]]
    assert restarted(url)["h"].retired_at == NOW + 10.05


def test_a_beat_after_a_host_was_retired_brings_it_back_at_every_meta(metas, url):
    one, other = metas(), metas()
    one.beat("h", A1, now=NOW)
    settle(one, other)
    one.beat("h", A1, now=NOW + 10.0)
    assert other.set_aside("h", NOW + 10.05, is_retired=True)
    one.beat("h", A1, now=NOW + 10.1)  # in the tick that began before
    settle(one, other, now=NOW + 10.4)
    assert retired(one, other) == [[], []]
    assert restarted(url)["h"].retired_at == 0


def reported_after_it_was_retired(one, dying):
    """Retired at one meta, it reports at another, which has not followed that, and dies before it does."""
    dying.beat("h", A1)
    settle(one, dying)
    dying.keeper._follower.follow(NOW + 10, NOW + 9)
    assert one.set_aside("h", NOW + 11, is_retired=True)
    dying.beat("h", A1, now=NOW + 13)
    dying.keeper._keep_hosts(NOW + 13.5)


def test_a_host_that_reported_after_it_was_retired_is_back_everywhere_though_the_meta_that_heard_it_died(metas, url):
    one, dying = metas(), metas()
    reported_after_it_was_retired(one, dying)
    again = metas(now=NOW + 14)
    settle(one, again, now=NOW + 20)
    assert retired(one, again) == [[], []]
    assert execute(url, "SELECT retired_at FROM host") == [(0.0,)]
    assert one.set_aside("h", NOW + 30, is_retired=True)
    settle(one, again, now=NOW + 31)
    assert retired(one, again) == [["h"], ["h"]]
    assert restarted(url, NOW + 40)["h"].retired_at == NOW + 30


def test_a_host_that_came_back_by_a_beat_is_not_retired_when_that_beat_is_folded_by_who_has_not_followed_it(metas, url):
    one, dying = metas(late_after=900), metas()
    reported_after_it_was_retired(one, dying)
    one.keeper._tidied = 0.0
    one.keeper._keep_hosts(NOW + 2000)
    assert execute(url, "SELECT count(*) FROM beat WHERE length(seen) > 0") == [(0,)]
    assert restarted(url, NOW + 2001)["h"].retired_at == 0.0
    settle(one, now=NOW + 2001)
    assert retired(one) == [[]]
    assert one.last_seen() == {"h": NOW + 13}


def test_what_was_ordered_about_a_host_is_on_the_disk_when_it_is_acknowledged(metas, url):
    meta = metas()
    for name in ("new", "known", "back"):
        meta.beat(name, A1)
        meta.keeper.step(NOW)
    meta.beat("newer", A1)
    for name in ("new", "newer", "back"):
        assert meta.set_aside(name, NOW + 1, is_retired=True)
    assert meta.set_aside("back", NOW + 2, is_retired=False)
    assert {name: row.retired_at for name, row in restarted(url, NOW + 3).items()} == {
        "new": NOW + 1,
        "newer": NOW + 1,
        "known": 0.0,
        "back": -(NOW + 2),
    }
    assert meta.set_aside("known", NOW + 2, is_retired=False) == ()


def test_what_is_ordered_about_a_host_while_the_database_is_away_is_refused_and_changes_nothing(metas):
    meta = metas()
    meta.beat("h", A1)
    meta.keeper.step(NOW)
    meta.database.is_away = True
    for is_retired in (True, False):
        with pytest.raises(TryLater):
            meta.set_aside("h", NOW + 1, is_retired)
    assert (retired(meta), meta.table.saved("h").unretired_at) == ([[]], 0.0)


def test_a_host_that_was_retired_elsewhere_a_moment_ago_can_be_taken_back_here(metas):
    """Though this meta has not heard of it."""
    one, other = metas(), metas()
    one.beat("h", A1)
    settle(one, other)
    assert one.set_aside("h", NOW + 5, is_retired=True)
    assert other.set_aside("h", NOW + 6, is_retired=False)
    settle(one, other, now=NOW + 7)
    assert retired(one, other) == [[], []]


@pytest.mark.parametrize("is_retired", [True, False])
def test_what_was_ordered_about_a_host_is_known_here_too_where_the_answer_to_its_commit_was_lost(
    metas, url, is_retired
):
    meta = metas()
    meta.beat("h", A1)
    meta.keeper.step(NOW)
    if not is_retired:
        meta.set_aside("h", NOW + 1, is_retired=True)
        settle(meta, now=NOW + 1)

    class Mute(Sometimes):
        def order(self, *arguments):
            assert self._store.order(*arguments)
            raise Unknown("the database did not say")

    meta.editor._store = Mute(meta.store)
    with pytest.raises(Unknown):
        meta.set_aside("h", NOW + 2, is_retired)
    settle(meta, now=NOW + 3)
    assert retired(meta) == [["h"] if is_retired else []]
    assert meta.hosts() == restarted(url, NOW + 4)


@pytest.mark.parametrize("is_new", [True, False], ids=["in its row", "in a beat"])
def test_a_host_is_retired_although_the_clock_of_the_meta_that_it_reports_to_is_ahead(metas, url, is_new):
    one, ahead = metas(), metas()
    if not is_new:
        one.beat("h", A1, now=NOW)
        settle(one, ahead)
    ahead.beat("h", A1, now=NOW + 30)
    ahead.keeper.step(NOW + 30)
    one.keeper.step(NOW + 1)
    assert one.set_aside("h", NOW + 2, is_retired=True)
    assert restarted(url)["h"].retired_at == NOW + 31
    ahead.keeper.step(NOW + 32)
    settle(one, now=NOW + 3)
    assert retired(one, ahead) == [["h"], ["h"]]
    assert one.set_aside("h", NOW + 4, is_retired=False)  # which is before it was retired, by this clock
    settle(one, now=NOW + 5)
    settle(ahead, now=NOW + 35)
    assert retired(one, ahead) == [[], []]
    assert restarted(url)["h"].retired_at < 0


@pytest.mark.parametrize("is_retired", [True, False])
def test_what_another_meta_ordered_already_is_not_ordered_twice(metas, is_retired):
    """It is judged by what the database holds; this meta has not heard of it."""
    one, other = metas(), metas()
    one.beat("h", A1)
    settle(one, other)
    if not is_retired:
        one.set_aside("h", NOW + 1, is_retired=True)
        settle(one, other, now=NOW + 1)
    assert one.set_aside("h", NOW + 5, is_retired)
    assert other.set_aside("h", NOW + 6, is_retired) == ()
    assert other.in_force().revision == one.in_force().revision == other.store.head().revision
    settle(one, other, now=NOW + 7)
    assert retired(one, other) == [["h"] if is_retired else []] * 2


ROW = HostRow(1, "h", 0.0, 100.0, "", "", "[]", "[0,0]", "", 0.0)


@pytest.mark.parametrize(
    ("known", "stored", "retired", "dated"),
    [
        ((100.0, 0.0), None, True, 200.0),
        ((100.0, 0.0), None, False, None),
        ((100.0, 0.0), (100.0, 0.0), True, 200.0),
        ((100.0, 0.0), (100.0, 0.0), False, None),
        ((100.0, 150.0), (100.0, 0.0), True, 200.0),  # that it was silent is not written yet
        ((100.0, 0.0), (100.0, 150.0), True, None),  # which is not known here yet
        ((160.0, 0.0), (100.0, 150.0), True, 200.0),  # it has reported since, which is not written yet
        ((100.0, 0.0), (160.0, 150.0), True, 200.0),  # the same at another meta
        ((160.0, 0.0), (100.0, 150.0), False, -200.0),
        ((100.0, 150.0), (160.0, 0.0), False, None),
        ((100.0, 150.0), (100.0, -160.0), False, None),  # taken back, which is not known here yet
        ((100.0, 150.0), (100.0, 150.0), False, -200.0),
        ((100.0, 0.0), (300.0, 0.0), True, 301.0),  # clocks that are ahead
        ((100.0, 0.0), (100.0, 300.0), False, -300.001),
        ((100.0, 0.0), (100.0, -300.0), True, 300.001),
    ],
)
def test_an_order_is_later_than_all_that_was_written_before(known, stored, retired, dated):
    row = ROW._replace(last_seen=known[0], retired_at=known[1])
    found = judged(row, Stored(*stored) if stored else None, 200.0, retired)
    assert (found and found.retired_at) == dated


def test_a_meta_that_was_stopped_does_not_write_old_reports_over_new_ones(metas, url):
    """It is stopped between taking what is to be written and writing it; meanwhile the newer writer dies."""
    stopped, other = metas(), metas()
    stopped.beat("h", A1)
    settle(stopped, other)
    save = stopped.store.save

    def late(*arguments):
        other.beat("h", A2, now=NOW + 20)
        other.set_aside("h", NOW + 21, is_retired=True)
        other.keeper.step(NOW + 22)
        return save(*arguments)

    stopped.store.save = late
    stopped.beat("h", RealAgent("a", "1.5", "started", 5), now=NOW + 10)
    stopped.keeper.step(NOW + 11)
    stopped.store.save = save
    before = restarted(url, NOW + 23)
    assert (before["h"].agents, before["h"].retired_at) == (other.hosts()["h"].agents, NOW + 21)
    settle(stopped, now=NOW + 24)
    assert stopped.hosts() == before == restarted(url, NOW + 25)


def test_hosts_that_others_forgot_while_a_meta_was_away_do_not_come_back_from_its_memory(metas, url):
    away, other = metas(), metas(late_after=10, forget_after=100)
    for name in ("gone", "heard", "stays"):
        away.beat(name, A1, now=NOW)
    settle(away, other)
    away.database.is_away = True
    away.beat("heard", A1, now=NOW + 5)
    away.keeper.step(NOW + 5)
    for name in ("gone", "heard"):
        assert other.set_aside(name, NOW + 10, is_retired=True)
    other.beat("stays", A1, now=NOW + 200)
    other.keeper.step(NOW + 200)
    other.beat("stays", A1, now=NOW + 230)
    other.keeper.step(NOW + 230)  # what was gone has been folded away by now
    assert list(other.hosts()) == ["stays"]
    away.beat("heard", A1, now=NOW + 231)
    away.database.is_away = False
    settle(away, other, now=NOW + 232)
    assert sorted(away.hosts()) == ["heard", "stays"]
    assert away.hosts() == other.hosts() == restarted(url, NOW + 233)


def test_a_host_that_was_forgotten_by_a_commit_without_an_answer_is_forgotten_here_too(metas, url):
    one, other = metas(late_after=10, forget_after=100), metas()
    one.beat("gone", A1)
    one.beat("stays", A1)
    settle(one, other)
    assert one.set_aside("gone", NOW + 2, is_retired=True)
    settle(one, other, now=NOW + 3)

    class Mute(Sometimes):
        def forget(self, *arguments):
            self._store.forget(*arguments)
            raise Unknown("the database did not say")

    one.keeper._store = Mute(one.store)
    one.beat("stays", A1, now=NOW + 200)
    one.keeper.step(NOW + 200)
    one.keeper._store = one.database
    settle(one, other, now=NOW + 210)
    assert sorted(one.hosts()) == sorted(other.hosts()) == sorted(restarted(url, NOW + 220)) == ["stays"]


@pytest.mark.parametrize("knows", [True, False], ids=["and follows that", "and cannot follow"])
def test_a_meta_that_closes_brings_no_host_back_that_others_forgot(metas, url, knows):
    closing_one, other = metas(), metas(late_after=10, forget_after=100)
    for name in ("gone", "stays"):
        closing_one.beat(name, A1)
    settle(other, closing_one)
    closing_one.database.is_away = True
    closing_one.beat("gone", A2, now=NOW + 1)
    closing_one.keeper.step(NOW + 1.5)
    assert other.set_aside("gone", NOW + 5, is_retired=True)
    other.beat("stays", A1, now=NOW + 200)
    other.keeper.step(NOW + 200)

    class Deaf(Sometimes):
        def hosts_since(self, *_):
            raise TryLater("hosts cannot be read")

    closing_one.database.is_away = False
    if not knows:
        closing_one.keeper._follower._store = Deaf(closing_one.store)
    closing_one.keeper._closing.set()
    closing_one.keeper.start()
    assert closing_one.keeper.close(10) == knows
    assert list(restarted(url, NOW + 301)) == ["stays"]


# --- what cannot be written, and what is not there any more ---


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # SQLite has no locks of one table
def test_a_meta_that_cannot_write_hosts_follows_all_the_same(metas, url):
    """While somebody alters the table of hosts, or makes an index on it."""
    for mode in ("ACCESS EXCLUSIVE", "SHARE"):
        one, other = metas(), metas()
        _, hashed = mint("operator")
        token = other.store.add_token(Token(0, "operator", "ann", "editor", hashed, NOW)).token
        one.keeper.step(NOW)
        with connected(url) as locking:
            locking.exec_driver_sql(f"LOCK TABLE host IN {mode} MODE")
            one.beat(mode[:3], A1, now=NOW + 1)
            one.keeper.step(NOW + 1)
            other.edit(mode[:3])
            other.store.revoke_token(token.id, NOW)
            begin = time.monotonic()
            one.keeper.step(NOW + 1.4)
            assert time.monotonic() - begin < 2
            assert one.table.classes.records == other.table.classes.records
            assert [found.revoked for found in one.tokens.all() if found.id == token.id] == [NOW]
            assert "lock timeout" in one.keeper.condition(NOW + 1.4).trouble
            assert one.refusing() == ""
        settle(one, now=NOW + 10)


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


@pytest.mark.long
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
