"""`./control` as people and other updaters use it, in a directory of its own with this installation behind it."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from helpers.elves import beat
from helpers.meta_server import is_alive
from lab.fleet import get, until
from lab.ports import free_port
from updater.wire.heartbeat import VERSION

MADE_FROM = ("setup.cfg", "pyproject.toml", "requirements.lock")


@pytest.fixture
def home(tmp_path, request):
    """A checkout that is installed already: the script, and a .venv that leads to this one."""
    root = request.config.rootpath
    directory = tmp_path / "a home"
    (directory / ".venv" / "bin").mkdir(parents=True)
    for name in ("control", *MADE_FROM, "cfg.example.json", "records.example.yaml"):
        shutil.copy(root / name, directory)
    for command in ("python", "updater", "meta"):
        (directory / ".venv" / "bin" / command).symlink_to(Path(sys.prefix) / "bin" / command)
    made_from = subprocess.run(["cksum", *MADE_FROM], cwd=directory, capture_output=True, check=True).stdout
    (directory / ".venv" / ".made-from").write_bytes(made_from + b"compat INT,HUP\n")
    (directory / ".venv" / ".extras").write_text("elves\n")
    yield directory
    for service in ("updater", "meta", "elves"):
        control(directory, "stop", service)


def control(home, *arguments):
    environment = os.environ | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return subprocess.run(
        [home / "control", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=environment,
        cwd="/",
    )


def configure(home, **settings):
    base = {"server": "127.0.0.1:9", "interval": 60, "http": {"enabled": True, "listen": f"127.0.0.1:{free_port()}"}}
    (home / "cfg.json").write_text(json.dumps(base | settings))


def test_without_a_configuration_it_says_what_to_copy(home):
    done = control(home, "start")
    assert done.returncode != 0
    assert "cp cfg.example.json cfg.json" in done.stderr
    assert control(home, "status").stdout == "stoped\n"


def test_the_updater_keeps_the_promise_of_an_agent(home):
    configure(home)
    done = control(home, "start")
    assert done.returncode == 0
    assert re.search(r"^first cycle in \d\.\d s, then every ", done.stdout, re.MULTILINE), (
        "meta has never answered here"
    )
    assert control(home, "status").stdout == "started\n"
    pid = control(home, "pid").stdout.strip()
    assert (home / "var" / "app.pid").read_text().strip() == pid
    assert "already running" in control(home, "start").stdout
    assert "first cycle in" in (home / "var" / "app.log").read_text()

    assert control(home, "restart").returncode == 0
    assert control(home, "pid").stdout.strip() != pid

    assert control(home, "stop").returncode == 0
    done = control(home, "status")
    assert (done.returncode, done.stdout) == (3, "stoped\n")
    assert control(home, "pid").returncode != 0
    assert control(home, "stop").returncode == 0, "a stop of what is stopped is well"


def test_reload_tells_how_it_went(home):
    configure(home)
    control(home, "start")
    done = control(home, "reload")
    assert (done.returncode, done.stdout) == (0, "configuration read again\n")
    configure(home, intervall=1)
    done = control(home, "reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert "intervall: unknown key" in done.stderr
    assert "updater was not reloaded; it goes on as before" in done.stderr


@pytest.mark.parametrize("http", [True, False])
def test_a_start_and_a_reload_at_once_end_nothing(home, http):
    configure(home, http={"enabled": http, "listen": f"127.0.0.1:{free_port()}"})
    for _ in range(3):
        assert control(home, "start").returncode == 0
        assert control(home, "reload").returncode == 0
        assert control(home, "stop").stdout == "updater stopped\n"


@pytest.mark.parametrize("service", ["updater", "meta", "elves"])
def test_hangups_from_the_first_moment_on_end_no_service(home, service):
    configure_all(home)
    with hangups(home / "var" / NAMES[service]) as sent:
        done = control(home, "start", service)
        assert done.returncode == 0, done.stderr
    assert sent[0] > 10
    assert control(home, "reload", service).returncode == 0
    assert control(home, "status", service).stdout == "started\n"


@pytest.mark.parametrize("service", ["updater", "meta"])
@pytest.mark.parametrize("verb", ["run", "start", "restart"])
def test_a_terminal_that_closes_while_the_script_prepares_ends_no_service(home, tmp_path, verb, service):
    configure_all(home)
    if verb == "restart":
        assert control(home, "start", service).returncode == 0
    directory = tmp_path / "programs"
    directory.mkdir()
    real = shutil.which("cksum")
    (directory / "cksum").write_text(f'#!/bin/sh\necho >>"{tmp_path}/hangups"\nkill -HUP 0\nexec {real} "$@"\n')
    (directory / "cksum").chmod(0o755)
    environment = os.environ | {"PATH": f"{directory}:{os.environ['PATH']}", "NO_PROXY": "127.0.0.1"}
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [home / "control", verb, service], env=environment, stdout=said, stderr=said, start_new_session=True
        )
    try:
        if verb != "run":
            assert process.wait(100) == 0, (tmp_path / "said").read_text()
        state = home / STATES[service]
        until("it serves", lambda: state.exists() or process.poll() is not None)
        assert state.exists(), (process.poll(), (tmp_path / "said").read_text())
        assert (tmp_path / "hangups").exists()
        assert control(home, "reload", service).returncode == 0
        assert control(home, "status", service).stdout == "started\n"
    finally:
        control(home, "stop", service)
        process.wait(100)


STATES = {"updater": ".updater/state", "meta": "var/meta.state"}
NAMES = {"updater": "app.pid", "meta": "meta.pid", "elves": "elves.pid"}


@contextlib.contextmanager
def hangups(pid_file):
    """SIGHUP to the process of this file while the block runs, every millisecond, as soon as there is one; how many so far."""
    sent, over = [0], threading.Event()

    def work():
        while not over.wait(0.001):
            with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
                os.kill(int(pid_file.read_text()), signal.SIGHUP)
                sent[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def configure_all(home):
    """All three services, on free ports; returns those of their addresses that they listen on, by service."""
    api, meta, thrift = free_port(), free_port(), free_port()
    configure(home, http={"enabled": True, "listen": f"127.0.0.1:{api}"})
    shutil.copy(home / "records.example.yaml", home / "records.yaml")
    lines = [f"META_LISTEN=127.0.0.1:{meta}", "META_RECORDS=records.yaml", "META_DATABASE=sqlite:///var/meta.db"]
    lines += ["META_ELVES_HTTP=127.0.0.1:0"]
    (home / "meta.env").write_text("".join(f"{line}\n" for line in lines))
    conf = ["thrift.heartbeat.ip=127.0.0.1", f"thrift.heartbeat.port={thrift}", "mq.port=9", "auth.mode=simple"]
    (home / "conf.properties").write_text("\n".join([*conf, "auth.localAppInfo={}", ""]))
    return {"updater": api, "meta": meta, "elves": thrift}


@pytest.mark.parametrize("service", ["updater", "meta", "elves"])
def test_a_start_whose_port_is_taken_says_so_and_leaves_nothing(home, service):
    port = configure_all(home)[service]
    with socket.create_server(("127.0.0.1", port)):
        done = control(home, "start", service)
    assert (done.returncode, done.stdout) == (1, "")
    assert "in use" in done.stderr
    assert f"{service} ended at its start" in done.stderr
    assert control(home, "status", service).returncode == 3
    assert control(home, "start", service).returncode == 0, "and when the port is free, it starts"


def test_where_elves_is_watched_is_said_in_meta_env(home):
    configure_all(home)
    port = free_port()
    with (home / "meta.env").open("a") as file:
        file.write(f"META_ELVES_HTTP=127.0.0.1:{port}\n")
    with socket.create_server(("127.0.0.1", port)):
        assert f"cannot listen on 127.0.0.1:{port}" in control(home, "start", "elves").stderr
    assert control(home, "start", "elves").returncode == 0
    assert requests.get(f"http://127.0.0.1:{port}/health", timeout=10).text == "ok\n"


BREAK = {
    "updater": ("cfg.json", "{", "is not JSON"),
    "meta": ("records.yaml", "agents: [{nam: x}]\n", "agents[0].nam"),
    "elves": ("conf.properties", "auth.mode=simpel\n", "auth.mode"),
}


@pytest.mark.parametrize("verb", ["restart", "reload", "check"])
@pytest.mark.parametrize("service", ["updater", "meta", "elves"])
def test_a_broken_configuration_stops_nothing(home, service, verb):
    configure_all(home)
    assert control(home, "start", service).returncode == 0
    assert control(home, "check", service).returncode == 0
    pid = control(home, "pid", service).stdout
    file, content, problem = BREAK[service]
    (home / file).write_text(content)
    done = control(home, verb, service)
    assert done.returncode == (2 if verb == "check" else 1)
    assert problem in done.stderr
    assert verb == "check" or "it goes on as before" in done.stderr
    assert control(home, "pid", service).stdout == pid


@pytest.mark.parametrize("service", ["updater", "meta", "elves"])
def test_a_restart_to_an_address_that_another_has_stops_nothing(home, service):
    configure_all(home)
    assert control(home, "start", service).returncode == 0
    pid = control(home, "pid", service).stdout
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        if service == "updater":
            configure(home, http={"enabled": True, "listen": address})
        elif service == "meta":
            env = home / "meta.env"
            env.write_text(env.read_text() + f"META_LISTEN={address}\n")
        else:
            conf = home / "conf.properties"
            port = f"thrift.heartbeat.port={taken.getsockname()[1]}"
            conf.write_text(re.sub(r"thrift\.heartbeat\.port=\d+", port, conf.read_text()))
        done = control(home, "restart", service)
        assert done.returncode == 1
        assert "was not restarted" in done.stderr
        assert "in use" in done.stderr
        assert control(home, "pid", service).stdout == pid
    assert control(home, "restart", service).returncode == 0, "once the address is free"
    assert control(home, "pid", service).stdout != pid


def test_a_reload_of_meta_speaks_to_its_own_meta_and_not_to_what_answers_at_the_address(home):
    configure_all(home)
    assert control(home, "start", "meta").returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as stranger:  # which accepts, and says nothing
        env = home / "meta.env"
        env.write_text(env.read_text() + f"META_URL=http://127.0.0.1:{stranger.getsockname()[1]}\n")
        done = control(home, "reload", "meta")
    assert (done.returncode, done.stdout.startswith("reloaded: ")) == (0, True), done.stderr


def test_a_start_that_fails_shows_why(home):
    configure(home, tools=["no-such-tool"])
    done = control(home, "start")
    assert done.returncode != 0
    assert "not found on PATH: no-such-tool" in done.stderr
    assert control(home, "status").stdout == "stoped\n"


def test_a_pid_that_belongs_to_another_program_is_not_taken_for_ours(home):
    configure(home)
    (home / "var").mkdir()
    (home / "var" / "app.pid").write_text(f"{os.getpid()}\n")
    assert control(home, "status").stdout == "stoped\n"
    assert "is not running" in control(home, "stop").stdout


def test_meta_starts_with_nothing_but_an_address_and_can_be_published_to(home):
    address = f"127.0.0.1:{free_port()}"
    (home / "meta.env").write_text(f"META_LISTEN={address}\n")
    assert control(home, "start", "meta").returncode == 0
    assert answers(address), "started means that it answers"
    assert control(home, "status", "meta").stdout == "started\n"
    assert control(home, "status").stdout == "stoped\n", "the updater is another service"
    log = (home / "var" / "meta.log").read_text()
    assert "records: revision 0 (0 agents), database sqlite:///var/meta.db, tarballs tarballs" in log
    assert (home / "tarballs").is_dir()
    assert "already running" in control(home, "start", "meta").stdout
    assert control(home, "restart", "meta").returncode == 0
    assert answers(address)
    assert control(home, "stop", "meta").returncode == 0
    assert control(home, "status", "meta").stdout == "stoped\n"


def test_the_bridge_to_elves_is_started_and_stopped_like_the_others(home):
    assert "no conf.properties: copy the one of elves" in control(home, "start", "elves").stderr
    port = free_port()
    conf = f"thrift.heartbeat.port={port}\nmq.port=9\nauth.mode=simple\nauth.localAppInfo={{'testApp':'1.0.1'}}\n"
    (home / "conf.properties").write_text(conf)
    (home / "meta.env").write_text("META_DATABASE=sqlite:///var/meta.db\n")
    assert control(home, "start", "elves").returncode == 0
    assert answered(port), "started means that an agent is answered"
    assert control(home, "status", "elves").stdout == "started\n"
    assert control(home, "restart", "elves").returncode == 0
    assert answered(port)
    assert control(home, "stop", "elves").returncode == 0
    assert control(home, "status", "elves").stdout == "stoped\n"


def answered(port):
    with contextlib.suppress(OSError):
        return json.loads(beat(port)) == {"data": {"testApp": "1.0.1"}}
    return False


@pytest.mark.timed
def test_meta_is_kept_up_with_pauses_and_stops_within_one(home):
    configure_all(home)
    assert control(home, "start", "meta").returncode == 0
    log, pid = home / "var" / "meta.log", int(control(home, "pid", "meta").stdout)
    for number, pause in enumerate((1, 2, 4), 1):
        (main,) = children(pid)
        os.kill(main, signal.SIGKILL)
        until(
            "it is said", lambda pause=pause: f"ended with SIGKILL; it is started again in {pause} s" in log.read_text()
        )
        if number < 3:
            until("it serves again", lambda number=number: log.read_text().count("listens on") == number + 1)
    began = time.monotonic()
    assert control(home, "status", "meta").stdout == "started\n", "it is being kept up"
    assert control(home, "stop", "meta").returncode == 0
    assert time.monotonic() - began < 3
    assert log.read_text().endswith("meta stopped\n")


def test_meta_comes_back_after_a_crash_and_can_be_reloaded(home):
    port = configure_all(home)["meta"]
    assert control(home, "start", "meta").returncode == 0
    log, pid = home / "var" / "meta.log", int(control(home, "pid", "meta").stdout)
    (main,) = children(pid)
    os.kill(main, signal.SIGKILL)
    until("it serves again", lambda: log.read_text().count("listens on") == 2, within=60)
    assert answers(f"127.0.0.1:{port}")
    assert int(control(home, "pid", "meta").stdout) == pid
    assert control(home, "reload", "meta").returncode == 0


def test_no_meta_outlives_the_process_that_keeps_it_up(home):
    configure_all(home)
    assert control(home, "start", "meta").returncode == 0
    pid = int(control(home, "pid", "meta").stdout)
    (main,) = children(pid)
    os.kill(pid, signal.SIGKILL)
    until("it ends", lambda: not is_alive(main))


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_meta_with_a_records_file_reads_it_again_by_reload(home):
    address = f"127.0.0.1:{free_port()}"
    shutil.copy(home / "records.example.yaml", home / "records.yaml")
    (home / "meta.env").write_text(f"META_LISTEN={address}\nMETA_URL=http://{address}\nMETA_RECORDS=records.yaml\n")
    assert control(home, "start", "meta").returncode == 0
    assert control(home, "reload", "meta").stdout == "reloaded: 2 agents\n"
    assert not (home / "tarballs").exists(), "its records name another server"
    (home / "records.yaml").write_text("agents: [{nam: x}]\n")
    refused = control(home, "reload", "meta")
    assert refused.returncode != 0
    assert "records.yaml:1: agents[0].nam" in refused.stderr


def test_a_records_file_that_would_not_be_put_in_force_is_no_good_configuration(home):
    address = f"http://127.0.0.1:{configure_all(home)['meta']}"
    assert control(home, "start", "meta").returncode == 0
    (home / "records.yaml").write_text("agents: []\n")
    for verb, code in (("check", 2), ("restart", 1), ("reload", 1)):
        done = control(home, verb, "meta")
        assert done.returncode == code
        assert "2 of 2 agents would be gone: falcon-agent, dinp-agent " in done.stderr
        assert f"if you want that: meta reload --url {address} --yes" in done.stderr
    assert get(f"{address}/ready").text == "ready"
    meta = home / ".venv" / "bin" / "meta"
    subprocess.run([meta, "reload", "--url", address, "--yes"], capture_output=True, timeout=60, check=True)
    assert control(home, "restart", "meta").returncode == 0, "what was confirmed is in force"
    assert get(f"{address}/ready").text == "ready"


def test_a_misspelt_variable_in_meta_env_is_refused_with_its_line(home):
    (home / "meta.env").write_text("# meta\nMETA_LISTN=127.0.0.1:0\n")
    done = control(home, "start", "meta")
    assert done.returncode == 2
    assert "meta.env:2: META_LISTN: unknown variable; did you mean META_LISTEN?" in done.stderr
    assert control(home, "status", "meta").stdout == "stoped\n"


@pytest.mark.parametrize("verb", ["restart", "reload", "check"])
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("META_LISTNE=127.0.0.1:0", "meta.env:4: META_LISTNE: unknown variable; did you mean META_LISTEN?"),
        ("META_RECORDS = x.yaml", "meta.env:4: a shell would run META_RECORDS as a command"),
        ("META_URL='http://", "nterminated quoted string"),
        ('META_DATABASE="${NOBODY_SETS_THIS:?is needed}"', "is needed"),
    ],
)
def test_a_broken_meta_env_stops_nothing_and_its_mistake_is_said_once(home, verb, line, problem):
    configure_all(home)
    env = home / "meta.env"
    env.write_text("".join(env.read_text().splitlines(keepends=True)[:3]))
    assert control(home, "start", "meta").returncode == 0
    pid = control(home, "pid", "meta").stdout
    env.write_text(f"{env.read_text()}{line}\n")
    done = control(home, verb, "meta")
    assert done.returncode == (2 if verb == "check" else 1)
    assert done.stderr.count(problem) == 1
    assert "is unknown" not in done.stderr
    assert verb == "check" or "it goes on as before" in done.stderr
    assert control(home, "pid", "meta").stdout == pid


def test_a_variable_that_is_not_set_is_nothing_in_meta_env(home):
    address = f"127.0.0.1:{free_port()}"
    (home / "meta.env").write_text(f"META_LISTEN={address}$NOBODY_SETS_THIS\n")
    assert control(home, "start", "meta").returncode == 0
    assert answers(address)


def test_a_meta_that_cannot_start_shows_why(home):
    (home / "meta.env").write_text("META_LISTEN=0.0.0.0:0\n")
    done = control(home, "start", "meta")
    assert done.returncode != 0
    assert "meta token new NAME --role admin --database sqlite:///var/meta.db" in done.stderr
    assert control(home, "status", "meta").stdout == "stoped\n"


def answers(address):
    with contextlib.suppress(requests.RequestException):
        return get(f"http://{address}/health").text == "ok"
    return False


@pytest.mark.parametrize("service", ["updater", "meta", "elves"])
def test_version_prints_the_version_and_nothing_else(home, service):
    assert control(home, "version", service).stdout == f"{VERSION}\n"


def test_help_names_every_command(home):
    text = control(home, "help").stdout
    for command in ("start", "stop", "restart", "status", "tail", "pid", "version", "reload", "demo", "test"):
        assert f"  {command} " in text
    assert control(home, "strat").returncode != 0
    assert "2 no usable Python, or a configuration that is no good" in text, "as `check` ends, above"


def working_in(directory):
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(directory):
                found.append(process.name)
    return found


@pytest.mark.parametrize(
    ("number", "after"), [(signal.SIGINT, "1. Start"), (signal.SIGINT, "$ meta set"), (signal.SIGTERM, "version=1.0.1")]
)
def test_an_interrupted_demo_ends_soon_and_leaves_nothing(request, tmp_path, number, after):
    """As Ctrl-C does it, to the whole group of the terminal; and once more, by somebody in a hurry."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "lab.demo"],
        cwd=request.config.rootpath,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with demo:
        said = ""
        while after not in said:
            line = demo.stdout.readline()
            assert line, said
            said += line
        os.killpg(demo.pid, number)
        os.killpg(demo.pid, number)
        rest = demo.communicate(timeout=60)[0]
    assert (demo.returncode, rest.splitlines()[-1].strip()) == (
        128 + number,
        "interrupted; everything that was started is stopped",
    )
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []
    assert working_in(tmp_path) == []


def test_the_demo_sees_every_step_come_true(request):
    """Run as a person would on a pipe, with the whole environment of this installation."""
    done = subprocess.run(
        [sys.executable, "-m", "lab.demo"],
        cwd=request.config.rootpath,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All of it was seen to be true" in done.stdout
    assert "\x1b" not in done.stdout
