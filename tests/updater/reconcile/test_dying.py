"""What is not rolled back and dies after each start: it is started again in each cycle, and that is told once."""

import os
import signal

import pytest
from msgspec.structs import replace

from helpers.agents import HEALTHY
from lab.fleet import until
from updater.cli import explain
from updater.host import control_script, operator_requests
from updater.kernel import clocks
from updater.reconcile import cycle


def pid(host, version="1"):
    return int((host.layout.agent("agent").install(version) / "pid").read_text())


def die(host, version="1"):
    os.kill(pid(host, version), signal.SIGKILL)
    install = host.layout.agent("agent").install(version)
    until("it is down", lambda: control_script.status(install, 5).text == "stoped")


def die_and_run(host, version="1", times=1):
    for _ in range(times):
        die(host, version)
        result = cycle.run(host)
    return result


def stay_up(host):
    """The agent has stayed up for as long as a watch: the host is told that a watch takes no time."""
    host.reconfigure(replace(host.config, watch=0))
    cycle.run(host)
    host.reconfigure(replace(host.config, watch=60))


def told(site):
    """The results, versions and steps that meta was told of since the last call, and what it was told of the agent last."""
    outcomes, last = site.outcomes(), site.reports[-1]["realAgents"][0]
    site.reports.clear()
    return [(one["result"], one["from"], one["to"], one["step"]) for one in outcomes], last.get("trial")


DIED, DONE = ("failed", "1", "1", "watch"), ("done", "1", "1", "watch")
RESTARTED = ("done", "1", "1", "start")


@pytest.fixture
def proven(host, site):
    """The host runs version 1, which has come through its watch."""
    site.publish(version="1", control=HEALTHY.replace("start) ", 'start) echo "cannot read agent.conf" >&2; '))
    site.desire(("agent", "1"))
    cycle.run(host)
    stay_up(host)
    assert not host.memories.of("agent").is_on_trial
    site.reports.clear()
    return host


def test_a_proven_version_that_dies_after_each_start_is_told_once_and_once_more_when_it_stays_up(proven, site):
    die_and_run(proven)
    assert told(site) == ([RESTARTED], False), "it has died once, long after its start"
    die_and_run(proven)
    [outcome] = site.outcomes()
    assert outcome["reason"].startswith("died within ")
    assert outcome["evidence"] == "cannot read agent.conf"
    assert told(site) == ([DIED], True), "also while it runs, meta must not take it for good"
    die_and_run(proven, times=3)
    assert len(site.reports) == 3, "another start of it is no news"
    assert told(site) == ([], True)
    assert "after each of its last 4 starts, since 20" in explain.died(proven.memories.of("agent"))
    stay_up(proven)
    assert told(site) == ([DONE], False)
    assert explain.died(proven.memories.of("agent")) == ""
    die_and_run(proven, times=2)
    assert told(site)[0] == [RESTARTED, DIED], "told again, as it was up in between"


def test_a_version_that_stays_up_until_the_next_look_has_not_died_after_its_start(proven, site):
    for _ in range(3):
        die_and_run(proven)
        stay_up(proven)
    assert told(site) == ([RESTARTED] * 3, False)


def test_a_version_that_died_after_each_start_and_is_up_for_less_than_a_watch_is_still_on_trial(proven, site):
    die_and_run(proven, times=2)
    site.reports.clear()
    cycle.run(proven)
    assert told(site) == ([], True)
    die_and_run(proven)
    assert told(site) == ([], True), "the failing goes on"


def test_the_version_that_was_gone_back_to_is_told_with_what_was_rolled_back(proven, site):
    site.publish(version="2")
    site.desire(site.entry(version="2", attempt=3))
    cycle.run(proven)
    die_and_run(proven, version="2")
    site.reports.clear()
    die_and_run(proven, times=3)
    [outcome] = site.outcomes()
    assert (outcome["to"], outcome["result"], outcome["attempt"]) == ("2", "rolled back", 3)
    assert "; 1, to which it went back, died within " in outcome["reason"]
    site.reports.clear()
    stay_up(proven)
    [outcome] = site.outcomes()
    assert (outcome["to"], outcome["result"]) == ("2", "rolled back")
    assert outcome["reason"].endswith("; 1, to which it went back, has stayed up since its last start")


def test_a_version_that_dies_while_the_ordered_one_cannot_be_had_is_told_once_too(proven, site):
    site.desire(site.entry(version="2"))  # not published
    die_and_run(proven, times=5)
    cycle.run(proven)
    outcomes = [one for one in told(site)[0] if one[2] == "1"]
    assert outcomes == [DIED]


def test_another_order_has_it_told_again(proven, site):
    die_and_run(proven, times=3)
    site.desire(site.entry(version="1", attempt=5))
    site.reports.clear()
    die_and_run(proven, times=3)
    [outcome] = site.outcomes()
    assert (outcome["result"], outcome["attempt"]) == ("failed", 5)


def test_what_a_person_stops_while_it_is_held_has_not_died(proven, site):
    die_and_run(proven)
    operator_requests.hold(proven.layout, "agent", "looking")
    die_and_run(proven)
    operator_requests.unhold(proven.layout, "agent")
    cycle.run(proven)
    assert not [one for one in told(site)[0] if one[0] == "failed"]
    assert proven.memories.of("agent").dying is None


def test_what_is_down_after_a_reboot_has_not_died(proven, site):
    die_and_run(proven)
    proven.boot = "another"
    die_and_run(proven)
    assert proven.memories.of("agent").dying is None
    die_and_run(proven)
    assert told(site)[0] == [RESTARTED, RESTARTED, DIED]


def test_it_is_told_that_it_stays_up_also_where_its_order_has_vanished(proven, site):
    die_and_run(proven, times=2)
    site.desire()
    site.reports.clear()
    stay_up(proven)
    cycle.run(proven)
    assert told(site) == ([DONE], False)


def test_what_is_stopped_as_ordered_has_not_died(proven, site):
    die_and_run(proven)
    site.desire(site.entry(version="1", cmd="stop"))
    cycle.run(proven)
    site.desire(("agent", "1"))
    cycle.run(proven)
    assert not [one for one in told(site)[0] if one[0] == "failed"]


def test_a_first_version_that_dies_at_each_look_for_another_reason_is_told_once(host, site):
    """It counts seconds, and they differ."""
    site.publish(version="1")
    site.desire(("agent", "1"))
    cycle.run(host)
    for lived in (0.0, 1.2, 2.1):
        began = host.memories.of("agent").trial.began
        until("it has lived", lambda: clocks.ran() - began > lived)  # noqa: B023
        die_and_run(host)
    failed = [one for one in site.outcomes() if one["result"] == "failed"]
    assert len(failed) == 1
    assert failed[0]["reason"].endswith("; there is no version to go back to")
    stay_up(host)
    assert site.outcomes()[-1]["result"] == "done"
