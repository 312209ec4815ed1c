"""Where a version that fails leads back to: to the last one that came through its watch here, whatever was ordered since."""

import os
import re
import signal
import subprocess

import pytest
from msgspec.structs import replace

from helpers.agents import HEALTHY, calls, script
from helpers.cycles import current, here, unwritable
from helpers.servers import Server, answer
from lab.fleet import until
from updater.host import control_script
from updater.host.context import Host
from updater.host.memories import Memories
from updater.kernel import clocks
from updater.model.memory import Memory
from updater.model.trials import Moment, Trial
from updater.model.ways_back import WaysBack
from updater.reconcile import cycle
from updater.wire.heartbeat import Outcome

DIES = HEALTHY.replace("sleep 1000", "sleep 0.6")
NEVER_STARTS = script('[ "$1" = status ] && echo stoped; exit 0')
WATCH = 1.5


@pytest.fixture
def order(host, site):
    """Order a version and run one cycle; the memory then."""
    for version, control in {"1": HEALTHY, "2": HEALTHY, "8": DIES, "9": DIES, "0": NEVER_STARTS}.items():
        site.publish(version=version, control=control)
    host.reconfigure(replace(host.config, watch=WATCH, timeouts=replace(host.config.timeouts, start=1)))

    def ordered(version, **fields):
        site.desire(site.entry(version=version, **fields) if fields else ("agent", version))
        cycle.run(host)
        return host.memories.of("agent")

    return ordered


@pytest.fixture
def proven(order):
    """Version 1 has come through its watch."""
    until("1 is proven", lambda: order("1").good == "1")


def status(host):
    return control_script.status(here(host, current(host)), 5).text


def kill(host):
    os.kill(int((here(host, current(host)) / "pid").read_text()), signal.SIGKILL)


def test_what_was_replaced_within_its_watch_is_on_trial_again_when_it_is_ordered_again(host, order, proven):
    for version in ("9", "2", "9"):
        memory = order(version)
    assert (memory.is_on_trial, memory.back) == (True, "1")
    until("it is rolled back", lambda: order("9").rejected)
    assert (current(host), status(host)) == ("1", "started")
    assert [(told.to, told.result) for told in [order("9").last]] == [("9", "rolled back")]


@pytest.mark.parametrize("mend", ["8", "0"], ids=["dies", "never starts"])
def test_a_mend_that_is_as_bad_leads_back_past_the_version_that_it_was_to_mend(host, order, proven, mend):
    order("9")
    order(mend)
    until("it is rolled back", lambda: order(mend).rejected)
    assert (current(host), status(host)) == ("1", "started")


def test_a_version_that_dies_is_not_kept_running_while_the_next_one_is_missing(host, order, proven, site):
    order("9")
    until("it is gone back from", lambda: order("3") and current(host) == "1")
    memory = order("3")
    assert (status(host), memory.good, memory.rejected, memory.failed_order.version) == ("started", "1", None, "3")
    told = [(one["to"], one["result"]) for one in site.outcomes()]
    assert told.count(("9", "rolled back")) == 1 and ("3", "rolled back") not in told
    assert order("9").is_on_trial


def test_the_way_back_is_not_removed_however_many_versions_replaced_one_another_within_their_watches(
    host, order, proven
):
    for version in ("9", "2", "8", "9", "2", "8"):
        order(version)
    assert here(host, "1").is_dir()
    until("it is rolled back", lambda: order("8").rejected)
    assert (current(host), status(host)) == ("1", "started")


def test_an_order_that_is_withdrawn_within_its_watch_leads_back_without_another_trial(host, order, proven):
    order("2")
    memory = order("1")
    assert (current(host), memory.is_on_trial, memory.good) == ("1", False, "1")


def test_while_no_version_is_proven_the_one_that_was_started_is_gone_back_to_and_on_trial(host, order):
    order("1")
    memory = order("0")
    assert (current(host), status(host)) == ("1", "started")
    assert (memory.good, memory.is_on_trial, memory.rejected.order.version) == ("", True, "0")
    until("it is proven", lambda: order("0").good == "1")


def test_two_bad_versions_do_not_take_turns(host, order):
    order("2")  # it is killed, rather than dying by itself: it must not be dead before 8 is ordered
    until("it is rolled back", lambda: order("8").rejected)
    for _ in range(8):
        memory = order("8")
        assert (current(host), memory.rejected.order.version, memory.good) == ("2", "8", "")
        kill(host) if status(host) == "started" else None


def test_a_first_version_that_is_down_when_another_one_is_ordered_is_nothing_to_go_back_to(host, order, site):
    order("1")
    other = site.publish(version="3", control=NEVER_STARTS)

    def say(connection):
        kill(host)  # while the other one is fetched
        answer((site.files / "agent-3.tar.gz").read_bytes())(connection)

    with Server([say]).running() as mirror:
        memory = order("3", tarball=mirror.url, md5=other.md5)
    assert (current(host), memory.back, memory.rejected) == ("3", "", None)


def test_a_watch_that_ends_during_a_download_has_proven_the_version(host, order, site):
    order("1")
    other = site.publish(version="3", control=NEVER_STARTS)

    def say(connection):
        watched = host.memories.of("agent")
        until("its watch is over", lambda: watched.watch_is_over(clocks.ran()))
        answer((site.files / "agent-3.tar.gz").read_bytes())(connection)

    with Server([say]).running() as mirror:
        memory = order("3", tarball=mirror.url, md5=other.md5)
    assert (current(host), status(host), memory.good, memory.is_on_trial) == ("1", "started", "1", False)


def test_a_version_that_was_there_before_the_updater_counts_as_proven_though_it_was_down(host, order):
    order("1")
    subprocess.run(["./control", "stop"], cwd=here(host, "1"), check=True)
    host.memories.change("agent", lambda memory: type(memory)())
    (here(host, "1") / ".installed").unlink()
    memory = order("0")
    assert (current(host), status(host), memory.good, memory.is_on_trial) == ("1", "started", "1", False)


@pytest.fixture
def unproven(host, order):
    """No version is proven, and none comes through its watch in this test."""
    host.reconfigure(replace(host.config, watch=60))

    def died(version, **fields):
        """The memory once the version was ordered, has died and was stopped or left as ordered."""
        order(version)
        kill(host)
        until("it is down", lambda: status(host) == "stoped")
        return order(version, **fields) if fields else None

    return died


def backs(memory, version, *installs):
    """Where it goes back to by itself, and at an operator request."""
    return memory.back, memory.way_back(version, installs)


def test_what_died_is_nothing_to_go_back_to_though_it_was_stopped_as_ordered_since(host, order, unproven):
    order("0")
    memory = unproven("1", cmd="stop")
    assert (status(host), memory.trial.until) == ("stoped", 0)
    assert backs(order("2"), "2", "0", "1", "2") == ("", "")


def test_what_was_stopped_as_ordered_while_it_ran_is_gone_back_to(host, order, unproven):
    order("1")
    order("1", cmd="stop")
    assert backs(order("2"), "2", "1", "2") == ("1", "1")


def test_what_was_left_alive_and_has_died_since_is_nothing_to_go_back_to(host, order, unproven):
    order("1")
    assert backs(order("2"), "2", "1", "2") == ("1", "1")
    unproven("1")
    assert backs(order("2"), "2", "1", "2") == ("", "")


def test_a_switch_that_was_cut_off_makes_no_way_back_of_what_had_died_before(host, order, unproven):
    order("0")
    unproven("1")
    unproven("2")
    host.memories.change("agent", lambda memory: memory.switching("2", "8"))  # and the updater is killed
    memory = order("2")
    assert (current(host), status(host)) == ("2", "started")
    assert backs(memory, "2", "0", "1", "2", "8") == ("", "")
    assert backs(order("1"), "1", "0", "1", "2", "8") == ("", ""), "nor of what was to be left by it"


def dead(host):
    return status(host) == "stoped"


def results(site):
    return [told["result"] for told in site.outcomes()]


def starts(host):
    return calls(host.layout.root, "agent").count("start")


def test_a_version_that_dies_is_left_although_that_cannot_be_remembered(host, order, proven, site):
    order("9")
    until("it has died", lambda: dead(host))
    before = starts(host)
    with unwritable(host.layout.memories / "agent.json"):
        until("it is left", lambda: order("9") and current(host) == "1")
        order("9")
        assert (status(host), starts(host)) == ("started", before + 1)
        assert results(site).count("rolled back") == 1
    order("9")
    assert Memories(host.layout.memories).of("agent").rejected.order.version == "9", "it is remembered once it can be"
    assert (current(host), results(site).count("rolled back")) == ("1", 1)


def test_also_by_an_updater_that_has_just_started(host, order, proven):
    order("9")
    until("it has died", lambda: dead(host))
    before = starts(host)
    with unwritable(host.layout.memories / "agent.json"):
        cycle.run(Host(host.layout, host.config, host.http))
        assert (current(host), status(host), starts(host)) == ("1", "started", before + 1)


def test_a_dead_version_is_not_started_again_because_the_next_one_cannot_be_remembered(host, order, proven):
    """Version 2, which is installed and ordered, must be remembered as on trial before it is switched to."""
    host.reconfigure(replace(host.config, keep_versions=5))
    order("2")
    order("1")
    order("9")
    until("it has died", lambda: dead(host))
    before = starts(host)
    with unwritable(host.layout.memories / "agent.json"):
        for _ in range(2):
            order("2")
            assert (current(host), status(host), starts(host)) == ("1", "started", before + 1)
    order("2")
    assert (current(host), status(host)) == ("2", "started")


def test_a_way_back_that_cannot_be_taken_is_told_as_a_failure(host, order, proven, site):
    order("9")
    until("it has died", lambda: dead(host))
    with unwritable(host.layout.memories / "agent.json"), unwritable(host.layout.agent("agent").version_file):
        before = starts(host)
        last = order("9").last
        assert (current(host), starts(host)) == ("9", before + 1), "it is started again, as nothing else can be"
        assert (last.to, last.result) == ("9", "failed")
        assert re.fullmatch(r"died .*, and the way back to 1 failed: cannot write .*\.version: .*", last.reason)
        order("9")
        assert "rolled back" not in results(site)
    until("it is left", lambda: order("9") and current(host) == "1")
    assert (status(host), results(site).count("rolled back")) == ("started", 1)


def test_a_way_back_is_told_once_the_agent_has_gone_it():
    told = Outcome("agent", "1", "2", "watch", "rolled back", "died 3 s after its start")
    begun, moment, installs = Memory("2", "1").with_way_back(told), Moment(1000.0, 60.0), ("1", "2", "3")
    assert (begun.outcomes, begun.switched_to("1").outcomes) == ((), (told,))
    assert begun.switched_to("1").switched_to("1").outcomes == (told,)
    assert begun.switched_to("3").outcomes == (replace(told, result="failed"),), "it has failed, and went elsewhere"
    assert begun.after_look("agent", "2", True, installs, moment).outcomes == ()
    assert begun.after_look("agent", "1", True, installs, moment).outcomes == (told,), "killed just after the switch"
    assert begun.retrying().taking_back is begun.taking_back, "there is nothing to retry"


def test_what_has_failed_is_known_to_have_failed_though_the_way_back_was_cut_off():
    """Its updater was killed before `.version` was written, or that could not be written. No version is proven."""
    told, moment = Outcome("agent", "1", "2", "watch", "rolled back", "died 3 s after its start"), Moment(1000.0, 60.0)
    before = Memory("2", previous="1", trial=Trial("2", until=1.0), ways_back=WaysBack(unproven="1"))
    begun = before.given_up("2", told.reason).with_way_back(told).switching("2", "1")
    assert begun.trial.version == "1"
    found = begun.after_look("agent", "2", False, ("1", "2"), moment)
    assert (found.current, found.trial.failure, found.is_given_up, found.back) == ("2", told.reason, True, "1")
