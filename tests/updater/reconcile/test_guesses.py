"""A version whose processes show only by where they lived for long that it stays in its install: they may have been helpers.

Its pid file lies elsewhere, and its number has come again, so that its control goes on saying `started`.
"""

import os
import signal
import sys

import pytest
from msgspec.structs import replace

from helpers.agents import install, script
from helpers.cycles import here, run
from helpers.field import alive
from lab.fleet import until
from updater.cli import explain
from updater.kernel import processes, witness
from updater.kernel.processes import Table
from updater.model.observed import State
from updater.model.recognised import Guess, Recognised
from updater.reconcile import cycle

BELIEVES_ANYTHING = """p={0}/agent.pid
up() {{ [ -s $p ] && kill -0 $(cat $p) 2>/dev/null; }}
case $1 in
start) echo start >>{0}/calls; {1} >/dev/null 2>&1 & echo $! >$p ;;
stop) kill $(cat $p); rm -f $p ;;
status) if up; then echo started; else echo stoped; fi ;;
esac"""
# Starts a service elsewhere, as systemd does, and leaves a helper in the directory each time. It waits until the service has
# left the session of the start, or that would be recognised as its own.
LEAVES_A_HELPER = """p={0}/agent.pid
up() {{ [ -s $p ] && kill -0 $(cat $p) 2>/dev/null; }}
case $1 in
start) echo start >>{0}/calls; sleep 4921 >/dev/null 2>&1 &
  up || {{ rm -f $p; (cd /; exec env -i setsid /bin/sh -c "echo \\$\\$ >$p; exec /bin/sleep 4922") >/dev/null 2>&1 &
    until [ -s $p ]; do sleep 0.01; done; }} ;;
stop) kill $(cat $p); rm -f $p ;;
status) if up; then echo started; else echo stoped; fi ;;
esac"""


def pid_in(elsewhere):
    return int((elsewhere / "agent.pid").read_text())


def starts(elsewhere):
    return (elsewhere / "calls").read_text().split().count("start")


def look(host):
    return cycle.look(host, ["agent"])["agent"]


def guess(host):
    return host.memories.of("agent").known("1").guess


def proven(host, site):
    run(host, site, "1")
    host.reconfigure(replace(host.config, watch=0))
    run(host, site, "1")


def helper_ends(host):
    processes.end([one.identity for one in Table().below(here(host, "1"))])


def guessed(host, boot=None):
    """As after it had been there for long."""
    known = host.memories.of("agent").running
    host.memories.change(
        "agent", lambda memory: memory.recognising(replace(known, guess=Guess.STAYS, boot=boot or known.boot))
    )


@pytest.mark.long
@pytest.mark.parametrize("command", ["./agent 4923", f"{sys.executable} ./agent.py"], ids=["a program", "a script"])
def test_a_dead_agent_is_not_believed_for_a_stranger_that_has_its_number(host, site, elsewhere, spawn, command):
    control = script(f"[ -f agent ] || cp /bin/sleep agent\n{BELIEVES_ANYTHING.format(elsewhere, command)}")
    site.publish(version="1", control=control, **{"agent.py": b"import time\ntime.sleep(4924)\n"})
    host.reconfigure(replace(host.config, watch=3600))
    run(host, site, "1")
    place, first = here(host, "1"), pid_in(elsewhere)
    known = host.memories.of("agent").running
    until("it has stayed", lambda: witness.until_settled(Table(), place, known, host.boot) == 0, within=60)
    assert look(host).running is None, "nothing is decided by that within a watch"
    host.reconfigure(replace(host.config, watch=0))
    until("it is known to stay", lambda: run(host, site, "1") and guess(host) is Guess.STAYS, within=60)
    stranger = spawn("sleep", "4925")
    (elsewhere / "agent.pid").write_text(str(stranger.pid))
    os.kill(first, signal.SIGKILL)
    until("it is gone", lambda: not alive(first))
    seen = look(host)
    assert (seen.absent, seen.state) == (True, State.STOPPED)
    assert "its control says started, but none of its processes exists" in seen.status.text
    assert run(host, site, "1").turns[0].changed
    assert (alive(pid_in(elsewhere)), stranger.poll(), starts(elsewhere)) == (True, None, 2)


def test_a_helper_in_the_directory_counts_for_less_than_a_program_and_a_visitor_for_nothing(
    host, site, elsewhere, spawn
):
    site.publish(version="1", control=script(LEAVES_A_HELPER.format(elsewhere)))
    install(host.layout.root, "other", "1", script("echo stoped"))
    run(host, site, "1")
    known = host.memories.of("agent").running
    assert witness.until_settled(Table(), here(host, "1"), known, host.boot) > 31, "half a minute tells nothing"
    assert witness.until_settled(Table(), here(host, "1", "other"), None, host.boot) is None
    spawn("sleep", "4926", cwd=here(host, "1", "other"))
    until("it is there", lambda: Table().below(here(host, "1", "other")))
    assert witness.until_settled(Table(), here(host, "1", "other"), None, host.boot) is None
    (here(host, "1") / "pid").write_text(str(pid_in(elsewhere)))
    assert witness.until_settled(Table(), here(host, "1"), known, host.boot) is None, "the pid file tells"


@pytest.mark.parametrize("boot", ["", "another"], ids=["in this boot", "after another one"])
def test_what_was_started_for_a_helper_that_ended_is_not_started_so_again(host, site, elsewhere, boot):
    site.publish(version="1", control=script(LEAVES_A_HELPER.format(elsewhere)))
    proven(host, site)
    guessed(host, boot)
    service = pid_in(elsewhere)
    for _ in range(4):
        helper_ends(host)
        run(host, site, "1")
    assert (starts(elsewhere), guess(host), look(host).state) == (2, Guess.SPENT, State.STARTED)
    assert any("started again once" in line for line in explain.why(host, look(host), host.orders.last))
    assert (pid_in(elsewhere), alive(service), host.memories.of("agent").rejected) == (service, True, None)


def test_it_may_be_doubted_again_once_its_status_has_told_its_end():
    doubted = Recognised("1", "b", guess=Guess.STAYS).doubted()
    assert doubted.doubted() is None
    spent = Recognised("1", "b").started_after(doubted.beginning("b", "t", 1), stays=False)
    assert (doubted.may_be_doubted, spent.guess, spent.may_be_doubted) == (True, Guess.SPENT, False)
    assert spent.in_boot("another").guess is Guess.SPENT
    told = Recognised("1", "b").started_after(spent.beginning("b", "t", 2), stays=True)
    assert told.guess is Guess.NONE
    assert Recognised("1", "b", guess=Guess.STAYS).beginning("b", "t", 1).guess is Guess.NONE
