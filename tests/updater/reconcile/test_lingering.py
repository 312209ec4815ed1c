"""A stopped version that takes long to end: no verdict on the next one while it lives, nor on the way back."""

import os
import re
import signal
import sys

import pytest
from msgspec.structs import replace

from helpers.agents import HEALTHY, script
from helpers.cycles import current, here, with_timeouts
from helpers.field import AGENT, SIGNALS_AND_RETURNS, alive, filled, free_port
from lab.fleet import until
from updater.host import control_script
from updater.kernel import processes
from updater.model.observed import State
from updater.reconcile import cycle

NEVER_STARTS = script('[ "$1" = status ] && echo stoped; exit 0')
SILENT = SIGNALS_AND_RETURNS.replace("cat var/app.log; ", "")  # its output does not tell why it failed to start
# Its status is by its pid. It binds its port a second after its start has succeeded, and tells nobody why it ends.
BINDS_LATE = f"""#!/bin/sh
cd "$(dirname "$0")" || exit 1
running() {{ [ -s pid ] && grep -qs '^State:[[:space:]]*[RSDTtIWKP]' "/proc/$(cat pid)/status"; }}
case "$1" in
start) running || {{ nohup {sys.executable} ./agent.py PORT GRACE >>app.log 2>&1 & echo $! >pid; }} ;;
stop) kill $(cat pid); rm -f pid ;;
status) if running; then echo started; else echo stoped; fi ;;
esac
"""
LATE = AGENT.replace("if port:", "time.sleep(1.0)\nif port:", 1)
# They need what no port tells, within DELAY seconds.
LOCKS = """import fcntl
lock = open("../lock", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit(1)
"""
NAMES = """s = socket.socket(socket.AF_UNIX)
try:
    s.bind("\\0" + __import__("os").path.dirname(__import__("os").getcwd()))
except OSError:
    sys.exit(1)
"""


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def order(host, site):
    """Order a version and run one cycle; the memory then."""
    host.reconfigure(replace(host.config, watch=0))
    with_timeouts(host, start=2.5, stop=1.0)

    def ordered(version):
        site.desire(("agent", version))
        cycle.run(host)
        return host.memories.of("agent")

    return ordered


def publish(site, version, control, port, grace=0.0, agent=AGENT):
    site.publish(version=version, control=filled(control, port, grace), **{"agent.py": agent.encode()})


def status(host):
    return control_script.status(here(host, current(host)), 5).state


@pytest.mark.long
@pytest.mark.parametrize("control", [SIGNALS_AND_RETURNS, SILENT], ids=["says why", "silent"])
def test_a_version_is_not_rejected_while_the_one_before_it_holds_its_port(host, site, order, port, control):
    """With `leftovers: leave` it has 5 s to end. Here it takes longer than all tries of a turn."""
    publish(site, "1", control, port, 600)
    publish(site, "2", control, port)
    until("1 is proven and looked at", lambda: order("1").good and host.memories.of("agent").running.ports)
    old = int((here(host, "1") / "var" / "app.pid").read_text())
    site.reports.clear()
    memory = order("2")
    assert (current(host), memory.rejected) == ("2", None)
    held = rf"port {port} is held by \d+ .*agent.py {port} 600 of 1; tried again when process {old} has ended"
    assert re.search(held, memory.last.reason), memory.last.reason
    assert [told["result"] for told in site.outcomes()] == ["failed"], "what it waits for is told"
    os.kill(old, signal.SIGKILL)
    until("it is proven", lambda: order("2").good == "2", within=60)
    assert (current(host), status(host), site.outcomes()[-1]["result"]) == ("2", State.STARTED, "done")


@pytest.mark.long
def test_a_way_back_waits_for_its_own_former_processes_to_give_up_its_port(host, site, order, port):
    publish(site, "1", SILENT, port, 8)
    publish(site, "2", HEALTHY, 0)
    until("1 is proven", lambda: order("1").good)
    order("2")
    assert (current(host), status(host)) == ("2", State.STARTED)
    with_timeouts(host, stop=8.0, start=6.0)
    order("1")
    assert (current(host), status(host)) == ("1", State.STARTED)


@pytest.mark.long
def test_a_service_that_a_version_started_for_others_holds_up_no_verdict(host, site, order, port):
    """A deploy agent's: it lives on and listens. Version 2 fails for another reason."""
    serves = (
        f"{sys.executable} -c 'import socket, time; s = socket.create_server((\"127.0.0.1\", {port})); time.sleep(99)'"
    )
    deploys = HEALTHY.replace(
        "start) running ||", f"start) (cd / && exec setsid {serves}) >/dev/null 2>&1 & echo $! >../app; running ||"
    )
    publish(site, "1", deploys, 0)
    publish(site, "2", NEVER_STARTS, 0)
    until("1 is proven", lambda: order("1").good)
    app = int((host.layout.agent("agent").path / "app").read_text())
    try:
        assert order("2").rejected.order.version == "2"
        assert (current(host), alive(app)) == ("1", True)
    finally:
        processes.end([processes.identity(app)])


@pytest.mark.long
def test_a_version_that_dies_for_the_port_after_its_start_is_not_rejected_either(host, site, order, port):
    """Not while the stopped one holds it. Once that has ended it is judged like any other."""
    host.reconfigure(replace(host.config, watch=4.0))
    publish(site, "1", BINDS_LATE, port, 600, LATE)
    publish(site, "2", BINDS_LATE, port, 0, LATE)
    until("1 is proven and listens", lambda: order("1").good and host.memories.of("agent").running.ports, within=30)
    old = int((here(host, "1") / "pid").read_text())
    order("2")
    for _ in range(3):
        until("2 has died", lambda: status(host) is State.STOPPED)
        memory = order("2")
        assert (current(host), memory.rejected, alive(old)) == ("2", None, True)
    held = rf"2 is not started; port {port} is held by {old} .*agent.py {port} 600 of 1; tried again when process {old} has"
    assert re.match(held, memory.last.reason), memory.last.reason
    assert [told["reason"] for told in site.outcomes()].count(memory.last.reason) == 1
    os.kill(old, signal.SIGKILL)
    until("it is proven", lambda: order("2").good == "2", within=60)
    assert (current(host), status(host), site.outcomes()[-1]["result"]) == ("2", State.STARTED, "done")


@pytest.mark.long
def test_what_dies_again_when_the_port_is_free_is_rejected(host, site, order, port):
    host.reconfigure(replace(host.config, watch=4.0))
    publish(site, "1", BINDS_LATE, port, 600, LATE)
    publish(site, "2", BINDS_LATE, port, 0, "import time\ntime.sleep(1)\n")
    until("1 is proven and listens", lambda: order("1").good and host.memories.of("agent").running.ports, within=30)
    old = int((here(host, "1") / "pid").read_text())
    order("2")
    until("2 has died", lambda: status(host) is State.STOPPED)
    assert order("2").rejected is None
    os.kill(old, signal.SIGKILL)
    until("it is rejected", lambda: order("2").rejected, within=30)
    assert (current(host), status(host)) == ("1", State.STARTED)


def takes(what, delay):
    return AGENT.replace("if port:", f"time.sleep({delay})\n{what}if port:", 1)


@pytest.mark.long
@pytest.mark.parametrize("delay", [0.1, 1.0], ids=["at its start", "later"])
@pytest.mark.parametrize("what", [LOCKS, NAMES], ids=["a lock", "a socket's name"])
def test_a_version_that_dies_beside_the_stopped_one_is_tried_again_when_that_has_ended(host, site, order, what, delay):
    """It may hold anything that the next one needs, and here ends within the time of a stop."""
    host.reconfigure(replace(host.config, watch=4.0))
    with_timeouts(host, start=2.5, stop=20.0)
    publish(site, "1", BINDS_LATE, 0, 12, takes(what, 0))
    publish(site, "2", BINDS_LATE, 0, 0, takes(what, delay))
    until("1 is proven", lambda: order("1").good, within=30)
    old = int((here(host, "1") / "pid").read_text())
    order("2")
    until("2 has died", lambda: status(host) is State.STOPPED)
    assert alive(old)
    memory = order("2")
    assert (current(host), status(host), memory.rejected, alive(old)) == ("2", State.STARTED, None, False)
    until("it is proven", lambda: order("2").good == "2", within=30)
    assert [told["result"] for told in site.outcomes()] == ["done", "done"]


@pytest.mark.long
def test_what_a_version_leaves_for_ever_and_no_port_holds_up_the_verdict_for_three_stops_only(host, site, order):
    host.reconfigure(replace(host.config, watch=4.0))
    with_timeouts(host, start=2.5, stop=2.0)
    publish(site, "1", BINDS_LATE, 0, 600)
    publish(site, "2", BINDS_LATE, 0, 0, "import time\ntime.sleep(0.5)\n")
    until("1 is proven", lambda: order("1").good, within=30)
    old = int((here(host, "1") / "pid").read_text())
    try:
        order("2")
        until("2 has died", lambda: status(host) is State.STOPPED)
        assert order("2").rejected is None
        until("it is rejected", lambda: order("2").rejected, within=60)
        assert (current(host), status(host), alive(old)) == ("1", State.STARTED, True)
    finally:
        os.kill(old, signal.SIGKILL)
