"""meta as a company runs it, in real processes: slow and hostile clients, its log, backups, restarts, tokens of hosts."""

import json
import re
import shlex
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from helpers.meta_server import meta as run_meta
from lab.fleet import Meta, get, until
from lab.load import Load, Plan, agents_of
from lab.ports import free_port
from meta.server import STOP_WITHIN
from meta.store import Store

AGENT = "falcon-agent"
STARTED = {"name": AGENT, "version": "1.0.0", "status": "started", "timestamp": 1}
TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} [A-Z]+ [\w.]+: .*")


@pytest.fixture
def meta(tmp_path):
    with Meta(tmp_path / "meta") as made:
        yield made


def session(meta=None):
    made = requests.Session()
    made.trust_env = False
    if meta:
        made.headers["Authorization"] = f"Bearer {meta.token.read_text().strip()}"
    return made


def beat(meta, hostname, token="", *agents, **more):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    report = {"hostname": hostname, "realAgents": list(agents or [STARTED])} | more
    return requests.post(f"{meta.url}/heartbeat", json=report, headers=headers, timeout=10)


def connected(meta):
    host, port = meta.address.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def desire(meta, version, count=1):
    """Put this version of the first agents in force, in the database."""
    file = meta.directory / "desired.json"
    agents = [agent | {"tarball": "http://releases.example/t"} for agent in agents_of(version)[:count]]
    file.write_text(json.dumps({"agents": agents}))
    meta.run("apply", str(file), "--yes")


def hosts_in(database):
    with closing(Store(database)) as store:
        return {row.hostname: row for row in store.load_hosts()}


# --- slow clients ---


class Slow:
    """Connections that send what they have and then a byte now and then, or nothing, until it ends."""

    def __init__(self, meta):
        self._address = ("127.0.0.1", int(meta.address.rpartition(":")[2]))
        self._sockets = []
        self._dripping = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._drip)

    def open(self, count, first, drips=False, source="127.0.0.1"):
        for _ in range(count):
            sock = socket.create_connection(self._address, timeout=10, source_address=(source, 0))
            sock.sendall(first.encode())
            self._sockets.append(sock)
            if drips:
                self._dripping.append(sock)

    def _drip(self):
        while not self._end.wait(0.2):
            for sock in self._dripping:
                with suppress(OSError):
                    sock.sendall(b" ")

    def answered(self):
        """How many of them got an answer, or were hung up on."""
        found = 0
        for sock in self._sockets:
            sock.setblocking(False)
            try:
                sock.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            except OSError:
                pass
            found += 1
        return found

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()
        for sock in self._sockets:
            sock.close()


def head(method, path, length=1000, **headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""])


def slowest_beat(meta, count, source="127.0.0.1"):
    """Seconds. Each beat has a connection of its own, and must be answered with 200."""
    slowest = 0.0
    for number in range(count):
        body = json.dumps({"hostname": f"quick-{number}", "realAgents": [STARTED]})
        request = head("POST", "/heartbeat", len(body), Connection="close") + body
        began = time.monotonic()
        address = ("127.0.0.1", int(meta.address.rpartition(":")[2]))
        with socket.create_connection(address, timeout=10, source_address=(source, 0)) as sock:
            sock.sendall(request.encode())
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        slowest = max(slowest, time.monotonic() - began)
    return slowest


@pytest.mark.timed
def test_two_hundred_slow_connections_do_not_stop_the_beats(meta):
    meta.start()
    with Slow(meta) as slow:
        slow.open(60, head("POST", "/heartbeat") + '{"hostname":')
        slow.open(60, head("POST", "/heartbeat"), drips=True)
        slow.open(40, "POST /heartbeat HTTP/1.1\r\nHost: me")
        slow.open(40, head("GET", "/api/v1/whoami"), drips=True)
        assert slowest_beat(meta, 200) < 2
        assert get(f"{meta.url}/ready").text == "ready"
        assert session(meta).get(f"{meta.url}/api/v1/hosts", timeout=5).status_code == 200
    assert meta.stop() == 0


@pytest.mark.timed
def test_thousands_of_slow_connections_of_one_address_do_not_stop_the_others(meta):
    """Its own ones beyond the limit are refused at once."""
    (meta.directory / "meta.yaml").write_text("maxConnectionsOfOne: 1000\n")
    meta.start("--config", str(meta.directory / "meta.yaml"))
    with Slow(meta) as slow:
        slow.open(500, head("POST", "/heartbeat"), drips=True)
        slow.open(700, "POST /heartbeat HTTP/1.1\r\nHost: me")
        until("those that are too many are refused", lambda: slow.answered() == 200)
        assert slowest_beat(meta, 100, source="127.0.0.2") < 2
    until("the places are free again", lambda: beat(meta, "h1").status_code == 200)
    assert slowest_beat(meta, 10) < 2


@pytest.mark.timed
def test_slow_senders_with_a_token_take_no_places_from_the_beats(meta):
    """One enrolment token is known to a whole rack."""
    meta.start()
    authorization = f"Bearer {meta.token.read_text().strip()}"
    slow_put = head("PUT", "/api/v1/records", Authorization=authorization, Content_Type="application/json")
    with Slow(meta) as slow:
        for number in range(6):
            slow.open(100, slow_put, source=f"127.0.0.{number + 10}")  # each within its rate
        assert slowest_beat(meta, 20, source="127.0.0.2") < 2


def test_who_sends_no_end_of_its_header_is_hung_up_on(meta):
    meta.start()
    with Slow(meta) as slow:
        slow.open(20, "POST /heartbeat HTTP/1.1\r\nHost: me")
        until("all are hung up on", lambda: slow.answered() == 20, within=20)


# --- who may reach it ---


def test_beyond_loopback_it_wants_an_admin_and_says_how_to_make_one(tmp_path):
    port = free_port()
    serve = ("serve", "--listen", f"0.0.0.0:{port}")
    refused = run_meta(*serve, directory=tmp_path)
    assert refused.returncode == 2, refused.stderr
    said = re.search(r"`(meta token new NAME --role admin --database \S+)`", refused.stderr)
    assert said, refused.stderr
    made = run_meta(*shlex.split(said[1].replace("NAME", "me"))[1:], directory=tmp_path)
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    with served(tmp_path, "0.0.0.0", port) as meta:
        assert get(f"{meta.url}/api/v1/tokens").status_code == 401
        asked = requests.get(f"{meta.url}/api/v1/whoami", headers={"Authorization": f"Bearer {token}"}, timeout=5)
        assert asked.json() == {"name": "me", "role": "admin"}


@contextmanager
def served(directory, host, port):
    """A meta on the default database of this directory, beyond loopback."""
    with Meta(directory, f"sqlite:///{directory}/var/meta.db") as meta:
        meta.address = f"{host}:{port}"
        meta.url = f"http://127.0.0.1:{port}"
        meta.token.touch()  # it has one already
        yield meta.start()


def test_a_host_with_a_token_cannot_be_impersonated(meta):
    meta.start()
    api = f"{meta.url}/api/v1"
    with session(meta) as admin:
        made = admin.post(f"{api}/tokens", json={"kind": "enrolment", "name": "rack 7", "pattern": "r7-*"}, timeout=5)
        enrolment = {"Authorization": f"Bearer {made.json()['token']}"}
    assert beat(meta, "r7-1").status_code == 200, "before it is enrolled it is one of those on this machine"
    tokens = {}
    for host in ("r7-1", "r7-2"):
        given = requests.post(f"{api}/enrol", json={"hostname": host}, headers=enrolment, timeout=5)
        assert given.status_code == 201
        tokens[host] = given.json()["token"]
    assert requests.post(f"{api}/enrol", json={"hostname": "r7-1"}, headers=enrolment, timeout=5).status_code == 409
    assert requests.post(f"{api}/enrol", json={"hostname": "r8-1"}, headers=enrolment, timeout=5).status_code == 403
    assert beat(meta, "r7-1").status_code == 401
    for wrong in (tokens["r7-2"], made.json()["token"], meta.token.read_text().strip(), "ou_h_" + "x" * 43):
        assert beat(meta, "r7-1", wrong).status_code == 403
    assert beat(meta, "r7-1", tokens["r7-1"], STARTED | {"version": "2.0.0"}).status_code == 200
    meta.stop()
    meta.start()
    assert beat(meta, "r7-1").status_code == 401, "a restart forgets no token"
    assert beat(meta, "r7-1", tokens["r7-1"], STARTED | {"version": "2.0.1"}).status_code == 200
    assert (meta.status(AGENT)["r7-1"] or {})["version"] == "2.0.1", "only its own reports have counted"
    logged = meta.log.read_text()
    assert not [
        text for text in (*tokens.values(), made.json()["token"], meta.token.read_text().strip()) if text in logged
    ]


# --- what it keeps ---


def test_sigterm_writes_everything_down(meta):
    meta.start()
    with Load(meta.address, Plan(500, changing=0.5)) as load:
        for _ in range(3):
            load.run(500)  # each host once, so that no report of a host overtakes another one
        assert not load.result.failed
        assert meta.stop(signal.SIGTERM) == 0
    rows = hosts_in(meta.database)
    assert len(rows) == 500
    told = {f"host-{number:07d}.example.com": f"1.0.{load._changed.get(number, 0) % 5}" for number in range(500)}
    written = {name: json.loads(row.agents)[0][1] for name, row in rows.items()}
    assert written == told
    assert "could not be written" not in meta.log.read_text()


HALF = {
    "header": b"POST /heartbeat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-",
    "heartbeat": b"POST /heartbeat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
    "edit": b"PATCH /api/v1/records/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
}


@pytest.mark.parametrize("half", HALF.values(), ids=HALF.keys())
def test_a_stop_does_not_wait_for_who_has_sent_half_a_request_and_writes_down_what_was_heard(meta, half):
    meta.start()
    with connected(meta) as slow:
        slow.sendall(half)
        for number in range(50):
            assert beat(meta, f"h{number}").status_code == 200
        began = time.monotonic()
        assert meta.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began < STOP_WITHIN
    assert set(hosts_in(meta.database)) == {f"h{number}" for number in range(50)}
    assert " ERROR " not in meta.log.read_text()


def test_a_stop_that_cuts_a_download_off_has_written_down_what_was_heard(meta):
    """A client that reads its download slowly is waited for, until the time for it is over."""
    meta.start()
    (meta.tarballs / "a-1.tar.gz").write_bytes(b"x" * (64 << 20))
    with connected(meta) as slow:
        slow.sendall(b"GET /tarball/a-1.tar.gz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert slow.recv(1000).startswith(b"HTTP/1.1 200 ")
        for number in range(50):
            assert beat(meta, f"h{number}").status_code == 200
        assert meta.stop(signal.SIGTERM) == 0
    assert "1 answer cut off after 8 s" in meta.log.read_text()
    assert set(hosts_in(meta.database)) == {f"h{number}" for number in range(50)}


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_restart_keeps_hosts_records_and_tokens(meta, how):
    meta.start()
    desire(meta, "1.0.0", count=3)
    for number in range(50):
        assert beat(meta, f"h{number}").status_code == 200
    if how == "stopped":
        meta.stop()
    else:
        until("the hosts are written", lambda: len(hosts_in(meta.database)) == 50)
        meta.kill()
    meta.start()
    with session(meta) as admin:
        page = admin.get(f"{meta.url}/api/v1/hosts?limit=1000", timeout=5).json()["items"]
        assert {host["name"] for host in page} == {f"h{number}" for number in range(50)}
        assert {host["agents"][0]["version"] for host in page} == {"1.0.0"}
        assert admin.get(f"{meta.url}/api/v1/records", timeout=5).json()["agents"][0]["name"] == AGENT


def test_a_backup_under_load_can_be_served_and_put_in_place(tmp_path, meta):
    meta.start()
    desire(meta, "1.0.0", count=3)
    copy = tmp_path / "copy.db"
    with Load(meta.address, Plan(400, changing=0.2)) as load:
        load.run(400)
        until("all hosts are written", lambda: len(hosts_in(meta.database)) == 400)
        beating = threading.Thread(target=load.run, args=(4000,))
        beating.start()
        said = meta.run("backup", str(copy), "--database", meta.database).stdout
        beating.join()
    assert str(copy) in said
    assert load.result.failed == {}
    assert len(hosts_in(f"sqlite:///{copy}")) == 400

    with ExitStack() as stack:  # somewhere else, with the tokens that are in it
        other = stack.enter_context(Meta(tmp_path / "other", f"sqlite:///{tmp_path}/elsewhere.db"))
        shutil.copy(copy, tmp_path / "elsewhere.db")
        shutil.copy(meta.token, other.token)
        other.start()
        assert other.run("get", "-o", "json").stdout == meta.run("get", "-o", "json").stdout

    desire(meta, "9.9.9")
    assert beat(meta, "after-the-backup").status_code == 200
    meta.kill()  # as it may be when one restores: with a log of writes beside the database
    restore(meta, copy)
    meta.start()
    assert "9.9.9" not in meta.run("get").stdout
    assert len(json.loads(meta.run("hosts", "--all", "-o", "json").stdout)["items"]) == 400
    assert beat(meta, "after-the-restore").status_code == 200
    until("it is written", lambda: "after-the-restore" in hosts_in(meta.database))


def restore(meta, copy):
    """As docs/operating-meta.md says."""
    database = meta.directory / "meta.db"
    for file in meta.directory.glob("meta.db*"):
        file.rename(file.with_name(f"old.{file.name}"))
    shutil.copy(copy, database)


# --- its log ---

HOSTILE = (
    "h\nERROR meta: all hosts are gone",
    "h\r\n2026-01-01T00:00:00+0000 INFO meta: x",
    "h\u2028x",
    "h\x00",
    "h\x1b[2J",
    "-h",
    "",
)


def be_hostile(meta):
    """Everything that a stranger can send, with line ends in it; and some failures of our own."""
    bad = HOSTILE[0]
    for hostname in HOSTILE:
        assert beat(meta, hostname).status_code == 400
    assert (
        beat(meta, "h", "", {"name": bad, "version": bad, "status": bad, "timestamp": 1, "held": bad}).status_code
        == 200
    )
    outcome = {
        "agent": bad,
        "from": bad,
        "to": bad,
        "step": bad,
        "result": bad,
        "reason": bad,
        "evidence": bad,
        "at": 1,
    }
    assert beat(meta, "h", outcomes=[outcome], updaterVersion=bad).status_code == 200
    forwarded = {"X-Forwarded-For": "x\tERROR", "Authorization": "Bearer \x7f"}
    requests.post(f"{meta.url}/heartbeat", json={"hostname": "h2"}, headers=forwarded, timeout=5)
    for path in (
        "/status/text/%0aERROR%20meta:%20x",
        "/%0d%0aERROR",
        "/api/v1/hosts/%0aERROR",
        "/tarball/%0a",
        "/%e2%80%a8",
    ):
        assert get(f"{meta.url}{path}").status_code < 500
    with session(meta) as admin:
        api = f"{meta.url}/api/v1"
        for name in (bad, "x\n"):
            made = admin.post(f"{api}/tokens", json={"kind": "operator", "name": name, "role": "viewer"}, timeout=5)
            assert made.status_code == 400
        record = agents_of("1.0.0")[0] | {"tarball": "http://r"}
        put = admin.put(
            f"{api}/records/{AGENT}", json=record, params={"why": bad}, headers={"If-None-Match": "*"}, timeout=5
        )
        assert put.status_code == 400
        query = {"why": "one line, with \x85 and \u2028 in it"}
        admin.put(f"{api}/records/{AGENT}", json=record, params=query, headers={"If-None-Match": "*"}, timeout=5)


def test_nothing_that_is_sent_makes_a_line_of_its_own_in_the_log(meta):
    meta.start("--log-level", "debug")
    be_hostile(meta)
    assert meta.stop() == 0
    lines = meta.log.read_text().splitlines()
    assert [line for line in lines if not TEXT_LINE.fullmatch(line)] == []
    assert not [line for line in lines if line.split()[1] in ("ERROR", "CRITICAL")]


def test_json_logs_are_one_object_per_line(meta):
    meta.start("--log-format", "json", "--log-level", "debug")
    be_hostile(meta)
    assert meta.stop() == 0
    objects = [json.loads(line) for line in meta.log.read_text().splitlines()]
    assert {tuple(one) for one in objects} == {("time", "level", "logger", "message")}
    assert all(datetime.fromisoformat(one["time"]).tzinfo for one in objects)
    said = [one["message"] for one in objects]
    assert any("listens on http://" in text for text in said)
    assert said[-1] == "meta stopped"
    assert not [one for one in objects if one["level"] in ("ERROR", "CRITICAL")]


# --- /metrics ---


def metrics(meta):
    """(name, labels) -> value, as Prometheus reads them."""
    families = list(text_string_to_metric_families(get(f"{meta.url}/metrics").text))
    assert all(family.documentation for family in families)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_can_be_read_and_are_true(meta):
    meta.start()
    desire(meta, "1.0.0")
    for number in range(3):
        beat(meta, f"h{number}")
    strange = 'a"b\\c\n# HELP x'
    beat(meta, "h3", "", {"name": strange, "version": strange, "status": "started", "timestamp": 1})
    beat(meta, "no host\n")
    found = metrics(meta)
    assert found["meta_heartbeats_total", (("status", "200"),)] == 4
    assert found["meta_heartbeats_total", (("status", "400"),)] == 1
    assert found["meta_hosts", (("state", "new"),)] == 4
    assert sum(value for (name, _), value in found.items() if name == "meta_hosts") == 4
    assert found["meta_drift_hosts", (("agent", AGENT), ("version", "1.0.0"))] == 1, "h3 shall run it, and does not"
    running = {labels: value for (name, labels), value in found.items() if name == "meta_agent_hosts"}
    assert running[("agent", AGENT), ("status", "started"), ("version", "1.0.0")] == 3
    assert [dict(labels)["agent"] for labels in running if dict(labels)["agent"] != AGENT] == ['a"b\\c # HELP x']
    buckets = [value for (name, _), value in found.items() if name == "meta_heartbeat_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert buckets[-1] == found["meta_heartbeat_seconds_count", ()] == 5
    assert (found["meta_ready", ()], found["meta_records_revision", ()]) == (1, 1)
    assert found["meta_flush_lag_seconds", ()] < 5
    until("nothing waits to be written", lambda: metrics(meta)["meta_queue_hosts", ()] == 0)


def test_load_shows_in_the_metrics(meta):
    meta.start()
    with Load(meta.address, Plan(300)) as load:
        load.run(900)
    assert Counter(load.result.failed) == {}
    assert metrics(meta)["meta_heartbeats_total", (("status", "200"),)] == 900
