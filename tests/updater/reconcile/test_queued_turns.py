"""More agents than take their turns at the same time: what changes while a turn waits for its slot counts."""

import pytest

from helpers.agents import HEALTHY, calls
from lab.fleet import Host, until
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
    assert calls(queued.root, "last").count("start") == 1, "the one by hand"
    assert queued.control("last", "status") == "started"
