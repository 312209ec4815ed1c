"""Questions about all hosts: pages, counts, drift, and how many an edit would touch."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.record_sets import RECORD_SETS, resolve
from meta.edits import reach
from meta.hosts.regroup import AT_ONCE
from meta.hosts.table import HostTable
from meta.queries import counting, failures, host_pages
from meta.queries.host_pages import SCAN, Ages, HostFilter
from meta.queries.representations import Count, Drift
from meta.records.model import Override, Record, RecordSet, Release
from meta.records.selectors import Glob, Label, Prefix
from meta.store import HostRow
from meta.sync.rows import load, take
from updater.wire.heartbeat import Outcome, RealAgent, Report

STATES = ("new", "ok", "late", "lost", "retired")
AGES = Ages(new_for=100, late_after=10, lost_after=50)
NOW = 1000.0
RECORDS = RecordSet(
    1,
    (
        Record("a", Release("2"), "http://r", overrides=(Override(Label("env=x"), Release("3")),)),
        Record("b", Release("1"), "http://r", cmd="stop"),
    ),
    labels={"h1": {"env": "x"}, "gone": {"env": "x"}},
)


def agent(name="a", version="2", status="started", **more):
    return RealAgent(name, version, status, 7, **more)


@pytest.fixture
def table():
    """h1 wants a 3; h4 says nothing since long, h5 since a while, h6 is retired, h7 is new and bare."""
    found = HostTable(RECORDS, late_after=10)
    for name, first, last, agents in (
        ("h1", 0.0, NOW, [agent(version="3")]),
        ("h2", 0.0, NOW, [agent(version="1")]),
        ("h3", 0.0, NOW, [agent(status="stoped"), agent("b", "1")]),
        ("h4", 0.0, NOW - 60, [agent()]),
        ("h5", 0.0, NOW - 20, [agent(), agent("b", "1", "stoped")]),
        ("h6", 0.0, NOW - 5, [agent()]),
        ("h7", NOW - 50, NOW, []),
    ):
        for now in (first, last):
            found.beat(Report(name, agents), "10.0.0.1", now)
            take(found, now)
    take(found, NOW)
    found.retire("h6", NOW)
    return found


def names(table, now=NOW, **wanted):
    found, cursor = [], ""
    while True:
        page = host_pages.page(table, HostFilter(**wanted), now, AGES, cursor, 2)
        found += [host.name for host in page.hosts]
        if not page.next:
            return " ".join(found)
        cursor = page.next


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, "h1 h2 h3 h4 h5 h7"),
        ({"state": "ok"}, "h1 h2 h3"),
        ({"state": "new"}, "h7"),
        ({"state": "late"}, "h5"),
        ({"state": "lost"}, "h4"),
        ({"state": "retired"}, "h6"),
        ({"state": "retired", "version": "2"}, "h6"),
        ({"state": "retired", "version": "3"}, ""),
        ({"state": "nonsense"}, ""),
        ({"agent": "b"}, "h3 h5"),
        ({"agent": "c"}, ""),
        ({"version": "3"}, "h1"),
        ({"agent": "b", "version": "2"}, ""),
        ({"status": "stoped"}, "h3 h5"),
        ({"agent": "a", "status": "stoped"}, "h3"),
        ({"label": "env"}, "h1"),
        ({"label": "env=x"}, "h1"),
        ({"label": "env=y"}, ""),
        ({"name": "h[12]"}, "h1 h2"),
        ({"name": "*5"}, "h5"),
        ({"name": "h"}, ""),
        ({"name": "*", "state": "ok", "version": "1"}, "h2 h3"),
        ({"drift": True}, "h2 h3 h7"),
        ({"drift": False}, "h1 h4 h5"),
        ({"drift": True, "agent": "b"}, "h3"),
        ({"drift": True, "agent": "a"}, "h2 h3 h7"),
        ({"drift": False, "agent": "a"}, "h1 h4 h5"),
        ({"drift": True, "agent": "a", "version": "1"}, "h2"),
    ],
    ids=str,
)
def test_a_filter_finds_the_hosts_that_fit(table, wanted, expected):
    assert names(table, **wanted) == expected


def test_a_page_says_where_the_next_one_begins(table):
    page = host_pages.page(table, HostFilter(), NOW, AGES, "h2", 2)
    assert ([host.name for host in page.hosts], page.next) == (["h3", "h4"], "h4")
    assert host_pages.page(table, HostFilter(), NOW, AGES, "zzz", 2) == host_pages.Page([], "")


def test_a_host_is_shown_as_it_was_seen_beside_what_it_shall_be(table):
    told = [Outcome("a", to="2", result="failed"), Outcome("b", to="1", result="done")]
    table.beat(Report("h2", [agent(version="1", held="by ann"), agent("z")], outcomes=told), "10.0.0.9", NOW)
    host = host_pages.find(table, "h2", NOW, AGES)
    assert (host.name, host.first_seen, host.last_seen, host.address, host.state) == ("h2", 0.0, NOW, "10.0.0.9", "ok")
    assert [(a.name, a.version, a.held, a.desired, a.desired_cmd, a.drift, a.outcome) for a in host.agents] == [
        ("a", "1", "by ann", "2", "start", True, told[0]),
        ("z", "2", "", "", "", False, None),
        ("b", "", "", "1", "stop", False, told[1]),
    ]
    assert host_pages.find(table, "h1", NOW, AGES).labels == {"env": "x"}
    assert host_pages.find(table, "unknown", NOW, AGES) is None


def test_counts_and_drift_are_without_the_retired(table):
    assert counting.counts(table, NOW) == [
        Count("a", "1", "started", 1),
        Count("a", "2", "started", 2),
        Count("a", "2", "stoped", 1),
        Count("a", "3", "started", 1),
        Count("b", "1", "started", 1),
        Count("b", "1", "stoped", 1),
    ]
    assert counting.counts(table, NOW, "b") == counting.counts(table, NOW)[-2:]
    assert counting.drift(table) == [Drift("a", "2", 3), Drift("b", "stop", 1)]
    assert counting.drift(table, "b") == [Drift("b", "stop", 1)]


@pytest.mark.parametrize("is_known", [True, False], ids=["of an override", "of no record"])
def test_counts_of_some_hosts_are_of_those_alone(is_known):
    """A selector that an override has is answered by classes, another one by names and labels."""
    web, its = Prefix("web-"), "3" if is_known else "2"
    overrides = (Override(web, Release("3")),) if is_known else ()
    table = HostTable(RecordSet(1, (Record("a", Release("2"), "http://r", overrides=overrides),)), late_after=10)
    table.beat(Report("web-1", [agent(version=its, trial=True), agent("b", "1")]), "10.0.0.1", NOW - 60)
    failed = Outcome("a", "1", its, "start", "failed", "died", at=7)
    for now in range(int(NOW) - 60, int(NOW) + 1):  # meta was not away, so silence is the host's own
        table.beat(Report("db-1", [agent(version="2")]), "10.0.0.1", float(now))
        take(table, float(now))
    table.beat(Report("web-2", [agent(version="1")], outcomes=[failed]), "10.0.0.1", NOW)
    silent_and_failed = [Count("a", "1", "started", 1, failed=1), Count("a", its, "started", 1, failed=1)]
    assert counting.counts(table, NOW, "a", web) == silent_and_failed
    assert failures.by_agent(table, NOW, "", web) == {"a": 2}
    assert counting.counts(table, NOW, "a", Prefix("db-")) == [Count("a", "2", "started", 1)]
    assert failures.by_agent(table, NOW, "", Prefix("db-")) == {}
    assert sum(one.hosts for one in counting.counts(table, NOW, "a")) == 3


def test_on_trial_are_those_that_have_what_they_shall_run_in_its_watch(table):
    """Not those that lost their order meanwhile, shall run another version or none, are down, or have failed."""
    table = HostTable(
        RecordSet(1, (Record("a", Release("2"), "http://r"), Record("b", Release("1"), "http://r", cmd="stop")))
    )
    seen = {
        "in its watch": RealAgent("a", "2", "started", 7, trial=True),
        "it has failed": RealAgent("a", "2", "started", 7, trial=True, rejected="2"),
        "it is down": RealAgent("a", "2", "stoped", 7, trial=True),
        "another version": RealAgent("a", "1", "started", 7, trial=True),
        "to be stopped": RealAgent("b", "1", "started", 7, trial=True),
        "without an order": RealAgent("c", "1", "started", 7, trial=True),
    }
    for number, agent in enumerate(seen.values()):
        table.beat(Report(f"h{number}", [agent]), "10.0.0.1", NOW)
    assert [(one.agent, one.version, one.status, one.trial) for one in counting.counts(table, NOW) if one.trial] == [
        ("a", "2", "started", 1)
    ]


def test_states_count_every_host_once(table):
    assert counting.states(table, NOW, AGES) == {"new": 1, "ok": 3, "late": 1, "lost": 1, "retired": 1}
    take(table, NOW + 60)
    assert counting.states(table, NOW + 60, AGES) == {"new": 0, "ok": 0, "late": 0, "lost": 6, "retired": 1}
    assert counting.states(HostTable(), NOW, AGES) == dict.fromkeys(STATES, 0)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["h1", "h2", "h3", "h4"]),
            st.sampled_from(["beat", "beat", "retire", "unretire", "wait"]),
            st.sampled_from([1.0, 5.0, 30.0]),
        ),
        max_size=20,
    )
)
def test_states_are_those_of_the_hosts_one_by_one(steps):
    table, now = HostTable(late_after=AGES.late_after), NOW
    for name, step, seconds in steps:
        now += seconds
        match step:
            case "beat":
                table.beat(Report(name, []), "", now)
            case "retire":
                table.retire(name, now)
            case "unretire":
                table.unretire(name, now)
        take(table, now)
        found = [host_pages.find(table, name, now, AGES).state for name in table.names()]
        assert counting.states(table, now, AGES) == {state: found.count(state) for state in STATES}


# --- how many an edit would touch ---

HOSTS = ["h1", "h2", "lg-1.x", "lg-2", "x"]


@pytest.mark.long
@settings(deadline=None)
@given(RECORD_SETS, RECORD_SETS, st.sets(st.sampled_from(HOSTS)))
def test_affected_are_those_that_would_be_told_something_else(before, after, retired):
    table = HostTable(before)
    for name in HOSTS:
        table.beat(Report(name, []), "", NOW)
    for name in retired:
        table.retire(name, NOW)
    expected: dict[str, int] = {}
    for name in set(HOSTS) - retired:
        here = {desired.name: desired for desired in resolve(before, name)}
        there = {desired.name: desired for desired in resolve(after, name)}
        for key in here.keys() | there.keys():
            expected[key] = expected.get(key, 0) + (here.get(key) != there.get(key))
    assert reach.affected(table, after) == {name: hosts for name, hosts in expected.items() if hosts}


# --- many ---


@pytest.fixture(scope="module")
def many():
    found = HostTable(RECORDS)
    text = '[["a","2","started",null]]'
    rows = (HostRow(i, f"h{i:06}", 1.0, NOW, "", "", text, "[1.5,7]", "", 0.0) for i in range(1, SCAN + 5001))
    load(found, rows, NOW)
    return found


def test_a_page_looks_at_so_many_hosts_and_may_be_empty(many):
    page = host_pages.page(many, HostFilter(name="*nothing*"), NOW, AGES)
    assert (page.hosts, page.next) == ([], f"h{SCAN:06}")
    last = host_pages.page(many, HostFilter(name="*nothing*"), NOW, AGES, page.next)
    assert (last.hosts, last.next) == ([], "")
    (one,) = host_pages.page(many, HostFilter(name=f"*{SCAN + 1}"), NOW, AGES, page.next).hosts
    assert one.name == f"h{SCAN + 1:06}"


def test_few_that_fit_among_many_are_found_at_once(many):
    many.beat(Report(f"h{SCAN + 4000:06}", [agent("rare")]), "", NOW)
    (one,) = host_pages.page(many, HostFilter(agent="rare"), NOW, AGES).hosts
    assert one.name == f"h{SCAN + 4000:06}"


def test_affected_is_right_while_hosts_are_still_on_their_way(many):
    """More than move at once: whoever asks at once finds some of them in their former groups."""
    assert len(many.names()) > AT_ONCE
    new = Override(Glob("h*[05]"), Release("9"))
    changed = msgspec.structs.replace(RECORDS.records[0], overrides=(new, Override(Prefix("h"), cmd="stop")))
    many.activate(msgspec.structs.replace(RECORDS, revision=2, records=(changed,)))
    expected = {"a": len(many.names()), "b": len(many.names())}
    assert reach.affected(many, msgspec.structs.replace(RECORDS, revision=3, labels={})) == expected
