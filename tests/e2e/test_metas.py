"""Metas that share a database, and what they do when one of them or the database goes away."""

import itertools
import json
import threading
import time
from contextlib import closing

import pytest
import requests

from helpers.cluster import Cluster
from helpers.databases import database
from lab.fleet import Meta, until
from lab.load import Load, Plan, agents_of
from meta.store import Store

AGENT = "falcon-agent"
PATIENCE = 30


class Engineer:
    """Works with one meta over its REST API."""

    def __init__(self, meta, token):
        self.meta = meta
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {token.read_text().strip()}"

    def get(self, path):
        return self.session.get(f"{self.meta.url}/api/v1/{path}", timeout=10)

    def version(self):
        return self.get(f"records/{AGENT}").json().get("version")

    def set(self, version, why=""):
        current = self.get(f"records/{AGENT}")
        record = current.json() | {"version": version}
        headers = {"If-Match": current.headers["ETag"]}
        return self.session.put(
            f"{self.meta.url}/api/v1/records/{AGENT}", json=record, headers=headers, params={"why": why}, timeout=20
        )

    def hosts(self):
        return {host["name"]: host for host in self.get("hosts?limit=1000").json()["items"]}


@pytest.fixture
def shared(tmp_path):
    with database("postgresql", tmp_path) as url:
        yield url


@pytest.fixture
def two(tmp_path, shared):
    """Two metas on one database, with one record, and an engineer at each."""
    with Meta(tmp_path / "one", shared) as one, Meta(tmp_path / "two", shared) as other:
        one.start("--anonymous-hosts")
        other.token = one.token
        other.start("--anonymous-hosts")
        one.edit(json.dumps({"agents": [agents_of("1.0.0")[0] | {"tarball": "http://127.0.0.1/t"}]}))
        yield Engineer(one, one.token), Engineer(other, one.token)


def test_an_edit_at_one_meta_is_in_force_at_the_other_within_a_second(two):
    here, there = two
    until("the record is there", lambda: there.version() == "1.0.0", within=PATIENCE)
    took = []
    for number in range(1, 6):
        assert here.set(f"1.0.{number}").status_code == 200
        began = time.monotonic()
        until("the edit is in force", in_force, there, f"1.0.{number}", within=PATIENCE)
        took.append(time.monotonic() - began)
    assert sorted(took)[2] < 1, took  # the median, for a machine that has much else to do


def in_force(engineer, version):
    """What a host is told."""
    answer = requests.post(f"{engineer.meta.url}/heartbeat", json={"hostname": "h", "realAgents": []}, timeout=10)
    return [agent["version"] for agent in answer.json()["desiredAgents"]] == [version]


def test_hosts_show_at_both_metas_wherever_they_report(two):
    here, there = two
    report = {"realAgents": [{"name": AGENT, "version": "1.0.0", "status": "started", "timestamp": 1}]}
    for engineer, name in ((here, "h1"), (there, "h2")):
        requests.post(f"{engineer.meta.url}/heartbeat", json={"hostname": name, **report}, timeout=10)
    for engineer in two:
        until("both hosts are there", lambda e=engineer: {"h1", "h2"} <= e.hosts().keys(), within=PATIENCE)
        assert engineer.hosts()["h1"]["agents"][0]["version"] == "1.0.0"


def test_a_token_revoked_at_one_meta_opens_nothing_at_the_other(two):
    here, there = two
    made = here.session.post(
        f"{here.meta.url}/api/v1/tokens", json={"kind": "operator", "name": "eve", "role": "viewer"}, timeout=10
    )
    assert made.status_code == 201, made.text
    eve = {"Authorization": f"Bearer {made.json()['token']}"}
    url = f"{there.meta.url}/api/v1/whoami"
    until("eve may look", lambda: requests.get(url, headers=eve, timeout=10).status_code == 200, within=PATIENCE)
    number = next(t["id"] for t in here.get("tokens").json()["items"] if t["name"] == "eve")
    assert here.session.delete(f"{here.meta.url}/api/v1/tokens/{number}", timeout=10).status_code in (200, 204)
    until("eve is out", lambda: requests.get(url, headers=eve, timeout=10).status_code == 401, within=PATIENCE)


def test_a_meta_that_is_killed_under_load_loses_no_acknowledged_edit_and_the_other_goes_on(two):
    here, there = two
    acknowledged = []
    with Load(there.meta.address, Plan(500, rate=200)) as load:
        beating = threading.Thread(target=load.run, args=(1000,))
        beating.start()
        with pytest.raises(requests.RequestException):
            for number in itertools.count(1):
                if len(acknowledged) == 20:
                    threading.Timer(0.05, kill_all_of, [here.meta]).start()
                answer = here.set(f"2.0.{number}", why=f"edit {number}")
                if answer.status_code == 200:
                    acknowledged.append(f"2.0.{number}")
        beating.join()
    assert len(acknowledged) >= 20
    assert (load.result.beats, load.result.failed, load.result.reconnects) == (1000, {}, 0)
    history = there.get("revisions?limit=500").json()["items"]
    kept = {change["after"]["version"] for revision in history for change in revision["changes"] if change["after"]}
    assert set(acknowledged) - kept == set()
    assert there.set("3.0.0").status_code == 200


def kill_all_of(meta):
    meta.kill()


@pytest.mark.timeout(240)
def test_while_postgresql_is_stopped_beats_are_answered_edits_refused_and_all_is_written_after(tmp_path):
    with Cluster() as cluster, Meta(tmp_path / "meta", cluster.url) as meta:
        meta.start("--anonymous-hosts")
        engineer = Engineer(meta, meta.token)
        meta.edit(json.dumps({"agents": [agents_of("1.0.0")[0] | {"tarball": "http://127.0.0.1/t"}]}))
        with Load(meta.address, Plan(300, rate=100)) as load:
            load.run(300)
            cluster.stop()
            stopped = time.monotonic()
            load.run(5600)  # 56 seconds' worth
            refused = engineer.set("1.0.1")
            assert refused.status_code == 503, refused.text
            assert "database" in refused.json()["detail"]
            assert int(refused.headers["Retry-After"]) > 0
            assert engineer.get("../../ready").status_code == 503
            assert in_force(engineer, "1.0.0")
            load.run(200)
            assert time.monotonic() - stopped > 57
            cluster.start()
            load.run(100)
        assert load.result.failed == {}
        until("meta is ready again", lambda: engineer.get("../../ready").status_code == 200, within=PATIENCE)
        with closing(Store(cluster.url)) as store:
            rows = {row.hostname: row for row in store.load_hosts()}
        assert len(rows) == 301  # and the one that asked what is in force
        until("edits are taken", lambda: engineer.set("1.0.1").status_code == 200, within=PATIENCE)
        assert in_force(engineer, "1.0.1")
