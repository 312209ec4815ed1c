"""More agents than take their turns at the same time: what changes while a turn waits for its slot counts.

And more agents than are installed at the same time: they wait, but not those that need nothing to be downloaded.
"""

import os
import signal

import pytest

from helpers.agents import HEALTHY, QUIET, calls, install, script
from helpers.servers import Server, drip
from lab.fleet import Host, until
from updater.model.actions import Source
from updater.reconcile import cycle
from updater.reconcile.agent_turn import converge
from updater.reconcile.workers import AT_ONCE, STALE

BUSY = [f"a{number}" for number in range(AT_ONCE)]
# Its start lasts until the test says so.
SLOW = HEALTHY.replace("start) ", "start) touch ../begun; while [ ! -e ../../go ]; do sleep 0.05; done; ")


def beats(site, count):
    before = len(site.reports)
    until("the host beats", lambda: len(site.reports) >= before + count)


@pytest.fixture
def queued(request, tmp_path, site):
    """The turn that starts `last`, which is down, waits until the others have been started, which takes until `go` is there."""
    runs = getattr(request, "param", 2)  # 1: all are on trial, and so the turns begin before meta has answered
    for name in BUSY:
        site.publish(name=name, control=SLOW)
    site.publish(name="last", control=HEALTHY)
    site.desire(*((name, "1") for name in (*BUSY, "last")))
    timeouts = {"start": 60, "stop": 10, "status": 5}
    with Host(tmp_path / "h1", site.address, interval=0.1, watch=0, timeouts=timeouts) as host:
        (host.root / "go").touch()
        assert [host.run("once").returncode for _ in range(runs)] == [0] * runs
        for name in (*BUSY, "last"):
            host.control(name, "stop")
            (host.root / name / "begun").unlink(missing_ok=True)
        (host.root / "go").unlink()
        host.start()
        until("the others are being started", lambda: all((host.root / name / "begun").exists() for name in BUSY))
        calls_of_last(host).unlink()
        yield host


def calls_of_last(host):
    return host.root / "last" / ".calls"


def the_others_are_started(host, site):
    (host.root / "go").touch()
    until("the others are started", lambda: all(host.control(name, "status") == "started" for name in BUSY))
    beats(site, 3)


def test_an_agent_that_a_person_holds_while_its_turn_waits_is_not_started(queued, site):
    assert queued.run("hold", "last", "--why", "its disk").returncode == 0
    the_others_are_started(queued, site)
    assert "start" not in calls(queued.root, "last")
    assert queued.run("unhold", "last").returncode == 0
    until("then it is started", lambda: queued.control("last", "status") == "started")


@pytest.mark.parametrize("queued", [1, 2], indirect=True, ids=["by a kept order", "by an order of this run"])
def test_an_agent_that_is_ordered_to_stop_while_its_turn_waits_is_not_started(queued, site):
    site.desire(*((name, "1") for name in BUSY), site.entry(name="last", cmd="stop"))
    beats(site, 3)
    the_others_are_started(queued, site)
    assert "start" not in calls(queued.root, "last")


def test_an_agent_that_has_come_up_while_its_turn_waits_is_not_started_again(queued, site):
    queued.control("last", "start")
    until("its turn has waited", lambda: not beats(site, int(STALE / 0.1) + 3))
    the_others_are_started(queued, site)
    assert "last: start 1" not in queued.log.read_text()
    assert queued.control("last", "status") == "started"


def waits_of_last(site):
    return [agent.get("waits") for agent in site.reports[-1]["realAgents"] if agent["name"] == "last"]


def test_an_agent_whose_turn_waits_says_that_it_is_about_to_be_changed_while_its_order_is_in_force(queued, site):
    beats(site, 2)
    assert waits_of_last(site) == ["change"]
    site.desire(*((name, "1") for name in BUSY), site.entry(name="last", cmd="stop"))
    beats(site, 2)
    assert waits_of_last(site) == [None], "it is down, as desired"
    the_others_are_started(queued, site)
    assert waits_of_last(site) == [None]
    assert "start" not in calls(queued.root, "last")


def test_an_agent_that_is_as_desired_while_its_turn_waits_does_not_say_so(queued, site):
    queued.control("last", "start")
    beats(site, 2)
    assert waits_of_last(site) == [None]


@pytest.fixture
def slow():
    """A server of tarballs that come byte after byte, and never to an end."""
    server = Server([])
    server.says = [drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000, server.stop, every=0.2)]
    with server.running():
        yield server


def downloads(site, slow, names):
    return [site.entry(name=name, version="2", tarball=slow.url, md5="0" * 32) for name in names]


@pytest.fixture
def downloading(tmp_path, site, slow):
    """`last` runs, and as many other agents as may be are being installed, which takes long."""
    site.publish(name="last", control=QUIET)
    site.desire(("last", "1"))
    timeouts = {"start": 10, "stop": 10, "status": 5, "download": 600}
    with Host(tmp_path / "h1", site.address, interval=0.2, watch=0, timeouts=timeouts) as host:
        assert [host.run("once").returncode for _ in range(2)] == [0, 0]
        site.desire(*downloads(site, slow, BUSY), ("last", "1"))
        host.start()
        until("the others are being installed", lambda: len(slow.requests) == AT_ONCE)
        yield host
        assert len(slow.requests) == AT_ONCE, "and no download was begun again"


def pid(host, version="1"):
    return int((host.root / "last" / version / "pid").read_text())


def dies_and_comes_up_again(host):
    before = pid(host)
    os.kill(before, signal.SIGKILL)
    until("it is started again", lambda: host.control("last", "status") == "started" and pid(host) != before)


def test_an_agent_that_dies_while_others_are_installed_slowly_is_started_again(downloading):
    dies_and_comes_up_again(downloading)


def test_an_agent_whose_own_version_waits_for_the_others_is_started_again_and_stopped(downloading, site, slow):
    """It has no slot yet."""
    others = downloads(site, slow, BUSY)
    site.desire(*others, *downloads(site, slow, ["last"]))
    until("it waits", lambda: "download" in [one.get("waits") for one in site.reports[-1]["realAgents"]])
    dies_and_comes_up_again(downloading)
    site.desire(*others, site.entry(name="last", version="2", tarball=slow.url, md5="0" * 32, cmd="stop"))
    until("it is stopped", lambda: downloading.control("last", "status") == "stoped")
    site.desire(*others, ("last", "1"))
    until("it is started", lambda: downloading.control("last", "status") == "started")


def test_a_version_that_dies_in_its_watch_is_taken_back_while_others_are_installed_slowly(tmp_path, site, slow):
    site.publish(name="last", control=QUIET)
    site.publish(name="last", version="2", control=QUIET)
    timeouts = {"start": 10, "stop": 10, "status": 5, "download": 600}
    with Host(tmp_path / "h1", site.address, interval=0.2, watch=0, probe=0.1, timeouts=timeouts) as host:
        site.desire(("last", "1"))
        assert [host.run("once").returncode for _ in range(2)] == [0, 0]
        host.config.write_text(host.config.read_text().replace('"watch": 0', '"watch": 600'))
        site.desire(("last", "2"))
        assert host.run("once").returncode == 0
        host.config.write_text(host.config.read_text().replace('"interval": 0.2', '"interval": 4'))
        site.desire(*downloads(site, slow, BUSY), ("last", "2"))
        host.start()
        until("the others are being installed", lambda: len(slow.requests) == AT_ONCE)
        os.kill(pid(host, "2"), signal.SIGKILL)
        until("it is back", lambda: host.current("last") == "1" and host.control("last", "status") == "started")
        assert [one["result"] for one in site.outcomes() if one["to"] == "2"] in ([], ["rolled back"])


def test_what_waits_for_its_slot_is_not_fetched_when_another_version_is_ordered_meanwhile(tmp_path, site):
    """The first downloads last until the test ends them, by what no agent's tarball is."""
    go = tmp_path / "go"
    site.publish(name="last", version="3", control=QUIET)

    def held_back(connection):
        until("they may end", go.exists, within=60)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    timeouts = {"start": 10, "stop": 10, "status": 5, "download": 600}
    with (
        Server([held_back]).running() as slow,
        Host(tmp_path / "h1", site.address, interval=0.2, watch=0, timeouts=timeouts) as host,
    ):
        others = downloads(site, slow, BUSY)
        site.desire(*others, *downloads(site, slow, ["last"]))
        host.start()
        until("the others are being installed", lambda: len(slow.requests) == AT_ONCE)
        beats(site, 3)
        site.desire(*others, ("last", "3"))
        beats(site, 3)
        go.touch()
        until("the newest version runs", lambda: host.current("last") == "3")
    assert not [one for one in slow.requests if b"/last-" in one]


def test_an_agent_that_dies_while_its_own_next_version_comes_slowly_is_started_again(tmp_path, site, slow):
    site.publish(name="last", control=QUIET)
    site.desire(("last", "1"))
    with Host(tmp_path / "h1", site.address, interval=0.2, watch=0, timeouts={"download": 600}) as host:
        assert host.run("once").returncode == 0
        site.desire(*downloads(site, slow, ["last"]))
        host.start()
        until("the download has begun", lambda: slow.requests)
        dies_and_comes_up_again(host)
    assert len(slow.requests) == 1, "and its download goes on"


def test_a_hundred_agents_with_new_versions_take_few_threads(tmp_path, site, slow):
    names = [f"agent-{number}" for number in range(100)]
    with Host(tmp_path / "h1", site.address, interval=0.2, watch=0, timeouts={"download": 600}) as host:
        for name in names:
            install(host.root, name, "1", script("echo started"))
        site.desire(*downloads(site, slow, names))
        host.start()
        until("as many as may be are being installed", lambda: len(slow.requests) == AT_ONCE)
        beats(site, 3)
        assert len(os.listdir(f"/proc/{host.pid}/task")) <= 3 * AT_ONCE + 4, "looks, turns, installations, and a few"


def test_while_a_version_may_be_unpacked_nothing_is_removed(host, site):
    site.publish()
    site.desire(("agent", "1"))
    cycle.run(host)
    staging = host.layout.agent("agent").staging("2")
    staging.mkdir()
    [order] = host.orders.last.orders
    for installing in (True, False):
        converge(host, order, cycle.look(host, ["agent"])["agent"], Source.ANSWER, installing)
        assert staging.exists() is installing
