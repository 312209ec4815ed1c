"""Whose a process is between agents of one root: one may be a runtime of others, one a supervisor that starts others."""

import os
import shutil
import sys
import time

import pytest

from helpers.agents import QUIET, install
from lab.fleet import until
from updater.kernel import processes, witness
from updater.kernel.processes import Table
from updater.model.recognised import Recognised
from updater.reconcile import cycle

DAYS = 3 * 86400.0


@pytest.fixture
def places(host):
    """The installs `app`, on the runtime `jdk`, with two programs: an interpreter, and one that is none."""
    found = {name: install(host.layout.root, name, "1", QUIET) for name in ("app", "jdk")}
    shutil.copy("/bin/sh", found["jdk"] / "java")
    shutil.copy("/bin/sleep", found["jdk"] / "worker")
    return found


@pytest.fixture
def below(spawn):
    """Runs a command; returns its pid and those below it, by their arguments, once the last of these is there."""

    def running(*command, last, **more):
        one = spawn(*command, **more)

        def group():
            return {o.pid: " ".join(processes.command(o.pid)) for o in Table().by_pid.values() if o.session == one.pid}

        until("all of them run", lambda: any(words.endswith(last) and "-c" not in words for words in group().values()))
        return one.pid, group()

    return running


def own(place, known=None):
    return {one.pid for one in witness.recognise(Table(), place, known, "b")}


def waited_for(place, known=None):
    found = witness.services(Table(), place, known or Recognised(place.name, "b", since=1), "b")
    return {int(one.partition(".")[0]) for one in found}


def marked(name):
    return os.environ | {"OPS_UPDATER_START": f"{name}:12"}


# --- a runtime ---

BELOW = {
    "its script": ("sh {app}/main.sh", "env -i {jdk}/worker 4901 & wait"),
    "a shell below its script": ("sh {app}/main.sh", "env -i sh -c '{jdk}/worker 4901; :' & wait"),
    "a loop below its script": (
        "sh {app}/main.sh",
        "(cd /; env -i sh -c 'while :; do {jdk}/worker 4901; done') & wait",
    ),
    "its directory": ("sh {elsewhere}/main.sh", "(cd /; env -i {jdk}/worker 4901) & wait"),
    "a mark": ("sh {elsewhere}/main.sh", "env -i {jdk}/worker 4901 & wait"),
    "its pid file": ("{jdk}/java {elsewhere}/main.sh", "sh -c '{jdk}/worker 4901; :' & wait"),
    "a deeper pid file": ("{jdk}/java {elsewhere}/main.sh", "sh -c '{jdk}/java -c \"{jdk}/worker 4901; :\"; :' & wait"),
    "its memory": ("{jdk}/java {elsewhere}/main.sh", "sh -c '{jdk}/worker 4901; :' & wait"),
    "its session": ("sh {app}/main.sh", "(env -i {jdk}/worker 4901 &); read x <>{app}/fifo"),
}


@pytest.mark.parametrize("evidence", BELOW)
def test_what_descends_from_another_agent_s_is_no_runtime_s_whatever_stands_between(
    host, places, below, elsewhere, evidence
):
    app, jdk = places["app"], places["jdk"]
    os.mkfifo(app / "fifo")
    command, text = (one.format(app=app, jdk=jdk, elsewhere=elsewhere) for one in BELOW[evidence])
    (app / "main.sh").write_text(text)
    (elsewhere / "main.sh").write_text(text)
    where = app if evidence == "its directory" else "/"
    env = marked("app") if evidence == "a mark" else os.environ
    pid, _ = below(*command.split(), last="worker 4901", cwd=where, env=env)
    if "pid file" in evidence:
        file = app / ("var/app.pid" if "deeper" in evidence else "pid")
        file.parent.mkdir(exist_ok=True)
        file.write_text(str(pid))
    if evidence == "its memory":
        known = Recognised("1", host.boot, processes=frozenset({processes.identity(pid)}))
        host.memories.change("app", lambda memory: memory.recognising(known))
    assert own(jdk) == set()
    assert evidence == "a mark" or waited_for(jdk) == set(), "nor does it hold up an upgrade"


@pytest.mark.parametrize("evidence", ["its script", "its directory"])
def test_an_agent_whose_directory_is_a_link_to_another_disk_is_no_runtime_s(places, below, elsewhere, evidence):
    app, jdk = places["app"], places["jdk"]
    app.parent.rename(elsewhere / "app")
    app.parent.symlink_to(elsewhere / "app")
    (app / "main.sh").write_text(f"{jdk}/worker 4901 & wait")
    (elsewhere / "main.sh").write_text(f"{jdk}/worker 4901 & wait")
    script, where = (app, "/") if evidence == "its script" else (elsewhere, app)
    below(jdk / "java", script / "main.sh", last="worker 4901", cwd=where, env={"PATH": os.environ["PATH"]})
    assert own(jdk) == set()


@pytest.mark.parametrize("evidence", ["pid file", "mark", "its program alone"])
def test_the_workers_of_a_runtime_s_own_daemon_are_its_own(places, below, elsewhere, evidence):
    jdk = places["jdk"]
    (elsewhere / "main.sh").write_text(f"sh -c 'env -i {jdk}/worker 4902; :' & wait")
    pid, group = below(
        jdk / "java", elsewhere / "main.sh", last="worker 4902", env=marked("jdk") if evidence == "mark" else os.environ
    )
    if evidence == "pid file":
        (jdk / "pid").write_text(str(pid))
    assert own(jdk) == set(group)
    assert len(group) == 3


def test_a_daemon_that_is_on_a_runtime_by_the_mark_of_its_start_alone_is_waited_for(places, below, elsewhere):
    app, jdk = places["app"], places["jdk"]
    os.mkfifo(elsewhere / "fifo")
    (elsewhere / "main.sh").write_text(f"read x <>{elsewhere}/fifo")
    pid, _ = below(jdk / "java", elsewhere / "main.sh", last="main.sh", env=marked("app"))
    known = Recognised("1", "b", token="app:12", since=1)
    assert (own(app, known), own(jdk)) == (set(), set())
    assert (waited_for(app, known), waited_for(jdk)) == ({pid}, set())
    (jdk / "pid").write_text(str(pid))
    assert waited_for(app, known) == set()


# --- a supervisor ---


@pytest.fixture
def served(host, spawn):
    """`boss`, which runs and has started `served` with its mark; returns their installs and boss's process."""
    boss, place = (install(host.layout.root, name, "1", QUIET) for name in ("boss", "served"))
    shutil.copy("/bin/sh", place / "sh")
    shutil.copy("/bin/sleep", place / "worker")
    (place / "main.sh").write_text(f"cd /; sh -c '{place}/worker 4903; :' & wait")
    one = spawn("sleep", "4904", cwd=boss)
    until("it works there", lambda: os.readlink(f"/proc/{one.pid}/cwd") == str(boss))
    return boss, place, one


BY_BOSS = Recognised("1", "b", token="boss:12", since=1)


def test_what_a_supervisor_has_started_is_its_own_agent_s_by_program_and_script(served, below):
    boss, place, _ = served
    _, group = below(place / "sh", place / "main.sh", last="worker 4903", env=marked("boss"))
    assert own(place) == set(group)
    assert len(group) == 3
    assert not own(boss, BY_BOSS) & set(group)


def test_a_program_that_is_no_known_interpreter_runs_what_its_arguments_name(served, below):
    boss, place, _ = served
    (place / "sh").rename(place / "engine")
    (place / "main.sh").write_text(f"cd /; sh -c '{place}/worker 4903; :' & wait")
    _, group = below(place / "engine", place / "main.sh", last="worker 4903", env=marked("boss"))
    assert own(place) == set(group)
    assert not own(boss, BY_BOSS) & set(group)


@pytest.mark.parametrize("doubt", ["nothing else of its", "named in a word", "no script"])
def test_what_may_be_another_agent_s_by_its_mark_is_waited_for_and_never_ended(served, below, doubt):
    boss, place, one = served
    command = [place / "sh", place / "main.sh"]
    if doubt == "nothing else of its":
        one.kill()
        one.wait()
    elif doubt == "named in a word":
        command.append(f"--config={boss}/app.conf")
    else:
        command = [place / "worker", "4903"]
    pid, group = below(*command, last="worker 4903", env=marked("boss"))
    assert not own(place) & set(group)
    assert pid in waited_for(place)
    assert not own(boss, BY_BOSS) & {pid}


def test_what_still_runs_below_a_supervisor_is_waited_for_and_is_its_own_where_it_works(served, below):
    boss, place, _ = served
    (boss / "boss.sh").write_text(f"cd /; {place}/sh {place}/main.sh & wait")
    pid, group = below("sh", boss / "boss.sh", last="worker 4903")
    served_by = {one.pid for one in Table().by_pid.values() if one.parent == pid}
    assert not own(place) & set(group)
    assert served_by <= waited_for(place)
    (place / "pid").write_text("".join(map(str, served_by)))
    assert own(place) == set(group) - {pid}
    (place / "pid").unlink()
    (boss / "boss.sh").write_text(f"cd {place}; ./sh -c 'cd {place}; ./worker 4905; :' & wait")
    pid, group = below("sh", boss / "boss.sh", last="worker 4905")
    assert own(place) == set(group) - {pid}


# --- pid files that are older than what they name ---


def long_ago(file, pid):
    file.parent.mkdir(exist_ok=True)
    file.write_text(str(pid))
    os.utime(file, (time.time() - DAYS,) * 2)


@pytest.mark.parametrize("file", ["pid", "var/app.pid"])
@pytest.mark.parametrize("program", ["worker", "java"])
def test_a_pid_that_was_reused_is_no_claim_of_another_agent_s(places, below, program, file):
    app, jdk = places["app"], places["jdk"]
    os.mkfifo(jdk / "fifo")
    (jdk / "main.sh").write_text(f"read x <>{jdk}/fifo")
    words = [jdk / "main.sh"] if program == "java" else ["4906"]
    pid, _ = below(jdk / program, *words, last=str(words[-1]))
    long_ago(app / file, pid)
    assert own(jdk) == {pid}
    (app / file).write_text(str(pid))
    assert own(jdk) == set()


def test_a_clock_that_was_set_gives_no_runtime_what_runs_on_it(places, below, elsewhere):
    app, jdk = places["app"], places["jdk"]
    os.mkfifo(elsewhere / "fifo")
    (elsewhere / "main.sh").write_text(f"read x <>{elsewhere}/fifo")
    pid, _ = below(jdk / "java", elsewhere / "main.sh", last="main.sh")
    long_ago(app / "pid", pid)
    assert own(jdk) == set()


def test_a_pid_that_was_reused_makes_no_other_agent_s_process_the_install_s(places, below):
    app, jdk = places["app"], places["jdk"]
    pid, _ = below(jdk / "worker", "4907", last="worker 4907", cwd=app)
    long_ago(jdk / "pid", pid)
    assert own(jdk) == set()


HOLD = "import os, pty, sys; pid, fd = pty.fork(); pid or os.execvp(sys.argv[1], sys.argv[1:])\nwhile os.read(fd, 99): pass"


def test_a_pid_that_was_reused_makes_no_person_s_process_the_install_s(places, spawn, terminal):
    app = places["app"]
    spawn(sys.executable, "-c", HOLD, "sh", "-c", "sleep 4908; :", cwd=app)
    its = lambda: [one.pid for one in Table().by_pid.values() if processes.command(one.pid) == ["sleep", "4908"]]  # noqa: E731
    until("a person's program is there", its)
    [pid] = its()
    long_ago(app / "pid", pid)
    assert own(app) == set()


@pytest.mark.parametrize("order", ["stop", "start"])
def test_an_agent_that_never_ran_here_ends_no_other_s_process_by_a_pid_that_was_reused(
    host, site, places, below, order
):
    app, jdk = places["app"], places["jdk"]
    pid, _ = below(jdk / "worker", "4910", last="worker 4910")
    long_ago(jdk / "pid", 4194303)
    (app / "control").write_text(QUIET.replace("sleep 1000", "sleep 4911"))
    long_ago(app / "pid", pid)
    seen = cycle.look(host, ["app"])["app"]
    assert (seen.absent, seen.strange) == (True, True)
    site.desire(site.entry(name="app", version="1", cmd=order))
    cycle.run(host)
    assert processes.command(pid)[1:] == ["4910"]
    if order == "start":
        assert processes.command(int((app / "pid").read_text())) == ["sleep", "4911"]
