"""An agent whose memory cannot be read or written keeps neither the other agents nor meta's answer from being followed."""

from pathlib import Path

import pytest

from helpers.agents import QUIET
from helpers.cycles import here, unwritable
from lab.fleet import Host as Machine
from lab.fleet import until
from updater.host import control_script
from updater.host.config import Config
from updater.host.context import Host
from updater.host.memories import Memories
from updater.model.layout import Layout
from updater.net.http import Http
from updater.reconcile import cycle
from updater.self_update import handover
from updater.wire.heartbeat import FAILED, Outcome

FAILURE = Outcome("agent", "1", "2", "start", FAILED, "it does not start")


def status(host, name):
    return control_script.status(here(host, "1", name), 5).text


@pytest.fixture
def both(host, site):
    """Two agents run, and the failure of one is to be reported."""
    for name in ("agent", "other"):
        site.publish(name=name, control=QUIET)
    site.desire(("agent", "1"), ("other", "1"))
    cycle.run(host)
    host.memories.change("agent", lambda memory: memory.with_outcome(FAILURE))
    site.desire(("agent", "1"), site.entry(name="other", cmd="stop"))


def test_what_meta_answers_is_followed_for_the_others_and_the_outcome_is_reported_once(host, site, both):
    with unwritable(host.layout.memories / "agent.json"):
        for _ in range(2):
            cycle.run(host)
            assert (status(host, "agent"), status(host, "other")) == ("started", "stoped")
        assert [one["reason"] for one in site.outcomes()].count(FAILURE.reason) == 1
    cycle.run(host)
    assert Memories(host.layout.memories).of("agent").outcomes == (), "and that is written once it can be"


@pytest.mark.long
def test_the_daemon_goes_on_asking_meta_in_time(tmp_path, site):
    for name in ("agent", "other"):
        site.publish(name=name, control=QUIET)
    site.desire(("agent", "1"), ("other", "1"))
    with Machine(tmp_path / "h1", site.address, interval=0.2, watch=0, timeouts={"start": 2, "stop": 2}) as machine:
        assert machine.run("once").returncode == 0
        layout = Layout(machine.root)
        Memories(layout.memories).change("agent", lambda memory: memory.with_outcome(FAILURE))
        with unwritable(layout.memories / "agent.json"):
            machine.start()
            until("it is reported", lambda: FAILURE.reason in str(site.outcomes()))
            site.desire(("agent", "1"), site.entry(name="other", cmd="stop"))
            until("the order is followed", lambda: machine.control("other", "status") == "stoped")
        assert "no orders in this cycle" not in machine.log.read_text()


def test_a_root_that_cannot_be_listed_when_news_are_told_ends_no_daemon(host, site):
    host.layout.root.rmdir()
    host.layout.root.touch()
    assert cycle.tell(host) == {}
    assert site.reports == []


def test_the_updaters_own_memory_that_cannot_be_read_ends_no_start():
    too_long = Layout(Path("/" + "x" * 300))  # whatever is below cannot be read now
    host = Host(too_long, Config("127.0.0.1:9", interval=60), Http())
    assert not handover.is_successor(host)
    host.own_version = "1.0"
    assert handover.is_successor(host), "it may be, and a guard may wait for its first heartbeat"
