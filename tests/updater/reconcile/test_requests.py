"""What a person on the host asks for is done for the version that it was asked for, or a word says at once why it is not."""

import os
import signal
import time

import pytest
from msgspec.structs import replace

from helpers.agents import HEALTHY, script
from helpers.cycles import current, here
from lab.fleet import Host as Machine
from lab.fleet import until
from updater.cli import explain
from updater.host import control_script, operator_requests
from updater.host.memories import Memories
from updater.reconcile import cycle

NEVER_STARTS = script('[ "$1" = status ] && echo stoped; exit 0')


@pytest.fixture
def order(host, site):
    """Order a version and run one cycle; the memory then."""
    for version in "123":
        site.publish(version=version)
    site.publish(version="0", control=NEVER_STARTS)
    host.reconfigure(replace(host.config, watch=0, timeouts=replace(host.config.timeouts, start=1)))

    def ordered(version):
        site.desire(("agent", version))
        cycle.run(host)
        return host.memories.of("agent")

    return ordered


@pytest.fixture
def at_2(order):
    """Versions 1 and 2 have come through their watches."""
    for version in "12":
        until("it is proven", lambda version=version: order(version).good == version)


def status(host):
    return control_script.status(here(host, current(host)), 5).text


def explained(host):
    return "\n".join(explain.why(host, cycle.look(host, ["agent"])["agent"], host.orders.last))


def test_a_rollback_is_of_the_version_that_ran_and_never_of_one_that_meta_desires_since(
    host, site, order, at_2, caplog
):
    operator_requests.request_rollback(host.layout, "agent", "2")
    site.reports.clear()
    memory = order("3")
    assert (current(host), status(host), memory.rejected) == ("3", "started", None)
    assert operator_requests.requested(host.layout.rollback_request("agent")) is None
    words = "the rollback of 2 was not followed: meta desires 3 by now"
    assert f"agent: {words}" in caplog.text
    assert words in explained(host)
    order("3")
    assert [(told["to"], told["result"]) for told in site.outcomes()] == [("3", "done")], "and nothing else is told"


def test_a_rollback_that_is_followed_is_said_no_more_not_to_be(host, order, at_2):
    operator_requests.request_rollback(host.layout, "agent", "1")
    assert order("2").dropped is not None
    operator_requests.request_rollback(host.layout, "agent", "2")
    memory = order("2")
    assert (current(host), status(host), memory.dropped) == ("1", "started", None)
    assert (memory.rejected.order.version, memory.good) == ("2", "1")


def test_a_retry_is_of_the_version_that_failed_and_of_no_other(host, order, at_2):
    assert order("0").rejected
    operator_requests.request_retry(host.layout, "agent", "2")
    memory = order("0")
    assert (memory.rejected.order.version, str(memory.dropped)) == (
        "0",
        "the retry of 2 was not followed: meta desires 0 by now",
    )


@pytest.mark.parametrize("text", ["requested by hand", ""], ids=["of an earlier updater", "by touch"])
def test_a_request_without_a_version_is_followed_while_the_desired_version_is_the_current_one(host, order, at_2, text):
    host.layout.rollback_request("agent").parent.mkdir()
    host.layout.rollback_request("agent").write_text(text)
    memory = order("3")
    assert (current(host), memory.rejected) == ("3", None)
    assert "the rollback was not followed: 3, which meta desires, is not the current version" in explained(host)
    host.layout.rollback_request("agent").write_text(text)
    assert order("3").rejected.order.version == "3"
    assert (current(host), status(host)) == ("2", "started")


def test_a_rollback_without_another_version_is_dropped_with_a_word(host, order):
    order("1")
    operator_requests.request_rollback(host.layout, "agent", "1")
    assert str(order("1").dropped) == "the rollback of 1 was not followed: no other version is installed"


@pytest.fixture
def machine(tmp_path, site):
    """A host whose updater asks meta only when it is woken, and runs version 2 after 1."""
    for version in "123":
        site.publish(version=version, control=HEALTHY)
    with Machine(tmp_path / "h1", site.address, interval=100, watch=0.2, probe=0.1) as machine:
        for version in "12":
            site.desire(("agent", version))
            for _ in range(2):
                assert machine.run("once").returncode == 0
                time.sleep(0.3)
        yield machine


def ask_meta_once(machine, site):
    site.reports.clear()
    machine.start()
    until("it is ready", lambda: "first cycle" in machine.log.read_text())
    os.kill(machine.pid, signal.SIGUSR1)
    until("it has asked meta", lambda: site.reports)


def test_the_command_says_at_once_that_meta_desires_another_version_by_now(machine, site):
    ask_meta_once(machine, site)
    site.desire(("agent", "3"))
    began = time.monotonic()
    done = machine.run("rollback", "agent")
    assert (done.returncode, done.stderr) == (
        1,
        "updater: agent: the rollback of 2 was not followed: meta desires 3 by now\n",
    )
    assert time.monotonic() - began < 30
    until("3 runs", lambda: machine.current("agent") == "3")
    assert Memories(machine.root / ".updater" / "agents").of("agent").rejected is None


def test_the_command_rolls_back_with_an_updater_and_without(machine, site):
    done = machine.run("rollback", "agent")
    assert (done.returncode, machine.current("agent")) == (0, "1"), done.stderr
    machine.start()
    assert machine.run("retry", "agent").returncode == 0
    assert machine.current("agent") == "2"
    done = machine.run("rollback", "agent")
    assert (done.returncode, machine.current("agent")) == (0, "1"), done.stderr


def test_the_command_gives_up_soon_where_meta_desires_nothing_of_the_agent_any_more(machine, site):
    ask_meta_once(machine, site)
    site.desire()
    began = time.monotonic()
    done = machine.run("rollback", "agent")
    assert (done.returncode, machine.current("agent")) == (1, "2")
    assert "was not followed: meta desires nothing of it by now" in done.stderr
    assert time.monotonic() - began < 30
    assert not list((machine.root / ".updater" / "rollback").glob("*")), "nor is it followed later"
