"""An edit reaches hosts at once: real metas, a real updater, and hosts of which only the requests are real."""

import hashlib
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import requests

from helpers import proxies
from helpers.databases import database
from lab.agents import publish
from lab.fleet import Host, Meta, get, until
from lab.load import agents_of

AGENT = "falcon-agent"
PATIENCE = 60


def records(version, *overrides):
    agent = agents_of(version)[0] | {"tarball": "http://127.0.0.1/t"}
    return json.dumps({"agents": [agent | {"overrides": list(overrides)}]})


def only_on(host, version):
    return {"hosts": [host], "version": version}


class Fake:
    """A host that beats, and is parked with what it was told. token: its own, "" for none."""

    def __init__(self, meta, name, token="", url=""):
        self.meta, self.name, self.url = meta, name, url or meta.url
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.known, self.notify = "", 0

    def beat(self):
        report = {"hostname": self.name, "realAgents": []}
        answer = requests.post(f"{self.url}/heartbeat", json=report, headers=self.headers, timeout=20, verify=False)
        assert answer.status_code == 200, answer.text
        self.known, self.notify = hashlib.sha256(answer.content).hexdigest()[:16], answer.json().get("notify", 0)
        return answer.json()["desiredAgents"]

    def park(self, wait=50, **headers):
        query = {"hostname": self.name, "known": self.known}
        sent = self.headers | {"prefer": f"wait={wait}"} | headers
        return requests.get(f"{self.url}/notify", params=query, headers=sent, timeout=wait + 20, verify=False)


def value(meta, name):
    """Of a metric without labels."""
    found = re.search(rf"^{name} (\S+)$", get(f"{meta.url}/metrics").text, re.MULTILINE)
    return float(found[1])


def parked(meta):
    return {host["name"] for host in meta.ask("hosts?parked=true")["items"]}


@pytest.fixture
def meta(tmp_path):
    with Meta(tmp_path / "meta") as meta:
        yield meta


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def waiting(pool, *hosts):
    """The answers to come of hosts that are parked now."""
    found = [pool.submit(host.park) for host in hosts]
    for host in hosts:
        until(f"{host.name} is parked", lambda host=host: host.name in parked(host.meta), within=PATIENCE)
    return found


def test_an_edit_wakes_the_hosts_whose_orders_it_changes_and_no_others(meta, pool):
    meta.start()
    meta.edit(records("1.0.0"))
    first, second = Fake(meta, "h1"), Fake(meta, "h2")
    assert [host.beat()[0]["version"] for host in (first, second)] == ["1.0.0", "1.0.0"]
    assert first.notify == 270
    ours, other = waiting(pool, first, second)
    meta.edit(records("1.0.0", only_on("h1", "1.0.1")))
    answer = ours.result(PATIENCE)
    assert (answer.status_code, answer.json()["within"] < 0.1) == (200, True)
    assert first.beat()[0]["version"] == "1.0.1"
    assert parked(meta) == {"h2"}
    assert [value(meta, name) for name in ("meta_parked_hosts", "meta_wakes_total")] == [1, 1]
    listed = meta.run("hosts", "--parked").stdout
    assert ("h2" in listed, "h1" in listed) == (True, False)
    assert "yes, since" in meta.run("host", "h2").stdout
    assert "yes, since" not in meta.run("host", "h1").stdout
    meta.stop()
    drained = other.result(PATIENCE)
    assert (drained.status_code, int(drained.headers["Retry-After"]) >= 3) == (503, True)


def test_a_label_that_moves_a_host_wakes_it(meta, pool):
    meta.start()
    meta.edit(records("1.0.0", {"label": "ring=canary", "version": "1.0.1"}))
    host = Fake(meta, "h1")
    host.beat()
    (answer,) = waiting(pool, host)
    meta.run("label", "h1", "ring=canary", "--yes")
    assert answer.result(PATIENCE).status_code == 200
    assert host.beat()[0]["version"] == "1.0.1"


def test_a_host_parks_by_its_own_token(meta, pool):
    meta.start()
    meta.edit(records("1.0.0"))
    rack = meta.run("token", "enrolment", "rack").stdout.strip()
    enrolled = requests.post(
        f"{meta.url}/api/v1/enrol",
        json={"hostname": "h1"},
        headers={"Authorization": f"Bearer {rack}", "Idempotency-Key": "k" * 32},
        timeout=20,
    )
    token = enrolled.json()["token"]
    host = Fake(meta, "h1", token)
    host.beat()
    assert host.park(wait=0).status_code == 204
    host.headers = {}
    assert host.park(wait=0).status_code == 401
    host.headers = {"Authorization": f"Bearer {rack}"}
    assert host.park(wait=0).status_code == 403
    other = Fake(meta, "h2", token)
    other.known = host.known
    assert other.park(wait=0).status_code == 403


def test_who_may_not_beat_without_a_token_may_not_park_without_one(meta):
    (meta.directory / "meta.yaml").write_text("anonymousHosts: false\n")
    meta.start("--config", str(meta.directory / "meta.yaml"))
    host = Fake(meta, "h1")
    host.known = "0" * 16
    assert host.park(wait=0).status_code == 401


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}])
def test_no_web_page_may_park(meta, headers):
    meta.start()
    host = Fake(meta, "h1")
    host.known = "0" * 16
    assert host.park(wait=0).status_code == 200
    assert host.park(wait=0, **headers).status_code == 403


def test_without_a_wait_meta_has_no_parking(meta):
    (meta.directory / "meta.yaml").write_text("notifyWait: 0\n")
    meta.start("--config", str(meta.directory / "meta.yaml"))
    host = Fake(meta, "h1")
    host.beat()
    assert (host.notify, host.park(wait=0).status_code) == (0, 404)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("kind", ["nginx", "nginx behind HAProxy"])
def test_hosts_park_through_proxies(meta, pool, tmp_path, kind):
    """HAProxy sends names of headers in lower case."""
    proxies.needed("nginx")
    (meta.directory / "meta.yaml").write_text("anonymousHosts: true\ntrustedProxies: [127.0.0.1]\n")
    meta.start("--config", str(meta.directory / "meta.yaml"))
    meta.edit(records("1.0.0"))
    with ExitStack() as started:
        url = started.enter_context(proxies.nginx(meta, tmp_path))
        if "HAProxy" in kind:
            proxies.needed("haproxy")
            url = started.enter_context(proxies.haproxy(url.removeprefix("https://"), tmp_path))
        host = Fake(meta, "h1", url=url)
        host.beat()
        began = time.monotonic()
        assert host.park(wait=1).status_code == 204
        assert time.monotonic() - began < 30
        (answer,) = waiting(pool, host)
        meta.edit(records("1.0.1"))
        assert answer.result(PATIENCE).status_code == 200
        assert host.beat()[0]["version"] == "1.0.1"
        gone = pool.submit(host.park, wait=50)
        until("it is parked", lambda: parked(meta) == {"h1"}, within=PATIENCE)
    assert gone.exception(PATIENCE) is not None or gone.result().status_code >= 500
    until("meta knows that it is gone", lambda: parked(meta) == set(), within=PATIENCE)
    assert "/notify" not in (tmp_path / "ops-meta.log").read_text()


def test_each_of_several_metas_wakes_its_own_within_a_second_of_an_edit_at_another(tmp_path, pool):
    with (
        database("postgresql", tmp_path) as shared,
        Meta(tmp_path / "one", shared) as one,
        Meta(tmp_path / "two", shared) as two,
    ):
        one.start()
        two.token = one.token
        two.start()
        one.edit(records("1.0.0"))
        here, there = Fake(one, "h1"), Fake(two, "h2")
        until("the other meta follows", there.beat, within=PATIENCE)
        here.beat()
        assert there.known == here.known  # a host may beat at one and park at the other
        took = []
        for number in range(1, 6):
            answers = waiting(pool, here, there)
            one.edit(records(f"1.0.{number}"))
            began = time.monotonic()
            assert [answer.result(PATIENCE).status_code for answer in answers] == [200, 200]
            took.append(time.monotonic() - began)
            assert [host.beat()[0]["version"] for host in (here, there)] == [f"1.0.{number}"] * 2
        assert sorted(took)[2] < 1, took  # the median, for a machine that has much else to do


def test_an_updater_gets_an_edit_between_two_heartbeats(meta, tmp_path):
    meta.start()
    publish(meta.tarballs, AGENT, "1.0.0")
    publish(meta.tarballs, AGENT, "1.0.1")
    ours = json.dumps({"agents": [agents_of("1.0.0")[0] | {"tarball": f"{meta.url}/tarball"}]})
    meta.edit(ours)
    with Host(tmp_path / "h1", meta.address, interval=30) as host:
        host.start()
        until("it runs the first version", lambda: host.current(AGENT) == "1.0.0", within=PATIENCE)
        until("it is parked", lambda: parked(meta) == {"h1"}, within=2 * PATIENCE)
        assert "reachable by meta at once" in host.run("status").stderr
        meta.edit(ours.replace("1.0.0", "1.0.1"))
        until("it runs the second version", lambda: host.current(AGENT) == "1.0.1", within=PATIENCE)
        assert value(meta, "meta_wakes_total") == 1
        until("it is parked again", lambda: parked(meta) == {"h1"}, within=PATIENCE)
        meta.stop()
        assert host.running
        meta.start()
        until("it comes back", lambda: parked(meta) == {"h1"}, within=2 * PATIENCE)
