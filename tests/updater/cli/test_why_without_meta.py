"""`updater why` says what the running updater does next, also while meta is away."""

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
