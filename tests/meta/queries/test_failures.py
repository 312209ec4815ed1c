"""Failures: those of the version that a host shall have now, and no others; by reason, with one host for each."""

import itertools

import pytest

from meta.hosts.classes import Reported
from meta.hosts.standing import failed
from meta.hosts.table import HostTable
from meta.queries import failures, host_pages
from meta.queries.host_pages import Ages, HostFilter
from meta.queries.representations import Failure
from meta.records.model import Override, Record, RecordSet, Release
from meta.records.selectors import Hosts
from updater.wire.heartbeat import Desired, Outcome, RealAgent, Report

NOW = 1000.0
AGENT = Record("a", Release("3"), "http://r", overrides=(Override(Hosts(frozenset({"other"})), Release("2")),))


def rolled_back(to="3", reason="died 3 s after its start", at=5, **more):
    return Outcome("a", "1", to, "watch", more.get("result", "rolled back"), reason, "", at)


def beat(table, host, *outcomes, version="1", status="started"):
    table.beat(Report(host, [RealAgent("a", version, status, 7)], outcomes=list(outcomes)), "10.0.0.1", NOW)


@pytest.fixture
def table():
    return HostTable(RecordSet(1, (AGENT,)))


def failing(table, **wanted):
    page = host_pages.page(table, HostFilter(failed=True, **wanted), NOW, Ages())
    return [host.name for host in page.hosts]


def test_only_failures_of_the_version_that_a_host_shall_have_now_count(table):
    beat(table, "former", rolled_back(to="2"))  # what an earlier release did
    beat(table, "other", rolled_back(to="2"))  # which this host shall still have
    beat(table, "now", rolled_back(to="3"))
    beat(table, "well", rolled_back(to="3", result="done"))
    beat(table, "mended", rolled_back(to="3"), version="3")
    found = failures.failures(table, NOW)
    assert [(one.version, one.hosts, one.example) for one in found.failures] == [("2", 1, "other"), ("3", 1, "now")]
    assert failing(table) == ["now", "other"]
    assert failing(table, agent="b") == []
    shown = host_pages.find(table, "former", NOW, Ages()).agents[0]
    assert (shown.drift, shown.failed) == (True, False)
    assert host_pages.find(table, "now", NOW, Ages()).agents[0].failed


def test_when_another_version_is_desired_the_old_failures_are_gone(table):
    beat(table, "h1", rolled_back(to="3"))
    assert failures.failures(table, NOW).failures
    table.activate(RecordSet(2, (Record("a", Release("4"), "http://r"),)))
    assert failures.failures(table, NOW).failures == []
    assert failing(table) == []


def test_reasons_that_differ_in_numbers_alone_are_one_and_the_newest_stands_for_them(table):
    for number in range(30):
        beat(table, f"h{number:02}", rolled_back(reason=f"died {number} s after its start", at=number))
    beat(table, "x", rolled_back(reason="disk full", result="failed"))
    died = Failure("a", "3", "rolled back", "died 29 s after its start", 30, "h29", 29)
    full = Failure("a", "3", "failed", "disk full", 1, "x", 5)
    assert failures.failures(table, NOW, "a") == ([died, full], True)
    assert failures.failures(table, NOW, "b") == ([], True)


def test_retired_hosts_are_not_counted(table):
    beat(table, "h1", rolled_back())
    table.retire("h1", NOW)
    assert failures.failures(table, NOW).failures == []


def test_an_agent_that_was_never_installed_can_have_failed(table):
    table.beat(Report("bare", [], outcomes=[rolled_back(result="refused", reason="no digest")]), "10.0.0.1", NOW)
    assert failing(table) == ["bare"]
    assert failing(table, agent="a") == ["bare"]


START_3, STOP_3 = Desired("a", "3", "http://r", "", "start"), Desired("a", "3", "http://r", "", "stop")


@pytest.mark.parametrize(
    ("order", "version", "status", "outcome", "is_failure"),
    [
        (START_3, "1", "started", rolled_back("3"), True),
        (START_3, "1", "started", rolled_back("2"), False),
        (START_3, "3", "started", rolled_back("3"), False),
        (None, "1", "started", rolled_back("3"), False),
        (START_3, "1", "started", None, False),
        (START_3, "1", "started", Outcome("a", "1", "1", "stop", "failed", "will not stop"), True),  # in the way of 3
        (START_3, "1", "started", Outcome("a", "1", "2", "stop", "failed", "would not stop"), False),
        (STOP_3, "1", "started", Outcome("a", "1", "1", "stop", "failed", "will not stop"), True),
        (STOP_3, "1", "started", rolled_back("3"), False),  # it shall not run at all any more
        (STOP_3, "1", "stoped", Outcome("a", "1", "1", "stop", "failed", "will not stop"), False),
        (START_3, "1", "started", Outcome("a", "1", "3", "order", "refused", "tarball is no URL"), True),
        (START_3, "1", "started", Outcome("a", "1", "2", "order", "refused", "tarball is no URL"), False),
        (START_3, "1", "started", Outcome("a", "1", "", "order", "refused", "listed more than once"), True),
        (START_3, "3", "started", Outcome("a", "1", "", "order", "refused", "listed more than once"), False),
        (STOP_3, "1", "started", Outcome("a", "1", "", "order", "refused", "listed more than once"), True),
    ],
)
def test_what_is_a_failure(order, version, status, outcome, is_failure):
    assert failed(order, Reported("a", version, status), outcome) is is_failure


def test_an_answer_is_bounded_and_says_so(table):
    for number in range(failures.MOST + 1):
        letters = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        beat(table, f"h{number}", rolled_back(reason=f"reason {letters}"))
    found = failures.failures(table, NOW)
    assert len(found.failures) == failures.MOST
    assert not found.is_whole


def test_no_more_hosts_are_read_than_an_answer_looks_at(table):
    beat(table, "h1", rolled_back())
    beat(table, "h2", rolled_back())
    table.get("h2").told = "this is no JSON"
    failing = itertools.repeat((table.get("h1"), START_3, failures.outcome_of), failures.SCAN)
    found = failures.by_reason(itertools.chain(failing, [(table.get("h2"), START_3, failures.outcome_of)]))
    assert ([one.hosts for one in found.failures], found.is_whole) == ([failures.SCAN], False)


def test_hosts_that_rolled_a_version_back_are_counted_whatever_they_shall_have_now(table):
    for number in range(4):
        beat(table, f"h{number}", rolled_back(to="2"))
    beat(table, "h0", rolled_back(to="3"))  # its last word
    beat(table, "refused", rolled_back(to="2", result="refused"))
    said = failures.rolled_back(table, "a", "2")
    assert said == "3 hosts, h3 among them, rolled a 2 back as their last change of it: died 3 s after its start"
    assert (
        failures.rolled_back(table, "a", "3")
        == "host h0 rolled a 3 back as its last change of it: died 3 s after its start"
    )
    assert failures.rolled_back(table, "b", "2") == ""
    assert failures.rolled_back(table, "a", "9") == ""
