"""An order is edited while a turn follows it: meta takes any report since as one by which the host has heard of the edit."""

import os
import signal

from helpers.agents import HEALTHY
from lab.fleet import Host, until
from updater.model.memory import Memory
from updater.model.trials import Rejected
from updater.wire.heartbeat import Desired, Outcome

# Each start of 2 lasts until the test says so; then that of `bad` fails, until something outside of it is mended.
WAITS = "start) while [ ! -e ../../go-{name} ]; do sleep 0.05; done; "
FAILS = "[ {name} = good ] || [ -e ../../mended ] || exit 1; "


def published(site):
    for name in ("bad", "good"):
        slow = HEALTHY.replace("start) ", (WAITS + FAILS).format(name=name))
        site.publish(name=name, version="1", control=HEALTHY)
        site.publish(name=name, version="2", control=slow)
    site.desire(("bad", "1"), ("good", "1"))


def failures_of_bad(site):
    return [one for one in site.outcomes() if one["agent"] == "bad" and one["result"] != "done"]


def test_what_fails_by_an_order_that_was_edited_meanwhile_is_told_as_former_and_meta_is_asked_at_once(tmp_path, site):
    published(site)
    timeouts = {"start": 15, "stop": 5, "status": 5}
    with Host(tmp_path / "h1", site.address, interval=3600, watch=0, timeouts=timeouts) as host:
        assert [host.run("once").returncode for _ in range(2)] == [0, 0]
        site.desire(("bad", "2"), ("good", "2"))
        host.start()
        until("it waits for its first cycle", lambda: "first cycle in" in host.log.read_text())
        os.kill(host.pid, signal.SIGUSR1)
        until("both are being started", lambda: {host.current(name) for name in ("bad", "good")} == {"2"})
        site.desire(site.entry("bad", "2", tarball=f"http://{site.address}/"), ("good", "2"))
        before = len(site.reports)
        (host.root / "go-good").touch()
        until("it has told and asked again", lambda: len(site.reports) >= before + 2)
        (host.root / "go-bad").touch()
        failures = until("meta hears of it", failures_of_bad, site, within=40)
        assert all(one["to"] == "2" and one["result"].endswith(" before") for one in failures), failures
        (host.root / "mended").touch()
        os.kill(host.pid, signal.SIGUSR1)
        until(
            "it runs by the new order", lambda: (host.current("bad"), host.control("bad", "status")) == ("2", "started")
        )


def test_what_meta_has_not_received_before_an_edit_is_of_the_former_order():
    refused, done = Outcome("agent", "1", "2", "install", "refused"), Outcome("agent", "0", "1", "watch", "done")
    memory = Memory(outcomes=(done, refused)).superseded()
    assert [one.result for one in memory.outcomes] == ["done", "refused before"]
    assert memory.superseded() == memory


def test_a_rejected_version_is_not_told_as_rejected_under_an_order_for_another_artifact_of_it():
    order = Desired("agent", "2", "http://meta/a", cmd="start")
    memory = Memory(rejected=Rejected(order, "it died"))
    assert memory.rejected_under(order) == memory.rejected_under(None) == memory.rejected
    assert memory.rejected_under(Desired("agent", "3", "http://meta/a", cmd="start")) == memory.rejected
    assert memory.rejected_under(Desired("agent", "2", "http://meta/b", cmd="start")) is None
