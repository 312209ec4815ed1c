"""The old version is gone before the new one starts, and what it leaves is said; only what is an agent's is ever ended."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from msgspec.structs import replace

from helpers.agents import HEALTHY, script
from helpers.agents import install as install_agent
from helpers.cycles import executor_of
from helpers.field import AGENT, SIGNALS_AND_RETURNS, alive, filled, free_port
from lab.fleet import until
from updater.cli import explain
from updater.errors import ControlFailed, TryLater
from updater.host import control_script
from updater.kernel import boots, clocks, doubts, processes, witness
from updater.kernel.agent_environment import Mark
from updater.kernel.processes import Table
from updater.model.actions import Action, Step
from updater.model.memory import Memory
from updater.model.observed import State
from updater.model.recognised import Recognised
from updater.reconcile import cycle, starting, stopping
from updater.wire.heartbeat import Desired

# What a deploy agent starts for others outlives it, on purpose.
DEPLOYS = HEALTHY.replace(
    "start) running ||", "start) (cd / && exec setsid sleep 4711) >/dev/null 2>&1 & echo $! >../app; running ||"
)


def app_of(host):
    return int((host.layout.agent("agent").path / "app").read_text())


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def ended():
    """Processes (pids) that a test expects to outlive its agents."""
    pids = []
    yield pids
    for pid in pids:
        processes.end([processes.identity(pid)])


def patient(host, stop=8.0):
    timeouts = host.config.timeouts
    host.reconfigure(replace_timeouts(host.config, start=4.0, stop=stop, status=timeouts.status))
    return host


def replace_timeouts(config, **seconds):
    return replace(config, timeouts=replace(config.timeouts, **seconds))


def publish(site, version, grace, port):
    site.publish(version=version, control=filled(SIGNALS_AND_RETURNS, port, grace), **{"agent.py": AGENT.encode()})


def current(host):
    return host.layout.agent("agent").version_file.read_text().strip()


def number_in(file):
    return int(file.read_text())


def status(host):
    return control_script.status(host.layout.agent("agent").install(current(host)), 5)


def app_pid(host, version="1"):
    return int((host.layout.agent("agent").install(version) / "var/app.pid").read_text())


def run(host, site, version, **fields):
    site.desire(site.entry(version=version, **fields))
    return cycle.run(host)


def test_a_version_that_only_says_it_has_stopped_is_waited_for(host, site, port):
    """slow_stop_control of the field: the new version found the port taken, and was rejected for good. So did docker's init
    script say that it had stopped (moby/moby#7175), and an old daemon keep its port over an upgrade (mailinabox#1339)."""
    patient(host)
    publish(site, "1", 1.5, port)
    publish(site, "2", 0, port)
    assert run(host, site, "1").matches
    old = app_pid(host)
    assert run(host, site, "2").matches
    assert (current(host), status(host).state, alive(old)) == ("2", State.STARTED, False)


# As start-stop-daemon does it: a program of the system at the root, which only the pid file makes the agent's.
AT_THE_ROOT = """cd "$(dirname "$0")" || exit 1
up() {{ [ -s agent.pid ] && grep -qs '^State:[[:space:]]*[RSDTtIWKP]' "/proc/$(cat agent.pid)/status"; }}
case $1 in
start) up && exit 0
  (cd /; exec setsid {0} {1} {2} {3}) >out 2>&1 </dev/null & echo $! >agent.pid
  sleep 0.5; up || {{ cat out; exit 1; }} ;;
stop) kill $(cat agent.pid); rm -f agent.pid ;;
status) if up; then echo started; else echo stoped; fi ;;
esac"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("is_adopted", "leftovers", "grace"),
    [(False, "leave", 1.0), (False, "end", 1.0), (True, "leave", 1.0), (True, "leave", 6.5)],
    ids=["by a person", "by a person, to be ended", "adopted", "longer than it is waited for"],
)
def test_what_the_pid_file_alone_named_is_waited_for(host, site, port, ended, tmp_path, is_adopted, leftovers, grace):
    """A person has started it, or another updater, so that it bears no mark: the next version found its port taken."""
    patient(host)
    program = tmp_path / "program.py"
    program.write_text(AGENT)
    text = script(AT_THE_ROOT.format(sys.executable, program, port, grace))
    for version in ("1", "2"):
        site.publish(version=version, control=text)
    place = host.layout.agent("agent").install("1")
    if is_adopted:
        install_agent(host.layout.root, "agent", "1", text)
    else:
        run(host, site, "1")
        old = number_in(place / "agent.pid")
        subprocess.run(["./control", "stop"], cwd=place, check=True)
        until("it is gone", lambda: not alive(old))
    subprocess.run(["./control", "start"], cwd=place, check=True)
    host.reconfigure(replace(host.config, watch=0))
    run(host, site, "1")
    old = number_in(place / "agent.pid")
    ended.append(old)
    assert witness.recognise(Table(), place, host.memories.of("agent").running, host.boot) == []
    run(host, site, "2", leftovers=leftovers)
    ended += [number_in(file) for file in place.parent.glob("*/agent.pid")]
    assert (current(host), status(host).state, alive(old)) == ("2", State.STARTED, False)


@pytest.mark.long
@pytest.mark.parametrize("version", ["1", "2"])
def test_who_holds_the_port_is_no_stranger_where_the_pid_file_named_it(host, port, ended, tmp_path, version):
    """On the way back it is of the very version that is started."""
    patient(host, stop=1.0)
    program = tmp_path / "program.py"
    program.write_text(AGENT)
    text = script(AT_THE_ROOT.format(sys.executable, program, port, 60))
    place, _ = [install_agent(host.layout.root, "agent", version, text) for version in ("1", "2")]
    subprocess.run(["./control", "start"], cwd=place, check=True)
    old = number_in(place / "agent.pid")
    ended.append(old)
    were = stopping.before(place, Memory(), host.boot)
    subprocess.run(["./control", "stop"], cwd=place, check=True)
    order = Desired(name="agent", version=version, tarball="x")
    start = starting.Start(host, host.layout.agent("agent"), order, version, Memory(), lambda _: "agent:1")
    with pytest.raises(ControlFailed, match=rf"port {port} is held by {old} .* of 1$"):
        start.run(departing={"1": were.departing()})
    assert alive(old), "it is none that is known to be the agent's own"


def test_only_what_a_stop_has_taken_out_of_a_pid_file_is_waited_for(tmp_path, ended):
    place = install_agent(tmp_path, "agent", "1")
    one = subprocess.Popen(["sleep", "4873"], cwd="/", start_new_session=True)
    ended.append(one.pid)
    named = {processes.identity(one.pid)}
    before = lambda: stopping.before(place, Memory(), boots.boot_here())  # noqa: E731
    (place / "agent.pid").write_text(str(one.pid))
    assert before().departing() == named, "its own file"
    os.utime(place / "agent.pid", (1e9, 1e9))
    assert before().departing() == set(), "the number has come again since it was written"
    books = place / "services/app.pid"
    books.parent.mkdir()
    books.write_text(str(one.pid))
    were = before()
    assert were.departing() == set(), "it goes on with what it runs for others"
    books.unlink()
    assert were.departing() == named
    one.kill()
    one.wait()
    assert were.departing() == set()


def test_a_version_that_goes_at_once_is_not_waited_for(host, site):
    site.publish(version="1")
    site.publish(version="2")
    run(host, site, "1")
    began = time.monotonic()
    assert run(host, site, "2").matches
    assert time.monotonic() - began < 3, "much less than LEFT_ALONE"


def test_what_is_left_is_left_alone_said_and_never_pruned(host, site, ended):
    host.reconfigure(replace(host.config, watch=0.5))
    site.publish(version="1", control=DEPLOYS)
    for version in ("2", "3"):
        site.publish(version=version)
    run(host, site, "1")
    app = app_of(host)
    ended.append(app)
    assert run(host, site, "2").matches
    assert alive(app)
    words = f"1 process of 1 still runs: {app} sleep 4711"
    until("its watch has passed", lambda: host.memories.of("agent").watch_is_over(clocks.ran()))
    run(host, site, "2")
    assert words in site.outcomes()[-1]["reason"]
    seen = cycle.look(host, ["agent"])["agent"]
    assert words in "\n".join(explain.why(host, seen, host.orders.last))
    run(host, site, "3")
    run(host, site, "3")
    assert (host.layout.agent("agent").path / "1" / "control").exists()
    os.kill(app, signal.SIGKILL)
    until("it is gone", lambda: not alive(app))
    run(host, site, "3")
    assert not (host.layout.agent("agent").path / "1").exists()


def test_leftovers_are_ended_where_that_is_asked_for(host, site, ended):
    """What has left the session and the directory too: supervisord's groups miss it (Supervisor/supervisor#1101)."""
    site.publish(version="1", control=DEPLOYS)
    site.publish(version="2")
    run(host, site, "1")
    app = app_of(host)
    ended.append(app)
    assert run(host, site, "2", leftovers="end").matches
    until("it is ended", lambda: not alive(app))
    assert host.memories.of("agent").remark == ""


@pytest.mark.long
def test_what_ignores_term_is_killed_where_leftovers_are_to_end(host, site):
    deaf = HEALTHY.replace("sleep 1000 >", """sh -c 'trap "" TERM; while :; do sleep 1; done' >""").replace(
        'stop) running && kill "$(cat pid)" && while running; do sleep 0.01; done', "stop) mv pid old"
    )
    site.publish(version="1", control=deaf)
    site.publish(version="2")
    run(host, site, "1")
    old = int((host.layout.agent("agent").install("1") / "pid").read_text())
    assert run(host, site, "2", leftovers="end").matches
    assert not alive(old)


def test_nothing_else_in_our_control_group_or_session_is_touched(host, site):
    """Under one unit all agents and the updater share one group; here they even share it with the tests."""
    bystander = subprocess.Popen(["sleep", "4712"], cwd="/")
    in_a_neighbour = host.layout.root / "neighbour" / "1"
    in_a_neighbour.mkdir(parents=True)
    neighbour = subprocess.Popen(["sleep", "4713"], cwd=in_a_neighbour)
    try:
        site.publish(version="1", control=DEPLOYS)
        site.publish(version="2")
        run(host, site, "1")
        run(host, site, "2", leftovers="end")
        assert (bystander.poll(), neighbour.poll()) == (None, None)
    finally:
        for one in (bystander, neighbour):
            one.kill()
            one.wait()


def test_a_directory_with_processes_is_not_pruned_even_when_nobody_knew_of_them(host, site):
    old = host.layout.agent("agent").install("0")
    old.mkdir(parents=True)
    inside = subprocess.Popen(["sleep", "4714"], cwd=old, start_new_session=True)
    try:
        executor = executor_of(host, "1")
        with pytest.raises(TryLater, match="sleep 4714"):
            executor.perform(Action(Step.PRUNE, "agent", "0", "old"))
        assert old.exists()
    finally:
        inside.kill()
        inside.wait()


@pytest.mark.long
def test_what_is_meant_to_stay_does_not_keep_the_agent_down_for_long_when_an_upgrade_fails(host, site, ended):
    patient(host, stop=60)
    site.publish(version="1", control=DEPLOYS)
    site.publish(version="2", control=script('[ "$1" = status ] && echo stoped; [ "$1" != start ] || exit 1'))
    run(host, site, "1")
    ended.append(app_of(host))
    began = time.monotonic()
    run(host, site, "2")
    assert (current(host), status(host).state) == ("1", State.STARTED)
    assert alive(app_of(host))
    assert time.monotonic() - began < 40, "twice `timeouts.stop` were 120"


@pytest.mark.long
def test_a_start_that_outlives_the_stop_of_its_version_is_not_forgotten(host, site):
    """What a person began from a script a moment before the upgrade: it would bring up the old version next to the new one."""
    host.reconfigure(replace_timeouts(host.config, start=10.0, stop=10.0, status=5))
    site.publish(version="1", control=HEALTHY.replace("start) ", "start) [ ! -e ../slow ] || sleep 6.5; "))
    site.publish(version="2")
    run(host, site, "1")
    (host.layout.agent("agent").path / "slow").touch()
    command = ["setsid", "-w", "./control", "start"]  # by another process than this one, as in life
    old = host.layout.agent("agent").install("1")
    late = subprocess.Popen(command, cwd=old, start_new_session=True)
    until("it waits", lambda: any(processes.command(one.pid) == ["sleep", "6.5"] for one in Table().below(old)))
    run(host, site, "2")
    late.wait()
    assert (current(host), status(host).state) == ("2", State.STARTED)
    assert Table().below(old) == []


def test_a_directory_that_stays_says_so_and_leaves_the_remark_of_the_switch(host, site):
    host.memories.change("agent", lambda memory: memory.leaving("1", frozenset({"1.2"}), "1 process of 1 still runs"))
    old = host.layout.agent("agent").install("0")
    old.mkdir(parents=True)
    inside = subprocess.Popen(["sleep", "4715"], cwd=old, start_new_session=True)
    try:
        with pytest.raises(TryLater):
            executor_of(host, "2").perform(Action(Step.PRUNE, "agent", "0", "old"))
        assert host.memories.of("agent").remark == "1 process of 1 still runs"
    finally:
        inside.kill()
        inside.wait()


# --- who is recognised ---


def proc(directory, pid, parent=1, session=0, start=100, tty=0, exe="/usr/bin/python3", cwd="/", state="S"):
    """One process in a /proc of our own."""
    place = directory / str(pid)
    place.mkdir(parents=True)
    fields = [state, parent, pid, session or pid, tty, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 1, 0, start, 0]
    (place / "stat").write_text(f"{pid} (a) b) {' '.join(map(str, fields))}\n")
    (place / "exe").symlink_to(exe)
    (place / "cwd").symlink_to(cwd)
    (place / "ns").mkdir()
    (place / "ns/mnt").symlink_to("/proc/self/ns/mnt")
    (place / "root").symlink_to("/")


@pytest.fixture
def install(tmp_path):
    directory = tmp_path / "agent" / "1"
    directory.mkdir(parents=True)
    return directory


def recognised(tmp_path, install, known=None, boot="b"):
    return {one.pid for one in witness.recognise(Table(tmp_path / "proc"), install, known, boot)}


def test_processes_are_recognised_by_place_session_descent_and_what_was_known(tmp_path, install):
    for pid, more in {
        900001: {"exe": install / "bin/agent"},
        900002: {"cwd": install},  # a backup, or a person's tmux server
        900003: {"cwd": install, "tty": 34816},  # a person's shell
        900004: {"parent": 900001},
        900005: {"session": 900000},  # in the session of the start, which is known by 900006
        900006: {"session": 900000},
        900007: {"session": 900003},
        900008: {"parent": 900003},
        900009: {"exe": f"{install}-other/bin/agent"},
        900010: {"exe": f"{install}/bin/agent (deleted)"},
        900011: {"exe": install / "bin/agent", "state": "Z"},
        900012: {"parent": 900002},
        900013: {"exe": install / "bin/tool", "parent": 900003, "session": 900003, "tty": 34816},  # by hand
        900014: {"parent": 900001, "tty": 34816},  # a person's shell that the agent has opened
        900015: {"parent": 900014, "session": 900014, "tty": 34816},
        900016: {"exe": install / "bin/agent", "session": 800000, "tty": 34816},  # left by who started it in a terminal
    }.items():
        proc(tmp_path / "proc", pid, **more)
    known = Recognised("1", "b", session=900000, processes=frozenset({"900006.100"}))
    by_itself = {900001, 900004, 900010, 900016}
    assert recognised(tmp_path, install, known) == {900005, 900006, *by_itself}
    assert recognised(tmp_path, install, known, boot="another") == by_itself


def test_a_session_without_a_number_is_nobody_s(tmp_path, install):
    """In a namespace of pids whose session's leader is outside of it, all have session 0."""
    for pid, more in {900001: {"exe": install / "agent"}, 900002: {}, 900003: {"parent": 900001}}.items():
        proc(tmp_path / "proc", pid, session=0, **more)
        stat = tmp_path / f"proc/{pid}/stat"
        stat.write_text(re.sub(r"^(.*\) S \d+ \d+ )\d+", r"\g<1>0", stat.read_text()))
    assert Table(tmp_path / "proc").by_pid[900002].session == 0
    known = Recognised("1", "b", session=0, processes=frozenset({"900001.100"}))
    assert recognised(tmp_path, install, known) == {900001, 900003}
    found = witness.started(Table(tmp_path / "proc"), install, Mark("abc"), 50, "b")
    assert found.processes == {"900001.100", "900003.100"}


def test_a_number_that_another_process_has_by_now_is_not_recognised(tmp_path, install):
    proc(tmp_path / "proc", 900001, session=900000, start=999)
    known = Recognised("1", "b", session=900000, processes=frozenset({"900001.100"}))
    assert recognised(tmp_path, install, known) == set()


def test_a_start_is_known_by_its_session_and_by_its_pid_file(tmp_path, install):
    (install / "var").mkdir()
    (install / "var" / "app.pid").write_text("900002\n")
    (install / "old.pid").write_text("900003\n")
    proc(tmp_path / "proc", 900001, session=900000, start=200)
    proc(tmp_path / "proc", 900002, start=200)
    proc(tmp_path / "proc", 900003, start=50)  # was there before the start
    proc(tmp_path / "proc", 900004, session=900000, start=50)
    proc(tmp_path / "proc", 900005, start=200)
    (tmp_path / "proc/900005/environ").write_bytes(b"A=1\0OPS_UPDATER_START=abc\0B=2\0")  # has left the session
    found = witness.started(Table(tmp_path / "proc"), install, Mark("abc", 900000), 100, "b")
    assert found.processes == {"900001.200", "900002.200", "900005.200"}


def test_main_processes_lead_a_session_or_stand_in_the_pid_file(tmp_path, install):
    (install / "pid").write_text("900002")
    proc(tmp_path / "proc", 900001, exe=install / "agent")
    proc(tmp_path / "proc", 900002, cwd=install, session=900000)
    proc(tmp_path / "proc", 900003, exe=install / "agent", session=900000)
    table = Table(tmp_path / "proc")
    found = witness.recognise(table, install, None, "b")
    assert witness.main_processes(table, found, install, None) == {"900001.100", "900002.100"}


def test_without_such_the_main_processes_are_those_that_no_other_started(tmp_path, install):
    proc(tmp_path / "proc", 900002, exe=install / "agent", session=900000)
    proc(tmp_path / "proc", 900003, exe=install / "agent", session=900000, parent=900002)
    table = Table(tmp_path / "proc")
    found = witness.recognise(table, install, None, "b")
    assert witness.main_processes(table, found, install, None) == {"900002.100"}


class Counting(Table):
    """Notes of which processes the ports are asked for."""

    def ports(self, process):
        self.asked = [*getattr(self, "asked", []), process.pid]
        return super().ports(process)


def test_who_holds_a_port_is_asked_of_no_more_processes_than_it_takes(tmp_path):
    listening = "  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4242 1 0 100 0 0 10 0\n"
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/tcp").write_text("the head\n" + listening)
    for pid in (900001, 900002, 900003):
        proc(tmp_path / "proc", pid)
        (tmp_path / f"proc/{pid}/fd").mkdir()
        (tmp_path / f"proc/{pid}/fd/3").symlink_to("socket:[4242]")
    table = Counting(tmp_path / "proc")
    assert table.holders([8080, 9090])[8080].pid == table.asked[0]
    assert len(table.asked) == 1
    table = Counting(tmp_path / "proc")
    assert table.holders([9090]) == {}
    assert not hasattr(table, "asked")


def test_what_was_there_before_a_start_does_not_bear_its_mark(tmp_path, install):
    """So the environment of what has long run on a host is never read."""
    for pid, start in ((900001, 50), (900002, 200)):
        proc(tmp_path / "proc", pid, start=start)
        (tmp_path / f"proc/{pid}/environ").write_bytes(b"OPS_UPDATER_START=abc\0")
    found = witness.started(Table(tmp_path / "proc"), install, Mark("abc", 900000), 100, "b")
    assert found.processes == {"900002.200"}
    assert recognised(tmp_path, install, replace(found, processes=frozenset())) == {900002}


def test_what_cannot_be_looked_into_is_not_called_a_stranger(tmp_path, install):
    """As vesoft-inc/nebula#6149 has it: only one that is surely another program is."""
    (install / "a.pid").write_text("900001")
    (install / "b.pid").write_text("900002")
    for pid in (900001, 900002):
        proc(tmp_path / "proc", pid)
    for link in ("exe", "cwd"):
        (tmp_path / "proc/900001" / link).unlink()
    assert doubts.strangers(Table(tmp_path / "proc"), install, []) == {install / "b.pid": 900002}


def test_what_a_version_left_is_remembered_until_it_is_gone():
    memory = Memory().leaving("1", frozenset({"1.2"}))
    assert memory.left == {"1": {"1.2"}}
    assert memory.leaving("1", frozenset()).left == {}
    told = memory.leaving("1", frozenset({"1.2"}), "1 process of 1 still runs")
    gone = told.leaving("1", frozenset(), "1 process of 1 still runs")
    assert (told.remark, gone.remark) == ("1 process of 1 still runs", "")


def test_the_dead_are_forgotten_at_the_next_look(host, site, ended):
    site.publish(version="1", control=DEPLOYS)
    site.publish(version="2")
    run(host, site, "1")
    ended.append(app_of(host))
    run(host, site, "2")
    run(host, site, "2")
    assert set(host.memories.of("agent").left) == {"1"}
    os.kill(app_of(host), signal.SIGKILL)
    until("it is gone", lambda: not alive(app_of(host)))
    run(host, site, "2")
    assert host.memories.of("agent").left == {}
