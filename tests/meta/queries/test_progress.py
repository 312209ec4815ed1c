"""How far a change has come: what counts as good, on trial, to do and failed, and who is left out."""

import itertools
import threading
import time
from contextlib import closing

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from meta.hosts.classes import COHORTS, UNREPORTED, Classes, Rejection, Reported, Verdict
from meta.hosts.standing import GOOD, HAS_FAILED, HELD, LAG, MISSED, TODO, TRIAL, stand
from meta.hosts.table import HostTable
from meta.process.clock import Clock
from meta.queries.counting import counts
from meta.queries.failures import by_agent, failures, sums
from meta.queries.failures import rolled_back as rollbacks
from meta.queries.host_pages import Ages, HostFilter, find, page
from meta.queries.progress import Asked, progress
from meta.queries.representations import GOING_BACK, NO_REASON, Standing
from meta.records.fingerprint import version_fingerprint
from meta.records.history import Edit
from meta.records.model import Ban, Override, Record, RecordSet, Release
from meta.records.selectors import Glob, Hosts, Label, Prefix
from meta.service import Service
from meta.settings import Settings
from meta.store import Since, Store
from meta.sync.other_metas import absorb
from meta.sync.rows import known, load, take
from updater.wire.heartbeat import Desired, Outcome, RealAgent, Report

NOW = 10_000.0
AGES = Ages(late_after=100, lost_after=1000)
RECORD = Record("a", Release("2"), "http://r")
MENDED = replace(RECORD, release=replace(RECORD.release, sha256="1" * 64))
START, STOP = Desired("a", "2", "http://r", "", "start"), Desired("a", "2", "http://r", "", "stop")
CANARY = Record("a", Release("1"), "http://r", overrides=(Override(Label("ring=1"), Release("2")),))
LABELS = {"web-2": {"ring": "1"}, "web-1": {"rack": "1"}}
DIED = Verdict("a", "2", "watch", "failed")
ROLLED_BACK = Verdict("a", "2", "watch", "rolled back")


def reported(version="2", status="started", held=UNSET, trial=UNSET, rejected=UNSET, waits=UNSET):
    return Reported("a", version, status, held, trial, waits, rejected)


@pytest.mark.parametrize(
    ("order", "seen", "verdict", "state"),
    [
        (START, reported(), None, GOOD),
        (START, reported(trial=False), None, GOOD),
        (START, reported(trial=True), None, TRIAL),
        (START, reported(), ROLLED_BACK, GOOD),
        (START, reported("1"), None, TODO),
        (START, reported("2", "stoped"), None, TODO),
        (START, reported("2", "stoped", trial=True), None, TODO),
        (START, UNREPORTED, None, TODO),
        (START, reported("1"), ROLLED_BACK, HAS_FAILED),
        (START, UNREPORTED, Verdict("a", "2", "install", "refused"), HAS_FAILED),
        (START, reported(trial=False), Verdict("a", "2", "order", "refused"), HAS_FAILED),  # it has other bytes
        (START, reported(trial=False), Verdict("a", "1", "order", "refused"), GOOD),
        (STOP, reported("2", "stoped"), Verdict("a", "2", "order", "refused"), GOOD),
        (
            START,
            reported("1"),
            Verdict("a", "2", "install", "failed"),
            TODO,
        ),  # the network, a full disk: it tries again
        (START, reported("1"), Verdict("a", "1", "watch", "rolled back"), TODO),  # of another version
        (START, reported("1", held="ann"), None, HELD),
        (START, reported("2", held="ann"), None, GOOD),
        (START, reported("1", held="ann"), ROLLED_BACK, HAS_FAILED),
        (START, reported("1", held="ann"), Verdict("a", "2", "install", "failed"), HELD),
        (START, reported("2", "stoped", held="ann", trial=False), Verdict("a", "2", "start", "failed"), HAS_FAILED),
        (START, reported("2", "stoped", held="ann", trial=True), None, HAS_FAILED),  # it went down within its watch
        (START, reported("1", "stoped", held="ann", trial=True), None, HELD),
        (STOP, reported("2", held="ann", trial=True), None, HELD),
        (START, reported(trial=True), DIED, HAS_FAILED),  # and was started again: there is nothing to go back to
        (START, reported(trial=True), Verdict("a", "1", "watch", "failed"), TRIAL),
        (START, reported(trial=True), Verdict("a", "2", "start", "failed"), TRIAL),
        (START, reported(trial=False), DIED, GOOD),
        (START, reported("1", rejected=Rejection("2")), None, HAS_FAILED),
        (START, reported("1", trial=False, rejected=Rejection("2")), ROLLED_BACK, HAS_FAILED),
        (
            START,
            reported("1", "stoped", trial=False, rejected=Rejection("2")),
            Verdict("a", "1", "start", "failed"),
            HAS_FAILED,
        ),
        (START, reported("2", trial=True, rejected=Rejection("2")), None, HAS_FAILED),  # it is about to go back
        (START, reported("1", trial=False, rejected=Rejection("3")), None, TODO),
        (START, reported("1", trial=False), ROLLED_BACK, TODO),  # who tells of trials tells of rejections
        (START, reported("1", trial=False), Verdict("a", "2", "start", "failed"), HAS_FAILED),
        (STOP, reported("1", "stoped", trial=False, rejected=Rejection("2")), ROLLED_BACK, GOOD),
        (STOP, reported("2", "stoped", trial=True), None, GOOD),
        (START, reported(trial=False, waits="change"), None, TODO),  # it may be about to follow a former order
        (START, reported(trial=False, waits="download"), None, TODO),
        (START, reported(trial=False, waits="change", held="ann"), None, TODO),
        (START, reported(trial=True, waits="change"), None, TODO),
        (START, reported(trial=True, waits="change"), DIED, HAS_FAILED),
        (STOP, reported("2", "stoped", trial=False, waits="change"), None, TODO),
        (STOP, reported(), None, TODO),
        (STOP, reported(), Verdict("a", "2", "stop", "failed"), HAS_FAILED),
    ],
)
def test_how_hosts_stand_to_their_order(order, seen, verdict, state):
    assert stand(order, seen, verdict) == state


def test_a_verdict_of_a_lower_attempt_does_not_count():
    again = Desired("a", "2", "http://r", "", "start", attempt=5)
    assert stand(again, reported("1"), Verdict("a", "2", "watch", "rolled back", 4)) == TODO
    assert stand(again, reported("1"), Verdict("a", "2", "watch", "rolled back", 5)) == HAS_FAILED
    assert stand(again, reported("1", trial=False, rejected=Rejection("2", 4)), None) == TODO
    assert stand(again, reported("1", trial=False, rejected=Rejection("2", 5)), None) == HAS_FAILED


@pytest.fixture
def table():
    return HostTable(RecordSet(1, (RECORD,)), late_after=100)


def beat(table, name, version="2", status="started", now=NOW, outcome=None, trial=False, **more):
    """By an updater that tells of trials and of what it rejects; trial=UNSET: by another."""
    if outcome and outcome.result == "rolled back" and trial is not UNSET:
        more = {"rejected": outcome.to} | more
    outcomes = [outcome] if outcome else UNSET
    agents = [RealAgent("a", version, status, 7, trial=trial, **more)]
    table.beat(Report(name, agents, outcomes=outcomes, updater_version="0.2"), "10.0.0.1", now)


def rolled_back(reason="died"):
    return Outcome("a", "1", "2", "watch", "rolled back", reason, "", 5)


def shown(table, now=NOW, ages=AGES, **asked):
    found = progress(table, Asked("a", **asked), now, ages)
    return {key: n for key in ("todo", "trial", "good", "failed", "late", "lost", "held") if (n := getattr(found, key))}


def test_every_host_is_counted_once(table):
    beat(table, "good")
    beat(table, "trial", trial=True)
    beat(table, "todo", "1")
    beat(table, "fetches", "1", waits="download")
    beat(table, "held", "1", held="ann")
    beat(table, "failed", "1", outcome=rolled_back())
    assert shown(table) == {"todo": 2, "trial": 1, "good": 1, "failed": 1, "held": 1}
    found = progress(table, Asked("a"), NOW, AGES)
    assert found.last == [Standing("fetches", TODO), Standing("todo", TODO), Standing("trial", TRIAL)]
    assert found.left_out == [Standing("held", HELD)]
    assert found.waits == {"download": 1}
    assert [(one.hosts, one.reason) for one in found.failures] == [(1, "died")]
    assert sums(table, NOW) == {("a", "2", "rolled back"): 1}


def test_silent_hosts_are_left_out_until_they_are_back_or_asked_for(table):
    beat(table, "here", now=NOW)
    beat(table, "late", "1", now=NOW - 500)
    beat(table, "lost", now=NOW - 5000, outcome=rolled_back(), rejected=UNSET)
    take(table, NOW - 500 + 1)
    take(table, NOW + 101)
    beat(table, "here", now=NOW + 101)
    found = progress(table, Asked("a"), NOW + 101, AGES)
    assert shown(table, NOW + 101) == {"good": 1, "late": 1, "lost": 1}
    assert found.left_out == [Standing("late", "late"), Standing("lost", "lost")]
    assert found.failures == []
    assert shown(table, NOW + 101, include_lost=True) == {"todo": 1, "good": 2}
    beat(table, "late", "1", now=NOW + 102)
    assert shown(table, NOW + 102) == {"todo": 1, "good": 1, "lost": 1}


@pytest.mark.parametrize("trial", [True, UNSET], ids=["told", "untold"])
@pytest.mark.parametrize("asked", [{}, {"selector": Prefix("h")}, {"include_lost": True}])
def test_a_host_that_falls_silent_on_trial_has_failed_until_it_is_back(table, trial, asked):
    beat(table, "there")
    beat(table, "h1", now=NOW - 200, trial=trial)
    beat(table, "h2", "1", now=NOW - 200)  # before it had the order
    beat(table, "there")
    take(table, NOW)
    beat(table, "there", now=NOW + 301)
    take(table, NOW + 301)
    for seconds in range(310, 420, 10):
        beat(table, "there", now=NOW + seconds)
    now = NOW + 420
    found = progress(table, Asked("a", **asked), now, AGES)
    expected = {"todo": 1} if "include_lost" in asked else {"late": 1}
    here = {} if "selector" in asked else {"good": 1}
    assert shown(table, now, **asked) == here | {"failed": 1} | expected
    assert [(one.reason, one.example, one.result, one.hosts) for one in found.failures] == [
        ("fell silent on trial", "h1", "failed", 1)
    ]
    assert found.pending == ["2"]
    beat(table, "h1", now=now)
    beat(table, "h1", now=now + 50)
    assert shown(table, now + 50, **asked).get("failed") is None


def keep_beating(table, until):
    """One host beats all the time, so that meta was not away."""
    for at in range(int(NOW) + 50, int(until) + 1, 50):
        take(table, at)
        beat(table, "here", now=float(at))


@pytest.mark.parametrize("asked", [{}, {"selector": Prefix("h")}, {"include_lost": True}])
def test_a_host_that_falls_silent_after_it_got_the_order_has_failed_until_it_is_back(asked):
    table = HostTable(RecordSet(1, (replace(RECORD, release=Release("1")),)), late_after=100)
    for name in ("here", "h-dead", "h-held", "h-failed", "h-away"):
        beat(table, name, "1", held="ann" if name == "h-held" else UNSET, now=NOW)
    order(table, 2, RECORD, at=NOW + 1)
    for name in ("here", "h-dead", "h-held", "h-failed"):
        beat(table, name, "1", held="ann" if name == "h-held" else UNSET, now=NOW + 2)
    beat(table, "h-failed", "1", now=NOW + 3, outcome=REFUSED)
    keep_beating(table, NOW + 150)
    found = progress(table, Asked("a", **asked), NOW + 150, AGES)
    assert (found.failed, found.todo) == (2, 1 if "include_lost" in asked else 0)
    assert sorted(one.reason for one in found.failures) == ["another sha256", "fell silent after it got the order"]
    if "include_lost" not in asked:
        assert [one.name for one in found.left_out] == ["h-away", "h-held"]
    beat(table, "h-dead", now=NOW + 151)
    assert progress(table, Asked("a", **asked), NOW + 151, AGES).failed == 1


def test_a_host_that_fell_silent_before_this_meta_began_is_left_out():
    table = HostTable(late_after=100)
    other = HostTable(RecordSet(1, (RECORD,)))
    beat(other, "h1", "1")
    order(table, 1, RECORD, at=NOW + 50)
    load(table, [known(other, "h1")._replace(id=1)], NOW + 50)
    keep_beating(table, NOW + 300)
    assert shown(table, NOW + 300) == {"good": 1, "late": 1}


def test_whoever_is_silent_on_trial_because_meta_was_away_has_not_failed(table):
    beat(table, "h1", trial=True)
    beat(table, "h2")
    after = HostTable(RecordSet(1, (RECORD,)), late_after=100)
    load(after, [known(table, name)._replace(id=n) for n, name in enumerate(("h1", "h2"), 1)], NOW + 500)
    take(after, NOW + 500)
    assert shown(after, NOW + 500) == {"late": 2}
    for seconds in range(510, 820, 10):
        beat(after, "h2", now=NOW + seconds)
    assert shown(after, NOW + 790) == {"good": 1, "late": 1}, "hosts retry rarely after so long a time"
    assert shown(after, NOW + 820) == {"good": 1, "failed": 1}, "then it has"


def test_a_host_whose_first_version_dies_in_its_watch_again_and_again_is_found_as_failed(table):
    died = Outcome("a", "2", "2", "watch", "failed", "died 12 s after its start", "", 5)
    beat(table, "h1", trial=True, outcome=died)
    assert shown(table) == {"failed": 1}
    assert sums(table, NOW) == {("a", "2", "failed"): 1}
    assert [one.reason for one in failures(table, NOW).failures] == ["died 12 s after its start"]
    [listed] = page(table, HostFilter(failed=True), NOW, AGES).hosts
    assert listed.agents[0].failed
    beat(table, "h1", outcome=Outcome("a", "", "2", "watch", "done", at=9), now=NOW + 60)
    assert shown(table, NOW + 60) == {"good": 1}


def test_a_version_that_goes_down_within_its_watch_while_a_person_holds_it_has_failed(table):
    beat(table, "h1", "2", "stoped", trial=True, held="ann debugs")
    beat(table, "h2", "1", held="ann debugs")
    assert shown(table) == {"failed": 1, "held": 1}
    assert reasons(table) == [("2", "failed", "down on trial, held")]


REFUSED = Outcome("a", "1", "2", "install", "refused", "another sha256", "", 5)


@pytest.mark.parametrize(
    "change", [{"release": Release("2", sha256="1" * 64)}, {"tarball": "http://m"}, {"md5_base": "http://m"}]
)
def test_a_failure_of_an_artifact_that_is_ordered_no_more_is_forgotten(change):
    first, second = RecordSet(1, (RECORD,)), RecordSet(2, (replace(RECORD, **change),))
    table, other = HostTable(first), HostTable(first)
    beat(table, "h1", "1", outcome=REFUSED)
    load(other, [known(table, "h1")._replace(id=1)], NOW)
    assert shown(table) == shown(other) == {"failed": 1}
    table.activate(second)
    assert shown(table) == {"todo": 1}
    assert table.get("h1").outcomes["a"].reason == "another sha256", "it is told on"
    restarted = HostTable(second)
    row = known(table, "h1")._replace(id=1)
    load(restarted, [row], NOW)
    assert shown(restarted) == {"todo": 1}
    other.activate(second)
    absorb(other, Since(1, [row], [], []), NOW)
    assert known(other, "h1") == row
    assert shown(other) == {"todo": 1}
    beat(table, "h1", "1", outcome=replace(REFUSED, at=9), now=NOW + 1)
    assert shown(table, NOW + 1) == {"failed": 1}


def test_a_failure_stays_while_the_artifact_does_and_is_forgotten_with_another_version_in_between():
    table = HostTable(RecordSet(1, (RECORD,)))
    beat(table, "h1", "1", outcome=REFUSED)
    table.activate(RecordSet(2, (replace(RECORD, attempt=2), Record("b", Release("1"), "http://r"))))
    assert shown(table) == {"failed": 1}
    table.activate(RecordSet(3, (replace(RECORD, release=Release("1")),)))
    table.activate(RecordSet(4, (RECORD,)))
    assert shown(table) == {"todo": 1}


def test_what_a_host_tells_in_the_beat_that_first_gets_another_order_is_of_the_former():
    table = HostTable(RecordSet(1, (RECORD,)))
    beat(table, "h1", "1")
    mended = RecordSet(2, (replace(RECORD, release=replace(RECORD.release, sha256="1" * 64)),))
    table._index.classes = Classes(mended, at=NOW + 0.5)  # and no host was moved yet
    beat(table, "h1", "1", outcome=REFUSED, now=NOW + 1)
    assert shown(table, NOW + 1) == {"todo": 1}
    assert len(table.parts()) == 1


def test_a_retired_host_is_not_counted_at_all(table):
    beat(table, "h1")
    beat(table, "h2", "1")
    table.retire("h2", NOW)
    assert shown(table) == {"good": 1}


@pytest.mark.parametrize("more", [(), (RealAgent("b", "1", "started", 7),)], ids=["alone", "beside another"])
def test_a_host_that_tells_of_no_trial_is_good_when_it_has_been_started_for_an_interval(table, more):
    """Whatever version its updater says it has: ours did not always tell."""

    def says(version, seconds):
        agents = [RealAgent("a", version, "started", 7), *more]
        table.beat(Report("go", agents, updater_version="0.1.0"), "10.0.0.1", NOW + seconds)
        return shown(table, NOW + seconds)

    assert says("1", 0) == {"todo": 1}
    assert says("2", 60) == {"trial": 1}
    assert says("2", 61) == {"trial": 1}, "a beat more says little when it comes a second later"
    assert says("2", 60 + AGES.late_after / MISSED) == {"good": 1}
    beat(table, "go", now=NOW + 100)
    assert shown(table, NOW + 100) == {"good": 1}
    beat(table, "go", now=NOW + 101, trial=True)
    assert shown(table, NOW + 101) == {"trial": 1}


@pytest.mark.parametrize(
    ("selector", "todo"),
    [(Prefix("web-"), 2), (Glob("*-1"), 2), (Hosts(frozenset({"db-1"})), 1), (Label("env=test"), 1), (Prefix("x"), 0)],
)
def test_only_hosts_of_the_selector_are_counted(selector, todo):
    table = HostTable(RecordSet(1, (RECORD,), labels={"web-2": {"env": "test"}}))
    for name in ("web-1", "web-2", "db-1"):
        beat(table, name, "1", outcome=rolled_back() if name == "db-1" else None)
    found = progress(table, Asked("a", selector), NOW, AGES)
    assert found.judged == todo
    assert found.failed == sum(one.hosts for one in found.failures)
    assert found.wanted == (["2"] if todo else [])


def test_a_selector_of_a_record_is_asked_by_its_class():
    record = Record("a", Release("1"), "http://r", overrides=(Override(Prefix("web-"), Release("2")),))
    table = HostTable(RecordSet(7, (record,)))
    for name, version in (("web-1", "2"), ("web-2", "1"), ("db-1", "1")):
        beat(table, name, version)
    found = progress(table, Asked("a", Prefix("web-")), NOW, AGES)
    assert (found.revision, found.desired, found.wanted, found.good, found.todo) == (7, "1", ["2"], 1, 1)
    found = progress(table, Asked("a"), NOW, AGES)
    assert (found.wanted, found.pending) == (["1", "2"], ["2"])
    beat(table, "web-2", "2", trial=True)
    beat(table, "db-1", "2")
    assert progress(table, Asked("a"), NOW, AGES).pending == ["1", "2"]
    beat(table, "web-2", "2")
    beat(table, "db-1", "1")
    assert progress(table, Asked("a"), NOW, AGES).pending == []


def test_of_how_many_hosts_each_version_is_wanted_whether_they_are_there_or_not():
    table = HostTable(
        RecordSet(1, (replace(RECORD, overrides=(Override(Prefix("x"), Release("1")),)),)), late_after=100
    )
    for name in ("h1", "h2", "x1"):
        beat(table, name)
    take(table, NOW + 1)
    take(table, NOW + 150)
    beat(table, "h1", now=NOW + 150)
    assert progress(table, Asked("a"), NOW + 150, AGES).ordered == {"1": 1, "2": 2}
    assert progress(table, Asked("a", Prefix("h")), NOW + 150, AGES).ordered == {"2": 2}


def test_a_banned_version_is_wanted_by_no_host(table):
    beat(table, "h1")
    assert progress(table, Asked("a"), NOW, AGES).wanted == ["2"]
    table.activate(RecordSet(2, (RECORD,), bans=(Ban("a", "2"),)))
    found = progress(table, Asked("a"), NOW, AGES)
    assert (found.desired, found.wanted, found.judged) == ("2", [], 0)
    assert (found.banned, found.left_out) == (1, [Standing("h1", "banned")])


@pytest.mark.parametrize("seen", ["2", "1"])
def test_hosts_whose_order_is_banned_are_left_out_and_named_whatever_they_run(seen):
    table = HostTable(RecordSet(1, (CANARY,), labels=LABELS, bans=(Ban("a", "2"),)), late_after=100)
    later = NOW + 50
    for now, (name, version) in itertools.product((NOW, later), (("web-1", "1"), ("web-2", seen))):
        beat(table, name, version, now=now)
    found = progress(table, Asked("a"), later, AGES)
    assert (found.good, found.banned, found.judged, found.left_out) == (1, 1, 1, [Standing("web-2", "banned")])
    chosen = progress(table, Asked("a", Label("rack=1")), later, AGES)
    assert (chosen.good, chosen.banned) == (1, 0)
    take(table, later + 1)
    take(table, later + 150)
    away = progress(table, Asked("a"), later + 150, AGES)
    assert (away.late, away.banned) == (2, 0)
    stops = replace(CANARY, overrides=(replace(CANARY.overrides[0], cmd="stop"),))
    table.activate(RecordSet(2, (stops,), labels=LABELS, bans=(Ban("a", "2"),)))
    assert progress(table, Asked("a"), later + 150, AGES).banned == 0, "an order to stop is given all the same"


@pytest.mark.parametrize(
    ("edit", "is_other"),
    [
        ({"records": (Record("b", Release("1"), "http://r"), CANARY)}, False),
        ({"records": (replace(CANARY, tarball="http://m", attempt=7),)}, False),
        ({"bans": (Ban("b", "2"),)}, False),
        ({"labels": LABELS | {"web-1": {"rack": "2"}, "web-3": {"rack": "2"}}}, False),
        ({"bans": (Ban("a", "2"),)}, True),
        ({"labels": LABELS | {"web-2": {"ring": "2"}}}, True),
        ({"labels": {}}, True),
        ({"records": (replace(CANARY, release=Release("3")),)}, True),
        ({"records": (replace(CANARY, cmd="stop"),)}, True),
        ({"records": (replace(CANARY, overrides=()),)}, True),
        ({"records": (replace(CANARY, overrides=(replace(CANARY.overrides[0], release=Release("3")),)),)}, True),
    ],
)
def test_what_the_orders_of_an_agent_rest_on_changes_with_them_and_with_nothing_else(edit, is_other):
    before = RecordSet(1, (CANARY,), labels=LABELS)
    after = replace(before, revision=2, **edit)
    assert (version_fingerprint(after, "a") != version_fingerprint(before, "a")) is is_other


def test_a_host_that_is_put_aside_leaves_the_grounds_of_the_orders_as_they_were():
    table = HostTable(RecordSet(1, (CANARY,), labels=LABELS))
    beat(table, "web-1", "1")
    beat(table, "web-2", "1")
    before = progress(table, Asked("a"), NOW, AGES)
    table.retire("web-2", NOW)
    after = progress(table, Asked("a"), NOW, AGES)
    assert (before.wanted, after.wanted) == (["1", "2"], ["1"])
    assert before.grounds == after.grounds != ""


def test_a_download_that_is_tried_again_is_to_do_and_one_that_is_refused_has_failed_each_with_its_reason(table):
    beat(table, "away", "1", outcome=Outcome("a", "", "2", "install", "failed", "mirror: timed out"))
    beat(table, "gone", "1", outcome=Outcome("a", "", "2", "install", "refused", "no tarball: answered 404"))
    found = progress(table, Asked("a"), NOW, AGES)
    assert (found.todo, found.failed) == (1, 1)
    assert [(one.reason, one.hosts) for one in found.failures] == [
        ("mirror: timed out", 1),
        ("no tarball: answered 404", 1),
    ]


def test_the_reasons_of_hosts_that_are_not_asked_for_are_not_read(table):
    for name in ("web-1", "db-1"):
        beat(table, name, "1", outcome=rolled_back())
    table.get("db-1").told = "this is no JSON"
    found = progress(table, Asked("a", Prefix("web-")), NOW, AGES)
    assert [one.example for one in found.failures] == ["web-1"]


def test_all_counts_are_of_one_moment(table):
    """Whatever hosts say meanwhile, and whoever falls silent or comes back, each is counted once."""
    hosts = [f"h{number}" for number in range(300)]
    for name in hosts:
        beat(table, name, "1", now=NOW - 150)
    take(table, NOW)
    is_over = threading.Event()

    def beats():
        for number in itertools.count():
            if is_over.is_set():
                return
            name = hosts[number * 7 % len(hosts)]
            outcome = rolled_back() if number % 5 == 0 else None
            beat(table, name, str(1 + number % 2), trial=number % 3 == 0, outcome=outcome, now=NOW + number % 3)
            if number % 50 == 0:
                take(table, NOW + 120)

    beating = threading.Thread(target=beats)
    beating.start()
    try:
        for asked in [Asked("a"), Asked("a", Prefix("h1")), Asked("a", include_lost=True)] * 100:
            found = progress(table, asked, NOW + 110, AGES)
            assert found.judged + found.late + found.lost + found.held == (111 if asked.selector else len(hosts))
            assert min(found.todo, found.trial, found.good, found.failed, found.late) >= 0
    finally:
        is_over.set()
        beating.join()


def test_hosts_that_may_be_silent_because_meta_was_away_are_waited_for(table):
    beat(table, "gone", now=NOW - 5000)
    for name in ("h1", "h2"):
        beat(table, name, now=NOW)
    after = HostTable(RecordSet(1, (RECORD,)), late_after=100)
    load(
        after,
        [known(table, name)._replace(id=n) for n, name in enumerate(("gone", "h1", "h2"), 1)],
        NOW + 500,
    )
    take(after, NOW + 500)
    found = progress(after, Asked("a"), NOW + 500, AGES)
    assert (found.judged, found.late, found.lost, found.patience) == (0, 2, 1, 300)
    beat(after, "h1", now=NOW + 540)
    found = progress(after, Asked("a"), NOW + 540, AGES)
    assert (found.good, found.late, found.lost, found.patience) == (1, 1, 1, 300)
    beat(after, "h2", now=NOW + 541)
    found = progress(after, Asked("a"), NOW + 541, AGES)
    assert (found.good, found.lost, found.patience) == (2, 1, 0), "one that was away before is not waited for"


def test_after_as_long_as_hosts_may_be_silent_nobody_waits_for_them(table):
    beat(table, "h1", now=NOW)
    beat(table, "h2", now=NOW)
    take(table, NOW + 1)
    beat(table, "h1", now=NOW + 300)
    take(table, NOW + 300)
    assert progress(table, Asked("a"), NOW + 300, AGES).patience == 300
    for seconds in range(310, 610, 10):
        beat(table, "h1", now=NOW + seconds)
    assert progress(table, Asked("a"), NOW + 599, AGES).patience == 1
    found = progress(table, Asked("a"), NOW + 601, AGES)
    assert (found.good, found.late, found.patience) == (1, 1, 0)


def test_hosts_without_an_order_are_not_counted_and_overrides_are_heeded():
    record = Record("a", Release("2"), "http://r", overrides=(Override(Prefix("old-"), Release("1")),))
    table = HostTable(RecordSet(1, (record,)))
    beat(table, "old-1", "1")
    beat(table, "new-1", "2")
    assert shown(table) == {"good": 2}
    table.activate(RecordSet(2, ()))
    assert shown(table) == {}


def test_the_end_of_a_trial_is_no_new_version_and_its_verdict_goes_when_it_is_done(table):
    beat(table, "h1", trial=True)
    beat(table, "h1", now=NOW + 60)
    [(_, since, _)] = table.get("h1").agents()
    assert since == NOW
    beat(table, "h1", "1", outcome=rolled_back(), now=NOW + 70)
    assert len(table.get("h1").group.agent_set.verdicts) == 1
    beat(table, "h1", outcome=Outcome("a", "1", "2", "watch", "done", at=9), now=NOW + 80)
    assert table.get("h1").group.agent_set.verdicts == ()
    assert len(table.parts()) == 1


# --- what a host rejects ---


def reasons(table, now=NOW):
    return [(one.version, one.result, one.reason) for one in progress(table, Asked("a"), now, AGES).failures]


def test_a_version_that_is_ordered_again_after_another_has_not_failed(table):
    """2 failed, 1 was ordered and 2 again: the host tries it, so what it told the first time says nothing of this time."""
    beat(table, "h1", "1", outcome=rolled_back())
    assert shown(table) == {"failed": 1}
    beat(table, "h1", "1")  # it has heard of 1
    assert shown(table) == {"todo": 1}
    assert sums(table, NOW) == {}
    beat(table, "h1", "1", rejected="2")  # and what it says now counts
    assert shown(table) == {"failed": 1}


def test_a_host_that_never_heard_of_the_other_version_still_rejects_this_one(table):
    beat(table, "h1", "1", outcome=rolled_back())
    for revision, version in ((2, "1"), (3, "2")):
        order(table, revision, replace(RECORD, release=Release(version)), at=NOW + 1)
    assert shown(table) == {"todo": 1}, "nobody knows whether it has heard of 1"
    beat(table, "h1", "1", rejected="2", now=NOW + 2)
    assert shown(table) == {"todo": 1}
    beat(table, "h1", "1", rejected="2", now=NOW + 3)
    assert shown(table) == {"failed": 1}
    assert reasons(table) == [("2", "rolled back", "died")]


# --- what a host does before it has heard of its present order ---


def withdrawn(*heard):
    """A table where 2 was ordered and then 1 again, which all hosts have; these had got the order of 2."""
    first = replace(RECORD, release=Release("1"))
    table = HostTable(RecordSet(1, (first,)), late_after=100)
    for name in ("h1", "h2", "x1"):
        beat(table, name, "1", now=NOW - 20)
    order(table, 2, RECORD, at=NOW - 10)
    for name in heard:
        beat(table, name, "1", now=NOW - 5)
    order(table, 3, first, at=NOW)
    return table


@pytest.mark.parametrize("asked", [{}, {"selector": Glob("*")}, {"include_lost": True}])
def test_a_host_is_as_desired_once_it_was_heard_of_since_the_order_came_in_force(asked):
    """Whether it got the withdrawn one is not known: another meta may have answered it."""
    table = withdrawn("h1")
    found = progress(table, Asked("a", **asked), NOW, AGES)
    assert (found.todo, found.good, found.waits, found.pending) == (3, 0, {"heartbeat": 3}, ["1"])
    beat(table, "h1", "2", "stoped", now=NOW + 1)  # it had begun with 2
    beat(table, "h2", "1", now=NOW + 1)
    found = progress(table, Asked("a", **asked), NOW + 1, AGES)
    assert (found.todo, found.good, found.waits) == (2, 1, {"heartbeat": 1})
    assert [find(table, name, NOW + 1, AGES).agents[0].waits for name in ("h1", "h2", "x1")] == ["", "", "heartbeat"]
    assert [one.name for one in found.last] == ["h1", "x1"]
    for name in ("h1", "x1"):
        beat(table, name, "1", now=NOW + 2)
    assert shown(table, NOW + 2, **asked) == {"good": 3}


@pytest.mark.parametrize("waits", ["download", "change"])
def test_a_host_whose_turn_by_a_withdrawn_order_is_under_way_is_to_do(waits):
    table = withdrawn("h1")
    for name in ("h1", "h2", "x1"):
        beat(table, name, "1", waits=waits if name == "h1" else UNSET, trial=name == "h1", now=NOW + 1)
    found = progress(table, Asked("a"), NOW + 1, AGES)
    assert (found.todo, found.good, found.trial, found.waits) == (1, 2, 0, {waits: 1})
    assert told_everywhere(table, NOW + 1) == {}
    beat(table, "h1", "1", now=NOW + 2)
    assert shown(table, NOW + 2) == {"good": 3}


def test_a_host_that_is_ordered_other_bytes_is_good_when_it_had_the_time_to_refuse_them():
    """Its next beat only fetches that order, and looks as desired."""
    table = withdrawn()
    for name in ("h1", "h2", "x1"):
        beat(table, name, "1", now=NOW + 1)
    order(table, 4, replace(RECORD, release=Release("1", md5="0" * 32)), at=NOW + 2)
    for name in ("h1", "h2", "x1"):
        beat(table, name, "1", now=NOW + 3)
    assert shown(table, NOW + 3) == {"todo": 3}
    refused = Outcome("a", "1", "1", "order", "refused", "1 is installed with another md5")
    beat(table, "h1", "1", now=NOW + 4, outcome=refused)
    assert reasons(table, NOW + 4) == [("1", "refused", refused.reason)]
    later = NOW + 2 + AGES.late_after / 3
    for name in ("h1", "h2", "x1"):
        beat(table, name, "1", now=later)
    assert shown(table, later) == {"failed": 1, "good": 2}
    order(table, 5, replace(RECORD, release=Release("1", md5="1" * 32)), at=later + 1)
    assert shown(table, later + 1) == {"todo": 3}, "what was refused is ordered no more"


def test_an_edit_that_gives_a_host_the_same_order_leaves_it_good():
    table = withdrawn()
    for name in ("h1", "h2", "x1"):
        beat(table, name, "1", now=NOW + 1)
    same = replace(RECORD, release=Release("1"), attempt=3)
    order(table, 4, same, Record("b", Release("1"), "http://r"), at=NOW + 2)
    assert shown(table, NOW + 2) == {"good": 3}
    order(table, 5, replace(same, overrides=(Override(Prefix("x"), Release("2")),)), at=NOW + 3)
    assert shown(table, NOW + 3) == {"good": 2, "todo": 1}


def test_a_host_that_tells_of_no_turns_is_good_when_it_was_heard_of_an_interval_after_the_edit():
    """A turn by the former order may be under way in it for as long."""
    table = HostTable(RecordSet(1, (RECORD,)), late_after=100)
    beat(table, "go", "2", trial=UNSET, now=NOW - 500)
    order(table, 2, MENDED, at=NOW)
    beat(table, "go", "2", trial=UNSET, now=NOW + 5)
    assert shown(table, NOW + 5) == {"todo": 1}
    beat(table, "go", "2", trial=UNSET, now=NOW + AGES.late_after / MISSED)
    assert shown(table, NOW + 40) == {"good": 1}


def test_a_host_that_was_silent_before_the_edit_is_left_out_and_not_good_when_lost_ones_count():
    table = withdrawn()
    for at in range(0, 2000, 50):
        for name in ("h1", "h2"):
            beat(table, name, "1", now=NOW + at + 1)
        take(table, NOW + at + 2)
    assert shown(table, NOW + 2000) == {"good": 2, "lost": 1}
    assert shown(table, NOW + 2000, include_lost=True) == {"good": 2, "todo": 1}


@pytest.mark.parametrize("by", ["a person", "a beat"])
def test_a_host_that_was_retired_while_an_order_was_withdrawn_is_to_do_until_it_was_heard_of(by):
    """It may have received the order before it was retired."""
    first = replace(RECORD, release=Release("1"))
    table, tells = HostTable(RecordSet(1, (first,)), late_after=100), {"trial": UNSET if by == "a beat" else False}
    beat(table, "h1", "1", now=NOW - 90, **tells)
    order(table, 2, RECORD, at=NOW - 10)
    beat(table, "h1", "1", now=NOW - 5, **tells)
    table.retire("h1", NOW - 4)
    order(table, 3, first, at=NOW)
    if by == "a person":
        table.unretire("h1", NOW + 1)
        assert shown(table, NOW + 1) == {"todo": 1}
    beat(table, "h1", "1", now=NOW + 2, **tells)
    assert shown(table, NOW + 2) == {"todo" if by == "a beat" else "good": 1}
    beat(table, "h1", "1", now=NOW + 40, **tells)
    assert shown(table, NOW + 40) == {"good": 1}


# --- what a meta that has just started knows of that ---


@pytest.fixture
def started(store):
    """Starts a meta on the database, after the former one has ended."""
    services = []

    def start():
        for service in services:
            assert service.close(10)
        service = Service(store.apart(), Settings(late_after=100))
        service.start()
        services.append(service)
        return service

    yield start
    for service in services:
        service.close(10)
        service.store.close()


def edit(service, at, **fields):
    service.editor.apply(Edit(at, "ann", "", "set"), lambda before: replace(before, **fields))


def test_after_a_restart_a_host_is_good_once_it_was_heard_of(started):
    """Its last report may be by an order that is in no history: of a file's records, or after a backup was restored."""
    now, first = time.time(), replace(RECORD, release=Release("1"))
    before = started()
    edit(before, now - 900, records=(first,))
    for name, ago in (("late", 300), ("h1", 70), ("h2", 5)):
        beat(before.table, name, "1", now=now - ago)
    table = started().table
    assert progress(table, Asked("a"), now, AGES).waits == {"heartbeat": 2}
    assert shown(table, now) == {"todo": 2, "late": 1}
    assert shown(table, now, include_lost=True) == {"todo": 3}
    beat(table, "h1", "2", "stoped", now=time.time())  # it had begun with 2, which was withdrawn
    beat(table, "h2", "1", now=time.time())
    assert shown(table, time.time()) == {"good": 1, "todo": 1, "late": 1}
    beat(table, "h1", "1", now=time.time())
    assert shown(table, time.time()) == {"good": 2, "late": 1}
    assert find(table, "h2", time.time(), AGES).agents[0].waits == ""


def test_after_a_restart_a_host_that_tells_of_no_turns_is_good_if_it_was_heard_of_an_interval_later(started):
    now, before = time.time(), started()
    edit(before, now - 900, records=(RECORD,))
    for ago in (200, 5):
        beat(before.table, "h1", trial=UNSET, now=now - ago)
    table, began = started().table, time.time()
    beat(table, "h1", trial=UNSET, now=began + 20)
    assert shown(table, began + 20) == {"todo": 1}
    beat(table, "h1", trial=UNSET, now=began + 40)
    assert shown(table, began + 40) == {"good": 1}


def test_after_a_restart_a_stop_is_done_where_the_agent_is_not_there_once_its_host_was_heard_of(started):
    now, before = time.time(), started()
    edit(before, now - 900, records=(replace(RECORD, cmd="stop"),))
    other = RealAgent("other", "1", "started", 5, trial=False)
    before.table.beat(Report("h1", [other]), "", now - 5)
    table = started().table
    assert shown(table, time.time()) == {"todo": 1}
    table.beat(Report("h1", [other]), "", time.time())
    assert shown(table, time.time()) == {"good": 1}


def test_a_failure_in_the_first_report_after_a_restart_counts(started):
    now, before = time.time(), started()
    edit(before, now - 3, records=(RECORD,))
    beat(before.table, "h1", "1", now=now - 1)
    table = started().table
    beat(table, "h1", "1", outcome=REFUSED, now=time.time())
    assert shown(table, time.time()) == {"failed": 1}


def test_the_start_is_a_time_of_this_machines_clock(table):
    load(table, [], NOW)
    table.move_along(-5000.0, NOW - 5000)
    order(table, 2, RECORD, at=NOW - 4990)
    assert NOW - 5000 < table.classes.began < NOW - 4999


@pytest.mark.parametrize("by", [5000.0, -5000.0])
def test_after_the_clock_was_set_a_host_is_good_once_it_was_heard_of(table, by):
    """An edit between that and its being noticed was dated by the clock as it was set."""
    beat(table, "h1", "1")
    take(table, NOW + 1)
    order(table, 2, replace(RECORD, release=Release("1")), at=NOW + by + 1)
    table.move_along(by, NOW + by + 2)
    assert shown(table, NOW + by + 2) == {"todo": 1}
    beat(table, "h1", "1", now=NOW + by + 3)
    assert shown(table, NOW + by + 3) == {"good": 1}


def test_while_the_clock_is_being_set_no_host_is_good(table):
    beat(table, "h1")
    table.doubt()
    order(table, 2, RECORD, at=NOW + 5000)
    beat(table, "h1", now=NOW + 5001)
    assert shown(table, NOW + 5001) == {"todo": 1}


@pytest.mark.parametrize("by", [3600, -3600])
def test_a_clock_that_is_set_makes_no_host_good_before_that_is_noticed_or_after(tmp_path, by):
    ahead, first = [0], replace(RECORD, release=Release("1"))
    with closing(Store(f"sqlite:///{tmp_path}/meta.db")) as store:
        store.upgrade()
        service = Service(store, Settings(late_after=30), Clock(lambda: time.time() + ahead[0], time.monotonic))

        def found():
            return service.clock.at_one_time(lambda now: shown(service.table, now, service.ages))

        service.start()
        try:
            for record in (first, RECORD):
                edit(service, time.time(), records=(record,))
                beat(service.table, "h1", "1", now=service.clock.now())
            ahead[0], end = by, time.monotonic() + 20
            edit(service, time.time(), records=(first,))
            while abs(service.table.classes.began - by - time.time()) > 9:
                assert time.monotonic() < end
                assert found() == {"todo": 1}
            assert found() == {"todo": 1}
            assert abs(service.clock.now() - service.clock.wall()) < 1
            beat(service.table, "h1", "1", now=service.clock.now())
            assert found() == {"good": 1}
        finally:
            service.close(10)


# --- what hosts hear of other metas ---


def test_of_several_metas_one_may_answer_by_former_records_for_a_while(table):
    """A host that it answered so looks good, and is about to follow the former order."""
    other = HostTable(RecordSet(1, (replace(RECORD, release=Release("1")),)))
    for name in ("h1", "h2"):
        beat(table, name, "1")
    order(table, 2, RECORD, at=NOW + 10)
    order(table, 3, replace(RECORD, release=Release("1")), at=NOW + 11)
    for number, name in enumerate(("h1", "h2"), 1):
        beat(other, name, "1", now=NOW + 12)
        absorb(table, Since(number, [known(other, name)._replace(id=number)], [], []), NOW + 13)
    assert shown(table, NOW + 13) == {"good": 2}
    assert shown(table, NOW + 13, ages=AGES._replace(lag=10.0)) == {"todo": 2}
    beat(table, "h1", "1", now=NOW + 22)
    assert shown(table, NOW + 22, ages=AGES._replace(lag=10.0)) == {"good": 1, "todo": 1}


def test_a_host_that_came_to_another_meta_first_may_have_been_answered_by_former_records(table):
    order(table, 2, RECORD, at=NOW)
    order(table, 3, replace(RECORD, release=Release("1")), at=NOW + 1)
    other, ages = HostTable(RecordSet(1, (RECORD,))), AGES._replace(lag=10.0)
    for at, found in ((NOW + 8, {"todo": 1}), (NOW + 12, {"good": 1})):
        beat(other, "h1", "1", now=at)
        absorb(table, Since(1, [known(other, "h1")._replace(id=1)], [], []), at)
        assert shown(table, at, ages=ages) == found


def test_another_meta_may_answer_by_former_records_for_a_while_after_this_one_started(table):
    """The edit may have been made here just before the restart."""
    other, ages = HostTable(RecordSet(1, (RECORD,))), AGES._replace(lag=10.0)
    beat(other, "h1", now=NOW - 20)
    load(table, [known(other, "h1")._replace(id=1)], NOW)
    for at, found in ((NOW + 5, {"todo": 1}), (NOW + 10, {"good": 1})):
        beat(other, "h1", now=at)
        absorb(table, Since(1, [known(other, "h1")._replace(id=1)], [], []), at)
        assert shown(table, at, ages=ages) == found


def test_where_other_metas_may_be_they_are_reckoned_with_though_they_never_wrote(started, url):
    service = started()
    edit(service, time.time(), records=(RECORD,))
    beat(service.table, "h1", now=time.time())
    found = shown(service.table, time.time(), ages=service.ages._replace(late_after=100))
    assert found == {"todo" if url.startswith("postgresql") else "good": 1}


@pytest.fixture
def two(store):
    """Two metas on one database."""
    services = [Service(store.apart(), Settings(late_after=100)) for _ in range(2)]
    for service in services:
        service.start()
    yield services
    for service in services:
        service.close(10)
        service.store.close()


def follows(one, other):
    end = time.monotonic() + 20
    while one.records.revision < other.records.revision:
        assert time.monotonic() < end
        time.sleep(0.01)


RINGED = replace(RECORD, overrides=(Override(Label("ring=1"), Release("3")),))
B1, B2 = (Record("b", Release(version), "http://r") for version in "12")


@pytest.mark.parametrize(
    ("between", "state"),
    [
        ([{"records": (replace(RECORD, release=Release("3")),)}], "todo"),
        ([{"bans": (Ban("a", "2"),)}], "todo"),
        ([{"labels": {"h1": {"ring": "1"}}}, {"labels": {"h1": {"ring": "2"}}}], "todo"),
        ([{"records": (RINGED, B2)}, {"labels": {"x": {"ring": "1"}}}, {"bans": (Ban("b", "1"),)}], "good"),
    ],
    ids=["a version", "a ban", "labels", "nothing of it"],
)
def test_an_order_that_came_and_went_between_two_looks_of_a_meta_has_to_be_heard_of(two, between, state):
    """Another meta may have answered the host by it."""
    one, other = two
    edit(other, time.time(), records=(RINGED, B1))
    follows(one, other)
    beat(one.table, "h1", now=one.clock.now())
    assert shown(one.table, one.clock.now()) == {"good": 1}
    before = other.records
    for fields in between:
        edit(other, time.time(), **fields)
    edit(other, time.time(), records=before.records, bans=(), labels={})
    follows(one, other)
    assert shown(one.table, one.clock.now()) == {state: 1}
    beat(one.table, "h1", now=one.clock.now())
    assert shown(one.table, one.clock.now()) == {"good": 1}


def test_where_it_is_not_known_which_orders_came_and_went_each_has_to_be_heard_of(table):
    beat(table, "h1")
    order(table, 2, RECORD, B1, at=NOW + 1)
    assert shown(table, NOW + 1) == {"good": 1}
    order(table, 13, RECORD, B2, at=NOW + 2)  # too many to look at each
    assert shown(table, NOW + 2) == {"todo": 1}
    beat(table, "h1", now=NOW + 3)
    restored = RecordSet(14, (RECORD, B1), identity="other")
    table.activate(restored, table.classes.records, lambda: NOW + 4)  # the former ones are in no history
    assert shown(table, NOW + 4) == {"todo": 1}


def test_hosts_that_were_not_moved_to_some_records_before_others_came_in_force_have_to_hear_of_each_order(table):
    beat(table, "h1")
    table._index.classes = Classes(RecordSet(2, (MENDED,)), at=NOW + 1)  # and no host was moved yet
    table._index.classes.number = 1
    order(table, 3, RECORD, at=NOW + 2)
    assert shown(table, NOW + 2) == {"todo": 1}


# --- what a host tells before it has heard of its present order ---


def order(table, revision, *records, at=NOW + 1, **more):
    table.activate(RecordSet(revision, records, **more), clock=lambda: at)


def test_a_refusal_that_is_told_after_the_record_was_mended_is_of_the_former_order(table):
    beat(table, "h1", "1")
    order(table, 2, MENDED)
    beat(table, "h1", "1", outcome=REFUSED, now=NOW + 2)
    assert shown(table, NOW + 2) == {"todo": 1}
    assert progress(table, Asked("a"), NOW + 2, AGES).failures == []
    assert table.get("h1").outcomes["a"].reason == "another sha256", "it is told on"
    beat(table, "h1", "1", outcome=replace(REFUSED, at=9), now=NOW + 3)
    assert shown(table, NOW + 3) == {"failed": 1}, "this it tells of the mended one"


@pytest.mark.parametrize("trial", [False, UNSET], ids=["told", "untold"])
@pytest.mark.parametrize("is_known", [True, False], ids=["before", "after"])
def test_what_was_rolled_back_is_to_do_when_another_tarball_is_ordered_as_the_same_version(table, trial, is_known):
    beat(table, "h1", "1", trial=trial, outcome=rolled_back() if is_known else None)
    order(table, 2, replace(RECORD, tarball="http://r/other"))
    assert shown(table) == {"todo": 1}
    its = {} if trial is UNSET else {"rejected": "2"}
    beat(table, "h1", "1", trial=trial, outcome=None if is_known else rolled_back(), now=NOW + 2, **its)
    assert shown(table, NOW + 2) == {"todo": 1}, "it has had no answer yet that asks for the other one"
    assert sums(table, NOW) == {}
    beat(table, "h1", "1", trial=trial, outcome=rolled_back("died again"), now=NOW + 3)
    assert shown(table, NOW + 3) == {"failed": 1}


@pytest.mark.parametrize("hears", [True, False])
def test_a_version_that_an_older_updater_rolled_back_is_to_do_when_it_is_ordered_again_after_another(table, hears):
    beat(table, "h1", "1", trial=UNSET, outcome=rolled_back())
    order(table, 2, replace(RECORD, release=Release("1")))
    if hears:
        beat(table, "h1", "1", trial=UNSET, now=NOW + 2)
    order(table, 3, RECORD, at=NOW + 3)
    assert shown(table, NOW + 4) == {"todo": 1}


def test_a_version_that_failed_to_start_is_to_do_when_it_is_ordered_again_after_a_stop(table):
    failed = Outcome("a", "", "2", "start", "failed", "not started within 60 s", "", 5)
    beat(table, "h1", "2", "stoped", outcome=failed)
    assert shown(table) == {"failed": 1}
    order(table, 2, replace(RECORD, cmd="stop"))
    assert shown(table) == {"todo": 1}
    beat(table, "h1", "2", "stoped", now=NOW + 1.5)
    assert shown(table) == {"good": 1}
    order(table, 3, RECORD, at=NOW + 2)
    assert shown(table) == {"todo": 1}
    beat(table, "h1", "2", "stoped", now=NOW + 3)
    beat(table, "h1", "2", "stoped", outcome=replace(failed, at=9), now=NOW + 4)
    assert shown(table, NOW + 4) == {"failed": 1}


OTHER_TARBALL = replace(RECORD, tarball="http://r/other")


@pytest.mark.parametrize("trial", [False, UNSET], ids=["told", "untold"])
@pytest.mark.parametrize("outcome", ["rolled back", "refused"])
@pytest.mark.parametrize("hears", ["nothing", "of the end", "of both"])
@pytest.mark.parametrize(
    ("end", "again"),
    [((), OTHER_TARBALL), ((RECORD,), OTHER_TARBALL), ((RECORD,), RECORD)],
    ids=["unset, another tarball", "banned, another tarball", "banned"],
)
def test_what_failed_is_to_do_when_its_order_was_gone_in_between(trial, outcome, hears, end, again):
    """Until the host says so again of the present order."""
    table = HostTable(RecordSet(1, (RECORD,)), late_after=100)
    told = rolled_back() if outcome == "rolled back" else REFUSED
    says = {"rejected": "2"} if told.result == "rolled back" and trial is not UNSET else {}
    beat(table, "h1", "1", trial=trial, now=NOW - 1)
    if hears == "nothing":
        beat(table, "h1", "1", trial=trial, outcome=told)
        assert shown(table) == {"failed": 1}
    order(table, 2, *end, bans=(Ban("a", "2"),) if end else ())
    assert shown(table) == {}
    if hears != "nothing":  # it reports of the order that is gone
        beat(table, "h1", "1", trial=trial, outcome=told, now=NOW + 2)
    if hears == "of both":
        beat(table, "h1", "1", trial=trial, now=NOW + 3, **says)
    order(table, 3, again, at=NOW + 4)
    assert shown(table, NOW + 4) == {"todo": 1}
    beat(table, "h1", "1", trial=trial, now=NOW + 5, **says)
    assert shown(table, NOW + 5) == {"todo": 1}, "it has yet to receive the order"
    beat(table, "h1", "1", trial=trial, outcome=replace(told, at=9), now=NOW + 6)
    assert shown(table, NOW + 6) == {"failed": 1}


def test_a_failure_of_a_new_agent_that_came_to_a_meta_which_lags_stays():
    table = HostTable(RecordSet(1), late_after=100)
    beat(table, "h1", "1", outcome=REFUSED)
    order(table, 2, RECORD)
    assert shown(table) == {"failed": 1}


def test_an_edit_that_gives_others_another_order_hides_no_failure(table):
    beat(table, "h1", "1")
    beat(table, "x1", "1")
    spared = replace(RECORD, overrides=(Override(Prefix("x"), Release("3")),))
    order(table, 2, spared, Record("b", Release("1"), "http://r"))
    beat(table, "h1", "1", outcome=REFUSED, now=NOW + 2)
    beat(table, "x1", "1", outcome=REFUSED, now=NOW + 2)
    assert shown(table, NOW + 2) == {"todo": 1, "failed": 1}
    order(table, 3, RECORD, at=NOW + 3)
    assert shown(table, NOW + 3) == {"todo": 1, "failed": 1}
    assert table.get("x1").group.klass.since["a"] == NOW + 3


def ringed(*names):
    """Version 1 for all, 2 for the hosts of ring 1."""
    return RecordSet(2, (CANARY,), labels={name: {"ring": "1"} for name in names})


JOINS = {
    "a label is given": (ringed("h1", "here"), ringed("h1", "here", "x1")),
    "a label is taken away": (
        RecordSet(
            2, (replace(RECORD, overrides=(Override(Label("pin=1"), Release("1")),)),), labels={"x1": {"pin": "1"}}
        ),
        RecordSet(2, (replace(RECORD, overrides=(Override(Label("pin=1"), Release("1")),)),)),
    ),
    "an override is taken away": (
        RecordSet(2, (replace(RECORD, overrides=(Override(Hosts(frozenset({"x1"})), Release("1")),)),)),
        RecordSet(2, (RECORD,)),
    ),
    "an override is widened": (
        RecordSet(2, (replace(CANARY, overrides=(Override(Prefix("h"), Release("2")),)),)),
        RecordSet(2, (replace(CANARY, overrides=(Override(Glob("*"), Release("2")),)),)),
    ),
}


@pytest.fixture(params=JOINS)
def widened(request):
    """A table where h1 and here have got the order of version 2, and what makes x1 get it too at a time."""
    before, after = JOINS[request.param]
    table = HostTable(RecordSet(1, (replace(RECORD, release=Release("1")),), labels=before.labels), late_after=100)

    def widen(at):
        table.activate(replace(after, revision=3), clock=lambda: at)

    return table, before, widen


def told_of_2(table, before, trial=False, status="started"):
    for name in ("h1", "here", "x1"):
        beat(table, name, "1", status, trial=trial)
    table.activate(before, clock=lambda: NOW + 1)
    for name in ("h1", "here", "x1"):
        beat(table, name, "1", status, trial=trial, now=NOW + 2)
    take(table, NOW + 3)


@pytest.mark.parametrize(
    ("trial", "outcome"),
    [
        (False, Outcome("a", "1", "2", "install", "refused", "another sha256", "", 5)),
        (False, Outcome("a", "1", "2", "start", "failed", "not started", "", 5)),
        (UNSET, Outcome("a", "1", "2", "watch", "rolled back", "died", "", 5)),
    ],
    ids=["refused", "start failed", "rolled back by an older updater"],
)
def test_a_host_that_joins_others_hides_none_of_their_failures(widened, trial, outcome):
    table, before, widen = widened
    told_of_2(table, before, trial)
    widen(NOW + 3)
    beat(table, "h1", "1", trial=trial, outcome=outcome, now=NOW + 4)
    beat(table, "x1", "1", trial=trial, outcome=outcome, now=NOW + 4)
    assert (shown(table, NOW + 4)["failed"], sum(shown(table, NOW + 4).values())) == (1, 3)
    widen(NOW + 5)
    for at in range(6, 30, 10):
        beat(table, "h1", "1", trial=trial, now=NOW + at)
    assert shown(table, NOW + 30)["failed"] == 1


def test_a_host_that_joins_others_does_not_excuse_those_that_fell_silent(widened):
    table, before, widen = widened
    told_of_2(table, before)
    keep_beating(table, NOW + 60)
    widen(NOW + 61)
    beat(table, "x1", now=NOW + 70)
    keep_beating(table, NOW + 150)
    beat(table, "x1", now=NOW + 150)
    assert shown(table, NOW + 150) == {"good": 2, "failed": 1}
    keep_beating(table, NOW + 300)
    assert shown(table, NOW + 300) == {"good": 1, "failed": 1, "late": 1}, "x1 was good"


def label_one_by_one(table, names, seconds):
    """Label one host after the other, so many seconds apart. Each is heard of twice before the next one is labelled."""
    for number, name in enumerate(names):
        at = NOW + number * seconds
        labels = {name: {"ring": "1"} for name in names[: number + 1]}
        table.activate(RecordSet(2 + number, (CANARY,), labels=labels), clock=lambda at=at: at)
        beat(table, name, now=at + 0.5)
        beat(table, name, now=at + seconds - 0.1)


@pytest.mark.parametrize(("seconds", "most"), [(50, 3), (1, 50)], ids=["slowly", "at once"])
def test_hosts_that_are_labelled_one_by_one_are_one_cohort_once_the_orders_of_all_have_settled(seconds, most):
    table = HostTable(RecordSet(1, (replace(RECORD, release=Release("1")),)), late_after=100)
    names = [f"h{number}" for number in range(50)]
    for name in names:
        beat(table, name, "1")
    label_one_by_one(table, names, seconds)
    end = NOW + len(names) * seconds
    for name in names:
        beat(table, name, now=end + 50)
    assert shown(table, end + 51) == {"good": 50}
    assert len({part.klass for part in table.parts()}) <= most
    labels = {name: {"ring": "1"} for name in names}
    table.activate(RecordSet(52, (CANARY,), labels=labels | {"elsewhere": {"ring": "1"}}), clock=lambda: end + 52)
    assert shown(table, end + 52) == {"good": 50}
    assert len({part.klass for part in table.parts()}) <= 3


@pytest.mark.parametrize("trial", [False, UNSET], ids=["an updater that tells trials", "a Go updater"])
def test_a_host_that_has_heard_but_not_waited_joins_no_older_cohort(widened, trial):
    """It may still be about to follow what another meta, or the order before, told it to do."""
    table, before, widen = widened
    ages = AGES._replace(lag=LAG)
    told_of_2(table, before, trial)
    # What the Go updater reports is on trial for a third of lateAfter.
    for name, at in ((name, at) for at in (10, 60) for name in ("h1", "here", *(["x1"] if trial is UNSET else []))):
        beat(table, name, trial=trial, now=NOW + at)
    widen(NOW + 61)
    beat(table, "x1", trial=trial, now=NOW + 62)
    assert shown(table, NOW + 62, ages) == {"todo": 1, "good": 2}
    table.activate(replace(table.classes.records, revision=4), clock=lambda: NOW + 63)
    assert shown(table, NOW + 63, ages) == {"todo": 1, "good": 2}
    beat(table, "x1", trial=trial, now=NOW + 105)
    assert shown(table, NOW + 105, ages) == {"good": 3}


def test_a_host_of_a_class_with_too_many_cohorts_is_of_the_newest():
    book = Classes(RecordSet(1, (RECORD,)), at=NOW)
    there = book.of("h1")
    for number in range(COHORTS + 5):
        there.comers(Classes(RecordSet(1, (CANARY,)), at=NOW + number).of("h1")).book.at += 1
    found = there.comers(Classes(RecordSet(1, (CANARY,))).of("h1"))
    assert found.since == {"a": NOW + COHORTS + 5}
    assert not found.has_heard("a", NOW + COHORTS)


def test_what_a_host_has_yet_to_hear_of_stays_so_when_the_clock_is_set(table):
    beat(table, "h1", "1")
    take(table, NOW + 1)
    order(table, 2, MENDED)
    table.move_along(-5000.0, NOW - 4998)
    beat(table, "h1", "1", outcome=REFUSED, now=NOW - 4997)
    assert shown(table, NOW - 4997) == {"todo": 1}
    beat(table, "h1", "1", outcome=replace(REFUSED, at=9), now=NOW - 4996)
    assert shown(table, NOW - 4996) == {"failed": 1}


def test_a_failure_of_the_new_order_that_came_to_a_meta_which_lags_is_none_of_the_former(table):
    third = replace(RECORD, release=Release("3"))
    beat(table, "h1", "2", outcome=Outcome("a", "2", "3", "start", "failed", "no good", "", 5))
    beat(table, "h2", "2", rejected="3")
    assert shown(table) == {"good": 2}
    order(table, 2, third)
    assert shown(table) == {"failed": 2}


def test_a_way_back_that_fails_once_hides_no_rejection(table):
    beat(table, "h1", "1", outcome=rolled_back())
    beat(table, "h1", "1", "stoped", outcome=Outcome("a", "2", "1", "start", "failed", "not started"), rejected="2")
    assert shown(table) == {"failed": 1}
    assert reasons(table) == [("2", "rolled back", NO_REASON)]
    assert sums(table, NOW) == {("a", "2", "rolled back"): 1}


def test_a_version_of_the_updater_that_failed_its_try_out_is_rejected_with_its_reason(table):
    tried = Outcome("a", "1", "2", "hand over", "failed", "2 was not taken, its try-out failed: no python", "", 5)
    beat(table, "h1", "1", outcome=tried, rejected="2")
    assert shown(table) == {"failed": 1}
    assert reasons(table) == [("2", "failed", "2 was not taken, its try-out failed: no python")]
    assert (
        rollbacks(table, "a", "2")
        == "host h1 rolled a 2 back as its last change of it: 2 was not taken, its try-out failed: no python"
    )
    beat(table, "h2", "1", outcome=replace(tried, result="failed before"), rejected="2")
    assert ("2", "rolled back", NO_REASON) in reasons(table)


def test_a_stop_that_was_done_after_a_rollback_hides_no_rejection(table):
    beat(table, "h1", "1", outcome=rolled_back())
    beat(table, "h1", "1", "stoped", outcome=Outcome("a", "1", "1", "stop", "done"), rejected="2")
    beat(table, "h1", "1", rejected="2")
    assert shown(table) == {"failed": 1}
    assert sums(table, NOW) == {("a", "2", "rolled back"): 1}
    assert [host.name for host in page(table, HostFilter(failed=True), NOW, AGES).hosts] == ["h1"]
    assert rollbacks(table, "a", "2") == f"host h1 rolled a 2 back as its last change of it: {NO_REASON}"


def test_a_rejection_that_was_told_to_a_meta_that_was_killed_is_told_again_by_each_look(table):
    beat(table, "h1", "1", rejected="2")
    assert shown(table) == {"failed": 1}
    assert reasons(table) == [("2", "rolled back", NO_REASON)]
    [agent] = find(table, "h1", NOW, AGES).agents
    assert (agent.failed, agent.rejected, agent.outcome) == (True, "2", None)
    again = HostTable(RecordSet(1, (RECORD,)), late_after=100)
    load(again, [known(table, "h1")._replace(id=1)], NOW)
    assert shown(again) == {"failed": 1}


def test_a_failure_that_an_updater_told_which_knows_no_trials_counts_as_it_did(table):
    beat(table, "h1", "1", trial=UNSET, outcome=rolled_back())
    assert shown(table) == {"failed": 1}
    assert reasons(table) == [("2", "rolled back", "died")]


def told_everywhere(table, now):
    """On which hosts the change of the agent failed, by each way to ask for it."""
    agents = {name: find(table, name, now, AGES).agents[0] for name in table.names()}
    failed = [name for name, agent in agents.items() if agent.failed]
    for wanted in (HostFilter(failed=True), HostFilter(agent="a", failed=True), HostFilter(failed=True, name="*")):
        assert [host.name for host in page(table, wanted, now, AGES).hosts] == failed
    number, reasons = len(failed), failures(table, now)
    assert sum(sums(table, now).values()) == by_agent(table, now).get("a", 0) == number
    assert sum(one.hosts for one in reasons.failures) == number
    assert (sum(one.failed for one in counts(table, now)), progress(table, Asked("a"), now, AGES).failed) == (
        number,
    ) * 2
    assert sum(one.trial for one in counts(table, now)) == progress(table, Asked("a"), now, AGES).trial
    assert sorted(agents[name].outcome.reason for name in failed) == sorted(
        one.reason for one in reasons.failures for _ in range(one.hosts)
    )
    return {name: agents[name].outcome.reason for name in failed}


def test_whoever_failed_by_silence_or_while_it_was_held_is_told_wherever_one_asks():
    table = HostTable(RecordSet(1, (replace(RECORD, release=Release("1")),)), late_after=100)
    for name in ("here", "h-dead", "h-trial", "h-held", "h-away"):
        beat(table, name, "1")
    order(table, 2, RECORD, at=NOW + 1)
    for name in ("here", "h-dead"):
        beat(table, name, "1", now=NOW + 2)
    beat(table, "h-trial", trial=True, now=NOW + 3)
    take(table, NOW + 4)
    keep_beating(table, NOW + 150)
    beat(table, "h-held", "2", "stoped", trial=True, held="ann", now=NOW + 151)
    failed = {
        "h-dead": "fell silent after it got the order",
        "h-held": "down on trial, held",
        "h-trial": "fell silent on trial",
    }
    assert told_everywhere(table, NOW + 151) == failed
    assert sums(table, NOW + 151) == {("a", "2", "failed"): 3}
    beat(table, "h-dead", now=NOW + 152)
    beat(table, "h-held", now=NOW + 152)
    assert told_everywhere(table, NOW + 152) == {"h-trial": "fell silent on trial"}


def test_a_download_that_is_tried_again_has_failed_nowhere(table):
    away = Outcome("a", "1", "2", "install", "failed", "mirror: timed out", "", 5)
    beat(table, "away", "1", waits="download", outcome=away)
    beat(table, "refused", "1", outcome=REFUSED)
    assert told_everywhere(table, NOW) == {"refused": "another sha256"}
    [agent] = find(table, "away", NOW, AGES).agents
    assert (agent.failed, agent.drift, agent.waits) == (False, True, "download")
    assert agent.outcome.reason == "mirror: timed out", "it is told, as it is why"


def test_of_the_hosts_that_failed_before_those_are_named_that_are_not_asked_for_any_more():
    records = RecordSet(1, (RECORD,), labels={"web-1": {"env": "st"}, "web-2": {"env": "st"}})
    table = HostTable(records, late_after=100)
    for name in ("web-1", "web-2"):
        beat(table, name, "1", outcome=rolled_back())
    asked = Asked("a", Label("env=st"))
    failed = progress(table, asked, NOW, AGES).failed_hosts
    assert failed == ["web-1", "web-2"]
    asked = asked._replace(failed_before=[*failed, "unknown"])
    assert progress(table, asked, NOW, AGES).gone == []
    order(table, 2, RECORD, labels={"web-2": {"env": "st"}, "web-3": {"env": "st"}})
    beat(table, "web-3", now=NOW + 2)
    found = progress(table, asked, NOW + 2, AGES)
    assert found.gone == ["web-1"]
    assert [(one.version, one.reason, one.hosts, one.example) for one in found.gone_failures] == [
        ("2", "died", 1, "web-1")
    ]
    beat(table, "web-1", now=NOW + 2, outcome=Outcome("a", "1", "2", "watch", "done"))
    assert progress(table, asked, NOW + 2, AGES).gone_failures == [], "what became of it later is no failure"
    table.retire("web-1", NOW + 3)
    assert progress(table, asked, NOW + 3, AGES).gone == [], "a retired host is left out"


@pytest.mark.parametrize("is_other", [False, True])
def test_how_a_host_failed_that_is_not_asked_for_any_more_is_told_also_after_another_order(is_other):
    override = (Override(Label("env=st"), Release("2")),) if is_other else ()
    record = Record("a", Release("1" if is_other else "2"), "http://r", overrides=override)
    table = HostTable(RecordSet(1, (record,), labels={"web-1": {"env": "st"}}), late_after=100)
    beat(table, "web-1", "1", outcome=Outcome("a", "1", "2", "start", "failed", "died", "", 5))
    order(table, 2, record)
    asked = Asked("a", Label("env=st"), failed_before=["web-1"])
    beat(table, "web-1", "1", now=NOW + 2)
    assert find(table, "web-1", NOW + 2, AGES).agents[0].outcome.result.endswith(" before") is is_other
    [failure] = progress(table, asked, NOW + 2, AGES).gone_failures
    assert (failure.version, failure.result, failure.reason) == ("2", "failed", "died")


def test_until_a_way_back_has_ended_the_reason_is_said_to_follow(table):
    beat(table, "h1", "2", "stoped", trial=True, waits="change", rejected="2")
    assert shown(table) == {"failed": 1}
    assert reasons(table) == [("2", "rolled back", GOING_BACK)]
    beat(table, "h1", "1", outcome=rolled_back())
    assert reasons(table) == [("2", "rolled back", "died")]


@pytest.mark.parametrize(
    ("version", "status", "more", "waits"),
    [
        ("2", "stoped", {"trial": UNSET}, {"start": 1}),
        ("2", "stopped", {}, {"start": 1}),
        ("2", "stoped", {"waits": "change"}, {"change": 1}),
        ("1", "stoped", {"trial": UNSET}, {}),
        ("2", "no pid file", {"trial": UNSET}, {}),
    ],
)
def test_what_has_the_version_and_is_stopped_is_to_do_for_that_reason(table, version, status, more, waits):
    beat(table, "h1", version, status, **more)
    found = progress(table, Asked("a"), NOW, AGES)
    assert (found.todo, found.waits) == (1, waits)


def test_a_refused_download_is_told_apart_from_what_no_host_goes_on_to_ask_for(table):
    beat(table, "h1", "1", outcome=REFUSED)
    beat(table, "h2", "1", outcome=rolled_back())
    found = progress(table, Asked("a"), NOW, AGES)
    assert (found.failed, found.refused, found.asked_within) == (2, 1, 2 * 100 / MISSED)
    assert (found.failed_hosts, found.refused_hosts) == (["h1", "h2"], ["h1"])


@pytest.mark.parametrize("others", [10, 64, 200])
def test_an_agent_among_many_is_good_though_another_one_changes_at_each_beat(table, others):
    for number in range(50):
        flapping = "started" if number % 2 else "stoped"
        agents = [RealAgent(f"x{place}", "1", "started" if place else flapping, 7) for place in range(others)]
        table.beat(Report("go", [RealAgent("a", "2", "started", 7), *agents]), "10.0.0.1", NOW + 10 * number)
    assert shown(table, NOW + 490) == {"good": 1}
