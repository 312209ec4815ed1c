"""meta and updaters together, as processes on loopback: the job that all this is for. Once as they are, once with the hosts'
clocks two hours before and behind meta's, and once with HAProxy and nginx between, which keep their connections."""

import json
from contextlib import ExitStack

import pytest
import requests

from helpers import proxies
from helpers.agents import QUIET, members, script
from helpers.clocks import WrongClock
from lab import agents
from lab.fleet import Host, Meta, get, until

AGENT = "agent"
SETTINGS = {"interval": 0.2, "watch": 5, "probe": 0.1, "timeouts": {"start": 3, "stop": 3, "status": 3}}


@pytest.fixture(params=["directly", "clocks apart", "through proxies"])
def way(request):
    return request.param


@pytest.fixture
def meta(tmp_path, way):
    with ExitStack() as stack:
        made = stack.enter_context(Meta(tmp_path / "meta"))
        for version in ("1.0.0", "1.0.1", "1.0.2"):
            agents.publish(made.tarballs, AGENT, version, members(QUIET))
        if way == "through proxies":
            proxies.needed("nginx")
            proxies.needed("haproxy")
            settings = made.directory / "meta.yaml"
            settings.write_text("anonymousHosts: true\ntrustedProxies: [127.0.0.1]\n")
            made.environment |= {"META_CONFIG": str(settings)}
            inner = stack.enter_context(proxies.nginx(made, made.directory))
            made.url = stack.enter_context(proxies.haproxy(inner.removeprefix("https://"), made.directory))
        yield made


@pytest.fixture
def hosts(tmp_path, meta, way):
    server = meta.url.removeprefix("http://")
    with (
        Host(tmp_path / "web-01", server, **SETTINGS) as one,
        Host(tmp_path / "db-01", server, **SETTINGS) as other,
    ):
        if way == "clocks apart":
            one.environment |= WrongClock(tmp_path / "ahead", 7200).environment
            other.environment |= WrongClock(tmp_path / "behind", -7200).environment
        yield one, other


def record(meta, version, *overrides, **fields):
    entry = {
        "name": AGENT,
        "version": version,
        "tarball": f"{meta.url}/tarball",
        **fields,
        "overrides": list(overrides),
    }
    return json.dumps({"agents": [entry]})  # JSON is YAML; a person would write the latter


def legacy(meta, version, *others):
    default = {"name": AGENT, "version": version, "tarball": meta.url, "md5": "", "cmd": "start"}
    blank = {"version": "", "tarball": "", "md5": "", "cmd": ""}
    return json.dumps(
        {"debug": False, "tarballDir": "", "http": {"enabled": True, "listen": ""}}
        | {"agents": [{"default": default, "others": [blank | other for other in others]}]}
    )


def runs(meta, host, version):
    seen = meta.status(AGENT).get(host.name) or {}
    return (seen.get("version"), seen.get("status")) == (version, "started")


def all_run(meta, hosts, version):
    return all(runs(meta, host, version) for host in hosts)


def test_records_become_true_on_every_host_and_meta_sees_it(meta, hosts):
    meta.records.write_text(record(meta, "1.0.0"))
    meta.start()
    for host in hosts:
        host.start()
    until("1.0.0 runs everywhere", all_run, meta, hosts, "1.0.0")
    meta.edit(record(meta, "1.0.0", {"glob": "db-*", "version": "1.0.1"}))
    until("one host has 1.0.1", runs, meta, hosts[1], "1.0.1")
    assert runs(meta, hosts[0], "1.0.0")
    meta.edit(record(meta, "1.0.2", {"hosts": ["db-01"], "cmd": "stop"}))
    until("the other has 1.0.2", runs, meta, hosts[0], "1.0.2")
    until("the agent of db-01 is stopped", lambda: meta.status(AGENT)["db-01"]["status"] == "stoped")
    lines = get(f"{meta.url}/status/text/{AGENT}").text.splitlines()
    assert [line.split()[:3] for line in sorted(lines)] == [
        ["db-01", "1.0.1", "stoped"],
        ["web-01", "1.0.2", "started"],
    ]


@pytest.mark.parametrize("way", ["through proxies"], indirect=True)
def test_behind_proxies_that_are_trusted_meta_knows_who_asks_and_by_which_path(meta, hosts):
    meta.start()
    report = json.dumps({"hostname": "h1", "realAgents": []})
    said = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Prefix": "/meta"}
    with requests.Session() as session:
        session.trust_env = False
        assert session.post(f"{meta.url}/heartbeat", data=report, headers=said, timeout=20).status_code == 200
        document = session.get(f"{meta.url}/api/v1/openapi.json", headers=said, timeout=20).json()
    assert json.loads(meta.run("host", "h1", "-o", "json").stdout)["address"] == "192.0.2.7"
    assert document["servers"] == [{"url": "/meta"}]


def test_a_bad_release_goes_back_by_itself_and_meta_knows_why(meta, hosts):
    dies = script('[ "$1" = start ] && echo "no agent.conf" >&2; [ "$1" = status ] && echo stoped; exit 0')
    agents.publish(meta.tarballs, AGENT, "1.0.3", members(dies))
    meta.records.write_text(record(meta, "1.0.0"))
    meta.start()
    for host in hosts:
        host.start()
    until("1.0.0 runs everywhere", all_run, meta, hosts, "1.0.0")
    meta.edit(record(meta, "1.0.3"))
    until(
        "both went back",
        lambda: all((meta.status(AGENT)[h.name] or {}).get("outcome", {}).get("to") == "1.0.3" for h in hosts),
    )
    until("1.0.0 runs again", all_run, meta, hosts, "1.0.0")
    outcome = meta.status(AGENT)["web-01"]["outcome"]
    assert (outcome["from"], outcome["result"], outcome["evidence"]) == ("1.0.0", "rolled back", "no agent.conf")
    meta.edit(record(meta, "1.0.2"))
    until("the next release is taken", all_run, meta, hosts, "1.0.2")


def test_a_configuration_of_ops_meta_drives_the_fleet_as_it_is(meta, hosts):
    meta.records = meta.directory / "cfg.json"
    meta.records.write_text(legacy(meta, "1.0.0", {"prefix": "db", "version": "1.0.1"}))
    meta.start()
    for host in hosts:
        host.start()
    until("web has the default", runs, meta, hosts[0], "1.0.0")
    until("db has its override", runs, meta, hosts[1], "1.0.1")


def test_hosts_outlive_a_restart_of_meta_and_updaters_outlive_its_absence(meta, hosts):
    meta.records.write_text(record(meta, "1.0.0"))
    meta.start()
    hosts[0].start()
    until("1.0.0 runs", runs, meta, hosts[0], "1.0.0")
    hosts[0].stop()
    meta.stop()
    meta.start()
    assert runs(meta, hosts[0], "1.0.0"), "meta remembers the host that no longer reports"
    meta.stop()
    hosts[0].start()
    until("the updater notices", lambda: "nothing else is changed" in hosts[0].log.read_text())
    assert hosts[0].control(AGENT, "status") == "started"
    meta.records.write_text(record(meta, "1.0.1"))
    meta.start()
    until("it follows again", runs, meta, hosts[0], "1.0.1")


def test_a_plan_makes_no_host_in_meta_and_says_nothing_of_a_heartbeat(meta, hosts):
    meta.records.write_text(record(meta, "1.0.0"))
    meta.start()
    done = hosts[0].run("plan")
    assert (done.returncode, done.stderr) == (0, "")
    assert "agent: install 1.0.0 (desired)" in done.stdout
    assert meta.status(AGENT) == {}
    assert json.loads(meta.run("hosts", "-o", "json").stdout)["items"] == []


def test_an_edit_with_an_error_changes_nothing_on_any_host(meta, hosts):
    meta.records.write_text(record(meta, "1.0.0"))
    meta.start()
    hosts[0].start()
    until("1.0.0 runs", runs, meta, hosts[0], "1.0.0")
    meta.records.write_text(record(meta, "1.0.1", cmd="format"))
    answer = get(f"http://{meta.address}/config/reload").json()["msg"]
    assert "agents[0].cmd" in answer
    assert hosts[0].run("plan").stdout == "agent: as desired (1.0.0)\n"
