"""An updater is killed while a start is under way: when it comes back, one agent runs, and it is the ordered one.

The agents wipe their environment and leave their directory and session, so that nothing but their control finds them.
"""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
from msgspec.structs import replace

from helpers.agents import HEALTHY, install, script
from helpers.cycles import executor_of
from helpers.field import AGENT, free_port
from lab.fleet import Host, Late, until
from updater.errors import TryLater
from updater.kernel import processes, witness
from updater.kernel.processes import Table
from updater.model.actions import Action, Step
from updater.reconcile import cycle

pytestmark = pytest.mark.long

RUN = f"{sys.executable} $PWD/agent.py PORT 0"
UP = "up() { [ -s $FILE ] && kill -0 $(cat $FILE) 2>/dev/null; }"
VERBS = """stop) kill $(cat $FILE); while up; do sleep 0.05; done; rm -f $FILE ;;
status) up && echo started || echo stoped ;;
esac
"""

# As a double fork does it: only the number in a file one directory deeper is left of the start.
FORKS = f"""#!/bin/sh
cd "$(dirname "$0")" || exit 1
mkdir -p run; FILE=run/agent.pid
{UP}
case "$1" in
start) GUARD WAIT RUN="{RUN}"; FILE=$PWD/$FILE
  (cd / && exec env -i setsid sh -c "$RUN & echo \\$! >$FILE") >/dev/null 2>&1 </dev/null; sleep 0.2 ;;
{VERBS}"""

# As start-stop-daemon does it with a file in /run: one file for all versions, which their `start` and `status` go by.
SHARES = f"""#!/bin/sh
cd "$(dirname "$0")" || exit 1
FILE=$(cd ..; pwd)/agent.pid
{UP}
case "$1" in
start) WAIT up && exit 0; RUN="{RUN}"
  (cd / && exec setsid sh -c "$RUN & echo \\$! >$FILE") >/dev/null 2>&1 </dev/null; sleep 0.2 ;;
{VERBS}"""
MANNERS = {
    "forks, with a guard": FORKS.replace("GUARD", "up && exit 0;"),
    "forks": FORKS.replace("GUARD", ""),
    "one pid file for all versions": SHARES,
}
WAIT = "until [ -e ../gate ]; do sleep 0.05; done;"  # as the start of version 2 does


@pytest.fixture
def machine(tmp_path, site):
    """A host whose updater is a process of its own."""
    with Host(tmp_path / "h1", site.address, watch=0, timeouts={"start": 8, "stop": 5, "status": 5}) as made:
        yield made
        processes.end(one.identity for one, _ in agents(made.root))


def agents(root):
    """The agents of a root that run, each with its version."""
    where = f"{root}/agent/"
    words = [(one, processes.command(one.pid)[1:2]) for one in Table().by_pid.values()]
    scripts = [(one, word[0]) for one, word in words if word and word[0].startswith(where)]
    return [
        (one, script.removeprefix(where).partition("/")[0]) for one, script in scripts if script.endswith("agent.py")
    ]


def running(root):
    return [version for _, version in agents(root)]


def publish(site, manner, version, port=0):
    control = MANNERS[manner].replace("PORT", str(port)).replace("WAIT", WAIT if version == "2" else "")
    site.publish(version=version, control=control, **{"agent.py": AGENT.encode()})


def is_starting(root, version):
    where = root / "agent" / version
    return any(witness.is_start_script(one) for one in Table().below(where))


def updating(machine):
    """One cycle of an updater that may be killed."""
    command = [sys.executable, "-m", "updater.cli", "once", "-c", str(machine.config)]
    with machine.log.open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=machine.root)


def cut_off(machine, site, version):
    """Order this version, and kill the updater while it starts it."""
    site.desire(("agent", version))
    with updating(machine) as updater:
        until("it is starting", is_starting, machine.root, version)
        updater.send_signal(signal.SIGKILL)


def come_back(machine):
    """Another updater finds the start under way, which ends a while later."""
    with updating(machine) as updater:
        until("it waits", lambda: "waiting for its end" in machine.log.read_text())
        (machine.root / "agent/gate").touch()
    return updater.returncode


@pytest.mark.parametrize("manner", MANNERS)
def test_a_version_whose_start_was_cut_off_does_not_run_on_when_another_is_ordered(machine, site, manner):
    for version in ("1", "2"):
        publish(site, manner, version)
    site.desire(("agent", "1"))
    assert machine.run("once").returncode == 0
    cut_off(machine, site, "2")
    site.desire(("agent", "1"))
    assert come_back(machine) == 0
    assert (running(machine.root), machine.current("agent")) == (["1"], "1"), machine.log.read_text()
    assert machine.control("agent", "status") == "started"


@pytest.mark.parametrize("manner", MANNERS)
def test_a_start_that_was_cut_off_is_not_made_a_second_time(machine, site, manner):
    """Without a guard of its own there were two of one agent; with a port the second one failed, and so the first was taken
    back."""
    port = free_port()
    for version in ("1", "2"):
        publish(site, manner, version, port)
    site.desire(("agent", "1"))
    assert machine.run("once").returncode == 0
    cut_off(machine, site, "2")
    come_back(machine)
    assert (running(machine.root), machine.current("agent")) == (["2"], "2"), machine.log.read_text()
    assert machine.control("agent", "status") == "started"
    assert {one["result"] for one in site.outcomes()} <= {"done"}


@pytest.mark.parametrize("manner", MANNERS)
def test_a_start_that_nobody_remembers_is_stopped_too(machine, site, manner):
    """As a person begins it, or an updater that kept no memory of it: it is of a version that is not ordered."""
    for version in ("1", "2"):
        publish(site, manner, version)
    site.desire(("agent", "1"))
    assert machine.run("once").returncode == 0
    shutil.copytree(machine.root / "agent/1", machine.root / "agent/0")
    control = machine.root / "agent/0/control"
    control.write_text(control.read_text().replace("start) ", f"start) {WAIT} "))
    subprocess.run(["./control", "stop"], cwd=machine.root / "agent/1", check=True)
    with subprocess.Popen(["setsid", "./control", "start"], cwd=control.parent):
        assert come_back(machine) == 0
    assert (running(machine.root), machine.current("agent")) == (["1"], "1"), machine.log.read_text()


@pytest.fixture
def elsewhere(tmp_path):
    """A program outside of all installs."""
    program = tmp_path / "elsewhere.py"
    program.write_text(AGENT)
    yield program
    table = Table().by_pid.values()
    processes.end(one.identity for one in table if processes.command(one.pid)[1:2] == [str(program)])


# A daemon that only the mark of its start tells: it has no pid file, and works at `/`. `stop` signals and returns.
BY_ITS_MARK = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
up() { [ -s number ] && kill -0 $(cat number) 2>/dev/null; }
case "$1" in
start) WAIT up && exit 0; (cd / && exec setsid RUN) >/dev/null 2>&1 </dev/null & echo $! >number; sleep 0.7 ;;
stop) up || exit 0; kill $(cat number); rm -f number ;;
status) up && echo started || echo stoped ;;
esac
"""


def test_what_a_cut_off_start_has_left_is_waited_for_before_a_later_version_is_started(machine, site, elsewhere):
    """It keeps its port for a while after its stop; the later version would fail on that, and be rejected."""
    run = f"{sys.executable} {elsewhere} {free_port()} 3"
    for version in ("1", "2", "3"):
        control = BY_ITS_MARK.replace("RUN", run).replace("WAIT", WAIT if version == "2" else "")
        site.publish(version=version, control=control)
    site.desire(("agent", "1"))
    assert machine.run("once").returncode == 0
    cut_off(machine, site, "2")
    come_back(machine)
    assert (machine.current("agent"), machine.control("agent", "status")) == ("2", "started")
    site.desire(("agent", "3"))
    done = machine.run("once")
    assert (machine.current("agent"), machine.control("agent", "status")) == ("3", "started"), done.stderr
    assert "starting it again" not in done.stderr
    assert {one["result"] for one in site.outcomes()} == {"done"}


def test_an_agent_that_is_ordered_to_stop_while_it_is_started_is_down_in_the_end(machine, site):
    for version in ("1", "2"):
        publish(site, "forks", version)
    site.desire(("agent", "1"))
    assert machine.run("once").returncode == 0
    cut_off(machine, site, "2")
    site.desire(site.entry(version="2", cmd="stop"))
    assert come_back(machine) == 0
    assert running(machine.root) == [], machine.log.read_text()
    before = machine.log.read_text()
    assert "stop 2" in before
    assert "stop 2" not in machine.run("once").stderr, "once"


def test_what_comes_up_a_while_after_its_start_has_ended_is_stopped_too(machine, site):
    """It writes its pid file when it has come up; until then its status says `stoped`."""
    late = MANNERS["forks"].replace("; sleep 0.2", "").replace("$RUN & echo", "$RUN & sleep 1; echo")
    late = late.replace(">/dev/null 2>&1 </dev/null", ">/dev/null 2>&1 </dev/null &")
    publish(site, "forks", "1")
    control = late.replace("GUARD", "").replace("PORT", "0").replace("WAIT", WAIT)
    site.publish(version="2", control=control, **{"agent.py": AGENT.encode()})
    site.desire(("agent", "1"))
    assert machine.run("once").returncode == 0
    cut_off(machine, site, "2")
    site.desire(("agent", "1"))
    assert come_back(machine) == 0
    with pytest.raises(Late):
        until("2 comes up", lambda: "2" in running(machine.root), within=2)
    assert running(machine.root) == ["1"], machine.log.read_text()


# Its start returns at once; a helper that nothing tells of (no mark, at `/`, a session of its own) brings it up 3 s later.
BY_A_HELPER = f"""#!/bin/sh
cd "$(dirname "$0")" || exit 1
FILE=$PWD/number
{UP}
case "$1" in
start) RUN="{RUN}"
  (exec setsid env -i sh -c "cd /; sleep 3; $RUN & echo \\$! >$FILE") >/dev/null 2>&1 </dev/null & echo >../begun ;;
{VERBS}"""


@pytest.mark.parametrize("then", ["1", "2"])
def test_what_a_helper_out_of_sight_brings_up_after_a_cut_off_start_is_waited_for(machine, site, then):
    for version in ("1", "2"):
        site.publish(version=version, control=BY_A_HELPER.replace("PORT", "0"), **{"agent.py": AGENT.encode()})
    site.desire(("agent", "1"))
    with updating(machine) as updater:
        until("its start has ended", (machine.root / "agent/begun").exists)
        updater.send_signal(signal.SIGKILL)
    site.desire(("agent", then))
    assert machine.run("once").returncode == 0
    with pytest.raises(Late):
        until("another one comes up", lambda: running(machine.root) != [then], within=4)
    assert machine.control("agent", "status") == "started"


def test_a_cut_off_start_that_brings_nothing_up_is_made_again_when_its_time_is_over(machine, site):
    nothing_at_first = HEALTHY.replace(
        "start) ", "start) [ -e ../begun ] || { echo >../begun; exit 0; }; echo >../again; "
    )
    site.publish(control=nothing_at_first)
    site.desire(("agent", "1"))
    begun, again = machine.root / "agent/begun", machine.root / "agent/again"
    with updating(machine) as updater:
        until("its start has ended", begun.exists)
        updater.send_signal(signal.SIGKILL)
    done = machine.run("once")
    assert (done.returncode, machine.control("agent", "status")) == (0, "started"), done.stderr
    assert again.stat().st_mtime - begun.stat().st_mtime > 5, "a start has 8 s here"
    assert "an earlier start of 1 was cut off; waiting for its end" in done.stderr
    subprocess.run(["./control", "stop"], cwd=machine.root / "agent/1", check=True)


def test_the_directory_of_what_runs_a_script_of_it_from_elsewhere_is_not_removed(host, spawn):
    """It has left the directory and wiped its environment: it is no agent's for sure, but it needs its files."""
    place = install(host.layout.root, "agent", "0", current=False)
    (place / "agent.py").write_text(AGENT)
    one = spawn(sys.executable, str(place / "agent.py"), "0", "0", env={})
    until("it runs", lambda: processes.command(one.pid)[1:2] == [str(place / "agent.py")])
    executor = executor_of(host, "1")
    with pytest.raises(TryLater, match=f"1 process in 0 still runs: {one.pid} "):
        executor.perform(Action(Step.PRUNE, "agent", "0", "old"))
    assert (place / "control").exists()


# Its start leaves a supervisor that is called as it was itself, and brings nothing up.
CALLED_SO = script(
    '[ "$1" = status ] && echo stoped; [ "$1" != start ] || [ "$SUPER" ] || { SUPER=1 setsid ./control start & exit; }\n'
    '[ "$1" != start ] || sleep 4874;'
)


def test_the_way_back_does_not_wait_for_what_a_failed_start_has_left(host, site):
    """It is called like a start, but none that was cut off: the agent is down meanwhile."""
    host.reconfigure(replace(host.config, timeouts=replace(host.config.timeouts, start=6, stop=6, status=5)))
    site.publish(version="1")
    site.publish(version="2", control=CALLED_SO)
    for version in ("1", "2"):
        site.desire(("agent", version))
        began = time.monotonic()
        cycle.run(host)
    took = time.monotonic() - began
    assert host.memories.of("agent").rejected
    assert (host.layout.agent("agent").version_file.read_text().strip(), took < 11) == ("1", True), took


def test_a_start_that_is_tried_again_in_the_same_turn_is_remembered_as_under_way_again(host):
    """Else a later updater would not wait for its end when this one is killed now."""
    keeps = HEALTHY.replace("start) ", "start) cp ../../.updater/agents/agent.json ../during; ")
    place = install(host.layout.root, "agent", "1", keeps)
    executor = executor_of(host, "1")
    for _ in range(2):
        executor.perform(Action(Step.START, "agent", "1", "desired"))
        during = json.loads((place.parent / "during").read_text())
        assert during["begun"]["under_way"] is True
        assert not host.memories.of("agent").is_cut_off("1", host.boot), "it has ended"
        subprocess.run(["./control", "stop"], cwd=place, check=True)
