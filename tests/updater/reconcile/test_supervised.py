"""What runs below a supervisor that stays: a crash loop that is seen is on trial for three watches, and then no way back where
there is another one; jobs that come and go are no crash loop."""

import sys
import time

import pytest
from msgspec.structs import replace

from helpers.field import AGENT, free_port
from lab.fleet import until
from updater.cli import explain
from updater.reconcile import cycle

pytestmark = pytest.mark.long

# As with a supervisord of the agent's own: its pid file names the supervisor, and so does its status.
SUPERVISED = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
up() { [ -s super.pid ] && [ "/proc/$(cat super.pid)/cwd" -ef . ]; }
case "$1" in
start) up && exit 0
  setsid sh -c 'MORE while :; do DOES; done' >/dev/null 2>&1 </dev/null & echo $! >super.pid ;;
stop) up && kill -- -$(cat super.pid); while up; do sleep 0.05; done ;;
status) if up; then echo started; else echo stoped; fi ;;
esac
"""
PROGRAM = f"{sys.executable} ./agent.py PORT 0 $(cat ../life)"
# Listens on PORT and forks workers that do too, each for a while, as servers do it that replace their workers.
FORKS = """\
import os, socket, sys, time
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
s.listen(5)
while True:
    if not (pid := os.fork()):
        time.sleep(0.3)
        os._exit(0)
    os.waitpid(pid, 0)
"""
WATCH = 3.0


@pytest.fixture
def port():
    return free_port()


def publish(site, version, does, port, more="", file="super.pid"):
    control = (
        SUPERVISED.replace("DOES", does).replace("MORE", more).replace("PORT", str(port)).replace("super.pid", file)
    )
    site.publish(version=version, control=control, **{"agent.py": AGENT.encode(), "forks.py": FORKS.encode()})


def begin(host, site, *does, port, watch=WATCH, **more):
    """Upgrade from a version that sleeps to one that does this."""
    timeouts = replace(host.config.timeouts, status=5, start=5, stop=5)
    host.reconfigure(replace(host.config, watch=0, timeouts=timeouts))
    publish(site, "1", "sleep 1000", port)
    publish(site, "2", *does, port, **more)
    until("it is proven", lambda: run(host, site, "1").good, within=60)
    host.reconfigure(replace(host.config, watch=watch))
    (host.layout.agent("agent").path / "life").write_text("0.6")
    run(host, site, "2")


def run(host, site, version="2"):
    site.desire(("agent", version))
    cycle.run(host)
    return host.memories.of("agent")


def looked(host, site, seconds):
    """Look again and again for so long; the memory then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        memory = run(host, site)
    return memory


def explained(host):
    seen = cycle.look(host, ["agent"])["agent"]
    return "\n".join(explain.why(host, seen, host.orders.last))


def test_a_program_that_is_replaced_below_a_supervisor_is_on_trial_for_three_watches_and_then_good(host, site, port):
    """It may crash, or serve one connection by design. It is not on trial for ever: a crash weeks later says nothing about
    the version."""
    begin(host, site, PROGRAM, port=port)
    looked(host, site, WATCH)
    memory = until("it was replaced three times", lambda: (it := run(host, site)).trial.replaced >= 3 and it)
    assert (memory.is_on_trial, memory.rejected) == (True, None), "neither good nor bad"
    assert f"({port}) was replaced {memory.trial.replaced} times within its watch, which began again" in explained(host)
    until("it is good", lambda: run(host, site).good == "2", within=2 * WATCH)
    memory = host.memories.of("agent")
    assert memory.rejected is None
    assert f"({port}) was replaced {memory.trial.replaced} times within its watch" in explained(host)
    assert memory.last.reason in explained(host)
    assert "it still was when 3 watches were over, so a version that fails after it goes back to 1" in explained(host)
    assert "rollback   goes to 1" in explained(host)
    assert memory.back == "1"


def test_a_program_that_crashes_at_first_and_then_lives_for_a_watch_is_good_at_its_end(host, site, port):
    begin(host, site, PROGRAM, port=port)
    until("it was replaced", lambda: run(host, site).trial.replaced)
    (host.layout.agent("agent").path / "life").write_text("0")
    until("it is good", lambda: run(host, site).good == "2", within=4 * WATCH)
    assert (host.memories.of("agent").rejected, host.memories.of("agent").back) == (None, "2")


DOES = {
    "a job": ("sleep 0.2",),
    "a job of its own in a pause": (f"{sys.executable} -c pass; sleep 0.1",),
    "a server that replaces its workers": (f"{sys.executable} forks.py PORT",),
    "a server beside a job": ("sleep 0.3", f"{sys.executable} ./agent.py PORT 0 &"),
}


@pytest.mark.parametrize("what", DOES)
def test_what_comes_and_goes_by_design_is_good_at_the_end_of_the_watch(host, site, port, what):
    does, *more = DOES[what]
    begin(host, site, does, port=port, more="".join(more))
    began = time.monotonic()
    until("it is good", lambda: run(host, site).good == "2", within=4 * WATCH)
    assert time.monotonic() - began < 3 * WATCH, "its watch never began again"
    assert host.memories.of("agent").trial.replaced == 0


@pytest.mark.parametrize(("program", "supervisor"), [("pid", "agent.pid"), ("agent.pid", "pid")])
def test_a_crash_loop_is_seen_though_one_of_the_own_pid_files_names_the_supervisor_that_stays(
    host, site, program, supervisor
):
    begin(host, site, f"{PROGRAM} & echo $! >{program}; wait $!", port=0, watch=60.0, file=supervisor)
    memory = until("it is judged", lambda: (it := run(host, site)) and not it.is_on_trial and it, within=60)
    assert (memory.good, memory.rejected and memory.rejected.order.version) == ("1", "2")
    assert "was started again 3 times within its watch" in memory.rejected.reason
