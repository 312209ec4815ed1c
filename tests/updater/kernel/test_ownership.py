"""Which processes are an install's: the wrong answer ends a stranger, or has two of one agent run."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.agents import HEALTHY, install
from lab.fleet import end_all_of, until
from updater.errors import ControlFailed
from updater.host.config import Timeouts
from updater.kernel import doubts, processes, witness
from updater.kernel.agent_environment import MARK
from updater.kernel.processes import Table
from updater.model.memory import Memory
from updater.model.observed import State
from updater.model.recognised import Recognised
from updater.reconcile import cycle, stopping
from updater.wire.heartbeat import Desired


@pytest.fixture
def agent(tmp_path):
    directory = tmp_path / "agent"
    (directory / "1").mkdir(parents=True)
    (directory / "1" / "control").touch()
    yield directory
    end_all_of(directory)


def below(directory):
    return {one.pid for one in Table().below(directory)}


def works_in(one, directory):
    until("it is at work", lambda: os.readlink(f"/proc/{one.pid}/cwd").startswith(str(directory)))
    until("it runs what it is to", lambda: processes.command(one.pid)[:1] == ["sleep"])


# --- the same path elsewhere ---

IN_A_CONTAINER = 'mount -t tmpfs none "$0" && mkdir "$0/1" && cp -L /bin/sleep "$0/1/sleep" && cd "$0/1" && exec "$@"'


@pytest.mark.parametrize("command", [["sleep", "4721"], ["./sleep", "4721"]], ids=["cwd", "exe"])
def test_a_process_of_a_container_is_not_ours_though_its_path_is(agent, spawn, mounts, command):
    one = spawn("unshare", "-m", "sh", "-c", IN_A_CONTAINER, str(agent), *command)
    until("it is at work", lambda: processes.command(one.pid) == command)
    assert os.readlink(f"/proc/{one.pid}/cwd") == str(agent / "1")
    assert below(agent / "1") == set()
    assert Table().by_entry(agent) == {}
    assert end_all_of(agent) == 0
    assert one.poll() is None


def test_an_agent_with_mounts_of_its_own_is_ours_where_it_works_in_our_very_directory(agent, spawn, mounts):
    one = spawn("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /mnt && cd "$0" && exec sleep 4722', str(agent / "1"))
    until("it is at work", lambda: processes.command(one.pid) == ["sleep", "4722"])
    assert below(agent / "1") == {one.pid}


def test_an_agent_is_ours_after_its_directory_was_deleted(agent, spawn):
    (agent / "2").mkdir()
    one = spawn("sleep", "4723", cwd=agent / "2")
    works_in(one, agent)
    (agent / "2").rmdir()
    assert below(agent / "2") == {one.pid}


# --- what a person has started ---

HOLD = "import os, pty, sys; pid, fd = pty.fork(); pid or os.execvp(sys.argv[1], sys.argv[1:])\nwhile os.read(fd, 99): pass"


def started_from_a_terminal(spawn, place):
    """A person has logged in, starts the agent and stays; returns the agent's pid."""
    spawn(sys.executable, "-c", HOLD, "sh", "-c", f"cd {place} && ./control start; exec sleep 4724")
    return pid_in(place)


def installed(host, control=HEALTHY):
    """An agent that has been recognised by its place, and is stopped."""
    install(host.layout.root, "agent", "1", control)
    gone = Recognised("1", host.boot, processes=frozenset({"4194303.1"}), placed=True)
    host.memories.change("agent", lambda memory: memory.recognising(gone))
    return host.layout.agent("agent").install("1")


def pid_in(place):
    until("it has written its pid", lambda: (place / "pid").exists() and (place / "pid").read_text().strip())
    return int((place / "pid").read_text())


def look(host):
    return cycle.look(host, ["agent"])["agent"]


def run(host, site, **fields):
    site.desire(site.entry(version="1", **fields))
    return cycle.run(host)


def test_an_agent_that_a_person_has_restarted_in_his_terminal_runs_on_alone(host, site, spawn, terminal):
    place = installed(host)
    pid = started_from_a_terminal(spawn, place)
    assert Table().by_pid[pid].has_terminal
    assert look(host).state is State.STARTED
    site.publish(version="1")
    assert run(host, site).matches
    assert pid_in(place) == pid
    assert pid in {int(one.partition(".")[0]) for one in host.memories.of("agent").running.processes}


def test_it_is_waited_for_when_it_stops_and_ended_on_the_way_back(host, spawn, terminal):
    place = installed(host)
    pid = started_from_a_terminal(spawn, place)
    were = stopping.before(place, Memory(), host.boot)
    assert were.main == were.every == {processes.identity(pid)}, "and not the person's own processes"


ELSEWHERE = """#!/bin/sh
d={install}
running() {{ kill -0 "$(cat $d/pid 2>/dev/null)" 2>/dev/null; }}
case "$1" in
start)  running || {{ cd / && {{ {python} $d/agent.py >/dev/null 2>&1 & echo $! >$d/pid; }}; }} ;;
stop)   running && kill "$(cat $d/pid)" && while running; do sleep 0.01; done ;;
status) if running; then echo started; else echo stoped; fi ;;
esac
"""


def test_an_agent_that_is_restarted_from_another_directory_runs_on_alone(host, site, spawn):
    place = host.layout.agent("agent").install("1")
    installed(host, ELSEWHERE.format(install=place, python=sys.executable))
    (place / "agent.py").write_text("import time\ntime.sleep(4725)\n")
    spawn(f"{place}/control", "start").wait()
    pid = pid_in(place)
    try:
        until("it runs", lambda: str(place / "agent.py") in processes.command(pid))
        assert [one.pid for one in witness.recognise(Table(), place, None, host.boot)] == [pid]
        assert doubts.strangers(Table(), place, []) == {}
        assert look(host).state is State.STARTED
        site.publish(version="1")
        assert run(host, site).matches
        assert pid_in(place) == pid
    finally:
        processes.end([processes.identity(pid)])


def test_a_start_that_leaves_the_directory_is_believed_though_the_agent_was_at_home_there_before(host, site):
    """Nothing of it is known but what its arguments name: its pid file lies elsewhere, its environment is its own."""
    place = host.layout.agent("agent").install("1")
    control = ELSEWHERE.format(install=place, python=f"env -i setsid {sys.executable}")
    program = f"import os, time\nopen('{place.parent}/run', 'w').write(str(os.getpid()))\ntime.sleep(4726)\n"
    site.publish(version="1", control=control.replace("$d/pid", "$d/../run"), **{"agent.py": program.encode()})
    gone = Recognised("1", host.boot, processes=frozenset({"4194303.1"}), placed=True)
    host.memories.change("agent", lambda memory: memory.recognising(gone))
    try:
        assert run(host, site).matches
        assert look(host).state is State.STARTED
    finally:
        processes.end([processes.identity(int((place.parent / "run").read_text()))])


def test_who_only_reads_a_log_of_the_agent_does_not_make_it_up(host, spawn):
    place = installed(host)
    (place / "log").touch()
    stranger = spawn("sleep", "4727")
    spawn("tail", "-f", f"{place}/log")
    (place / "pid").write_text(str(stranger.pid))
    until("it is at work", lambda: processes.command(stranger.pid)[:1] == ["sleep"])
    assert look(host).state is State.STOPPED


# --- which of them are waited for ---


def test_those_that_are_known_only_by_the_mark_of_a_start_are_waited_for(agent, spawn):
    """It moved away from its directory and has replaced the process that its start had left."""
    one = spawn("sleep", "4728", env=os.environ | {MARK: "abc"})
    until("it is at work", lambda: processes.command(one.pid) == ["sleep", "4728"])
    known = Recognised("1", "b", 900000, "abc", frozenset({"4194303.1"}))
    were = stopping.before(agent / "1", Memory(running=known), "b")
    assert were.main == {processes.identity(one.pid)}


# --- what is a version ---


def test_what_works_in_the_data_of_an_agent_is_no_version_and_runs_on(host, site, spawn):
    data = host.layout.agent("agent").path / "data"
    data.mkdir(parents=True)
    backup = spawn("sleep", "4729", cwd=data)
    works_in(backup, data)
    for version in ("1", "2"):
        site.publish(version=version)
        site.desire(site.entry(version=version, leftovers="end"))
        assert cycle.run(host).matches
    assert backup.poll() is None
    assert stopping.before(host.layout.agent("agent").install("2"), host.memories.of("agent"), host.boot).alone
    assert host.memories.of("agent").left == {}


def test_a_version_whose_directory_a_person_has_removed_is_one_while_it_is_remembered(agent, spawn):
    (agent / "2").mkdir()
    shutil.copy("/bin/sleep", agent / "2" / "sleep")
    one = spawn(agent / "2" / "sleep", "4730")
    until("it runs", lambda: os.readlink(f"/proc/{one.pid}/exe").startswith(str(agent)))
    shutil.rmtree(agent / "2")
    assert list(witness.by_version(Table(), agent, Memory(current="1", previous="2"))) == ["2"]
    assert list(witness.by_version(Table(), agent, Memory(current="1"))) == []


# --- what may not be seen ---

HIDDEN = """
import os, subprocess, sys
from pathlib import Path
from updater.kernel import doubts, witness
from updater.kernel.processes import Table
one = subprocess.Popen(["sleep", "4731"], cwd="/")
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
install = Path("/mnt/agent/1")
install.mkdir(parents=True)
(install / "pid").write_text(str(one.pid))
print(doubts.names_the_dead(install), doubts.strangers(Table(), install, []), doubts.may_be_up(Table(), install))
"""


@pytest.mark.parametrize("hidepid", [1, 2])
def test_a_process_that_proc_hides_from_us_is_neither_dead_nor_a_stranger(mounts, hidepid):
    """The updater is not root, and the agent was started by another user."""
    within = f'mount -t proc -o hidepid={hidepid} proc /proc && mount -t tmpfs -o mode=777 none /mnt && exec "$@"'
    command = ["unshare", "-m", "-p", "-f", "--kill-child", "sh", "-c", within, "sh", sys.executable, "-c", HIDDEN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.strip(), done.returncode) == ("False {} True", 0), done.stderr


def test_a_number_is_in_use_also_by_what_is_dead_or_no_process(spawn):
    program = (
        "import os, threading, time; os.fork() or os._exit(0); threading.Thread(target=time.sleep, args=(9,)).start()"
    )
    one = spawn(sys.executable, "-c", program)
    until("it has a second thread", lambda: len(os.listdir(f"/proc/{one.pid}/task")) == 2)
    [thread] = {int(name) for name in os.listdir(f"/proc/{one.pid}/task")} - {one.pid}
    child = int(Path(f"/proc/{one.pid}/task/{one.pid}/children").read_text())
    until("its child is dead", lambda: processes.is_dead(child))
    assert all(map(processes.is_in_use, (1, one.pid, thread, child)))
    assert not any(map(processes.is_in_use, (1 << 22, 1 << 40)))
    assert not any(map(processes.is_hidden, (1, one.pid, thread, child, 1 << 22, 1 << 40)))


def test_the_number_of_a_stranger_s_thread_in_a_pid_file_is_a_stranger_s(agent, spawn):
    """`kill -0` takes it for a process, though no list of processes shows it."""
    program = "import threading, time; threading.Thread(target=time.sleep, args=(4732,)).start()"
    one = spawn(sys.executable, "-c", program)
    until("it has a second thread", lambda: len(os.listdir(f"/proc/{one.pid}/task")) == 2)
    [thread] = {int(name) for name in os.listdir(f"/proc/{one.pid}/task")} - {one.pid}
    (agent / "1" / "pid").write_text(str(thread))
    assert doubts.strangers(Table(), agent / "1", []) == {agent / "1" / "pid": thread}
    assert not doubts.may_be_up(Table(), agent / "1")


def test_a_version_that_is_known_only_by_the_mark_of_its_start_is_gone_when_that_is(agent, spawn):
    """Its status says neither word, so that the kernel alone tells."""
    (agent / "1" / "control").write_text("#!/bin/sh\n")
    (agent / "1" / "control").chmod(0o755)
    one = spawn("sleep", "4733", env=os.environ | {MARK: "abc"})
    until("it is at work", lambda: processes.command(one.pid) == ["sleep", "4733"])
    known = Recognised("1", "b", 900000, "abc", frozenset({"4194303.1"}))
    were = stopping.before(agent / "1", Memory(running=known), "b")
    with pytest.raises(ControlFailed, match="sleep 4733"):
        stopping.ask_unheard(were, Desired("agent", "2"), Timeouts(stop=0.2), time.monotonic() + 0.2)


LOOK = """#!/bin/sh
case "$1" in status) /bin/sh -c 'cd ..; exec sleep 60' & ./helper-4734 60 & wait;; esac
"""


@pytest.mark.parametrize("by", [(), ("/bin/sh", "-c", "$0 $1 $2; :")])
@pytest.mark.parametrize("control", ["./control", "here/control"])
def test_a_status_script_whoever_runs_it_and_what_it_runs_are_no_version(agent, spawn, by, control):
    """A look may be made beside a turn, or by `updater why`, by a person and by other monitoring."""
    install = agent / "1"
    shutil.copy("/bin/sleep", install / "helper-4734")
    (install / "here").symlink_to(".")
    (install / "control").write_text(LOOK)
    (install / "control").chmod(0o755)
    spawn(*by, "/bin/sh", control, "status", cwd=install)
    until("its program runs", lambda: any(processes.command(one)[:1] == ["./helper-4734"] for one in below(install)))
    known = Recognised("1", "b", processes=frozenset({"4194303.1"}))
    assert witness.by_version(Table(), agent, Memory(current="1")) == {}
    assert witness.recognise(Table(), install, known, "b") == []
    assert not doubts.may_be_up(Table(), install)
    assert not doubts.is_coming_up(Table(), install, known, "b", 1)
    assert witness.services(Table(), install, known, "b") == frozenset()
    assert witness.visitors(install, known, "b")[1], "they keep the directory from being removed all the same"


def test_what_a_status_script_has_left_behind_is_only_there(agent, spawn):
    (agent / "1" / "control").write_text('#!/bin/sh\ncase "$1" in status) sleep 60 & wait;; esac\n')
    (agent / "1" / "control").chmod(0o755)
    script = spawn("/bin/sh", "./control", "status", cwd=agent / "1")
    until("the script and its sleep are there", lambda: len(below(agent / "1")) == 2)
    script.kill()
    script.wait()
    assert witness.by_version(Table(), agent, Memory(current="1")) == {}
    assert len(below(agent / "1")) == 1


def test_a_daemon_that_a_status_script_has_begun_as_a_fork_of_itself_is_the_version(agent, spawn):
    """It keeps the arguments of the script, and its pid file names it."""
    install = agent / "1"
    (install / "control").write_text("#!/bin/sh\n(while sleep 0.1; do :; done) & echo $! >pid\n")
    (install / "control").chmod(0o755)
    spawn("/bin/sh", "./control", "status", cwd=install).wait()
    daemon = int((install / "pid").read_text())
    until("init has it", lambda: Table().by_pid[daemon].parent == 1)
    assert processes.command(daemon) == ["/bin/sh", "./control", "status"]
    assert daemon in {one.pid for one in witness.by_version(Table(), agent, Memory(current="1"))["1"]}
