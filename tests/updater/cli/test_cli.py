"""The command line as a release engineer meets it: what it prints and how it exits."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys

import pytest

from helpers.agents import HEALTHY, QUIET, install, script
from helpers.servers import answer, serving
from lab.fleet import Host, until
from updater import __version__


@pytest.fixture
def host(tmp_path, site):
    with Host(tmp_path / "h1", site.address, timeouts={"start": 1, "stop": 1, "status": 1, "heartbeat": 2}) as made:
        yield made


def updater(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "updater.cli", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("command", [[], ["run"], ["once"], ["plan"], ["status"], ["reload"]])
def test_every_command_has_help_that_shows_its_configuration(command):
    done = updater(*command, "--help")
    assert done.returncode == 0
    assert "cfg.json" in done.stdout


def test_help_teaches_exit_codes_and_shell_completion():
    text = updater("--help").stdout
    assert "Exit codes: 0 success" in text
    assert "_UPDATER_COMPLETE=bash_source" in text


def test_the_shell_can_complete_the_commands():
    environment = os.environ | {"_UPDATER_COMPLETE": "bash_source"}
    done = subprocess.run(
        ["updater"],
        executable=f"{sys.prefix}/bin/updater",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "_updater_completion" in done.stdout


def test_the_shell_completes_the_agents_of_this_host(tmp_path):
    for name in ("falcon-agent", "falcon-judge", "naming", "no-agent"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("readme" if name == "no-agent" else ".version")).write_text("1.0.0\n")

    def completed(*words):
        asked = {"_UPDATER_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        done = subprocess.run(
            ["updater"],
            executable=f"{sys.prefix}/bin/updater",
            env=os.environ | asked,
            capture_output=True,
            text=True,
            check=True,
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines() if line]

    assert completed("updater", "why", "-c", f"{tmp_path}/cfg.json", "fal") == ["falcon-agent", "falcon-judge"]
    assert completed("updater", "hold", "--root", str(tmp_path), "n") == ["naming"]
    assert completed("updater", "hold", "--root", f"{tmp_path}/none", "n") == []


def test_the_version_is_told():
    assert updater("--version").stdout.strip() == f"updater {__version__}"


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_once_finishes_a_switch_when_it_is_interrupted(tmp_path, site, number):
    with Host(tmp_path / "patient", site.address) as host:
        interrupted_in_a_switch(host, site, number)


def interrupted_in_a_switch(host, site, number):
    slow = HEALTHY.replace("stop)", "stop) touch ../stopping; sleep 1;")
    site.publish(version="1", control=slow)
    site.publish(version="2")
    site.desire(("agent", "1"))
    assert updater("once", "-c", host.config).returncode == 0
    site.desire(("agent", "2"))
    command = [sys.executable, "-m", "updater.cli", "once", "-c", str(host.config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until("the old version is being stopped", (host.root / "agent" / "stopping").exists)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    assert process.returncode in (0, 1)
    assert "stopping after the current action; interrupt again to stop at once" in said
    assert "Traceback" not in said
    assert (host.current("agent"), host.control("agent", "status")) == ("2", "started")


def test_once_exits_with_0_when_the_host_is_as_desired(host, site):
    site.publish(control=QUIET)
    site.desire(("agent", "1"))
    done = host.run("once")
    assert (done.returncode, done.stdout) == (0, "agent: changed\n")
    done = host.run("once")
    assert (done.returncode, done.stdout) == (0, "agent: as desired\n")


def test_once_exits_with_1_when_an_agent_could_not_be_brought_there(host, site):
    site.desire(("agent", "1"))
    done = host.run("once")
    assert done.returncode == 1
    assert "agent: no digest file" in done.stdout


def test_once_exits_with_1_when_an_order_is_refused(host, site):
    site.desire({"name": "../../etc", "cmd": "start"})
    done = host.run("once")
    assert done.returncode == 1
    assert "../../etc: refused: name" in done.stderr


def test_once_exits_with_2_for_a_bad_configuration(host):
    host.config.write_text('{"server": "meta:2000", "interval": 60, "htp": {}}')
    done = host.run("once")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"updater: {host.config}: htp: unknown key\n"


def test_once_exits_with_3_when_meta_gives_no_usable_answer(host):
    with serving(answer(b"<html>log in</html>")) as server:
        host.config.write_text(json.dumps(json.loads(host.config.read_text()) | {"server": server.url}))
        done = host.run("once")
    assert done.returncode == 3
    assert "not a heartbeat reply" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["run", "once"])
def test_a_missing_tool_is_named_before_anything_is_done(host, site, command):
    settings = json.loads(host.config.read_text())
    host.config.write_text(json.dumps(settings | {"tools": ["tar", "md5sum", "no-such-tool"]}))
    done = host.run(command)
    assert done.returncode == 2
    assert "not found on PATH: no-such-tool; install it" in done.stderr
    assert site.reports == []


def test_a_missing_configuration_says_what_to_copy(tmp_path):
    done = updater("once", "-c", str(tmp_path / "cfg.json"))
    assert done.returncode == 2
    assert "copy cfg.example.json to cfg.json and edit it" in done.stderr


def test_a_root_that_is_not_there_is_an_error_of_configuration(host, tmp_path):
    done = host.run("once", "--root", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "is not a directory" in done.stderr


def test_the_root_can_be_elsewhere(host, site, tmp_path):
    root = tmp_path / "agents"
    root.mkdir()
    site.publish(control=script("echo started"))
    site.desire(("agent", "1"))
    assert host.run("once", "--root", str(root)).returncode == 0
    assert (root / "agent" / ".version").read_text() == "1\n"


def test_plan_says_what_a_cycle_would_do_and_does_nothing(host, site):
    site.publish(version="2")
    install(host.root, "agent", "1", QUIET)
    site.desire(("agent", "2"), {"name": "other", "cmd": "stop"})
    done = host.run("plan")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "agent: start 1 (to keep it running, status is 'stoped')",
        "agent: install 2 (desired)",
        "agent: adopt 1 (installed by another updater)",
        "agent: stop 1 (makes way for 2)",
        "agent: switch 2 (from 1)",
        "agent: start 2 (desired)",
        "other: as desired (stop)",
    ]
    assert not (host.root / ".updater").exists()


def test_plan_says_when_there_is_nothing_to_do(host, site):
    assert host.run("plan").stdout == "meta desires no agents on this host\n"


def test_plan_says_when_a_meta_takes_it_for_a_heartbeat(host, site):
    assert host.run("plan").stderr == (
        f"http://{site.address} took this for a heartbeat of {host.name}: it does not know requests that only look\n"
    )
    assert site.reports[-1]["look"] is True


@pytest.mark.long
def test_status_is_plain_lines_on_a_pipe_and_a_list_in_json(host):
    install(host.root, "agent", "1", script("echo started"))
    install(host.root, "broken", "2", script("sleep 100"))
    lines = ["agent 1 started", "broken 2 exec `./control status` fail: timed out after 1 s"]
    assert host.run("status").stdout.splitlines() == lines
    found = json.loads(host.run("status", "--json").stdout)
    assert [(a["name"], a["version"]) for a in found] == [("agent", "1"), ("broken", "2")]


def test_status_and_why_say_since_when_an_agent_dies_after_each_start(host, site):
    site.publish(version="1", control=QUIET)
    site.desire(("agent", "1"))
    for _ in range(3):
        assert host.run("once").returncode == 0
        os.kill(int((host.root / "agent" / "1" / "pid").read_text()), signal.SIGKILL)
        until("it is down", lambda: host.control("agent", "status") == "stoped")
    [line] = host.run("status").stdout.splitlines()
    assert line.startswith("agent 1 stoped (died after each of its last 2 starts, since 20")
    told = {line[:11].strip(): line[11:] for line in host.run("why", "agent").stdout.splitlines()}
    assert told["died"].endswith("; each cycle starts it again")
    assert "failed at watch: 1: died " in told["last"]


@pytest.mark.usefixtures("terminal")
def test_status_is_a_table_on_a_terminal(host):
    install(host.root, "agent", "1", script("echo started"))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "updater.cli", "status", "-c", str(host.config)]
    with subprocess.Popen(command, stdout=theirs, stdin=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:  # how a terminal ends
            pass
        os.close(ours)
        assert process.wait(30) == 0
    assert b"version" in shown
    assert b"agent" in shown
    assert b"\x1b[" in shown


def test_unpack_takes_the_limits_of_a_configuration_that_is_named(host, site, tmp_path):
    site.publish(control=QUIET)
    tarball = str(tmp_path / "site" / "agent-1.tar.gz")
    assert updater("unpack", tarball, str(tmp_path / "usual")).stdout == f"ok: 1 member, {len(QUIET)} bytes\n"
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | {"limits": {"file": 10}}))
    done = updater("unpack", "-c", str(host.config), tarball, str(tmp_path / "limited"))
    assert done.returncode == 1
    assert "is too large" in done.stderr
    assert not (tmp_path / "limited").exists()
    done = updater("unpack", "-c", str(tmp_path / "nothing.json"), tarball, str(tmp_path / "limited"))
    assert done.returncode == 2
    assert "does not exist" in done.stderr


def test_reload_without_a_daemon_says_that_none_runs(host):
    done = host.run("reload")
    assert done.returncode == 3
    assert f"no running service is announced in {host.root}/.updater/state" in done.stderr


def test_run_check_says_whether_it_could_run_and_changes_nothing(host):
    before = sorted(host.root.rglob("*"))
    assert host.run("run", "--check").stdout == f"{host.config} is valid\n"
    assert sorted(host.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"intervall": 1}, "intervall: unknown key"),
        ({"tools": ["no-such-tool"]}, "not found on PATH: no-such-tool"),
        (
            {"http": {"listen": "192.0.2.1:0"}},
            "http.listen: cannot listen on 192.0.2.1:0: Cannot assign requested address",
        ),
    ],
)
def test_run_check_finds_what_would_keep_it_from_running(host, settings, problem):
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | settings))
    done = host.run("run", "--check")
    assert done.returncode == 2
    assert problem in done.stderr


@pytest.mark.long
def test_run_check_finds_a_port_that_another_has_whether_an_updater_runs_or_not(host):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = json.loads(host.config.read_text())
        with host.start():
            until("it is ready", (host.root / ".updater" / "state").exists)
            host.config.write_text(json.dumps(settings | {"http": {"listen": f"127.0.0.1:{port}"}}))
            refused = host.run("run", "--check")
            assert (refused.returncode, refused.stderr) == (
                2,
                f"updater: http.listen: cannot listen on 127.0.0.1:{port}: Address already in use\n",
            )
            assert host.running
        assert host.run("run", "--check").returncode == 2


def test_run_check_minds_neither_the_running_daemon_nor_its_port(host):
    with host.start():
        until("it is ready", (host.root / ".updater" / "state").exists)
        assert host.run("run", "--check").returncode == 0
