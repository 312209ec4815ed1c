"""An agent's own processes, and those that are merely there: only its own are signalled, waited for, or taken for it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from helpers.agents import HEALTHY, QUIET, install, script
from helpers.cycles import AS_ANOTHER_USER, current, here, run
from helpers.field import KILL_0, alive
from lab.fleet import until
from updater.cli import explain
from updater.kernel import boots, children, clocks, doubts, processes, witness
from updater.kernel.processes import Table
from updater.model.memory import Memory
from updater.model.recognised import Recognised
from updater.reconcile import cycle

# A terminal multiplexer: it has no terminal itself, and holds one in which a shell works.
MULTIPLEXER = """
import os, pty, sys
pid, fd = pty.fork()
pid or os.execvp("sh", ["sh", "-c", "sleep 4801; :"])
while os.read(fd, 99): pass
"""


def pid_of(host, version, name="agent"):
    return int((here(host, version, name) / "pid").read_text())


def living(host, version, name="agent"):
    return [one.pid for one in Table().below(here(host, version, name))]


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    until("it is gone", lambda: not alive(pid))


def was_placed(host, version="1"):
    gone = Recognised(version, host.boot, processes=frozenset({"4194303.1"}), placed=True)
    host.memories.change("agent", lambda memory: memory.recognising(gone))


def works_in(pid, directory):
    until("it is at work", lambda: os.readlink(f"/proc/{pid}/cwd") == str(directory))


# --- what is merely there ---


@pytest.mark.parametrize("leftovers", ["leave", "end"])
def test_what_a_person_has_begun_in_the_directory_outlives_a_way_back_and_costs_no_time(host, site, spawn, leftovers):
    for version in ("1", "2"):
        site.publish(version=version, control=QUIET)
    for version in ("1", "2"):
        assert run(host, site, version, leftovers=leftovers).matches
    there = here(host, "2")
    backup = spawn("sleep", "4802", cwd=there)
    multiplexer = spawn(sys.executable, "-c", MULTIPLEXER, cwd=there)
    log = spawn("sh", "-c", f"cd {there}; tail -f control", stdout=subprocess.DEVNULL)
    until("all work there", lambda: len(living(host, "2")) >= 4)
    kill(pid_of(host, "2"))
    began = time.monotonic()
    run(host, site, "2", leftovers=leftovers)
    assert current(host) == "1"
    assert time.monotonic() - began < 4, "less than LEFT_ALONE"
    assert [one.poll() for one in (backup, multiplexer, log)] == [None, None, None]
    assert host.memories.of("agent").left == {}


@pytest.mark.long
def test_what_is_merely_there_keeps_the_directory_and_is_named(host, site, spawn):
    for version in ("1", "2", "3"):
        site.publish(version=version, control=QUIET)
    run(host, site, "1")
    backup = spawn("sleep", "4803", cwd=here(host, "1"))
    works_in(backup.pid, here(host, "1"))
    host.reconfigure(replace(host.config, watch=0.1))
    for version in ("2", "3"):
        run(host, site, version)
        until("its watch has passed", lambda: host.memories.of("agent").watch_is_over(clocks.ran()))
        run(host, site, version)
    run(host, site, "3")
    memory = host.memories.of("agent")
    assert (here(host, "1") / "control").exists()
    assert (memory.left, memory.there) == ({}, {"1": {processes.identity(backup.pid)}})
    seen = cycle.look(host, ["agent"])["agent"]
    assert (seen.occupied, seen.crowding) == ({"1"}, frozenset())
    why = "\n".join(explain.why(host, seen, host.orders.last))
    assert f"1 process in 1 still runs: {backup.pid} sleep 4803, which does not belong to the agent" in why
    backup.kill()
    backup.wait()
    run(host, site, "3")
    assert not here(host, "1").exists()


def test_an_interpreter_is_the_agent_s_own_where_it_runs_a_script_of_the_install(tmp_path, spawn):
    place = tmp_path / "agent" / "1"
    (place / "lib").mkdir(parents=True)
    (place / "lib" / "agent.py").write_text("import time\ntime.sleep(4804)\n")
    (tmp_path / "backup.py").write_text("import time\ntime.sleep(4805)\n")
    own = [
        spawn(sys.executable, *command, cwd=place)
        for command in (["lib/agent.py"], ["-B", f"{place}/lib/agent.py", "-c", "/etc/passwd"])
    ]
    others = [
        spawn(sys.executable, f"{tmp_path}/backup.py", "lib/agent.py", cwd=place),
        spawn(sys.executable, "-c", "import time; time.sleep(4806)", cwd=place),
        spawn("tail", "-f", "lib/agent.py", cwd=place, stdout=subprocess.DEVNULL),
        spawn(sys.executable, f"{place}/lib/agent.py"),
    ]
    until("all run", lambda: all(len(processes.command(one.pid)) > 1 for one in (*own, *others)))
    found = {one.pid for one in witness.recognise(Table(), place, None, "b")}
    assert found == {one.pid for one in own}


# --- another agent of this root ---


@pytest.mark.parametrize("leftovers", ["leave", "end"])
def test_another_agent_that_a_deploy_agent_has_started_runs_on(host, site, leftovers):
    """It bears the mark of that start, and is in its session or descends from it."""
    site.publish(name="web", version="1", control=QUIET)
    deploys = QUIET.replace("start) ", "start) setsid ../../web/1/control start </dev/null; ")
    for version, text in (("1", QUIET), ("2", deploys), ("3", QUIET)):
        site.publish(version=version, control=text)
    site.desire(("web", "1"))
    cycle.run(host)
    kill(pid_of(host, "1", "web"))
    for version in ("1", "2"):
        assert run(host, site, version, leftovers=leftovers).matches
    web = pid_of(host, "1", "web")
    assert alive(web)
    if leftovers == "end":
        run(host, site, "3", leftovers="end")
    else:
        kill(pid_of(host, "2"))
        run(host, site, "2")
    assert current(host) == ("3" if leftovers == "end" else "1")
    assert living(host, "1", "web") == [web]


def test_what_the_pid_file_of_another_agent_names_is_none_of_this_one_s(host, spawn):
    """That agent has left its directory, so that the place does not tell."""
    root = host.layout.root
    web = install(root, "web", "1", QUIET)
    place = install(root, "agent", "1", QUIET)
    one = spawn("sleep", "4807", env=os.environ | {"OPS_UPDATER_START": "abc"})
    until("it is at work", lambda: processes.command(one.pid) == ["sleep", "4807"])
    known = Recognised("1", "b", 900000, "abc")
    assert [o.pid for o in witness.recognise(Table(), place, known, "b")] == [one.pid]
    (web / "pid").write_text(str(one.pid))
    assert witness.recognise(Table(), place, known, "b") == []


def test_what_a_deploy_agent_has_started_elsewhere_outlives_its_way_back(host, site, elsewhere):
    """The agent itself is dead, so that these alone are known of it."""
    deploys = QUIET.replace(
        "start) running ||",
        f"start) (cd / && exec setsid sleep 4808) >/dev/null 2>&1 & echo $! >{elsewhere}/a.pid; running ||",
    )
    site.publish(version="1", control=QUIET)
    site.publish(version="2", control=deploys)
    for version in ("1", "2"):
        assert run(host, site, version).matches
    kill(pid_of(host, "2"))
    for _ in range(3):  # that they live is a doubt
        run(host, site, "2")
    assert current(host) == "1"
    assert alive(int((elsewhere / "a.pid").read_text()))


# --- never two of one agent ---


@pytest.mark.long
def test_a_version_that_runs_and_has_lost_its_pid_file_is_ended_before_it_is_started(host, site):
    site.publish(version="1", control=QUIET)
    run(host, site, "1")
    host.reconfigure(replace(host.config, watch=0))
    run(host, site, "1")
    before = pid_of(host, "1")
    (here(host, "1") / "pid").unlink()
    assert run(host, site, "1").matches
    assert living(host, "1") == [pid_of(host, "1")]
    assert pid_of(host, "1") != before


@pytest.mark.long
def test_a_version_that_has_lost_its_pid_file_does_not_run_beside_its_successor(host, site):
    for version in ("1", "2"):
        site.publish(version=version, control=QUIET)
    run(host, site, "1")
    (here(host, "1") / "pid").unlink()
    assert run(host, site, "2").matches
    assert (living(host, "1"), living(host, "2")) == ([], [pid_of(host, "2")])


LOSES_ITS_PID = script('case "$1" in start) sleep 4826 >/dev/null 2>&1 & ;; status) echo stoped ;; esac')


def test_what_a_failed_start_has_left_is_known_by_its_mark_and_ended_on_the_way_back(host, site):
    site.publish(version="1", control=QUIET)
    site.publish(version="2", control=LOSES_ITS_PID)
    for version in ("1", "2"):
        run(host, site, version)
    assert (current(host), living(host, "2"), len(living(host, "1"))) == ("1", [], 1)


def test_a_start_that_was_cut_off_is_remembered_with_its_mark(tmp_path, spawn):
    place = install(tmp_path, "agent", "1", QUIET)
    memory = Memory(running=Recognised("1", "b", 7, "old", frozenset({"4194303.1"}), placed=True))
    began = memory.beginning("1", "b", "new", 0)
    one = spawn("sleep", "4827", cwd=place, env=os.environ | {"OPS_UPDATER_START": "new"})
    until("it is at work", lambda: processes.command(one.pid) == ["sleep", "4827"])
    assert {
        v: [o.pid for o in found] for v, found in witness.by_version(Table(), place.parent, began, "b").items()
    } == {"1": [one.pid]}
    found = witness.seen(Table(), place, began.known("1"), "b")
    assert found.placed
    after = began.recognising(found)
    assert (after.begun, after.running.token, after.known("2")) == (None, "new", None)
    assert (began.is_cut_off("1", "b"), began.is_cut_off("1", "another"), after.running.under_way) == (
        True,
        False,
        False,
    )
    assert memory.beginning("1", "another", "new", 0).known("1") == Recognised(
        "1", "another", token="new", placed=True, under_way=True
    )


@pytest.mark.long
def test_what_a_crashed_agent_leaves_is_left_alone_when_it_is_started_again(host, site):
    """Its pid file says which one was the agent."""
    helper = "start) (exec setsid sleep 4809) >/dev/null 2>&1 & running ||"
    site.publish(version="1", control=QUIET.replace("start) running ||", helper))
    run(host, site, "1")
    host.reconfigure(replace(host.config, watch=0))
    run(host, site, "1")
    before = pid_of(host, "1")
    [left] = set(living(host, "1")) - {before}
    kill(before)
    assert run(host, site, "1").matches
    assert alive(left)
    assert pid_of(host, "1") != before


# --- an agent that runs elsewhere, with something of it in the directory ---


def outside(elsewhere, start=""):
    """Keeps a service elsewhere, as `systemctl` does; its start may do something in the directory besides."""
    return script(f"""v=$(basename "$PWD"); p={elsewhere}/$v.pid
up() {{ [ -f $p ] && kill -0 $(cat $p) 2>/dev/null; }}
case $1 in
start) {start} up && exit 0; (cd /; exec env -i setsid /bin/sleep 4810) >/dev/null 2>&1 & echo $! >$p ;;
stop) echo stop $v >>{elsewhere}/calls; kill $(cat $p); rm $p ;;
status) if up; then echo started; else echo stoped; fi ;;
esac""")


def service(elsewhere, version):
    return int((elsewhere / f"{version}.pid").read_text())


def test_a_visitor_does_not_make_an_agent_that_runs_elsewhere_one_that_stays(host, site, elsewhere, spawn):
    install(host.layout.root, "agent", "1", outside(elsewhere))
    visitor = spawn("sleep", "4811", cwd=here(host, "1"))
    works_in(visitor.pid, here(host, "1"))
    known = Recognised("1", host.boot)
    assert witness.at_home(Table(), here(host, "1"), known, host.boot) == []
    assert run(host, site, "1").matches
    assert run(host, site, "1").matches
    assert host.believed == {"agent": "1"}


def test_a_helper_of_a_start_does_not_make_it_one_that_stays(host, site, elsewhere):
    site.publish(version="1", control=outside(elsewhere, "(sleep 4812) >/dev/null 2>&1 &"))
    run(host, site, "1")
    memory = host.memories.of("agent")
    [helper] = living(host, "1")
    assert processes.identity(helper) in memory.running.processes
    assert witness.at_home(Table(), here(host, "1"), memory.running, host.boot) == []


@pytest.fixture
def mistaken(host, site, elsewhere):
    """A version that runs elsewhere, and was taken for one that stays."""
    for version in ("1", "2"):
        site.publish(version=version, control=outside(elsewhere))
    run(host, site, "1")
    host.reconfigure(replace(host.config, watch=0))
    run(host, site, "1")
    was_placed(host)
    assert cycle.look(host, ["agent"])["agent"].absent


def test_an_order_to_stop_is_carried_out_though_nothing_is_believed_to_run(host, site, elsewhere, mistaken):
    one = service(elsewhere, "1")
    assert run(host, site, "1", cmd="stop").matches
    assert not alive(one)
    assert run(host, site, "1", cmd="stop").turns[0].changed is False


def test_its_own_stop_is_asked_before_another_version_takes_its_place(host, site, elsewhere, mistaken):
    one = service(elsewhere, "1")
    run(host, site, "2")
    assert (current(host), alive(one), alive(service(elsewhere, "2"))) == ("2", False, True)
    was_placed(host, "2")
    two = service(elsewhere, "2")
    run(host, site, "1")
    assert (current(host), alive(two), alive(service(elsewhere, "1"))) == ("1", False, True)


def test_a_version_in_its_watch_of_which_nothing_is_found_is_not_rejected_at_once(host, site, elsewhere):
    for version in ("1", "2"):
        site.publish(version=version, control=outside(elsewhere))
        run(host, site, version)
    for _ in range(2):
        was_placed(host, "2")
        run(host, site, "2")
        assert (current(host), host.memories.of("agent").rejected) == ("2", None)
    host.memories.change("agent", lambda memory: replace(memory, running=None))
    assert run(host, site, "2").matches


def test_one_that_has_died_and_goes_on_saying_that_it_runs_is_given_up_at_the_third_look(host, site):
    site.publish(version="1", control=QUIET)
    site.publish(
        version="2", control=script('[ "$1" = start ] && echo 4194303 >pid; [ "$1" != status ] || echo started')
    )
    for version in ("1", "2"):
        run(host, site, version)
    was_placed(host, "2")
    for _ in range(3):
        assert current(host) == "2"
        run(host, site, "2")
    assert current(host) == "1"


# --- processes that are not what they seem ---

MAIN_THREAD_ENDS = """
import ctypes, threading, time
threading.Thread(target=lambda: time.sleep(4813)).start()
ctypes.CDLL(None).syscall(60, 0)
"""


def test_a_process_whose_main_thread_has_ended_lives(tmp_path, spawn):
    (tmp_path / "agent" / "1").mkdir(parents=True)
    place = tmp_path / "agent" / "1"
    (place / "agent.py").write_text(MAIN_THREAD_ENDS)
    one = spawn(sys.executable, "agent.py", cwd=place)
    stat = Path(f"/proc/{one.pid}/stat")
    until("its main thread has ended", lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
    assert not processes.is_dead(one.pid)
    assert processes.is_alive(processes.identity(one.pid))
    assert processes.command(one.pid)[1:] == ["agent.py"]
    (place / "pid").write_text(str(one.pid))
    assert not doubts.names_the_dead(place)
    assert [found.pid for found in witness.recognise(Table(), place, None, "b")] == [one.pid]
    assert processes.end([processes.identity(one.pid)]) == 1
    until("it is dead", lambda: processes.is_dead(one.pid))
    assert processes.identity(one.pid) == ""


def test_what_works_now_and_then_is_not_rejected_as_started_again_and_again(host, site, spawn):
    """As cron's jobs: programs of the install, each in a session of its own."""
    on = script("case $1 in start) touch on;; stop) rm -f on;; status) [ -f on ] && echo started || echo stoped;; esac")
    site.publish(version="1", control=QUIET)
    site.publish(version="2", control=on)
    for version in ("1", "2"):
        run(host, site, version)
    shutil.copy("/bin/sleep", here(host, "2") / "job")
    for _ in range(5):
        job = spawn(here(host, "2") / "job", "4814", cwd=here(host, "2"))
        until("it is at work", lambda: living(host, "2"))
        assert run(host, site, "2").matches
        job.kill()
        job.wait()
    assert (current(host), host.memories.of("agent").trial.restarts) == ("2", 0)


# --- pid files that are an agent's books ---


def test_the_books_of_a_deploy_agent_are_not_removed(host, site, spawn):
    site.publish(version="1", control=QUIET)
    run(host, site, "1")
    app = spawn("sleep", "4815")
    books = here(host, "1") / "services"
    books.mkdir()
    (books / "app.pid").write_text(str(app.pid))
    host.memories.change("agent", lambda memory: memory.recognising(replace(memory.running, placed=True)))
    kill(pid_of(host, "1"))
    run(host, site, "1")
    assert (books / "app.pid").read_text() == str(app.pid)


def test_a_pid_file_by_which_a_status_does_not_lie_is_not_removed(host, site, spawn):
    """A script that compares the process with its directory sees by itself that it is a stranger."""
    checks = QUIET.replace("[ -f pid ] &&", '[ -f pid ] && [ "/proc/$(cat pid)/cwd" -ef . ] &&')
    checks = checks.replace("sleep 1000 >", "echo kept >../kept; cp pid ../was; sleep 1000 >")
    install(host.layout.root, "agent", "1", checks)
    stranger = spawn("sleep", "4816")
    (here(host, "1") / "pid").write_text(str(stranger.pid))
    was_placed(host)
    run(host, site, "1")
    assert (here(host, "1").parent / "was").read_text().strip() == str(stranger.pid), "its start has found it"


def test_a_deeper_pid_file_that_has_named_the_agent_is_removed_when_it_names_a_stranger(host, site, spawn):
    deep = (
        KILL_0.replace("$(cat pid ", "$(cat var/app.pid ")
        .replace(">pid", ">var/app.pid")
        .replace("sleep 9999", "sleep 4817")
    )
    site.publish(version="1", control=deep.replace("case", "mkdir -p var\ncase"))
    run(host, site, "1")
    memory = host.memories.of("agent")
    assert memory.running.pid_files == {"var/app.pid"}
    file = here(host, "1") / "var/app.pid"
    old = int(file.read_text())
    kill(old)
    stranger = spawn("sleep", "4818")
    file.write_text(str(stranger.pid))
    host.memories.change("agent", lambda m: replace(m.recognising(replace(m.running, placed=True)), trial=None))
    assert run(host, site, "1").matches
    assert len(living(host, "1")) == 1
    assert stranger.poll() is None


def test_the_stop_of_an_old_version_is_asked_whatever_stands_in_its_books(host, site, spawn):
    site.publish(version="2", control=QUIET)
    run(host, site, "2")
    kill(pid_of(host, "2"))
    install(host.layout.root, "agent", "1", HEALTHY, current=False)
    app = spawn("sleep", "4819")
    (here(host, "1") / "services").mkdir()
    (here(host, "1") / "services/app.pid").write_text(str(app.pid))
    subprocess.run(["./control", "start"], cwd=here(host, "1"), check=True, start_new_session=True)
    run(host, site, "2")
    assert living(host, "1") == []
    assert "stop" in (host.layout.root / "agent/.calls").read_text().split()
    assert app.poll() is None


# --- what is forked during a stop ---

FORKS_IN_STOP = QUIET.replace("stop) running &&", "stop) (setsid sleep 4820 >/dev/null 2>&1 &); running &&")


@pytest.mark.parametrize("leftovers", ["leave", "end"])
def test_what_a_stop_leaves_behind_is_seen_said_and_ended_where_leftovers_are(host, site, leftovers):
    site.publish(version="1", control=FORKS_IN_STOP)
    site.publish(version="2", control=QUIET)
    run(host, site, "1")
    assert run(host, site, "2", leftovers=leftovers).matches
    memory = host.memories.of("agent")
    if leftovers == "end":
        assert (living(host, "1"), memory.left) == ([], {})
    else:
        [left] = living(host, "1")
        assert memory.left == {"1": {processes.identity(left)}}
        assert f"1 process of 1 still runs: {left} sleep 4820" in memory.remark
        assert cycle.look(host, ["agent"])["agent"].crowding == {"1"}


# --- a status that says neither word ---


def test_one_that_was_seen_at_its_start_only_is_not_known_to_be_gone(host, site, elsewhere):
    mute = outside(elsewhere, "(sleep 0.3) >/dev/null 2>&1 &").replace(
        "status)", "status) [ -f ../hm ] && echo hm && exit;"
    )
    site.publish(version="1", control=mute)
    site.publish(version="2", control=QUIET)
    run(host, site, "1")
    assert host.memories.of("agent").running.processes
    until("what its start had left is gone", lambda: not living(host, "1"))
    (here(host, "1").parent / "hm").touch()
    [turn] = run(host, site, "2", unknownStatus="upgrade").turns
    assert "cannot tell whether" in turn.waits
    assert (current(host), alive(service(elsewhere, "1"))) == ("1", True)


def test_its_stop_is_asked_for_in_any_case(host, site, elsewhere):
    mute = outside(elsewhere).replace("if up; then echo started; else echo stoped; fi", "echo hm")
    install(host.layout.root, "agent", "1", mute)
    subprocess.run(["./control", "start"], cwd=here(host, "1"), check=True, start_new_session=True)
    one = service(elsewhere, "1")
    was_placed(host)
    site.publish(version="2", control=QUIET)
    run(host, site, "2", unknownStatus="upgrade")
    assert (current(host), alive(one)) == ("2", False)


def test_what_may_be_it_keeps_it_from_being_replaced(host, site, spawn):
    mute = script('[ "$1" != status ] || echo hm')
    place = install(host.layout.root, "agent", "1", mute)
    (place / "agent.py").write_text("import time\ntime.sleep(4821)\n")
    was_placed(host)
    one = spawn(sys.executable, place / "agent.py")
    until("it runs", lambda: len(processes.command(one.pid)) == 2)
    site.publish(version="2", control=QUIET)
    [turn] = run(host, site, "2", unknownStatus="upgrade").turns
    assert "that was not recognised may belong to it" in turn.waits
    assert current(host) == "1"


# --- what may not be looked into, and who only passes by ---

BY_ROOT = """
import os, shutil, subprocess
from pathlib import Path
from updater.kernel import doubts, witness
from updater.kernel.processes import Table
install = Path("/mnt/agent/1")
install.mkdir(parents=True)
shutil.copy("/bin/sleep", install / "worker5")
as_another_user(lambda: [doubts.may_be_up(Table(), install)])
for command in (["sleep", "4822"], ["./worker5", "4822"], ["/bin/sh", "-c", "sleep 4822; :", f"{install}/conf"]):
    one = subprocess.Popen(command, cwd=install, start_new_session=True)
    name = os.path.basename(command[0])
    while Path(f"/proc/{one.pid}/comm").read_text().strip() != name: pass
    as_another_user(lambda: (Table().is_closed(Table().by_pid[one.pid]), doubts.may_be_up(Table(), install)))
    os.killpg(one.pid, 9)
    one.wait()
"""


def test_an_agent_that_another_user_has_restarted_may_be_up(mounts):
    """We may not look where it works: its name, or an argument that names the install, has to do."""
    within = 'mount -t tmpfs -o mode=777 none /mnt && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", within, "sh", sys.executable, "-c", AS_ANOTHER_USER + BY_ROOT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    said = done.stdout.splitlines()
    assert (said, done.returncode) == (["False", "True False", "True True", "True True"], 0), done.stderr


def test_a_bystander_in_the_directory_does_not_keep_a_stale_pid_file_believed(host, site, spawn):
    site.publish(version="1", control=KILL_0)
    run(host, site, "1")
    kill(pid_of(host, "1"))
    stranger, bystander = spawn("sleep", "4824"), spawn("sleep", "4825", cwd=here(host, "1"))
    works_in(bystander.pid, here(host, "1"))
    (here(host, "1") / "pid").write_text(str(stranger.pid))
    host.memories.change(
        "agent", lambda memory: replace(memory.recognising(replace(memory.running, placed=True)), trial=None)
    )
    assert cycle.look(host, ["agent"])["agent"].absent
    assert run(host, site, "1").matches
    assert len(living(host, "1")) == 2
    assert (stranger.poll(), bystander.poll()) == (None, None)


# --- which start of the machine, or of its container ---

BOOTS = "from updater.kernel import boots; print(boots.boot_id(), boots.boot_here())"


def test_a_container_that_is_started_again_is_another_boot(mounts):
    def told():
        command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", BOOTS]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()

    one, other = told(), told()
    assert one[0] == other[0] == boots.boot_id()
    assert len({one[1], other[1], boots.boot_here()}) == 3


def test_what_is_down_after_its_container_was_started_again_has_not_failed(host, site):
    for version in ("1", "2"):
        site.publish(version=version, control=QUIET)
        run(host, site, version)
    kill(pid_of(host, "2"))
    host.boot = f"{host.boot}.4711"
    assert run(host, site, "2").matches
    assert (current(host), host.memories.of("agent").rejected) == ("2", None)


# --- PID 1 ---


def test_children_are_found_where_the_kernel_does_not_list_them(tmp_path):
    """A kernel without CONFIG_PROC_CHILDREN: nothing would be buried."""
    for pid, parent in ((10, 1), (11, 10), (12, 10), (13, 11)):
        (tmp_path / str(pid) / "task" / str(pid)).mkdir(parents=True)
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) Z {parent} " + "0 " * 30)
    assert children.children_of(10, tmp_path) == {11, 12}
    for pid, text in ((10, "11 12 14 "), (11, "13 ")):
        (tmp_path / str(pid) / "task" / str(pid) / "children").write_text(text)
    assert children.children_of(10, tmp_path) == {11, 12, 14}
