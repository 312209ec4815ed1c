"""The daemon as a process that parks at a meta: an edit reaches it at once, and parking delays nothing and holds nothing."""

import json
import os
import signal
import time

import pytest

from helpers.agents import HEALTHY, QUIET
from lab.fleet import Host, until


@pytest.fixture
def host(tmp_path, site):
    site.notify = 270
    with Host(tmp_path / "h1", site.address, interval=0.2, watch=0, timeouts={"start": 2, "stop": 2}) as made:
        yield made


def configure(host, **settings):
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | settings))


def reload(host):
    os.kill(host.pid, signal.SIGHUP)


def park(host, site, interval=3600):
    """Start the updater, with a short interval at first, of which its first park is a random part away."""
    host.start()
    until("it beats", lambda: len(site.reports) > 2)
    configure(host, interval=interval)
    reload(host)
    until("it is parked", lambda: site.parked)


def started(host, version):
    return host.current("agent") == version and host.control("agent", "status") == "started"


def test_an_edit_reaches_a_parked_host_long_before_its_interval(host, site):
    site.publish(control=QUIET)
    site.publish(version="2", control=QUIET)
    park(host, site)
    for version in ("1", "2"):
        began, count = time.monotonic(), len(site.reports)
        site.desire(("agent", version))
        until("it beats", lambda count=count: len(site.reports) > count)
        assert time.monotonic() - began < 4
        until("it does so", started, host, version)
        until("it is parked again", lambda: site.parked)
    assert "hostname=h1&known=" in site.parks[0]


def test_a_parked_daemon_stops_within_a_second(host, site):
    park(host, site)
    began = time.monotonic()
    assert host.stop(signal.SIGTERM) == 0
    assert time.monotonic() - began < 1
    until("its connection is closed", lambda: not site.parked)


def test_a_stop_hangs_up_at_once_though_a_change_has_to_be_finished_first(host, site):
    site.publish(control=HEALTHY.replace("start)", "start) sleep 1.5;"))
    configure(host, timeouts={"start": 5})
    park(host, site)
    site.desire(("agent", "1"))
    until("the change begins", lambda: host.current("agent") == "1")
    until("it is parked", lambda: site.parked)
    os.kill(host.pid, signal.SIGTERM)
    until("it hung up", lambda: not site.parked, within=1)
    assert host.running
    until("it ends", lambda: not host.running)
    assert host.stop() == 0
    assert host.control("agent", "status") == "started"


def test_a_cycle_on_demand_is_not_delayed_by_a_park_and_the_host_parks_again(host, site):
    park(host, site)
    parks, count = len(site.parks), len(site.reports)
    os.kill(host.pid, signal.SIGUSR1)
    until("it beats", lambda: len(site.reports) > count, within=2)
    until("it parks again", lambda: len(site.parks) > parks and site.parked == 1)


def test_parking_never_replaces_the_interval(host, site):
    park(host, site, interval=2)
    count = len(site.reports)
    until("it beats on", lambda: len(site.reports) > count + 2, within=20)


def test_a_reload_can_switch_parking_off_and_on(host, site):
    park(host, site)
    configure(host, notify=False)
    reload(host)
    until("it hung up", lambda: not site.parked)
    words = "reachable by meta at once: no: cfg.json has `notify` off\n"
    until("it says so", lambda: words in host.run("status").stderr)
    configure(host, notify=True)
    reload(host)
    until("it is parked again", lambda: site.parked)


def test_a_meta_that_offers_no_parking_is_not_asked(host, site):
    site.notify = 0
    host.start()
    until("it beats", lambda: len(site.reports) > 5)
    assert site.gets == []
    assert "reachable by meta at once: no: meta does not offer it\n" in host.run("status").stderr


def test_the_status_says_whether_meta_can_wake_the_host(host, site):
    assert "reachable by meta at once: no: the updater does not run\n" in host.run("status").stderr
    park(host, site)
    assert "reachable by meta at once: perhaps: meta is asked since 2" in host.run("status").stderr
    site.desire(("agent", "1"))
    until("it says yes", lambda: "reachable by meta at once: yes\n" in host.run("status").stderr)
    assert host.run("status", "--json").stderr == ""
    assert host.stop() == 0
    assert "reachable by meta at once: no: the updater does not run\n" in host.run("status").stderr


def test_a_meta_that_wakes_in_a_loop_makes_no_busy_loop(host, site):
    park(host, site)
    before = len(site.reports)
    site.wakes = True
    time.sleep(5)
    assert 1 <= len(site.reports) - before <= 3
    assert len(site.parks) < 8


def test_a_daemon_that_was_frozen_parks_on(host, site):
    site.publish(control=QUIET)
    park(host, site)
    os.kill(host.pid, signal.SIGSTOP)
    time.sleep(1)
    site.desire(("agent", "1"))
    os.kill(host.pid, signal.SIGCONT)
    until("it does what was ordered meanwhile", started, host, "1")


def test_a_wake_in_a_long_turn_is_followed_and_the_report_of_its_end_takes_no_news_away(host, site):
    """A report between two beats has a reply too, whose orders are not taken: the host must not seem to know them."""
    slow = HEALTHY.replace("start)", "start) sleep 1;")
    site.publish(control=slow)
    site.publish(version="2", control=QUIET)
    configure(host, timeouts={"start": 10})
    park(host, site)
    site.desire(("agent", "1"))
    until("the turn begins", lambda: host.current("agent") == "1")
    until("it is parked in it", lambda: site.parked)
    site.wakes, site.desired = False, [site.entry(version="2")]
    until("the second order is followed", started, host, "2")
