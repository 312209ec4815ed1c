"""An agent whose status says neither word: left alone, or with `unknownStatus: upgrade` replaced when it is gone."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from helpers.agents import HEALTHY, install, script
from helpers.field import alive
from lab.fleet import end_all_of, until
from updater.cli import explain
from updater.host import control_script
from updater.host.config import AgentSettings
from updater.host.observe import observe
from updater.reconcile import cycle

MUTE = HEALTHY.replace("echo started; else echo stoped", "echo running; else echo dead")
UNMOVED = MUTE.replace("stop) running && kill", "stop) exit 0; running && kill")
ELSEWHERE = script('case "$1" in start) : ;; stop) : ;; status) echo "see systemctl" ;; esac')


@pytest.fixture
def up(host, site):
    """A host on which version 1 runs, whose control then becomes another; returns the process id."""

    def make(text):
        site.publish(version="1")
        site.publish(version="2")
        site.desire(("agent", "1"))
        cycle.run(host)
        directory = host.layout.agent("agent").install("1")
        (directory / "control").write_text(text)
        return int((directory / "pid").read_text())

    return make


def ordered(host, site, **fields):
    site.desire(site.entry(version="2", **fields))
    [turn] = cycle.run(host).turns
    return turn.waits


def current(host):
    return host.layout.agent("agent").version_file.read_text().strip()


def test_by_itself_it_is_left_alone_and_reported(host, site, up):
    pid = up(MUTE)
    for fields in ({}, {"unknownStatus": "wait"}, {"unknownStatus": "whatever"}):
        assert "cannot tell whether 1 runs, so it is left alone: its status is 'running'" in ordered(
            host, site, **fields
        )
    assert (current(host), alive(pid)) == ("1", True)
    assert site.reports[-1]["realAgents"][0]["status"] == "running"


def test_with_upgrade_it_is_replaced_once_its_processes_are_gone(host, site, up):
    pid = up(MUTE)
    assert ordered(host, site, unknownStatus="upgrade") == ""
    assert (current(host), alive(pid)) == ("2", False)
    assert control_script.status(host.layout.agent("agent").install("2"), 5).text == "started"


def test_a_host_may_say_so_itself_where_its_meta_cannot(host, site, up):
    up(MUTE)
    host.reconfigure(replace(host.config, agents={"agent": AgentSettings(unknown_status="upgrade")}))
    assert ordered(host, site) == ""
    assert current(host) == "2"


def test_one_that_does_not_go_is_neither_replaced_nor_killed(host, site, up):
    pid = up(UNMOVED)
    waits = ordered(host, site, unknownStatus="upgrade")
    assert f"1 did not stop within 1 s: 1 process of 1 still runs: {pid} " in waits
    assert (current(host), alive(pid)) == ("1", True)
    assert ordered(host, site, unknownStatus="upgrade").startswith("1 did not stop")
    assert [path for path in site.gets if path.endswith("2.tar.gz")] == ["/agent-2.tar.gz"], "fetched once"


def test_one_that_does_not_go_is_ended_where_leftovers_are(host, site, up):
    pid = up(UNMOVED)
    assert ordered(host, site, unknownStatus="upgrade", leftovers="end") == ""
    until("it is gone", lambda: not alive(pid))
    assert current(host) == "2"


def test_one_that_has_died_is_replaced_since_it_was_known(host, site, up):
    pid = up(MUTE)
    os.kill(pid, 9)
    until("it is gone", lambda: not alive(pid))
    assert ordered(host, site, unknownStatus="upgrade") == ""
    assert current(host) == "2"


def test_one_of_which_nothing_was_ever_recognised_is_left_alone(host, site):
    install(host.layout.root, "agent", "1", ELSEWHERE)
    site.publish(version="2")
    waits = ordered(host, site, unknownStatus="upgrade")
    assert waits == "cannot tell whether 1 has stopped: none of its processes was ever recognised"
    assert current(host) == "1"


def test_a_control_that_cannot_even_be_run_is_replaced_when_its_agent_is_gone(host, site, up):
    pid = up("#!/nonexistent/sh\n")
    assert "still runs" in ordered(host, site, unknownStatus="upgrade")
    os.kill(pid, 9)
    until("it is gone", lambda: not alive(pid))
    assert ordered(host, site, unknownStatus="upgrade") == ""


def test_the_version_that_is_wanted_is_left_alone_whatever_it_says(host, site, up):
    pid = up(MUTE)
    site.desire(site.entry(version="1", unknownStatus="upgrade"))
    [turn] = cycle.run(host).turns
    assert "is left alone" in turn.waits
    assert alive(pid)


def test_why_names_what_an_agent_was_started_with_besides(host, site, up, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        monkeypatch.delenv(name)
    directory = install(host.layout.root, "agent", "1", HEALTHY)
    by_hand = {"META_TOKEN": "secret", "PYTHONPATH": "/x", "KEPT": "yes"}
    os.spawnve(os.P_WAIT, str(directory / "control"), ["control", "start"], dict(os.environ) | by_hand)
    pid = int((directory / "pid").read_text())
    until("it is what the script runs", lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    seen = observe(host.layout, "agent", 5)
    lines = [line for line in explain.why(host, seen, host.orders.last) if line.startswith("inherited")]
    assert len(lines) == 1
    assert f"{pid} sleep has META_TOKEN, PYTHONPATH in its environment, which agents are not given now" in lines[0]
    assert "secret" not in lines[0]
    end_all_of(host.layout.root)
    control_script.run(directory, "start", 5)
    assert not [line for line in explain.why(host, seen, host.orders.last) if line.startswith("inherited")]
