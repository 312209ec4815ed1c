"""A port of the agent that others hold: whose it is is said, and no version is rejected that a way back could not replace."""

import re
import signal
import socket
import subprocess
import sys

import pytest
from msgspec.structs import replace

from helpers.cycles import current, here, run, with_timeouts
from helpers.field import AGENT, SIGNALS_AND_RETURNS, alive, filled, free_port
from lab.fleet import until
from updater.cli import explain
from updater.host import control_script
from updater.kernel import processes
from updater.kernel.hold_ups import HoldUps
from updater.kernel.processes import Table
from updater.model.memory import Memory
from updater.model.observed import State
from updater.reconcile import cycle

# As in README, and its agent says nothing of the number of its port.
README = f"""#!/bin/sh
cd "$(dirname "$0")" || exit 1
pid=$(cat pid 2>/dev/null)
running() {{ [ -n "$pid" ] && [ "/proc/$pid/cwd" -ef . ]; }}
case "$1" in
start)  running && exit 0; {sys.executable} ./agent.py PORT 0 & echo $! >pid ;;
stop)   running || exit 0; kill "$pid"; while running; do sleep 0.1; done ;;
status) if running; then echo started; else echo stoped; fi ;;
esac
"""
MUTE = AGENT.replace('print(f"listen tcp 127.0.0.1:{port}: bind: address already in use", flush=True)', "pass")
# It begins a helper that inherits its listening socket, in a session of its own and elsewhere.
PASSES_ON = MUTE.replace(
    "    s.listen(5)\n",
    "    s.listen(5)\n    import subprocess\n    s.set_inheritable(True)\n"
    '    h = subprocess.Popen(["sleep", "4731"], close_fds=False, cwd="/", start_new_session=True)\n'
    '    open("../helper", "w").write(str(h.pid))\n',
)
CRASHES = PASSES_ON.replace("def bye", "sys.exit(3)\ndef bye")
STRANGER = """
import socket, sys, time
while True:
    try:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", int(sys.argv[1])))
        s.listen()
        break
    except OSError:
        time.sleep(0.001)
print("listens", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def stranger(port):
    """A program that takes the port as soon as it is free; called, it waits until that is so."""
    one = subprocess.Popen([sys.executable, "-c", STRANGER, str(port)], cwd="/", stdout=subprocess.PIPE, text=True)
    yield one
    one.kill()
    one.wait()
    one.stdout.close()


@pytest.fixture
def helper(host):
    """The process id of the helper that the last version began."""
    file = host.layout.agent("agent").path / "helper"
    yield lambda: int(file.read_text())
    if file.exists():
        processes.end([processes.identity(int(file.read_text()))])


def publish(site, version, port, agent=MUTE, control=README):
    site.publish(version=version, control=filled(control, port), **{"agent.py": agent.encode()})


def listening(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def proven(host, site, port, version="1"):
    """A version that listens and has come through its watch."""
    host.reconfigure(replace(host.config, watch=0))
    until(
        "it is proven", lambda: run(host, site, version) and listening(port) and memory(host).good == version, within=60
    )
    host.reconfigure(replace(host.config, watch=30))
    site.reports.clear()


def memory(host):
    return host.memories.of("agent")


def state(host):
    return control_script.status(here(host, current(host)), 5).state


def died(host, site, version, **fields):
    """The memory after a cycle that begins when the version has died."""
    until("it has died", lambda: state(host) is State.STOPPED)
    run(host, site, version, **fields)
    return memory(host)


def why(host):
    seen = cycle.look(host, ["agent"])["agent"]
    return "\n".join(explain.why(host, seen, host.orders.last))


def comes_up(host, site, port, version, **fields):
    """The version is started again by later cycles, and listens."""
    until("it runs", lambda: run(host, site, version, **fields) and listening(port) and state(host) is State.STARTED)
    assert (current(host), memory(host).rejected) == (version, None)


def test_a_version_that_dies_for_its_port_is_not_rejected_while_a_stranger_has_it(host, site, port, stranger):
    for version in "12":
        publish(site, version, port)
    stranger.send_signal(signal.SIGSTOP)
    proven(host, site, port)
    stranger.send_signal(signal.SIGCONT)
    run(host, site, "2")
    assert stranger.stdout.readline() == "listens\n"
    for _ in range(3):
        after = died(host, site, "2")
        assert (current(host), after.rejected) == ("2", None)
    told = [one for one in site.outcomes() if one["result"] != "done"]
    who = f"port {port} is held by {stranger.pid} {sys.executable} -c"
    assert {(one["result"], who in one["reason"]) for one in told} == {("failed", True)}, told
    assert len(told) <= 2, "each failure is told once: a start may see the death, or only the watch"
    assert "which is not a process of this agent" in after.last.reason
    until("it has died", lambda: state(host) is State.STOPPED)
    stranger.kill()
    comes_up(host, site, port, "2")


@pytest.mark.long
def test_a_start_that_fails_for_a_port_that_a_stranger_has_by_now_rejects_nothing(host, site, port, stranger):
    with_timeouts(host, start=2.0)
    for version in "12":
        publish(site, version, port, AGENT, SIGNALS_AND_RETURNS)
    stranger.send_signal(signal.SIGSTOP)
    proven(host, site, port)
    stranger.send_signal(signal.SIGCONT)
    run(host, site, "2")
    run(host, site, "2")
    assert (current(host), memory(host).rejected) == ("2", None)
    who = rf"port {port} is held by {stranger.pid} .*, which is not a process of this agent; tried again in each cycle"
    assert re.search(who, memory(host).last.reason), memory(host).last.reason
    assert (memory(host).last.step, len(site.outcomes())) == ("start", 1)
    stranger.kill()
    stranger.wait()
    comes_up(host, site, port, "2")


# Its status ends the process that ../stranger names, if a start has just failed, and says so.
LETS_GO = SIGNALS_AND_RETURNS.replace(
    "status)",
    "status)\n  alive || ! grep -qs already var/app.log || { kill -9 $(cat ../stranger) && rm ../stranger; } 2>/dev/null\n ",
)


def with_a_stranger_that_lets_go(host, site, port, stranger, agent):
    """The cycle of an upgrade to a version whose first start fails for a stranger, which lets go of the port in that start."""
    with_timeouts(host, start=2.0)
    publish(site, "1", port, AGENT, SIGNALS_AND_RETURNS)
    publish(site, "2", port, agent, LETS_GO)
    stranger.send_signal(signal.SIGSTOP)
    proven(host, site, port)
    (host.layout.agent("agent").path / "stranger").write_text(str(stranger.pid))
    stranger.send_signal(signal.SIGCONT)
    run(host, site, "2")
    assert stranger.wait(10) == -signal.SIGKILL


def test_a_start_that_fails_for_a_stranger_that_lets_go_of_the_port_in_time_is_tried_once_more(
    host, site, port, stranger
):
    with_a_stranger_that_lets_go(host, site, port, stranger, AGENT)
    assert (current(host), state(host), memory(host).rejected) == ("2", State.STARTED, None)
    assert listening(port)
    assert [one for one in site.outcomes() if one["result"] != "done"] == []


def test_a_version_that_fails_without_a_stranger_too_is_rejected_by_its_second_start(host, site, port, stranger):
    broken = AGENT.replace("    s.listen(5)\n", "    sys.exit(3)\n")
    with_a_stranger_that_lets_go(host, site, port, stranger, broken)
    assert (current(host), memory(host).rejected.order.version) == ("1", "2")


def test_a_port_of_a_version_that_has_died_before_the_next_one_was_ordered_is_known(host, site, port, stranger):
    with_timeouts(host, start=2.0)
    for version in "12":
        publish(site, version, port, AGENT, SIGNALS_AND_RETURNS)
    stranger.send_signal(signal.SIGSTOP)
    proven(host, site, port)
    assert until("its ports are known", lambda: cycle.run(host) and memory(host).running.ports, within=30) == {port}
    processes.end([processes.identity(int((here(host, "1") / "var" / "app.pid").read_text()))])
    stranger.send_signal(signal.SIGCONT)
    assert stranger.stdout.readline() == "listens\n"
    run(host, site, "2")
    assert (current(host), memory(host).rejected) == ("2", None)
    stranger.kill()
    stranger.wait()
    comes_up(host, site, port, "2")


def test_what_inherited_the_port_of_a_stopped_version_rejects_nothing_and_is_ended_when_that_is_ordered(
    host, site, port, helper
):
    for version in "12":
        publish(site, version, port, PASSES_ON)
    proven(host, site, port)
    left = helper()
    run(host, site, "2")
    after = died(host, site, "2")
    assert (current(host), after.rejected, alive(left)) == ("2", None, True)
    words = f"port {port} is held by {left} sleep 4731 of 1 that its stop has left: end it, or order with leftovers=end"
    assert words in after.last.reason
    died(host, site, "2", leftovers="end")
    assert not alive(left)
    comes_up(host, site, port, "2", leftovers="end")


def test_what_inherited_the_port_may_be_ended_by_hand(host, site, port, helper):
    for version in "12":
        publish(site, version, port, PASSES_ON)
    proven(host, site, port)
    left = helper()
    run(host, site, "2")
    died(host, site, "2")
    until("it has died", lambda: state(host) is State.STOPPED)
    processes.end([processes.identity(left)])
    comes_up(host, site, port, "2")


def test_a_version_whose_own_child_keeps_the_port_after_a_crash_is_rejected(host, site, port, helper):
    """It had its port, so that was not the reason. It is said who has the port that the way back needs."""
    publish(site, "1", port)
    publish(site, "2", port, CRASHES)
    proven(host, site, port)
    run(host, site, "2")
    until("it was looked at three times", lambda: died(host, site, "2").rejected)
    assert (current(host), alive(helper())) == ("1", True)
    holder = f"port {port} is held by {helper()} sleep 4731 of 2"
    until("why says it of the way back", lambda: died(host, site, "2") and holder in why(host))


def test_a_version_that_shares_the_port_with_what_was_left_and_crashes_is_rejected(host, site, port, helper):
    """It has listened there, so that was not the reason. As processes of 1 still run, it is started once more."""
    shares = PASSES_ON.replace("SO_REUSEADDR, 1)", "SO_REUSEPORT, 1)", 1)
    publish(site, "1", port, shares)
    publish(site, "2", port, shares.replace('open("../helper"', 'open("../other"'))
    proven(host, site, port)
    left = helper()
    run(host, site, "2")
    for rejected in (False, True):
        until("it was seen to listen", lambda: run(host, site, "2") and memory(host).trial.served)
        for file in (here(host, "2") / "pid", host.layout.agent("agent").path / "other"):
            processes.end([processes.identity(int(file.read_text()))])
        assert (died(host, site, "2").rejected is not None, alive(left)) == (rejected, True)


def test_a_port_that_only_the_new_version_needs_is_a_reason_to_go_back_and_whose_it_is_is_said(
    host, site, port, stranger
):
    other = free_port()
    publish(site, "1", other)
    publish(site, "2", port, AGENT)
    assert stranger.stdout.readline() == "listens\n"
    proven(host, site, other)
    run(host, site, "2")
    after = died(host, site, "2")
    assert (current(host), state(host), after.rejected.order.version) == ("1", State.STARTED, "2")
    assert f"port {port} is held by {stranger.pid} " in after.rejected.reason
    assert f"port {port} is held by {stranger.pid} " in site.outcomes()[-1]["reason"]


def holds(host, port, *own):
    """What may keep a version from running whose port this is. own: identities of its processes."""
    return HoldUps(here(host, "2"), Memory(ports=frozenset({port})), host.boot, 1.0, lambda _: frozenset(own))


def test_what_has_ended_since_the_sockets_were_listed_holds_no_port(host, port, stranger):
    assert stranger.stdout.readline() == "listens\n"
    table = Table()
    assert table.holders({port})[port].pid == stranger.pid
    stranger.kill()
    stranger.wait()
    assert holds(host, port).why(table) == ""


def test_what_has_begun_since_the_processes_were_read_is_seen_on_its_port(host, port, request):
    table = Table()
    stranger = request.getfixturevalue("stranger")
    assert stranger.stdout.readline() == "listens\n"
    assert holds(host, port).why(table).startswith(f"port {port} is held by {stranger.pid} ")
    assert holds(host, port, processes.identity(stranger.pid)).why(Table()) == "", "its own is no other"


def test_a_port_that_another_program_had_beside_the_agent_is_no_excuse(host, site, port):
    """On another address, or handed to the agent as systemd does it: a way back has it as before."""
    publish(site, "1", port)
    publish(site, "2", 0, "import sys\nsys.exit(3)\n")
    with socket.socket() as beside:
        beside.bind(("127.0.0.2", port))
        beside.listen()
        proven(host, site, port)
        until("2 is rejected", lambda: run(host, site, "2") and memory(host).rejected)
        assert memory(host).rejected.order.version == "2"
        assert (current(host), state(host)) == ("1", State.STARTED)


def test_whose_the_port_of_a_proven_version_is_is_said_when_it_is_started(host, site, port, stranger):
    publish(site, "1", port)
    stranger.send_signal(signal.SIGSTOP)
    proven(host, site, port)
    assert until("its ports are known", lambda: cycle.run(host) and memory(host).running.ports, within=30) == {port}
    stranger.send_signal(signal.SIGCONT)
    processes.end([processes.identity(int((here(host, "1") / "pid").read_text()))])
    assert stranger.stdout.readline() == "listens\n"
    run(host, site, "1")
    assert f"port {port} is held by {stranger.pid} " in memory(host).last.reason
