"""No verdict while there is doubt, nothing believed that the kernel knows better, and never two of one agent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from helpers.agents import HEALTHY, install, script
from helpers.field import AGENT, KILL_0, SIGNALS_AND_RETURNS, alive, filled, free_port
from lab.fleet import until
from updater.host import control_script
from updater.kernel import processes
from updater.kernel.processes import Table
from updater.model.observed import State
from updater.model.recognised import Recognised
from updater.reconcile import cycle

NEVER = script('[ "$1" = status ] && echo stoped; exit 0')


@pytest.fixture
def bystander():
    """A process that is none of any agent's."""
    one = subprocess.Popen(["sleep", "4720"], cwd="/", start_new_session=True)
    yield one
    one.kill()
    one.wait()


def timeouts(host, **seconds):
    host.reconfigure(replace(host.config, timeouts=replace(host.config.timeouts, **seconds)))


def run(host, site, version, **fields):
    site.desire(site.entry(version=version, **fields))
    return cycle.run(host)


def here(host, version):
    return host.layout.agent("agent").install(version)


def current(host):
    return host.layout.agent("agent").version_file.read_text().strip()


def state(host):
    return control_script.status(here(host, current(host)), 5).state


def living(host, version):
    return [one.pid for one in Table().below(here(host, version))]


def rejected(host):
    return host.memories.of("agent").rejected


def was_placed(host, version="1"):
    """As after a long life: its processes were recognised by where they are, and none of them is there now."""
    gone = Recognised(version, host.boot, processes=frozenset({"4194303.1"}), placed=True)
    host.memories.change("agent", lambda memory: memory.recognising(gone))


# --- a start beside what has not gone yet ---


@pytest.mark.long
def test_a_start_that_fails_beside_the_old_version_is_tried_once_more_when_that_is_gone(host, site):
    """slow_stop_control with a stop that takes longer than what is waited for after a stop."""
    timeouts(host, start=4, stop=15)
    port = free_port()
    for version, grace in (("1", 6.5), ("2", 0)):
        site.publish(version=version, control=filled(SIGNALS_AND_RETURNS, port, grace), **{"agent.py": AGENT.encode()})
    assert run(host, site, "1").matches
    assert run(host, site, "2").matches
    assert (current(host), state(host), rejected(host)) == ("2", State.STARTED, None)
    assert living(host, "1") == []


@pytest.mark.long
def test_who_holds_the_port_is_said_when_a_start_fails_of_it(host, site):
    port = free_port()
    timeouts(host, start=4)
    holder = subprocess.Popen([sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"], cwd="/")
    try:
        until("it listens", lambda: port in Table().holders([port]))
        site.publish(version="1", control=filled(SIGNALS_AND_RETURNS, port), **{"agent.py": AGENT.encode()})
        run(host, site, "1")
        [outcome] = site.outcomes()
        assert f"port {port} is held by {holder.pid} " in outcome["reason"]
        assert "not a process of this agent" in outcome["reason"]
    finally:
        holder.kill()
        holder.wait()


def test_a_version_that_says_stoped_while_it_runs_gets_a_second_and_a_third_look(host, site):
    wrong = HEALTHY.replace("if running", "if [ ! -f ../lie ] && running")
    site.publish(version="1")
    site.publish(version="2", control=wrong)
    run(host, site, "1")
    assert run(host, site, "2").matches
    [pid] = living(host, "2")
    lie = host.layout.agent("agent").path / "lie"
    lie.touch()
    for _ in range(2):
        result = run(host, site, "2")
        assert "a process of it lives: looking again" in result.turns[0].waits
    lie.unlink()
    assert run(host, site, "2").matches
    assert (current(host), living(host, "2"), rejected(host)) == ("2", [pid], None)
    lie.touch()
    for _ in range(3):
        run(host, site, "2")
    assert current(host) == "1", "the third look in a row is a verdict"
    assert living(host, "2") == []


@pytest.mark.long
def test_a_version_that_died_beside_one_that_had_not_gone_is_started_once_more(host, site):
    """Its start says nothing of a port that is taken; it dies a moment later, within the turn or after it."""
    timeouts(host, start=4, stop=15)
    port = free_port()
    blind = filled(SIGNALS_AND_RETURNS, port).replace(
        "for i in 1 2 3 4 5 6 7 8; do sleep 0.05; grep", "false && for i in 1; do grep"
    )
    site.publish(version="1", control=filled(SIGNALS_AND_RETURNS, port, 9), **{"agent.py": AGENT.encode()})
    site.publish(version="2", control=blind, **{"agent.py": AGENT.encode()})
    run(host, site, "1")
    run(host, site, "2")
    first = living(host, "2")
    until("it found its port taken", lambda: living(host, "1") == [] or living(host, "2") != first or not first)
    run(host, site, "2")
    assert (current(host), rejected(host)) == ("2", None)
    assert (state(host), living(host, "1")) == (State.STARTED, [])


# --- started, says the script ---


def test_the_pid_of_a_stranger_is_not_believed_and_the_agent_is_started(host, site, bystander):
    site.publish(version="1", control=KILL_0)
    run(host, site, "1")
    [old] = living(host, "1")
    os.kill(old, signal.SIGKILL)
    until("it is gone", lambda: living(host, "1") == [])
    was_placed(host)
    (here(host, "1") / "pid").write_text(str(bystander.pid))
    seen = cycle.look(host, ["agent"])["agent"]
    assert f"none of its processes exists: its pid is {bystander.pid} sleep 4720" in seen.status.text
    assert seen.state is State.STOPPED
    site.reports.clear()
    assert run(host, site, "1").matches
    assert "none of its processes exists" in site.reports[0]["realAgents"][0]["status"]
    assert len(living(host, "1")) == 1
    assert bystander.poll() is None, "its stop was never asked for, which would have ended a stranger"
    assert cycle.look(host, ["agent"])["agent"].status.text == "started"


def test_the_pid_of_a_former_boot_is_not_believed_either(host, site, bystander):
    """A number of the boot before is near the numbers of this one (pongasoft/glu#278, inverse-inc/packetfence#3291)."""
    install(host.layout.root, "agent", "1", KILL_0)
    (here(host, "1") / "pid").write_text(str(bystander.pid))
    former = Recognised("1", "another boot", processes=frozenset({processes.identity(bystander.pid)}), placed=True)
    host.memories.change("agent", lambda memory: memory.recognising(former))
    assert run(host, site, "1").matches
    assert len(living(host, "1")) == 1


def test_an_upgrade_does_not_stop_a_stranger(host, site, bystander):
    install(host.layout.root, "agent", "1", HEALTHY)
    (here(host, "1") / "pid").write_text(str(bystander.pid))
    was_placed(host)
    site.publish(version="2")
    assert run(host, site, "2").matches
    assert (current(host), bystander.poll()) == ("2", None)


def test_an_agent_that_was_never_recognised_by_its_place_is_believed(host, site, bystander):
    """It asks another program, as `systemctl start` does; nothing of it is below the install."""
    install(host.layout.root, "agent", "1", script(f'echo "$1" >>../.calls; kill -0 {bystander.pid} && echo started'))
    for _ in range(3):
        assert run(host, site, "1").matches
    calls = (host.layout.root / "agent/.calls").read_text().split()
    assert set(calls) == {"status"}
    assert host.believed == {"agent": "1"}


def test_an_agent_that_only_runs_now_and_then_is_believed_after_one_start(host, site):
    """As cron or a socket starts it: it was seen at work once, and says `started` while nothing of it runs."""
    install(host.layout.root, "agent", "1", script('echo "$1" >>../.calls; [ "$1" != status ] || echo started'))
    was_placed(host)
    for _ in range(3):
        assert run(host, site, "1").matches
    calls = (host.layout.root / "agent/.calls").read_text().split()
    assert calls.count("start") == 1
    assert [outcome["result"] for outcome in site.outcomes()] == ["done"]


def test_an_agent_whose_pid_file_names_what_is_gone_has_not_started(host, site):
    install(
        host.layout.root,
        "agent",
        "1",
        script('[ "$1" != start ] || echo 4194303 >pid; [ "$1" != status ] || echo started'),
    )
    was_placed(host)
    result = run(host, site, "1")
    assert "none of its processes exists" in result.turns[0].waits


def test_an_agent_that_moves_away_from_its_directory_is_believed(host, site):
    moves = (
        HEALTHY.replace("sleep 1000 >", "cd / && exec sleep 1000 >")
        .replace("{ cd", "{ (cd")
        .replace("2>&1 & echo $! >pid; }", "2>&1) & echo $! >pid; }")
    )
    site.publish(version="1", control=moves)
    run(host, site, "1")
    pid = int((here(host, "1") / "pid").read_text())
    try:
        until("it has moved", lambda: living(host, "1") == [])
        for _ in range(3):
            assert run(host, site, "1").matches
        assert int((here(host, "1") / "pid").read_text()) == pid
        assert alive(pid)
    finally:
        processes.end([processes.identity(pid)])


def test_a_zombie_does_not_count_as_started(host, site):
    """What nobody buries answers `kill -0` (paperclipai/paperclip#12064): here its parent is this test."""
    zombie = subprocess.Popen(["true"])
    until("it is dead", lambda: not alive(zombie.pid))
    try:
        site.publish(version="1", control=KILL_0)
        run(host, site, "1")
        [old] = living(host, "1")
        os.kill(old, signal.SIGKILL)
        until("it is gone", lambda: living(host, "1") == [])
        (here(host, "1") / "pid").write_text(str(zombie.pid))
        was_placed(host)
        assert cycle.look(host, ["agent"])["agent"].state is State.STOPPED
        assert run(host, site, "1").matches
        assert len(living(host, "1")) == 1
    finally:
        zombie.wait()


def test_a_zombie_does_not_count_as_started_where_nothing_is_remembered(host, site):
    """A host that is taken over from another updater."""
    zombie = subprocess.Popen(["true"])
    until("it is dead", lambda: not alive(zombie.pid))
    try:
        install(host.layout.root, "agent", "1", KILL_0)
        (here(host, "1") / "pid").write_text(str(zombie.pid))
        assert cycle.look(host, ["agent"])["agent"].state is State.STOPPED
        assert host.believed == {}
        site.publish(version="1")
        assert run(host, site, "1").matches
        assert len(living(host, "1")) == 1
    finally:
        zombie.wait()


@pytest.mark.long
def test_a_start_that_leaves_only_a_dead_process_has_failed(host, site):
    zombie = subprocess.Popen(["true"])
    until("it is dead", lambda: not alive(zombie.pid))
    try:
        site.publish(version="1")
        site.publish(
            version="2", control=KILL_0.replace("sleep 9999 >/dev/null 2>&1 & echo $! >pid", f"echo {zombie.pid} >pid")
        )
        run(host, site, "1")
        run(host, site, "2")
        assert (current(host), state(host)) == ("1", State.STARTED)
        assert "none of its processes exists" in rejected(host).reason
    finally:
        zombie.wait()


def test_an_idle_look_reads_no_more_than_the_processes_that_are_known(host, site):
    site.publish(version="1")
    run(host, site, "1")
    host.reconfigure(replace(host.config, watch=0))
    known = host.memories.of("agent").running
    host.memories.change("agent", lambda memory: replace(memory.recognising(replace(known, placed=True)), trial=None))
    host._table = None
    cycle.look(host, ["agent"])
    assert host._table is None


@pytest.mark.long
def test_an_agent_that_is_young_is_looked_at_again_only_when_it_can_have_settled(host, site):
    """Until then every cycle read all of /proc, with the environment of each process, for nothing."""
    site.publish(version="1")
    run(host, site, "1")
    host.memories.change("agent", lambda memory: replace(memory, trial=None))
    cycle.look(host, ["agent"])
    host._table = None
    cycle.look(host, ["agent"])
    assert host._table is None
    settled = until("it is known by its place", lambda: cycle.look(host, ["agent"])["agent"].running, within=30)
    assert settled.placed
    assert [int(one.partition(".")[0]) for one in settled.processes] == living(host, "1")


def test_what_began_since_others_were_looked_at_is_not_taken_for_one_that_runs_elsewhere(host, site):
    """All processes are read once for many agents. What is believed once is not looked at again."""
    host.table(time.monotonic())
    install(host.layout.root, "agent", "1", KILL_0)
    subprocess.run(["./control", "start"], cwd=here(host, "1"), check=True, start_new_session=True)
    assert cycle.look(host, ["agent"])["agent"].state is State.STARTED
    assert host.believed == {}


# --- starts that were cut off ---


def left_behind(host, version, text):
    """A start that an updater had begun when it was killed."""
    directory = here(host, version)
    assert (directory / "control").read_text() == text
    return subprocess.Popen(["./control", "start"], cwd=directory, start_new_session=True, stdin=subprocess.DEVNULL)


SLOW = KILL_0.replace("sleep 9999", "sleep 1.5; sleep 9999")


def test_a_start_that_is_still_under_way_is_waited_for_and_no_second_one_made(host, site):
    """slow_start_control: two agents ran, one that nothing could stop."""
    timeouts(host, start=10)
    install(host.layout.root, "agent", "1", SLOW)
    before = left_behind(host, "1", SLOW)
    assert run(host, site, "1").matches
    before.wait()
    assert len(living(host, "1")) == 1
    assert int((here(host, "1") / "pid").read_text()) == living(host, "1")[0]


# A control that runs on as its agent's supervisor, and is called as the start was.
SUPERVISED = """cd "$(dirname "$0")"
up() { [ -s child.pid ] && [ "/proc/$(cat child.pid)/cwd" -ef . ]; }
case $1 in
start)
  if [ -z "$SUPER" ]; then
    up && exit; SUPER=1 setsid ./control start >/dev/null 2>&1 & until up; do sleep 0.05; done; exit
  fi
  echo $$ >sup; while :; do sleep 4871 & echo $! >child.pid; wait; sleep 1; done ;;
stop) kill $(cat sup) $(cat child.pid); while up; do sleep 0.02; done; rm -f child.pid sup ;;
status) if up; then echo started; else echo stoped; fi ;;
esac"""


@pytest.mark.parametrize("is_adopted", [False, True], ids=["started here", "adopted"])
def test_a_supervisor_that_is_called_like_a_start_is_none_that_was_left_behind(host, site, is_adopted):
    """Started here, it need not be waited for; adopted, it may be a start, and is not ended when the agent is up."""
    timeouts(host, start=3, stop=4)
    site.publish(version="1", control=script(SUPERVISED))
    if is_adopted:
        install(host.layout.root, "agent", "1", script(SUPERVISED))
        subprocess.run(["./control", "start"], cwd=here(host, "1"), check=True)
    run(host, site, "1")
    host.reconfigure(replace(host.config, watch=0))
    run(host, site, "1")
    number = lambda name: int((here(host, "1") / name).read_text())  # noqa: E731
    child, supervisor = number("child.pid"), number("sup")
    os.kill(child, signal.SIGKILL)
    until("it is gone", lambda: not alive(child))
    began = time.monotonic()
    run(host, site, "1")
    assert run(host, site, "1").matches
    assert [alive(number(name)) for name in ("child.pid", "sup")] == [True, True]
    assert [one.pid for one in Table().below(here(host, "1")) if one.name == "sleep"] == [number("child.pid")]
    if is_adopted:
        assert number("sup") == supervisor
    else:
        assert time.monotonic() - began < 3, "less than a start may take"


@pytest.mark.long
def test_a_start_of_another_version_that_is_still_under_way_is_stopped_before_anything_is_started(host, site):
    timeouts(host, start=10, stop=5)
    install(host.layout.root, "agent", "1", SLOW)
    before = left_behind(host, "1", SLOW)
    site.publish(version="2")
    assert run(host, site, "2").matches
    before.wait()
    assert (current(host), len(living(host, "2")), living(host, "1")) == ("2", 1, [])


def test_what_runs_of_a_version_that_is_not_to_run_is_stopped_before_anything_is_started(host, site):
    timeouts(host, stop=5)
    site.publish(version="2")
    run(host, site, "2")
    [pid] = living(host, "2")
    os.kill(pid, signal.SIGKILL)
    install(host.layout.root, "agent", "1", HEALTHY, current=False)
    subprocess.run(["./control", "start"], cwd=here(host, "1"), check=True, start_new_session=True)
    assert len(living(host, "1")) == 1
    assert run(host, site, "2").matches
    assert (len(living(host, "2")), living(host, "1")) == (1, [])


def test_a_process_is_known_by_its_start_time_too():
    own = processes.identity(os.getpid())
    assert processes.alive([own, f"{os.getpid()}.1", "0.1", "nonsense"]) == {own}
    assert Path(f"/proc/{os.getpid()}").exists()
