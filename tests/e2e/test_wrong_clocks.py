"""Clocks of metas, as processes: one that is set makes no host late, and one that is not the database's is told."""

import json
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime

import pytest
import requests

from helpers.agents import QUIET, members
from helpers.clocks import WrongClock
from helpers.databases import database
from lab import agents
from lab.fleet import Host, Meta, get, until
from meta.store import Store

AGENT = "agent"
HOUR, DAY = 3600, 86400
SETTINGS = {"interval": 0.3, "watch": 1, "probe": 0.1, "timeouts": {"start": 3, "stop": 3, "status": 3}}


WAITS = """
import threading, time
began = time.monotonic()
time.sleep(0.1)
threading.Event().wait(0.1)
print(time.time(), time.monotonic() - began)
"""


@pytest.mark.parametrize("ahead", [0, 20, -20])
def test_a_wrong_clock_moves_the_time_of_day_and_neither_sleeps_nor_waits(tmp_path, ahead):
    clock = WrongClock(tmp_path / "clock", ahead)
    command, began = [sys.executable, "-c", WAITS], time.time()
    done = subprocess.run(command, env=clock.environment, capture_output=True, text=True, timeout=15, check=True)
    now, took = map(float, done.stdout.split())
    assert began < now - ahead < time.time()
    assert 0.2 < took < 10


def test_a_clock_that_is_set_two_hours_forward_makes_no_host_late_and_ends_tokens(tmp_path):
    with Meta(tmp_path / "meta") as meta:
        clock = WrongClock(tmp_path / "clock")
        meta.environment |= clock.environment
        meta.start()
        made = meta.run("token", "new", "short", "--role", "viewer", "--expires", "1h").stdout.strip()
        requests.post(f"{meta.url}/heartbeat", json={"hostname": "h1", "realAgents": []}, timeout=5).raise_for_status()

        def who():
            shown = {"Authorization": f"Bearer {made}"}
            return requests.get(f"{meta.url}/api/v1/whoami", headers=shown, timeout=5).status_code

        assert who() == 200
        clock.set(2 * HOUR)
        until("meta notices", lambda: "the clock was set by +7200 s" in meta.log.read_text())
        assert meta.run("hosts", "-o", "json").stdout.count('"state":"late"') == 0
        states = get(f"{meta.url}/metrics").text
        assert 'meta_hosts{state="late"} 0.0' in states
        assert 'meta_hosts{state="lost"} 0.0' in states
        assert who() == 401


def warned(meta):
    """The lines after `ready`."""
    answer = get(f"{meta.url}/ready")
    assert (answer.status_code, answer.text.splitlines()[0]) == (200, "ready")
    return answer.text


def offset(meta, of):
    """The metric's seconds."""
    lines = get(f"{meta.url}/metrics").text.splitlines()
    return float(next(line for line in lines if f'meta_clock_offset_seconds{{of="{of}"}}' in line).split()[1])


@pytest.mark.parametrize(("ahead", "words"), [(20, "20 s ahead of the database's"), (-20, "20 s behind")])
def test_a_clock_that_is_not_the_databases_is_told_and_meta_is_ready(tmp_path, ahead, words):
    with database("postgresql", tmp_path) as url, Meta(tmp_path / "meta", url) as meta:
        meta.environment |= WrongClock(tmp_path / "clock", ahead).environment
        meta.start()
        assert words in warned(meta).replace("19 s", "20 s")
        assert words.split(" s ")[1] in meta.log.read_text()
        assert offset(meta, "database") == pytest.approx(ahead, abs=4)


def test_a_wrong_clock_of_a_meta_is_told_at_the_other_until_it_is_set_right_and_dates_no_edit(tmp_path):
    with (
        database("postgresql", tmp_path) as url,
        Meta(tmp_path / "right", url) as right,
        Meta(tmp_path / "wrong", url) as wrong,
    ):
        clock = WrongClock(tmp_path / "clock", 20)
        wrong.environment |= clock.environment
        right.start()
        wrong.token = right.token
        wrong.start()
        until("it is told", lambda: "another meta's clock is 20 s ahead of this machine's" in warned(right))
        assert offset(right, "metas") == pytest.approx(20, abs=1.5)
        for meta, name in ((right, "h1"), (wrong, "h2")):
            report = {"hostname": name, "realAgents": []}
            requests.post(f"{meta.url}/heartbeat", json=report, timeout=5).raise_for_status()
        wrong.edit(json.dumps({"agents": [{"name": AGENT, "version": "1", "tarball": "http://r"}]}))
        for meta in (right, wrong):
            (made,) = json.loads(meta.run("history", "-o", "json").stdout)["items"]
            assert datetime.fromisoformat(made["at"]).timestamp() == pytest.approx(time.time(), abs=10)
        until("both know both", lambda: states(right).keys() == states(wrong).keys() == {"h1", "h2"})
        assert "another meta's clock is 20 s ahead of this machine's" in warned(right)
        assert "another meta's clock is 20 s behind this machine's" in warned(wrong)
        until("it is logged", lambda: "another meta's clock is 20 s ahead" in right.log.read_text())
        clock.set(0)
        until("it is right", lambda: warned(right).strip() == warned(wrong).strip() == "ready")
        assert offset(right, "metas") == 0


def states(meta):
    """By host: its state, and the version of the agent."""
    shown = {"Authorization": f"Bearer {meta.token.read_text().strip()}"}
    listed = requests.get(f"{meta.url}/api/v1/hosts", headers=shown, timeout=5).json()["items"]
    return {host["name"]: (host["state"], *(agent["version"] for agent in host["agents"])) for host in listed}


def released(metas, version):
    """The record says so at the first, and the watch ends well at both."""
    entry = {"name": AGENT, "version": version, "tarball": f"{metas[0].url}/tarball"}
    metas[0].edit(json.dumps({"agents": [entry]}))
    for meta in metas:
        meta.run("status", AGENT, "--watch", "--every", "0.2", "--within", "50s")
        assert states(meta) == {"h1": ("new", version), "h2": ("new", version)}


def dates(url):
    """By host: how far the database's last_seen is from now, seconds."""
    with closing(Store(url)) as store:
        return {row.hostname: abs(row.last_seen - time.time()) for row in store.load_hosts()}


@pytest.fixture
def two(tmp_path):
    """Two metas on one database, and a host at each."""
    with (
        database("postgresql", tmp_path) as url,
        Meta(tmp_path / "one", url) as one,
        Meta(tmp_path / "other", url) as other,
        Host(tmp_path / "h1", one.url.removeprefix("http://"), **SETTINGS) as h1,
        Host(tmp_path / "h2", other.url.removeprefix("http://"), **SETTINGS) as h2,
    ):
        for version in ("1.0.0", "1.0.1"):
            agents.publish(one.tarballs, AGENT, version, members(QUIET))
        yield one, other, (h1, h2)


def serve(one, other, hosts):
    """Until each meta knows the hosts of both."""
    one.start()
    other.token = one.token
    other.start()
    for host in hosts:
        host.start()
    until("both know both", lambda: states(one).keys() == states(other).keys() == {"h1", "h2"})


def test_two_metas_four_hours_apart_serve_a_release_to_its_end_and_another_when_their_clocks_are_set_right(
    two, tmp_path
):
    """One is two hours ahead of the database, the other two hours behind it."""
    *metas, hosts = two
    by = (2 * HOUR, -2 * HOUR)
    clocks = [WrongClock(tmp_path / f"clock{hours}", hours) for hours in by]
    for meta, clock in zip(metas, clocks, strict=True):
        meta.environment |= clock.environment
    serve(*metas, hosts)
    released(metas, "1.0.0")
    for clock in clocks:
        clock.set(0)
    for meta, seconds in zip(metas, by, strict=True):
        told = f"the clock was set by {-seconds:+} s"
        until("meta notices", lambda meta=meta, told=told: told in meta.log.read_text())
    released(metas, "1.0.1")
    assert max(dates(metas[0].database).values()) < 60


def test_a_meta_whose_clock_is_set_while_it_is_down_serves_a_release_to_its_end(two, tmp_path):
    right, wrong, hosts = two
    clock = WrongClock(tmp_path / "clock", 40 * DAY)
    wrong.environment |= clock.environment
    serve(right, wrong, hosts)
    released((right, wrong), "1.0.0")
    assert wrong.stop() == 0
    clock.set(0)
    wrong.start()
    released((right, wrong), "1.0.1")
    assert max(dates(right.database).values()) < 60
