"""As PID 1 of a container, or as a subreaper, the updater buries what its agents leave and waits for its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import machine
from helpers.agents import install
from helpers.field import KILL_0
from lab.fleet import end_all_of, until

# prctl(PR_SET_CHILD_SUBREAPER), which a later program of the process keeps
SUBREAPER = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
WAYS = {
    "PID 1": ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"],
    "a subreaper": [sys.executable, "-c", SUBREAPER],
}


@pytest.fixture(params=WAYS)
def inheriting(request, tmp_path, site):
    """Begins an updater that inherits orphans; returns its output's file."""
    if request.param == "PID 1":
        machine.require(machine.no_mounts())
    config = tmp_path / "cfg.json"
    config.write_text(
        json.dumps({"server": site.address, "interval": 0.5, "hostname": "h1", "http": {"enabled": False}})
    )
    running = []

    def begin():
        log = (tmp_path / "log").open("wb")
        command = [sys.executable, "-m", "updater.cli", "run", "-c", str(config)]
        if request.param == "a subreaper":
            command[0] = sys.executable
        running.append(
            subprocess.Popen([*WAYS[request.param], *command], stdout=log, stderr=log, cwd=Path(__file__).parents[3])
        )
        log.close()
        return tmp_path / "log"

    yield begin
    for one in running:
        one.kill() if request.param == "PID 1" else one.terminate()  # with its init all of a container end
        one.wait(20)
    end_all_of(tmp_path)


def dead(name):
    """The processes of this name that nobody has buried."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        if f"({name})" in text and text.rpartition(")")[2].split()[0] == "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.long
def test_what_it_inherits_is_buried_so_that_a_script_with_kill_0_sees_the_end(inheriting, tmp_path, site):
    """kill0_control of the field: a zombie counted as started, and the upgrade was blocked for ever."""
    install(
        tmp_path,
        "agent",
        "1",
        KILL_0.replace("sleep 9999", "exec -a kill0agent sleep 9999").replace("/bin/sh", "/bin/bash"),
    )
    site.publish(version="2", control=KILL_0)
    site.desire(("agent", "1"))
    inheriting()

    def said(version):
        agents = [a for report in site.reports[-1:] for a in report["realAgents"]]
        return [a for a in agents if (a["version"], a["status"]) == (version, "started")]

    until("it runs", said, "1")
    site.desire(("agent", "2"))
    until("its successor runs", said, "2")
    assert not [o for o in site.outcomes() if o["result"] != "done"]
    assert dead("kill0agent") == []


def test_a_child_of_its_own_is_not_taken_from_who_waits_for_it(tmp_path):
    """Its exit code is that of a try-out, for one."""
    program = f"""
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from pathlib import Path
from updater.kernel import children
from updater.host import control_script
with children.burying():
    for code in (3, 0, 7) * 5:
        done = control_script.run_program(["sh", "-c", f"(sleep 0.01 &) ; exit {{code}}"], Path("/"), 10)
        assert done[0] == code, done
print("well")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr


def test_who_inherits_nothing_handles_no_signal():
    import signal

    from updater.kernel import children

    with children.burying():
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    assert os.getpid() != 1


@pytest.mark.parametrize("command", [["run"], ["run", "--check"], ["once"], ["why", "agent"]], ids=" ".join)
def test_an_updater_that_sees_the_processes_of_another_namespace_refuses_to_start(tmp_path, site, command):
    """What it inherits it could not find, and the pids of its agents would be those of strangers."""
    machine.require(machine.no_mounts())
    config = tmp_path / "cfg.json"
    config.write_text(json.dumps({"server": site.address, "interval": 1, "hostname": "h1", "http": {"enabled": False}}))
    updater = [sys.executable, "-m", "updater.cli", *command, "-c", str(config)]
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--kill-child", *updater],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.returncode == 2
    assert "/proc does not show the processes of this PID namespace" in done.stderr
    assert "--mount-proc" in done.stderr
    assert site.reports == []
