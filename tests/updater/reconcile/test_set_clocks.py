"""The wall clock of a host is set: watches and the age of orders go by the time that has passed."""

import pytest

from helpers.agents import QUIET
from helpers.clocks import WrongClock
from helpers.site import Site
from lab.fleet import Host, until
from updater.host.last_reply import LastReply, Uptime
from updater.host.memories import Memories
from updater.model.layout import Layout

DAY = 86400
NOW = 1e9
DIES = QUIET.replace("sleep 1000", "sleep 4")


def published(site):
    site.publish(version="1", control=QUIET)
    site.publish(version="2", control=DIES)
    site.desire(("agent", "1"))


def started(host, version):
    return host.current("agent") == version and host.control("agent", "status") == "started"


def is_watched(host, version):
    memory = Memories(Layout(host.root).memories).of("agent")
    return memory.is_watched and memory.current == version


@pytest.mark.parametrize("ahead", [DAY, -DAY], ids=["forward", "back"])
@pytest.mark.parametrize("runs", [True, False], ids=["while it runs", "while it is down"])
def test_a_clock_that_is_set_ends_no_watch(tmp_path, site, ahead, runs):
    published(site)
    clock = WrongClock(tmp_path / "clock")
    with Host(tmp_path / "h1", site.address, interval=0.3, watch=30, probe=0.1) as host:
        host.environment |= clock.environment
        assert host.run("once").returncode == 0
        site.desire(("agent", "2"))
        if runs:
            host.start()
            until("its watch begins", lambda: is_watched(host, "2"))
        else:
            assert host.run("once").returncode == 0
        clock.set(ahead)
        if not runs:
            host.start()
        until("it is back", lambda: started(host, "1"))
        until("meta hears of it", lambda: [one for one in site.outcomes() if one["result"] == "rolled back"])
        assert not [one for one in site.outcomes() if (one["to"], one["result"]) == ("2", "done")]


def test_orders_are_as_old_as_the_time_that_has_passed_when_the_clock_is_set_forward_while_meta_is_away(tmp_path):
    clock = WrongClock(tmp_path / "clock")
    with Site(tmp_path / "site") as site, Host(tmp_path / "h1", site.address, interval=0.3, keepOrders=DAY) as host:
        published(site)
        host.environment |= clock.environment
        host.start()
        until("1 runs", lambda: started(host, "1"))
        site.__exit__()
        until("meta is away", lambda: "stay in force, and nothing is downloaded" in host.log.read_text())
        clock.set(9 * DAY)
        host.control("agent", "stop")
        until("it is started again", lambda: started(host, "1"))
        assert "keepOrders" not in host.run("why", "agent").stdout


def test_a_reply_of_an_earlier_boot_is_as_old_as_the_wall_clock_says_and_new_if_that_was_set_back():
    reply = LastReply(NOW, boot="a", up=500)
    assert reply.in_boot(NOW + DAY, Uptime("a", 560)).good_until(100) == 600, "it came in this boot"
    assert reply.in_boot(NOW + 60, Uptime("b", 9)).good_until(100) == 49
    assert reply.in_boot(NOW - DAY, Uptime("b", 9)).good_until(100) == 109
    former = LastReply(NOW)
    assert former.in_boot(NOW + 60, Uptime("b", 900)).good_until(100) == 940, "of an updater that kept no boot"
