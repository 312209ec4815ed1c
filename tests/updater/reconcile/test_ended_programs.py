"""A program has ended, and its control goes on saying `started`: by a pid file that nobody removes, or by a zombie."""

import ctypes
import os
import signal
import sys

import pytest
from msgspec.structs import replace

from helpers.agents import script
from helpers.cycles import current, here, run, with_timeouts
from helpers.field import KILL_0, alive
from lab.fleet import until
from updater.host import control_script
from updater.kernel import children, doubts, processes, witness
from updater.model.observed import State
from updater.model.recognised import Recognised
from updater.reconcile import cycle

# Its status is whether the pid file is there.
BY_THE_FILE = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
case "$1" in
start)  [ -f FILE ] && exit 0; sleep LIFE >/dev/null 2>&1 & echo $! >FILE ;;
stop)   kill $(cat FILE) 2>/dev/null; rm -f FILE ;;
status) if [ -f FILE ]; then echo started; else echo stoped; fi ;;
esac
"""
# It runs a program below a supervisor, which looks for its end every POLL seconds, and then starts it again.
SUPERVISOR = """import os, subprocess, sys, time
def begin():
    one = subprocess.Popen(["sleep", "LIFE"])
    open("pid.new", "w").write(str(one.pid))
    os.rename("pid.new", "pid")
    return one
open("supervisor", "w").write(str(os.getpid()))
one = begin()
while True:
    time.sleep(POLL)
    if one.poll() is not None:
        one = begin()
"""
SUPERVISED = (
    KILL_0.replace("sleep 9999", f"{sys.executable} ./supervisor.py")
    .replace("& echo $! >pid", "& while ! [ -s pid ]; do sleep 0.05; done")
    .replace('kill "$pid"', 'kill "$pid" $(cat supervisor)')
)


@pytest.fixture(autouse=True)
def watched(host):
    host.reconfigure(replace(host.config, watch=0))
    with_timeouts(host, start=10, stop=10)


@pytest.fixture
def buried():
    """What ends is buried at once, whatever the first process of this machine does."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    with children.burying():
        yield
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


def program(host, version):
    return int((here(host, version) / "pid").read_text())


def ends(pid):
    os.kill(pid, signal.SIGKILL)
    until("it has ended", lambda: not alive(pid))


def look(host):
    return cycle.look(host, ["agent"])["agent"]


def status(host):
    return control_script.status(here(host, current(host)), 5).state


def rejected(host):
    order = host.memories.of("agent").rejected
    return order and order.order.version


def ordered_until(host, site, version, what, is_so):
    def ordered():
        run(host, site, version)
        return is_so()

    until(what, ordered, within=60)


def proven(host, site, version):
    ordered_until(host, site, version, f"{version} is proven", lambda: host.memories.of("agent").good == version)


def supervised(site, version, life, poll):
    source = SUPERVISOR.replace("LIFE", str(life)).replace("POLL", str(poll))
    site.publish(version=version, control=SUPERVISED, **{"supervisor.py": source.encode()})


@pytest.mark.parametrize("file", ["pid", "agent.pid", "var.pid"])
@pytest.mark.parametrize("life", [0.3, 1.5])
def test_a_version_that_ends_soon_after_its_start_is_rolled_back_though_its_pid_file_stays(
    host, site, buried, file, life
):
    """Long before it has shown that it stays in its install; what a program leaves that moves away is another file."""
    for version, seconds in (("1", 4880), ("2", life)):
        site.publish(version=version, control=BY_THE_FILE.replace("FILE", file).replace("LIFE", str(seconds)))
    proven(host, site, "1")
    host.reconfigure(replace(host.config, watch=60))
    ordered_until(host, site, "2", "it is rolled back", lambda: rejected(host) == "2")
    assert (current(host), status(host)) == ("1", State.STARTED)
    assert alive(int((here(host, "1") / file).read_text()))


def test_a_proven_version_that_ends_is_started_though_its_pid_file_stays(host, site, buried):
    site.publish(version="1", control=BY_THE_FILE.replace("FILE", "pid").replace("LIFE", "4881"))
    proven(host, site, "1")
    ends(program(host, "1"))
    assert look(host).absent
    assert run(host, site, "1").turns[0].changed
    assert alive(program(host, "1"))


def test_what_a_pid_file_says_of_a_start_counts_and_nothing_older_nor_what_lives(tmp_path, spawn):
    place = tmp_path / "agent" / "1"
    place.mkdir(parents=True)
    pid, since = place / "pid", witness.ticks() - 100
    pid.write_text("4194303")
    assert doubts.names_the_gone(place, Recognised("1", since=since))
    assert not doubts.names_the_gone(place, Recognised("1")), "no start of it is known"
    os.utime(pid, (1, 1))
    assert not doubts.names_the_gone(place, Recognised("1", since=since)), "it was there before, as of the tarball"
    (place / "job.pid").write_text("4194303")
    assert not doubts.names_the_gone(place, Recognised("1", since=since)), "the books of a deploy agent"
    known = Recognised("1", since=since, processes=frozenset({"4194303.1"}), pid_files=frozenset({"job.pid"}))
    assert doubts.names_the_gone(place, known)
    pid.write_text(str(spawn("sleep", "4882").pid))
    assert not doubts.names_the_gone(place, known), "what has moved away may live"


@pytest.mark.long
def test_a_program_that_its_supervisor_does_not_bury_is_not_started(host, site):
    """`kill -0` takes it for running, and the supervisor lives. It gets time to bury it, and to start another one."""
    supervised(site, "1", 4883, 4884)
    supervised(site, "2", 4883, 4884)
    proven(host, site, "1")
    supervisor = int((here(host, "1") / "supervisor").read_text())
    ends(program(host, "1"))
    assert status(host) is State.STARTED
    seen = look(host)
    assert (seen.state, seen.reaping) == (State.STOPPED, True)
    assert seen.status.text.endswith("which has ended and was not reaped by its parent")
    assert run(host, site, "1").turns[0].waits == f"{seen.status.text}: looking again"
    until("it is started again", lambda: run(host, site, "1").turns[0].changed, within=30)
    until("it runs", lambda: look(host).state is State.STARTED)
    assert not alive(supervisor), "never two of one agent"
    host.reconfigure(replace(host.config, watch=2))
    run(host, site, "2")
    ends(program(host, "2"))
    ordered_until(host, site, "2", "2 is rolled back", lambda: rejected(host) == "2")
    until("1 runs", lambda: look(host).state is State.STARTED)


@pytest.mark.long
def test_a_supervisor_that_buries_its_program_a_moment_later_and_starts_another_is_let(host, site):
    supervised(site, "1", 4885, 4886)
    supervised(site, "2", 4885, 3)
    proven(host, site, "1")
    host.reconfigure(replace(host.config, watch=2))
    run(host, site, "2")
    supervisor, first = int((here(host, "2") / "supervisor").read_text()), program(host, "2")
    ends(first)
    assert look(host).reaping
    ordered_until(host, site, "2", "it is started again", lambda: program(host, "2") != first)
    proven(host, site, "2")
    assert (current(host), alive(supervisor), host.unreaped) == ("2", True, {})
    assert processes.is_alive(processes.identity(program(host, "2")))


def test_jobs_without_a_pid_file_come_and_go_below_a_status_that_stays(host, site):
    site.publish(version="1")
    site.publish(version="2", control=script('[ "$1" = start ] && (sleep 0.3 &); [ "$1" != status ] || echo started'))
    for version in ("1", "2"):
        proven(host, site, version)
