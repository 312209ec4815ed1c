"""What tells whose a process is, the stronger before the weaker: nothing of another agent, of a person or of a bystander ends
because its program, an argument or a directory is the agent's."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from helpers.agents import QUIET, install, script
from helpers.cycles import AS_ANOTHER_USER, current, here, run, with_timeouts
from helpers.field import AGENT, alive
from lab.fleet import until
from updater.kernel import boots, doubts, processes, procfs, witness
from updater.kernel.ownership.owner import Owner
from updater.kernel.processes import Table
from updater.model.memory import Memory
from updater.model.observed import State
from updater.model.recognised import Guess, Recognised
from updater.reconcile import cycle, stopping
from updater.wire.heartbeat import Desired


@pytest.fixture
def spawn(spawn):
    """Returns when the command runs."""

    def spawning(*command, **more):
        one = spawn(*command, **more)
        until("it runs what it is to", lambda: processes.command(one.pid) == [os.fspath(word) for word in command])
        return one

    return spawning


def number_in(file):
    return int(file.read_text().split()[-1])


def without_a_watch(host, site, version):
    host.reconfigure(replace(host.config, watch=0))
    run(host, site, version)


# --- another agent of this root ---

RUNTIME = script(
    "case $1 in start) cp /bin/sleep java; touch up;; stop) rm -f up;; status) [ -f up ] && echo started || echo stoped;; esac"
)
ON_THE_RUNTIME = QUIET.replace("sleep 1000", "../../jdk/1/java 4851")


@pytest.mark.parametrize("is_upgraded", [True, False], ids=["upgraded", "started again"])
def test_an_agent_whose_program_lies_in_a_runtime_agent_is_its_own_agent(host, site, is_upgraded):
    for version in ("1", "2"):
        site.publish(name="jdk", version=version, control=RUNTIME)
    site.publish(name="app", version="1", control=ON_THE_RUNTIME)
    site.desire(("jdk", "1"))
    cycle.run(host)
    site.desire(("jdk", "1"), ("app", "1"))
    cycle.run(host)
    app = number_in(here(host, "1", "app") / "pid")
    until("it runs", lambda: processes.command(app) == ["../../jdk/1/java", "4851"])
    known = {name: host.memories.of(name).known("1") for name in ("app", "jdk")}
    own = {
        name: [one.pid for one in witness.recognise(Table(), here(host, "1", name), known[name], host.boot)]
        for name in ("app", "jdk")
    }
    assert own == {"app": [app], "jdk": []}
    if not is_upgraded:
        (here(host, "1", "jdk") / "up").unlink()
    site.desire(site.entry(name="jdk", version="2" if is_upgraded else "1", leftovers="end"), ("app", "1"))
    cycle.run(host)
    assert (here(host, "2" if is_upgraded else "1", "jdk") / "up").exists()
    assert alive(app)


# Its control resets the environment, as sudo does, and works elsewhere, with its pid file one directory deep.
IN_NO_ENVIRONMENT = """cd "$(dirname "$0")"; mkdir -p var; here=$PWD
up() {{ [ -s var/app.pid ] && grep -qs '^State:[[:space:]]*[RSDTtIWKP]' "/proc/$(cat var/app.pid)/status"; }}
case $1 in
start) up || {{ (cd {0}; exec env -i setsid $here/../../jdk/1/java {1}) >/dev/null 2>&1 &
  echo $! >{0}/app.pid; echo $! >var/app.pid; }} ;;
stop) up && kill $(cat var/app.pid); while up; do sleep 0.05; done ;;
status) if up; then echo started; else echo stoped; fi ;;
esac"""


@pytest.mark.parametrize("program", ["$here/main.sh", "{}/main.sh"], ids=["its script", "a script elsewhere"])
@pytest.mark.parametrize("how", ["started again", "upgraded", "stopped"])
def test_an_agent_that_a_runtime_agent_runs_outlives_that_with_no_mark_of_its_own(host, site, elsewhere, program, how):
    runtime = RUNTIME.replace("/bin/sleep", "/bin/sh")
    for version in ("1", "2"):
        site.publish(name="jdk", version=version, control=runtime)
    main = "[ -p fifo ] || mkfifo fifo; read x <>fifo"
    (elsewhere / "main.sh").write_text(main)
    text = script(IN_NO_ENVIRONMENT.format(elsewhere, program.format(elsewhere)))
    site.publish(name="app", version="1", control=text, **{"main.sh": main.encode()})
    site.desire(("jdk", "1"))
    cycle.run(host)
    site.desire(("jdk", "1"), ("app", "1"))
    cycle.run(host)
    host.reconfigure(replace(host.config, watch=0))
    cycle.run(host)
    app = number_in(elsewhere / "app.pid")
    until("it runs", lambda: "".join(processes.command(app)[1:]).endswith("main.sh"))
    if how == "started again":
        (here(host, "1", "jdk") / "up").unlink()
    fields = {"upgraded": {"version": "2"}, "stopped": {"version": "1", "cmd": "stop"}}.get(how, {"version": "1"})
    site.desire(site.entry(name="jdk", leftovers="end", **fields), ("app", "1"))
    cycle.run(host)
    assert alive(app)
    assert number_in(elsewhere / "app.pid") == app


@pytest.mark.parametrize("evidence", ["pid file", "deeper pid file", "mark", "script", "memory"])
def test_what_another_agent_claims_is_its_own_wherever_its_program_lies_and_it_works(host, spawn, evidence):
    root = host.layout.root
    app, runtime = install(root, "app", "1", QUIET), install(root, "jdk", "1", QUIET)
    shutil.copy("/bin/sh", runtime / "java")
    (app / "var").mkdir()
    main = (app if evidence == "script" else root.parent) / "main.sh"
    os.mkfifo(root.parent / "fifo")
    main.write_text(f"(read x <>{root.parent}/fifo; :) & wait")
    marks = {"OPS_UPDATER_START": "app:12"} if evidence == "mark" else {}
    one = spawn(runtime / "java", main, env=os.environ | marks)
    if evidence.endswith("pid file"):
        (app / ("pid" if evidence == "pid file" else "var/app.pid")).write_text(str(one.pid))
    if evidence == "memory":
        known = Recognised("1", host.boot, processes=frozenset({processes.identity(one.pid)}))
        host.memories.change("app", lambda memory: memory.recognising(known))
    until("its worker is there", lambda: sum(other.parent == one.pid for other in Table().by_pid.values()) == 1)
    assert witness.recognise(Table(), runtime, None, "b") == []
    (runtime / "pid").write_text(str(one.pid))
    assert one.pid in [o.pid for o in witness.recognise(Table(), runtime, None, "b")], "its own pid file counts more"


@pytest.mark.parametrize("evidence", ["program", "directory"])
def test_what_an_old_number_in_another_agent_s_pid_file_hits_stays_this_one_s(host, spawn, evidence):
    root = host.layout.root
    other, place = install(root, "other", "1", QUIET), install(root, "agent", "1", QUIET)
    shutil.copy("/bin/sleep", place / "worker")
    program, directory = (place / "worker", "/") if evidence == "program" else ("/bin/sleep", place)
    one = spawn(program, "4853", cwd=directory, env=os.environ | {"OPS_UPDATER_START": "agent:12"})
    (other / "pid").write_text(str(one.pid))
    known = Recognised("1", "b", token="agent:12")
    assert [o.pid for o in witness.recognise(Table(), place, known, "b")] == [one.pid]


# --- a deploy agent's books ---

DEPLOYS = """case $1 in
start)
  mkdir -p services
  books={3}/app.pid
  kill -0 $(cat $books) 2>/dev/null || {{
    cd {0}; setsid {1} app.py --pid-file=$books >/dev/null 2>&1 & echo $! >$books; echo $! >{0}/app.pid; }}
  touch {2}/up ;;
stop) rm -f up ;;
status) [ -f up ] && echo started || echo stoped ;;
esac"""


@pytest.mark.parametrize("books", ["services", ".."], ids=["below the install", "elsewhere"])
def test_the_services_of_a_deploy_agent_run_on_when_it_is_started_again(host, site, elsewhere, books):
    (elsewhere / "app.py").write_text("import time\ntime.sleep(4854)\n")
    books = here(host, "1") / books
    site.publish(version="1", control=script(DEPLOYS.format(elsewhere, sys.executable, here(host, "1"), books)))
    run(host, site, "1")
    without_a_watch(host, site, "1")
    app = number_in(elsewhere / "app.pid")
    until("it runs", lambda: "app.py" in processes.command(app))
    (here(host, "1") / "up").unlink()
    assert run(host, site, "1").matches
    assert (here(host, "1") / "up").exists()
    assert alive(app)


def test_an_argument_that_names_the_install_makes_a_pid_file_believed_and_its_process_not_signalled(tmp_path, spawn):
    place = tmp_path / "agent/1"
    (place / "services").mkdir(parents=True)
    one = spawn(
        "tail", "-f", "/dev/null", f"--pid={os.getpid()}", "-s", "1", "--", f"{place}/services", stdout=-3, stderr=-3
    )
    (place / "pid").write_text(str(one.pid))
    assert doubts.may_be_up(Table(), place)
    assert witness.recognise(Table(), place, None, "b") == []
    (place / "pid").rename(place / "services/app.pid")
    assert not doubts.may_be_up(Table(), place)


# --- never two of one agent ---

KEEPS_ITS_PID_ELSEWHERE = """p={0}/x
up() {{ [ -f $p ] && kill -0 $(cat $p) 2>/dev/null; }}
case $1 in
start) up && exit 0; cd /; {1} sleep 4855 >/dev/null 2>&1 & echo $! >$p; echo $! >>{0}/all.pid ;;
stop) up && kill $(cat $p); rm -f $p ;;
status) if up; then echo started; else echo stoped; fi ;;
esac"""


@pytest.mark.long
@pytest.mark.parametrize("how", ["", "setsid"])
def test_one_that_runs_at_the_root_and_has_lost_its_pid_file_is_ended_before_it_is_started(host, site, elsewhere, how):
    """Known by the session of its start, or by the mark."""
    site.publish(version="1", control=script(KEEPS_ITS_PID_ELSEWHERE.format(elsewhere, how)))
    run(host, site, "1")
    without_a_watch(host, site, "1")
    first = number_in(elsewhere / "all.pid")
    (elsewhere / "x").unlink()
    assert run(host, site, "1").matches
    assert not alive(first)
    assert alive(number_in(elsewhere / "all.pid"))


# --- a person's terminal ---

HOLDS_A_TERMINAL = """import os, pty, signal, time
signal.signal(signal.SIGHUP, signal.SIG_IGN)
pid, fd = pty.fork()
if pid == 0:
    os.chdir("/")
    os.execv("/bin/sleep", ["sleep", "4856"])
time.sleep(4857)
"""


def test_a_terminal_below_an_adopted_agent_outlives_its_stop(tmp_path, spawn):
    place = install(tmp_path, "agent", "1", QUIET)
    (place / "term.py").write_text(HOLDS_A_TERMINAL)
    one = spawn(sys.executable, "term.py", cwd=place)
    below = lambda: [o.pid for o in Table().by_pid.values() if o.parent == one.pid and o.name == "sleep"]  # noqa: E731
    until("its terminal is there", below)
    [shell] = below()
    were = stopping.before(place, Memory(), boots.boot_here())
    assert were.every == {processes.identity(one.pid)}
    assert stopping.left(were) == were.every
    stopping.end(were, Desired(name="agent", version="1", tarball="x", leftovers="end"))
    assert (alive(one.pid), processes.command(shell)) == (False, ["sleep", "4856"])
    processes.end([processes.identity(shell)])


# --- bystanders ---


@pytest.mark.parametrize(
    "command",
    [
        ["perl", "-e", "sleep 4858", "app.log"],
        [sys.executable, "-c", "import time; time.sleep(4858)", "app.log"],
        ["sh", "-c", "sleep 4858; :", "app.log"],
        [sys.executable, "-m", "agent", "app.log"],
    ],
)
def test_a_bystander_with_a_data_file_of_the_install_runs_no_script_of_it(tmp_path, spawn, command):
    place = install(tmp_path, "agent", "1", QUIET)
    (place / "app.log").touch()
    elsewhere = tmp_path / "modules"
    elsewhere.mkdir()
    (elsewhere / "agent.py").write_text("import time\ntime.sleep(4858)\n")
    one = spawn(*command, cwd=place, env=os.environ | {"PYTHONPATH": f"{elsewhere}"})
    until("it works there", lambda: os.readlink(f"/proc/{one.pid}/cwd") == str(place))
    assert witness.recognise(Table(), place, None, "b") == []
    assert witness.itself(Table(), place, None, "b") == frozenset()


def test_a_script_is_the_install_s_by_any_path_of_it(tmp_path, spawn):
    place = install(tmp_path / "real", "agent", "1", QUIET)
    (tmp_path / "link").symlink_to("real")
    (place / "agent.py").write_text("import time\ntime.sleep(4859)\n")
    linked = tmp_path / "link/agent/1"
    for script_path in (linked / "agent.py", place / "agent.py", "agent.py"):
        one = spawn(sys.executable, script_path, cwd=place)
        for install_path in (place, linked):
            assert Owner(Table(), install_path).is_by_itself(Table().by_pid[one.pid]), (script_path, install_path)


def test_a_bystander_elsewhere_does_not_make_the_number_of_nobody_believed(tmp_path, spawn):
    place = install(tmp_path, "agent", "1", QUIET)
    (place / "app.log").touch()
    (place / "agent.py").write_text("import time\ntime.sleep(4860)\n")
    (place / "pid").write_text("4194303\n")
    log = spawn("tail", "-F", place / "app.log", stdout=subprocess.DEVNULL)
    called = spawn(f"{place}/agent", "4860", executable="/bin/sleep")
    assert not doubts.may_be_up(Table(), place)
    (place / "pid").unlink()
    assert doubts.may_be_up(Table(), place), "called as what lies there"
    called.kill()
    called.wait()
    assert not doubts.may_be_up(Table(), place)
    (place / "pid").write_text("4194303\n")
    spawn(sys.executable, place / "agent.py")
    assert doubts.may_be_up(Table(), place)
    assert log.poll() is None


# --- what may not be looked into ---

AS_ANOTHER = """
import os, shutil, subprocess, sys
from pathlib import Path
from updater.kernel import doubts, witness
from updater.kernel.processes import Table
install = Path("/mnt/agent/1")
(install / "bin").mkdir(parents=True)
shutil.copy("/bin/sleep", install / "bin/python3")
(install / "agent.py").touch()
python = Path("/mnt/python3")
shutil.copy(sys.executable, python)
for script in ("agent.py", "backup.py"):
    Path("/mnt", script).write_text("import time; print(flush=True); time.sleep(4861)")
    one = subprocess.Popen([sys.executable, script], executable=sys.executable, cwd="/mnt", start_new_session=True, stdout=-1)
    one.stdout.readline()
    Path(f"/proc/{one.pid}/comm").read_text()
    as_another_user(lambda: (Table().is_closed(Table().by_pid[one.pid]), doubts.may_be_up(Table(), install)))
    os.killpg(one.pid, 9)
    one.wait()
"""


def test_a_closed_interpreter_may_be_the_agent_by_its_script_not_by_its_name(mounts):
    """The install has a python3 of its own, and so is every other one called."""
    within = 'mount -t tmpfs -o mode=777 none /mnt && exec "$@"'
    command = ["unshare", "-m", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", within, "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-c", AS_ANOTHER_USER + AS_ANOTHER],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout.splitlines(), done.returncode) == (["True True", "True False"], 0), done.stderr


# --- what may be a service of the agent that has dropped its mark ---

TITLED = """import ctypes, os, signal, socket, sys, time
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
first, last = int(fields[47]), int(fields[48])
ctypes.memset(first, 0, last - first)  # as setproctitle, nginx and redis do
listening = socket.socket()
listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listening.bind(("127.0.0.1", int(sys.argv[1])))
listening.listen()
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(float(sys.argv[2])), os._exit(0)))
print(os.getpid(), file=open("{0}/titled.pid", "a"))
open("{0}/x", "w").write(str(os.getpid()))
while True:
    time.sleep(1)
"""
SIGNALS_AND_RETURNS = """p={0}/x
up() {{ [ -f $p ] && kill -0 $(cat $p) 2>/dev/null; }}
case $1 in
start) setsid {1} {0}/titled.py {2} {3} >/dev/null 2>../err & n=0
  until up; do
    sleep 0.05; n=$((n+1)); kill -0 $! && [ $n -lt 40 ] || {{ cat ../err; exit 1; }}
  done ;;
stop) kill $(cat $p); rm -f $p ;;
status) if up; then echo started; else echo stoped; fi ;;
esac"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def titled(site, elsewhere):
    """Versions of an agent that leaves no mark, and takes longer for its end than a stop may."""
    (elsewhere / "titled.py").write_text(TITLED.replace("{0}", str(elsewhere)))
    text = script(SIGNALS_AND_RETURNS.format(elsewhere, sys.executable, free_port(), 2.5))
    for version in ("1", "2"):
        site.publish(version=version, control=text)
    return elsewhere


@pytest.mark.long
@pytest.mark.parametrize("leftovers", ["leave", "end"])
def test_a_daemon_that_has_wiped_its_environment_is_waited_for(host, site, titled, leftovers):
    with_timeouts(host, stop=2, start=4)
    run(host, site, "1")
    without_a_watch(host, site, "1")
    first = number_in(titled / "titled.pid")
    assert witness.recognise(Table(), here(host, "1"), host.memories.of("agent").running, host.boot) == []
    assert run(host, site, "2", leftovers=leftovers).matches
    memory = host.memories.of("agent")
    assert (current(host), memory.rejected, memory.left) == ("2", None, {})
    assert (alive(first), alive(number_in(titled / "titled.pid"))) == (False, True)


@pytest.mark.long
def test_a_start_whose_port_something_in_the_directory_holds_is_tried_once_more(host, site, titled):
    """It was told to end by hand, just before the agent is started again."""
    with_timeouts(host, stop=5, start=4)
    run(host, site, "1")
    without_a_watch(host, site, "1")
    first = number_in(titled / "titled.pid")
    (titled / "x").unlink()
    os.kill(first, signal.SIGTERM)
    assert run(host, site, "1").matches
    assert (alive(first), alive(number_in(titled / "titled.pid"))) == (False, True)


@pytest.mark.long
def test_what_may_be_a_service_is_never_ended(host, site, spawn):
    site.publish(version="1", control=QUIET)
    site.publish(version="2", control=QUIET)
    run(host, site, "1")
    one = spawn("sleep", "4862", cwd=here(host, "1"))
    until("it works there", lambda: os.readlink(f"/proc/{one.pid}/cwd") == str(here(host, "1")))
    assert run(host, site, "2", leftovers="end").matches
    assert (one.poll(), host.memories.of("agent").left) == (None, {})


# Its script is the install's; its interpreter, directory, environment and pid file are not.
RUNS_ITS_SCRIPT = """cd "$(dirname "$0")"; here=$PWD; p={0}/x
up() {{ [ -f $p ] && kill -0 $(cat $p) 2>/dev/null; }}
case $1 in
start) up && exit; (cd /; exec env -i setsid {1} $here/agent.py {2} 0.6) >../err 2>&1 & pid=$!; echo $pid >>{0}/all.pid
  until [ -s {0}/$pid ]; do kill -0 $pid && sleep 0.02 || {{ cat ../err; exit 1; }}; done
  echo $pid >$p ;;
stop) kill $(cat $p); rm -f $p ;;
status) if up; then echo started; else echo stoped; fi ;;
esac"""


def test_a_daemon_that_runs_the_install_s_script_from_elsewhere_is_waited_for(host, site, elsewhere):
    announced = AGENT.replace(
        "def bye", f"import os; print(1, file=open('{elsewhere}/%d' % os.getpid(), 'w'), flush=True)\ndef bye"
    )
    text = script(RUNS_ITS_SCRIPT.format(elsewhere, sys.executable, free_port()))
    for version in ("1", "2"):
        site.publish(version=version, control=text, **{"agent.py": announced.encode()})
    run(host, site, "1")
    without_a_watch(host, site, "1")
    first = number_in(elsewhere / "all.pid")
    known = host.memories.of("agent").running
    assert witness.recognise(Table(), here(host, "1"), known, host.boot) == []
    its = {"1": frozenset({processes.identity(first)})}
    assert witness.services_by_version(Table(), here(host, "1").parent, host.memories.of("agent"), host.boot) == its
    assert run(host, site, "2").matches
    assert (current(host), host.memories.of("agent").rejected) == ("2", None)
    assert (alive(first), alive(number_in(elsewhere / "all.pid"))) == (False, True)


# --- an agent that runs elsewhere, and ships a helper ---

RUNS_ELSEWHERE = """p={0}/service.pid
up() {{ [ -f $p ] && kill -0 $(cat $p) 2>/dev/null; }}
case $1 in
start) up || {{ (cd /; exec env -i setsid sleep 4863) >/dev/null 2>&1 & echo $! >$p; }}
  cp /bin/sleep warm; {1} ./warm {2} >/dev/null 2>&1 & ;;
stop) kill $(cat $p); rm -f $p ;;
status) if up; then echo started; else echo stoped; fi ;;
esac"""


def test_a_program_of_the_install_that_helps_at_a_start_does_not_make_the_agent_one_that_stays(host, site, elsewhere):
    site.publish(version="1", control=script(RUNS_ELSEWHERE.format(elsewhere, "", "4864")))
    run(host, site, "1")
    memory, table = host.memories.of("agent"), Table()
    [helper] = table.below(here(host, "1"))
    assert helper.identity in memory.running.processes
    assert witness.at_home(table, here(host, "1"), memory.running, host.boot) == []
    server = subprocess.Popen([here(host, "1") / "warm", "4864"], cwd="/", start_new_session=True)
    try:
        until("it runs", lambda: processes.command(server.pid)[1:] == ["4864"])
        found = witness.at_home(Table(), here(host, "1"), memory.running, host.boot)
        assert [one.pid for one in found] == [server.pid], "what leads a session is none that helps"
    finally:
        server.kill()
        server.wait()


def test_a_start_that_leaves_helpers_alone_shows_that_the_agent_is_elsewhere(host, site, elsewhere):
    """It was taken for one that stays. There is no verdict, however often its helper ends."""
    site.publish(version="1", control=QUIET)
    site.publish(version="2", control=script(RUNS_ELSEWHERE.format(elsewhere, "", "0.3")))
    for version in ("1", "2"):
        run(host, site, version)
    gone = Recognised("2", host.boot, processes=frozenset({"4194303.1"}), placed=True)
    host.memories.change("agent", lambda memory: memory.recognising(gone))
    for _ in range(5):
        until("its helper has ended", lambda: not Table().below(here(host, "2")))
        run(host, site, "2")
        assert (current(host), host.memories.of("agent").trial.lost) == ("2", 1)
    assert not host.memories.of("agent").known("2").placed


# --- an order to stop ---


@pytest.mark.parametrize("leftovers", ["leave", "end"])
def test_what_an_ordered_stop_forks_is_said_and_ended_where_leftovers_are(host, site, leftovers):
    forks = QUIET.replace("stop) running &&", "stop) (setsid sleep 4865 >/dev/null 2>&1 &); running &&")
    site.publish(version="1", control=forks)
    run(host, site, "1", leftovers=leftovers)
    run(host, site, "1", leftovers=leftovers, cmd="stop")
    memory, living = host.memories.of("agent"), Table().below(here(host, "1"))
    if leftovers == "end":
        assert (living, memory.left) == ([], {})
        return
    assert memory.left == {"1": {one.identity for one in living}}
    assert f"1 process of 1 still runs: {living[0].pid} sleep 4865" in memory.remark


# --- started again and again ---


def test_a_version_that_dies_again_and_again_under_a_loop_is_given_up(host, site):
    """The loop is in the start's session and stays; the pid file says which one is the agent."""
    loops = QUIET.replace(
        "{ sleep 1000 >/dev/null 2>&1 & echo $! >pid; }",
        "{ (while :; do sleep 4866 & echo $! >pid; wait; done) >/dev/null 2>&1 & until running; do sleep 0.01; done; }",
    )
    site.publish(version="1", control=QUIET)
    site.publish(version="2", control=loops)
    for version in ("1", "2"):
        run(host, site, version)
    file = here(host, "2") / "pid"
    for restarts in (1, 2):
        run(host, site, "2")
        before = number_in(file)
        os.kill(before, signal.SIGKILL)
        until("the loop has started it again", lambda: file.read_text().strip() not in ("", str(before)))  # noqa: B023
        run(host, site, "2")
        assert (current(host), host.memories.of("agent").trial.restarts) == ("2", restarts)
    before = number_in(file)
    os.kill(before, signal.SIGKILL)
    until("the loop has started it again", lambda: file.read_text().strip() not in ("", str(before)))
    run(host, site, "2")
    assert current(host) == "1"


# Its main process runs on, and is named one directory deeper; each of its jobs has a pid file at the top for a while.
HAS_JOBS = """cd "$(dirname "$0")"; mkdir -p var
up() {{ [ -s {main} ] && [ "/proc/$(cat {main})/cwd" -ef . ]; }}
case $1 in
start) up && exit; sh -c 'while :; do sleep 4872 & echo $! >job.pid; wait $!; done' >/dev/null 2>&1 & echo $! >{main} ;;
stop) kill $(cat {main}); kill $(cat job.pid); while up; do sleep 0.02; done; rm -f {main} job.pid ;;
status) if up; then echo started; else echo stoped; fi ;;
esac"""


@pytest.mark.parametrize("main", ["var/app.pid", "main"], ids=["a pid file names it", "none does"])
def test_a_version_whose_jobs_alone_are_replaced_was_not_started_again(host, site, main):
    site.publish(version="1", control=QUIET)
    site.publish(version="2", control=script(HAS_JOBS.format(main=main)))
    for version in ("1", "2"):
        run(host, site, version)
    file = here(host, "2") / "job.pid"
    for _ in range(4):
        until("a job is at work", lambda: file.exists() and alive(number_in(file)))
        run(host, site, "2")
        before = number_in(file)
        os.kill(before, signal.SIGKILL)
        until("the next job is at work", lambda: file.read_text().strip() not in ("", str(before)))  # noqa: B023
    run(host, site, "2")
    memory = host.memories.of("agent")
    assert (current(host), memory.trial.restarts, memory.rejected) == ("2", 0, None)


# --- the dead ---

# Its parent lives and asks for no exit code, as the first process of a container without an init.
CARELESS = """import os, sys, time
pid = os.fork()
if pid == 0:
    os.setsid()
    os.chdir("/")
    os.execve("/bin/sleep", ["sleep", "4909"], {"OPS_UPDATER_START": sys.argv[2]})
open(f"{sys.argv[1]}/all.pid", "a").write(f"{os.getpid()}\\n")
open(f"{sys.argv[1]}/x", "w").write(str(pid))
time.sleep(60)
"""
BELIEVES_THE_DEAD = """p={0}/x
up() {{ [ -s $p ] && kill -0 $(cat $p) 2>/dev/null; }}
case $1 in
start) up && exit; rm -f $p; (cd /; exec env -i setsid {1} {0}/careless.py {0} $OPS_UPDATER_START) >/dev/null 2>&1 &
  until [ -s $p ]; do sleep 0.01; done ;;
stop) up && kill $(cat $p) && while up; do sleep 0.05; done ;;
status) if up; then echo started; else echo stoped; fi ;;
esac"""


# The first process of a container that reaps nothing: its children are orphans, each in the session of its start, or its own.
REAPS_NOTHING = """import subprocess, sys
print("here", flush=True)
place, is_orphan = input().split()
dead = subprocess.Popen(["true"], start_new_session=True)
lives = subprocess.Popen(["sleep", "4911"], env={}, cwd=place, start_new_session=is_orphan == "orphan")
print(dead.pid, lives.pid, flush=True)
input()
"""


@pytest.fixture
def below_it(spawn):
    """Begins an agent that dies, and something else, below a process that reaps nothing; returns (since, dead, lives)."""
    living, pipes = [], contextlib.ExitStack()

    def beginning(where, is_orphan):
        parent = spawn(sys.executable, "-c", REAPS_NOTHING, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        pipes.enter_context(parent.stdin)
        pipes.enter_context(parent.stdout).readline()
        since = until("the start is younger", lambda: max(0, witness.ticks() - int(Table().by_pid[parent.pid].start)))
        since += int(Table().by_pid[parent.pid].start)
        print(where, "orphan" if is_orphan else "own", file=parent.stdin, flush=True)
        dead, lives = map(int, parent.stdout.readline().split())
        living.append(processes.identity(lives))
        until("the agent is dead", lambda: processes.is_dead(dead))
        return since, f"{dead}.{procfs.fields_of('/proc', dead)[1][19].decode()}", lives

    with pipes:
        yield beginning
        processes.end(living)


@pytest.mark.parametrize(
    "whose", ["named by another agent", "in another agent", "the parent's", "perhaps its own"], ids=str
)
def test_a_zombie_is_doubted_unless_the_agent_itself_may_go_on_below_the_same_parent(tmp_path, below_it, whose):
    place, other = install(tmp_path, "agent", "1", QUIET), install(tmp_path, "other", "1", QUIET)
    since, dead, lives = below_it(other if whose == "in another agent" else "/", whose != "the parent's")
    if whose == "named by another agent":
        (other / "pid").write_text(str(lives))
    memory = Memory(running=Recognised("1", "b", int(dead.split(".")[0]), "agent:1", frozenset({dead}), since=since))
    assert doubts.unburied(place, memory, "b") == (set() if whose == "perhaps its own" else {dead})


@pytest.mark.parametrize("is_reaped", [True, False])
def test_what_its_parent_reaps_within_a_moment_is_no_zombie(tmp_path, spawn, is_reaped):
    """As the first process of a busy host does, while a status of the agent is asked."""
    place = install(tmp_path, "agent", "1", QUIET)
    ends = "dead.wait(); time.sleep(9)" if is_reaped else "time.sleep(9)"
    program = f"import subprocess, time; dead = subprocess.Popen(['true']); time.sleep(0.5); {ends}"
    parent = spawn(sys.executable, "-c", program)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    dead = int(until("it has a child", children.read_text))
    until("which is dead", lambda: processes.is_dead(dead))
    identity = f"{dead}.{procfs.fields_of('/proc', dead)[1][19].decode()}"
    memory = Memory(running=Recognised("1", "b", processes=frozenset({identity}), since=1))
    assert doubts.unburied(place, memory, "b") == {identity}
    assert doubts.still_unburied(frozenset({identity})) == (set() if is_reaped else {identity})


def test_a_zombie_is_not_forgotten_for_a_job_that_is_there_for_a_moment(tmp_path, below_it, spawn):
    place = install(tmp_path, "agent", "1", QUIET)
    since, dead, _ = below_it("/", False)
    known = Recognised("1", "b", int(dead.split(".")[0]), "agent:1", frozenset({dead}), since=since)
    (place / "job.py").write_text("import time; time.sleep(4912)")
    job = spawn(sys.executable, "job.py", cwd=place)
    until("the job counts", lambda: witness.seen(Table(), place, known, "b").processes)
    found = witness.with_dead(witness.seen(Table(), place, known, "b"), known)
    assert found.processes == {dead, processes.identity(job.pid)}
    job.kill()
    job.wait()
    assert doubts.unburied(place, Memory(running=found), "b") == {dead}
    assert witness.with_dead(replace(found, boot="c"), known).processes == found.processes, "another boot"
    parent = processes.zombie(dead).parent
    with_parent = replace(found, processes=frozenset({processes.identity(parent)}))
    assert witness.with_dead(with_parent, known) == with_parent, "whose business its children are"


def test_what_was_there_before_its_start_is_none_of_an_agent_whose_zombie_is_seen(tmp_path, below_it):
    place = install(tmp_path, "agent", "1", QUIET)
    _, dead, lives = below_it("/", True)
    start = int(Table().by_pid[lives].start)
    for since, guess, found in (
        (start, Guess.NONE, set()),
        (start + 1, Guess.NONE, {dead}),
        (start + 1, Guess.SPENT, set()),
    ):
        known = Recognised("1", "b", int(dead.split(".")[0]), "agent:1", frozenset({dead}), guess=guess, since=since)
        assert doubts.unburied(place, Memory(running=known), "b") == found


def test_a_zombie_that_a_pid_file_elsewhere_names_is_not_started_and_decides_nothing(host, site, elsewhere):
    (elsewhere / "careless.py").write_text(CARELESS)
    with_timeouts(host, stop=0.4, start=4)
    for version in ("1", "2"):
        site.publish(version=version, control=script(BELIEVES_THE_DEAD.format(elsewhere, sys.executable)))
    run(host, site, "1")
    without_a_watch(host, site, "1")
    assert run(host, site, "1").matches
    dead, parent = number_in(elsewhere / "x"), number_in(elsewhere / "all.pid")
    os.kill(dead, signal.SIGKILL)
    until("it is dead", lambda: processes.is_dead(dead))
    seen = cycle.look(host, ["agent"])["agent"]
    assert (seen.state, seen.absent) == (State.STOPPED, True)
    host.reconfigure(replace(host.config, watch=60))
    for version in ("2", "2"):
        assert not run(host, site, version).matches
        memory = host.memories.of("agent")
        assert (current(host), memory.rejected) == (version, None)
    assert f"process {dead} was reaped by its parent: run the container with --init" in memory.last.reason
    processes.end([processes.identity(parent)])
    until("it was reaped", lambda: not processes.is_dead(dead))
    assert run(host, site, "2").matches
    assert alive(number_in(elsewhere / "x"))
    processes.end([processes.identity(number_in(elsewhere / "x"))])
