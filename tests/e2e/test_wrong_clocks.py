"""Clocks of metas, as processes: one that is set makes no host late, and one that is not the database's is told."""

import json
import time
from contextlib import closing

import pytest
import requests

from helpers.agents import QUIET, members
from helpers.clocks import settable_clock
from helpers.databases import database
from lab import agents
from lab.fleet import Host, Meta, get, until
from meta.store import Store

AGENT = "agent"
SETTINGS = {"interval": 0.5, "watch": 3, "probe": 0.1, "timeouts": {"start": 3, "stop": 3, "status": 3}}


def test_a_clock_that_is_set_two_hours_forward_makes_no_host_late_and_ends_tokens(tmp_path):
    with Meta(tmp_path / "meta") as meta:
        offset = tmp_path / "offset"
        meta.environment |= settable_clock(offset)
        meta.start()
        made = meta.run("token", "new", "short", "--role", "viewer", "--expires", "1h").stdout.strip()
        requests.post(f"{meta.url}/heartbeat", json={"hostname": "h1", "realAgents": []}, timeout=5).raise_for_status()

        def who():
            shown = {"Authorization": f"Bearer {made}"}
            return requests.get(f"{meta.url}/api/v1/whoami", headers=shown, timeout=5).status_code

        assert who() == 200
        offset.write_text("+2h\n")
        until("meta notices", lambda: "the clock was set by +7200 s" in meta.log.read_text())
        assert meta.run("hosts", "-o", "json").stdout.count('"state":"late"') == 0
        states = get(f"{meta.url}/metrics").text
        assert 'meta_hosts{state="late"} 0.0' in states
        assert 'meta_hosts{state="lost"} 0.0' in states
        assert who() == 401


@pytest.mark.parametrize(("offset", "words"), [("+20s", "20 s ahead of the database's"), ("-20s", "20 s behind")])
def test_a_clock_that_is_not_the_databases_is_told_and_meta_is_ready(tmp_path, offset, words):
    with database("postgresql", tmp_path) as url, Meta(tmp_path / "meta", url) as meta:
        meta.environment |= settable_clock(tmp_path / "offset", offset)
        meta.start()
        answer = get(f"{meta.url}/ready")
        assert (answer.status_code, answer.text.splitlines()[0]) == (200, "ready")
        assert words in answer.text.replace("19 s", "20 s")
        assert words.split(" s ")[1] in meta.log.read_text()
        line = next(line for line in get(f"{meta.url}/metrics").text.splitlines() if 'of="database"' in line)
        assert abs(float(line.split()[1])) == pytest.approx(20, abs=4)


def states(meta):
    """By host: its state, and the version of the agent."""
    shown = json.loads(meta.run("hosts", "-o", "json").stdout)
    listed = shown["items"] if isinstance(shown, dict) else shown
    return {host["name"]: (host["state"], *(agent["version"] for agent in host["agents"])) for host in listed}


def released(metas, version):
    """The record says so at the first, and the watch ends well at both."""
    entry = {"name": AGENT, "version": version, "tarball": f"{metas[0].url}/tarball"}
    metas[0].edit(json.dumps({"agents": [entry]}))
    for meta in metas:
        meta.run("status", AGENT, "--watch", "--within", "50s")
        assert states(meta) == {"h1": ("new", version), "h2": ("new", version)}


def dates(url):
    """By host: how far the database's last_seen is from now, seconds."""
    with closing(Store(url)) as store:
        return {row.hostname: abs(row.last_seen - time.time()) for row in store.load_hosts()}


@pytest.fixture
def two(tmp_path):
    """Two metas on one database, of which the second has a clock to be set, and a host at each."""
    with (
        database("postgresql", tmp_path) as url,
        Meta(tmp_path / "right", url) as right,
        Meta(tmp_path / "wrong", url) as wrong,
        Host(tmp_path / "h1", right.url.removeprefix("http://"), **SETTINGS) as h1,
        Host(tmp_path / "h2", wrong.url.removeprefix("http://"), **SETTINGS) as h2,
    ):
        for version in ("1.0.0", "1.0.1"):
            agents.publish(right.tarballs, AGENT, version, members(QUIET))
        right.start()
        wrong.token = right.token
        yield right, wrong, (h1, h2)


def serve(right, wrong, hosts):
    """Until each meta knows the hosts of both."""
    wrong.start()
    for host in hosts:
        host.start()
    until("both know both", lambda: states(right).keys() == states(wrong).keys() == {"h1", "h2"})


@pytest.mark.parametrize("hours", [2, -2])
def test_two_metas_two_hours_apart_serve_a_release_to_its_end_and_another_when_the_clock_is_set_right(
    two, tmp_path, hours
):
    right, wrong, hosts = two
    wrong.environment |= settable_clock(tmp_path / "offset", f"{hours:+}h")
    serve(right, wrong, hosts)
    released((right, wrong), "1.0.0")
    (tmp_path / "offset").write_text("+0h\n")
    until("meta notices", lambda: f"the clock was set by {-3600 * hours:+} s" in wrong.log.read_text())
    released((right, wrong), "1.0.1")
    assert max(dates(right.database).values()) < 60


def test_a_meta_whose_clock_is_set_while_it_is_down_serves_a_release_to_its_end(two, tmp_path):
    right, wrong, hosts = two
    wrong.environment |= settable_clock(tmp_path / "offset", "+40d")
    serve(right, wrong, hosts)
    released((right, wrong), "1.0.0")
    wrong.stop()
    (tmp_path / "offset").write_text("+0h\n")
    wrong.start()
    released((right, wrong), "1.0.1")
    assert max(dates(right.database).values()) < 60
