"""`updater why` says what the running updater does next, also while meta is away."""

import json

import pytest

from helpers.agents import QUIET, install
from helpers.site import Site
from lab.fleet import Host as Machine
from lab.fleet import until


def test_why_says_that_an_order_of_an_earlier_run_waits_for_meta(tmp_path):
    with Site(tmp_path / "site") as site, Machine(tmp_path / "h1", site.address, interval=1) as machine:
        for version in "12":
            site.publish(version=version)
        site.desire(("agent", "1"))
        assert machine.run("once").returncode == 0
        machine.run("hold", "agent")
        site.desire(("agent", "2"))
        machine.run("once")
        assert "held" in machine.run("why", "agent").stdout
        machine.run("unhold", "agent")
        assert "next       install 2 (desired)" in machine.run("why", "agent").stdout, "the next cycle asks meta"
        site.__exit__()
        machine.start()
        waits = "start 2 was desired before this updater started: waits for meta to confirm it"
        until("its log says so", lambda: waits in machine.log.read_text())
        said = machine.run("why", "agent").stdout
        assert waits in said
        assert "next " not in said


def test_why_says_that_nothing_is_fetched_while_meta_is_away(tmp_path):
    with Site(tmp_path / "site") as site, Machine(tmp_path / "h1", site.address, interval=1) as machine:
        for version in "12":
            site.publish(version=version)
        site.desire(("agent", "1"))
        machine.start()
        until("1 runs", lambda: machine.current("agent") == "1")
        machine.run("hold", "agent")
        site.desire(("agent", "2"))
        until("it has the order", lambda: "desired    start 2" in machine.run("why", "agent").stdout)
        site.__exit__()
        until("meta is away", lambda: "stay in force, and nothing is downloaded" in machine.log.read_text())
        machine.run("unhold", "agent")
        assert "waits      meta is away, so nothing is downloaded" in machine.run("why", "agent").stdout


@pytest.mark.parametrize("keep", [0, 3], ids=["before it starts", "while it waits"])
def test_why_names_no_step_by_orders_that_expire_before_the_first_cycle(tmp_path, site, keep):
    site.publish(control=QUIET)
    site.desire(("agent", "1"))
    with Machine(tmp_path / "h1", site.address, interval=3600, keepOrders=keep) as machine:
        assert machine.run("once").returncode == 0
        machine.control("agent", "stop")
        machine.config.write_text(json.dumps(json.loads(machine.config.read_text()) | {"server": "127.0.0.1:9"}))
        machine.start()
        until("it waits for its first cycle", lambda: "first cycle in" in machine.log.read_text())
        expired = "waits      meta's orders are older than keepOrders"
        until("they have expired", lambda: expired in machine.run("why", "agent").stdout)
        assert "next " not in machine.run("why", "agent").stdout


def test_what_why_names_is_done_for_an_agent_that_has_no_version_yet(tmp_path):
    """Its version is installed, and was not switched to before meta went away."""
    with Site(tmp_path / "site") as site, Machine(tmp_path / "h1", site.address, interval=0.5) as machine:
        site.publish(control=QUIET)
        marker = install(machine.root, "agent", "1", QUIET, current=False) / ".installed"
        marker.write_text('{"md5": "", "sha256": "", "at": 1}')
        machine.run("hold", "agent")
        site.desire(("agent", "1"))
        machine.start()
        until("it has the order", lambda: "desired    start 1" in machine.run("why", "agent").stdout)
        site.__exit__()
        until("meta is away", lambda: "stay in force, and nothing is downloaded" in machine.log.read_text())
        machine.run("unhold", "agent")
        until("it is done", lambda: machine.current("agent") == "1" and machine.control("agent", "status") == "started")
