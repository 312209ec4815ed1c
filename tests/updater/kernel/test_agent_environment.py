"""What an agent inherits: environment, signals, umask, modes. Kinds from public reports: a daemon's PYTHONPATH that breaks
other Pythons, a NOTIFY_SOCKET that speaks for the wrong unit, a QUIT that a JVM never sees."""

import json
import os
import stat
import subprocess
import sys

import pytest

from helpers.agents import HEALTHY, install, script
from lab.fleet import Host, end_all_of, until
from updater.host import control_script
from updater.kernel import agent_environment


@pytest.fixture
def root(tmp_path):
    yield tmp_path
    end_all_of(tmp_path)


OURS = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "HTTPS_PROXY": "http://proxy:3128",
    "LD_LIBRARY_PATH": "/opt/lib",
    "JAVA_HOME": "/opt/java",
    "MAIL": "x",
    "METAL": "x",
    "LISTENER": "x",
}
WITHHELD = {
    "META_TOKEN": "secret",
    "_META_COMPLETE": "x",
    "PYTHONPATH": "/x",
    "PYTHONHOME": "/x",
    "PYTHON": "python3.12",
    "VIRTUAL_ENV": "/venv",
    "VIRTUAL_ENV_PROMPT": "x",
    "NOTIFY_SOCKET": "/run/systemd/notify",
    "LISTEN_FDS": "1",
    "LISTEN_PID": "1",
    "WATCHDOG_USEC": "1",
    "WATCHDOG_PID": "1",
    "JOURNAL_STREAM": "8:1",
    "INVOCATION_ID": "x",
    "CREDENTIALS_DIRECTORY": "/run/x",
    "STATE_DIRECTORY": "/var/lib/x",
    "SYSTEMD_EXEC_PID": "1",
    "MAINPID": "1",
    "MEMORY_PRESSURE_WATCH": "x",
    "OPS_UPDATER_ROOT": "x",
    "OLDPWD": "/x",
}


def test_agents_inherit_all_but_what_says_how_the_updater_was_started():
    assert agent_environment.of_agents(OURS | WITHHELD | {"PATH": "/bin"}, {}) == OURS | {"PATH": "/bin"}


def test_what_the_root_sets_passes_whoever_started_the_updater():
    given = {"PYTHON": "python3.13", "PYTHONPATH": "/agents", "NEW": "1"}
    got = agent_environment.of_agents(OURS | WITHHELD, given)
    assert {name: got[name] for name in given} == given, "whatever a shell has in its place, or systemd read once"
    got = agent_environment.of_agents(OURS | WITHHELD, given, {"PYTHON", "NEW"})
    assert (got["PYTHON"], got["PYTHONPATH"], got["NEW"]) == ("python3.12", "/agents", "1"), (
        "ours where the file is not plainly written and we have it: as systemd read it"
    )


def test_our_own_programs_are_not_in_the_path_of_agents():
    own = f"{sys.prefix}/bin"
    path = f"/venv/bin:/usr/bin:{own}::/bin"
    assert agent_environment.of_agents({"PATH": path, "VIRTUAL_ENV": "/venv"}, {})["PATH"] == "/usr/bin:/bin"
    assert agent_environment.of_agents({"PATH": own}, {})["PATH"] == os.defpath
    assert agent_environment.of_agents({"PATH": own}, {"PATH": f"/x:{own}"})["PATH"] == f"/x:{own}", (
        "a person may want it so"
    )


def test_an_environment_file_is_read_as_systemd_reads_it(tmp_path):
    file = tmp_path / "environment"
    file.write_text(
        '# a comment\n; another\n\nA=1\n B = no\nC="two words"\n'
        "D='it''s'\nE=a b  \nF=\nG=long\\\nline\nexport H=1\nno assignment\nI=\"a \\\"b\\\"\"\nA=2\n"
    )
    assert agent_environment.set_by(file) == {
        "A": "2",
        "C": "two words",
        "D": "it''s",
        "E": "a b",
        "F": "",
        "G": "longline",
        "H": "1",
        "I": 'a "b"',
    }
    assert agent_environment.set_by(tmp_path / "none") == {}
    (tmp_path / "directory").mkdir()
    assert agent_environment.set_by(tmp_path / "directory") == {}


MANNERS = r"""
PATH=/opt/java/bin:/usr/bin
LANG="C.UTF-8"
TZ='UTC'
NAME=it's plain
MONEY=$5
QUOTED="a \"b\""
JOINED='it''s'
SPACED=a\ b
TWICE="a" "b"
JOINED=plain now
LINES="one
TWO=two"
AFTER=3
"""


def test_the_file_counts_more_than_the_updaters_own_where_it_is_plainly_written(root, monkeypatch):
    """A person starts the updater from a shell that has all of these otherwise, or edits the file while systemd's unit runs."""
    (root / "environment").write_text(MANNERS)
    for name in agent_environment.set_by(root / "environment"):
        monkeypatch.setenv(name, "ours")
    got = agent_environment.given_by(root / "environment").names
    assert {name: got[name] for name in agent_environment.set_by(root / "environment")} == {
        "PATH": "/opt/java/bin:/usr/bin",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "NAME": "it's plain",
        "MONEY": "$5",
        "QUOTED": 'a "b"',
        "JOINED": "plain now",
        "SPACED": "ours",
        "TWICE": "ours",
        "LINES": "ours",
        "TWO": "ours",
        "AFTER": "ours",
    }


def test_an_environment_file_that_cannot_be_read_is_named_once(root, caplog):
    file = root / "environment"
    for _ in range(2):
        agent_environment.given_by(file)
    assert caplog.messages == [], "one that is not there is well"
    file.symlink_to("/etc/hostname")
    for _ in range(3):
        agent_environment.given_by(file)
    assert caplog.messages == [f"agents are started without the variables of {file}: {file} is not a regular file"]
    file.unlink()
    agent_environment.given_by(file)
    file.mkdir()
    agent_environment.given_by(file)
    assert len(caplog.messages) == 2, "and again when it is broken again"


def test_what_a_process_has_more_is_named_and_not_shown():
    has = OURS | WITHHELD | {"PATH": f"/bin:{sys.prefix}/bin"}
    more = agent_environment.more_than_given(has, {}, {"PYTHON": "x"})
    assert more == sorted({*WITHHELD, "PATH"} - {"OLDPWD", "PYTHON"})
    assert agent_environment.more_than_given(OURS | {"PATH": "/bin"}, {}, {}) == []


@pytest.mark.parametrize("verb", ["start", "stop", "status"])
def test_each_verb_of_a_script_gets_the_environment_of_agents(root, monkeypatch, verb):
    monkeypatch.setenv("META_TOKEN", "secret")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
    monkeypatch.setenv("KEPT", "yes")
    (root / "environment").write_text("META_AGENTS_OWN=1\n")
    directory = install(root, "agent", "1", script("env >../env; umask >>../env; echo started"))
    (control_script.status if verb == "status" else lambda d, t: control_script.run(d, verb, t))(directory, 10)
    got = (root / "agent" / "env").read_text().splitlines()
    assert {"KEPT=yes", "META_AGENTS_OWN=1", "0022"} <= set(got)
    assert not [line for line in got if line.startswith(("META_TOKEN", "NOTIFY_SOCKET", "PYTHON"))]


def test_our_own_programs_keep_our_environment(root, monkeypatch):
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    assert control_script.run_program(["sh", "-c", "echo $PYTHONSAFEPATH"], root, 10) == (0, "1")


# What the updater is given -> the locale that its agents get.
LOCALES = {
    "none": ({}, {}),
    "that of C": ({"LANG": "C"}, {"LANG": "C"}),
    "that of C for characters": ({"LC_CTYPE": "C", "LC_TIME": "C"}, {"LC_CTYPE": "C", "LC_TIME": "C"}),
    "one that is not there": ({"LC_CTYPE": "xx_XX.UTF-8"}, {"LC_CTYPE": "xx_XX.UTF-8"}),
    "the very one that Python takes": ({"LC_CTYPE": "C.UTF-8"}, {"LC_CTYPE": "C.UTF-8"}),
    "one for all": ({"LC_ALL": "C"}, {"LC_ALL": "C"}),
}


@pytest.mark.parametrize(("given", "got"), LOCALES.values(), ids=LOCALES.keys())
def test_agents_get_the_locale_that_the_updater_was_given_and_not_pythons(host, site, given, got):
    assert locale_of_agents(host, site, given) == got


def test_the_locale_that_the_root_sets_passes(host, site):
    (host.root / "environment").write_text("LC_CTYPE=de_DE.UTF-8\n")
    assert locale_of_agents(host, site, {"LC_CTYPE": "C"}) == {"LC_CTYPE": "de_DE.UTF-8"}


def locale_of_agents(host, site, given):
    """The variables of the locale that an agent gets from an updater that was given these."""
    site.publish(control=HEALTHY.replace("start) ", "start) env >../env; "))
    site.desire(("agent", "1"))
    command = [sys.executable, "-m", "updater.cli", "once", "-c", str(host.config)]
    assert subprocess.run(command, env={"PATH": os.environ["PATH"], **given}, timeout=60, check=False).returncode == 0
    pairs = (line.partition("=") for line in (host.root / "agent" / "env").read_text().splitlines())
    subprocess.run(["./control", "stop"], cwd=host.root / "agent" / "1", check=True)
    return {name: value for name, _, value in pairs if name.startswith(("LANG", "LC_"))}


def test_our_own_programs_are_given_the_locale_that_we_were_given(root):
    given = {"PATH": os.environ["PATH"], "LC_CTYPE": "C"}
    asked = "from pathlib import Path; from updater.host import control_script; print(control_script.run_program("
    code = f"{asked}['sh', '-c', 'echo $LC_CTYPE'], Path('/'), 10))"
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    assert done.stdout == "(0, 'C')\n"


SIGNALS = """#!/bin/sh
cd "$(dirname "$0")"
case $1 in
start) grep -E '^Sig(Ign|Blk):' /proc/self/status >../signals; umask >>../signals; sleep 1000 >/dev/null 2>&1 & echo $! >pid ;;
stop) kill "$(cat pid)"; rm pid ;;
status) if [ -f pid ]; then echo started; else echo stoped; fi ;;
esac
"""


@pytest.fixture
def host(tmp_path, site):
    with Host(
        tmp_path / "h1", site.address, interval=60, watch=0, timeouts={"start": 5, "stop": 5, "status": 5}
    ) as made:
        yield made


def by_a_shell(before, host, *arguments):
    """The updater as a shell starts it after these commands."""
    words = [sys.executable, "-m", "updater.cli", *arguments, "-c", str(host.config)]
    return ["sh", "-c", f'{before}; exec "$@"', "sh", *words]


def test_an_agents_signals_are_at_their_defaults_whatever_the_updater_was_started_with(host, site):
    site.publish(control=SIGNALS)
    site.desire(("agent", "1"))
    ignoring = by_a_shell("trap '' INT QUIT HUP PIPE USR2 TTOU; umask 077", host, "once")
    assert subprocess.run(ignoring, timeout=60, check=False).returncode == 0
    blocked, ignored, umask = (host.root / "agent" / "signals").read_text().splitlines()
    assert (blocked.split()[1], ignored.split()[1]) == ("0" * 16, "0" * 16)
    assert umask == "0022"


def test_the_daemon_goes_on_ignoring_what_it_was_started_to_ignore(host, site):
    site.publish(control=SIGNALS)
    site.desire(("agent", "1"))
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | {"interval": 0.2}))
    with subprocess.Popen(by_a_shell("trap '' QUIT USR2", host, "run"), stderr=subprocess.DEVNULL) as daemon:
        until("it has started the agent", lambda: (host.root / "agent" / "signals").exists())
        reports = len(site.reports)
        for name in ("QUIT", "USR2"):
            subprocess.run(["kill", f"-{name}", str(daemon.pid)], check=True)
        until("it goes on", lambda: len(site.reports) > reports + 1)
        daemon.terminate()
        assert daemon.wait(20) == 0


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_agents_can_be_read_by_all_whatever_the_updaters_umask(host, site):
    site.publish(control=SIGNALS)
    site.desire(("agent", "1"))
    assert subprocess.run(by_a_shell("umask 077", host, "once"), timeout=60, check=False).returncode == 0
    agent = host.root / "agent"
    assert [mode(agent / name) for name in ("", ".version", "1", "1/control", "1/.installed")] == [
        0o755, 0o644, 0o755, 0o755, 0o644,
    ]  # fmt: skip
    assert mode(host.root / ".updater") == 0o700, "what is our own is as the umask has it"


@pytest.mark.long
def test_a_switch_mends_the_mode_of_a_version_file(host, site):
    site.publish(control=SIGNALS)
    site.publish(version="2", control=SIGNALS)
    for version in ("1", "2"):
        site.desire(("agent", version))
        (host.root / "agent" / ".version").exists() and (host.root / "agent" / ".version").chmod(0o600)
        assert subprocess.run(by_a_shell("umask 027", host, "once"), timeout=60, check=False).returncode == 0
        assert mode(host.root / "agent" / ".version") == 0o644
