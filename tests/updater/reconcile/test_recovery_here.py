"""What follows a failed action on a real host: what is ordered by now is looked up before anything is started again."""

import pytest

from helpers.agents import HEALTHY, calls, script
from helpers.cycles import current, here, with_timeouts
from helpers.field import AGENT, SIGNALS_AND_RETURNS, filled, free_port
from lab.fleet import Host, until
from updater.host import control_script, operator_requests
from updater.reconcile import cycle

NAMED = HEALTHY.replace('echo "$1" >>', 'echo "$1-${PWD##*/}" >>')  # its list of calls tells of which version they were
ENDS = 'kill "$(cat pid)" && while running; do sleep 0.01; done ;;'
# Its stop is cut off. When its status is asked for the second time after that, it has ended.
ENDS_LATE = NAMED.replace(
    'running && kill "$(cat pid)" && while running; do sleep 0.01; done ;;', "echo $$ >stopper; exec sleep 1000 ;;"
).replace(
    "status) if",
    """status)
  if [ -f stopper ] && ! kill -0 "$(cat stopper)"; then
    if [ -f asked ]; then kill "$(cat pid)"; while running; do sleep 0.01; done; else >asked; fi
  fi
  if""",
)


def status(host):
    return control_script.status(here(host, current(host)), 5).text


def changes(root):
    """The calls of all versions but for those that only ask."""
    return [call for call in calls(root, "agent") if not call.startswith("status")]


@pytest.fixture
def order(host, site):
    with_timeouts(host, status=5)

    def ordered(version, **fields):
        site.desire(site.entry(version=version, **fields))
        cycle.run(host)
        return host.memories.of("agent")

    return ordered


def test_a_stop_that_comes_about_after_its_time_is_done(host, site, order):
    site.publish(version="1", control=ENDS_LATE)
    order("1")
    last = order("1", cmd="stop").last
    assert (changes(host.layout.root), status(host)) == (["start-1", "stop-1"], "stoped")
    assert (last.step, last.result, last.to) == ("stop", "done", "1")


def test_a_slow_status_is_waited_for_when_the_time_of_the_stop_is_over(host, site, order):
    """The stop ends the agent and then hangs for all of its time."""
    slow = NAMED.replace(ENDS, 'kill "$(cat pid)"; exec sleep 1000 ;;').replace("status) if", "status) sleep 1.3; if")
    site.publish(version="1", control=slow)
    order("1")
    last = order("1", cmd="stop").last
    assert (changes(host.layout.root), status(host)) == (["start-1", "stop-1"], "stoped")
    assert (last.step, last.result) == ("stop", "done")


def test_an_agent_that_stops_after_the_turn_has_stopped_as_ordered(host, site, order):
    stays = NAMED.replace(ENDS, "exit 0 ;;")
    site.publish(version="1", control=stays)
    order("1")
    assert order("1", cmd="stop").last.result == "failed"
    (here(host, "1") / "control").write_text(NAMED)
    control_script.run(here(host, "1"), "stop", 5)
    last = order("1", cmd="stop").last
    assert (last.step, last.result, last.reason) == ("stop", "done", "it has stopped since")
    assert [told["result"] for told in site.outcomes()].count("failed") == 1
    assert changes(host.layout.root) == ["start-1", "stop-1", "stop-1"]


def test_a_version_that_has_stopped_after_its_time_makes_way(host, site, order):
    site.publish(version="1", control=ENDS_LATE)
    site.publish(version="2", control=NAMED)
    order("1")
    order("2")
    assert (changes(host.layout.root), current(host), status(host)) == (
        ["start-1", "stop-1", "start-2"],
        "2",
        "started",
    )
    assert not [told for told in site.outcomes() if told["result"] == "failed"]


@pytest.mark.long
@pytest.mark.parametrize("held", [False, True])
def test_an_agent_that_is_ordered_to_stop_meanwhile_is_not_started_again(tmp_path, site, held):
    site.publish(version="1", control=ENDS_LATE)
    site.publish(version="2", control=NAMED)
    with Host(tmp_path / "h", site.address, interval=4, watch=0, timeouts={"stop": 6}) as machine:
        site.desire(("agent", "1"))
        assert machine.run("once").returncode == 0
        site.desire(("agent", "2"))
        machine.start()
        until("1 is being stopped", lambda: "stop-1" in changes(machine.root))
        if held:
            assert machine.run("hold", "agent", "--why", "mine").returncode == 0
        site.desire(site.entry(version="1", cmd="stop"))
        until("its stop has failed", lambda: "stop failed" in machine.log.read_text(), within=30)
        before = len(site.reports)
        until("a cycle more", lambda: len(site.reports) > before + 1)
        assert (changes(machine.root)[:2], machine.control("agent", "status")) == (["start-1", "stop-1"], "stoped")
        assert [call for call in changes(machine.root)[2:] if call.startswith("start")] == []


# On its start, before anything else, a person holds the agent.
HOLDS = """#!/bin/sh
[ "$1" = start ] && mkdir -p "${HELD%/*}" && echo mine >"HELD"
"""


def holding(host, control):
    held = str(host.layout.held("agent"))
    return (
        HOLDS.replace("${HELD%/*}", str(host.layout.held("agent").parent)).replace("HELD", held)
        + control.partition("\n")[2]
    )


def test_a_hold_during_a_start_that_fails_leaves_no_agent_down(host, site, order):
    site.publish(version="1", control=NAMED)
    site.publish(version="2", control=holding(host, script('[ "$1" = status ] && echo stoped; exit 0')))
    order("1")
    last = order("2").last
    assert (current(host), status(host)) == ("1", "started")
    assert (last.to, last.result) == ("2", "rolled back")
    assert operator_requests.held(host.layout, "agent") == "mine"
    calls_so_far = changes(host.layout.root)
    order("3")
    assert changes(host.layout.root) == calls_so_far, "then the hold is in force"


@pytest.mark.long
def test_a_hold_during_a_start_that_is_tried_again_loses_neither_its_failure_nor_the_tries(host, site, order):
    """Version 1 does not give up its port as long as it lives."""
    port = free_port()
    with_timeouts(host, start=2.5, stop=1)
    site.publish(version="1", control=filled(SIGNALS_AND_RETURNS, port, 600), **{"agent.py": AGENT.encode()})
    held = holding(host, filled(SIGNALS_AND_RETURNS, port))
    site.publish(version="2", control=held, **{"agent.py": AGENT.encode()})
    order("1")
    until("its port is known", lambda: order("1").running.ports)
    old = int((here(host, "1") / "var" / "app.pid").read_text())
    last = order("2").last
    assert (current(host), last.to, last.result) == ("2", "2", "failed")
    assert f"tried again when process {old} has ended" in last.reason
    assert [told["result"] for told in site.outcomes()][-1:] == ["failed"]
