"""The paths before the framework: every heartbeat gets its answer."""

import gzip
import json
from contextlib import closing

import msgspec
import pytest

from helpers.threads import in_threads
from meta.access.clients import ip_network
from meta.access.tokens import mint
from meta.edits import operations
from meta.heartbeat.paths import HotPaths
from meta.heartbeat.stats import BUCKETS, GATHER, Beats
from meta.process.clock import Clock
from meta.records.history import Edit
from meta.records.model import Record, Release
from meta.service import Service
from meta.settings import Settings
from meta.store import Store
from updater.wire.heartbeat import Desired, Outcome, RealAgent, Report, render_report
from updater.wire.reply import parse_reply

NOW = 1_800_000_000.0
REPORT = Report("h1", [RealAgent("a", "1", "started", 7)], updater_version="1.0")
BODY = render_report(REPORT)


class Asked:
    """An answer, and its headers as they are on the wire."""

    def __init__(self, front, asked):
        environ, body = asked
        answer = front.paths[environ["PATH_INFO"]](environ, body)
        self.status, self.body = answer.status, answer.body
        self.line = answer.line
        head, _, body = answer.kept.partition(b"\r\n\r\n")
        assert body == self.body
        self.headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))


def environ(body=BODY, path="/heartbeat", method="POST", address="127.0.0.1", **more):
    return {"PATH_INFO": path, "REQUEST_METHOD": method, "REMOTE_ADDR": address} | more, body


@pytest.fixture
def make(tmp_path):
    """Makes a front over a service with these settings."""
    with closing(Store(f"sqlite:///{tmp_path}/meta.db")) as store:
        store.upgrade()
        services = []

        def front(**settings):
            service = Service(store, Settings(**settings), Clock(lambda: NOW, lambda: NOW))
            services.append(service)
            service.start()
            made = HotPaths(service)
            made.service = service
            return made

        yield front
        for service in services:
            service.close(10)


@pytest.fixture
def front(make):
    return make(anonymous_hosts=True)


def order(front, version="2"):
    record = Record("a", Release(version), "http://r", run_user="moni", work_dir="/srv")
    front.service.editor.apply(Edit(NOW, "ann", "", "set"), lambda records: operations.apply(records, [record]))


def test_a_heartbeat_is_taken_in_and_answered(front):
    order(front)
    found = Asked(front, environ())
    assert (found.line, found.headers) == (
        "200 OK",
        {
            "Content-Type": "application/json; charset=UTF-8",
            "Content-Length": str(len(found.body)),
            "X-Content-Type-Options": "nosniff",
        },
    )
    assert parse_reply(found.body).desired == (Desired("a", "2", "http://r", cmd="start"),)
    assert front.service.table.get("h1").last_seen == NOW
    order(front, "3")
    assert parse_reply(Asked(front, environ()).body).desired[0].version == "3"


def look(hostname="h1", **more):
    return environ(render_report(Report(hostname, [RealAgent("a", "0", "stoped", 9)], look=True)), **more)


def metrics_of_hosts(front):
    table = front.service.table
    names = table.names()
    return names, table.parts(), table.waiting, [table.get(name).tick for name in names]


def test_a_look_is_answered_as_a_heartbeat_would_be_and_forgotten(front):
    order(front)
    found = Asked(front, look())
    assert (found.status, found.headers["Content-Length"]) == (200, str(len(found.body)))
    reply, beat = parse_reply(found.body), parse_reply(Asked(front, environ()).body)
    assert reply == msgspec.structs.replace(beat, look=True, known=reply.known)
    host, before = front.service.table.get("h1"), metrics_of_hosts(front)
    group, last_seen, address = host.group, host.last_seen, host.address
    assert Asked(front, look(address="10.0.0.9")).status == 200
    assert Asked(front, look("h2")).status == 200
    assert (host.group, host.last_seen, host.address) == (group, last_seen, address)
    assert metrics_of_hosts(front) == before
    assert before[0] == ["h1"]


def test_a_look_in_the_other_dialect_is_one_too(front):
    order(front)
    reply = json.loads(Asked(front, look(path="/api/heartbeat")).body)
    assert (reply["look"], reply["desiredAgents"][0]["runUser"], front.service.table.names()) == (True, "moni", [])


def test_a_look_of_what_is_no_host_is_refused(front):
    found = Asked(front, look("../h"))
    assert (found.status, b"hostname" in found.body) == (400, True)


def test_a_report_that_says_it_is_no_look_is_a_heartbeat(front):
    body = BODY[:-1] + b',"look":false}'
    assert b"look" not in Asked(front, environ(body)).body
    assert front.service.table.names() == ["h1"]


def test_the_other_dialect_has_its_own_path(front):
    order(front)
    (agent,) = json.loads(Asked(front, environ(path="/api/heartbeat")).body)["desiredAgents"]
    assert (agent["version"], agent["runUser"], agent["workDir"]) == ("2", "moni", "/srv")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "body is blank"),
        (b"{", "body format error"),
        (b"[]", "body format error"),
        (b"null", "body format error"),
        (b"{}", "hostname is blank"),
        (b'{"hostname":"a b","realAgents":[]}', 'hostname "a b" is not 1 to 253'),
        (b'{"hostname":"<img src=x onerror=alert(1)>","realAgents":[]}', "hostname"),
        (b'{"hostname":"a\\nb","realAgents":[]}', r'hostname "a\nb" (with U+000A LINE FEED) is not'),
        (b'{"hostname":"\\ud800","realAgents":[]}', ""),
        (b'{"hostname":"\xff","realAgents":[]}', "body format error"),
        (b'{"hostname":"a\\u0000","realAgents":[]}', "hostname"),
        (b'{"hostname":"' + b"x" * 65536 + b'"}', "hostname"),
        (b'{"hostname":1}', "body format error"),
        (b'{"hostname":"a","realAgents":[{"timestamp":9223372036854775808}]}', "body format error"),
        (b'{"hostname":"a","realAgents":[{"timestamp":NaN}]}', "body format error"),
        (b'{"hostname":"a","x":' + b"[" * 100_000, "body format error"),
        (b'{"hostname":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "body format error"),
        (b'{"hostname":"a","hostname":"b","realAgents":[]}', 'the key "hostname" is given twice'),
        (b'{"hostname":"a","hostname" :"b","realAgents":[]}', 'the key "hostname" is given twice'),
        (b'{"hostname":"a","host\\u006eame":"b","realAgents":[]}', 'the key "hostname" is given twice'),
        (
            b'{"hostname":"a","realAgents":[{"name":"x","name":"y","version":"1","status":"s"}]}',
            '"name" is given twice',
        ),
        (b'{"hostname":"a","realAgents":[],"x":1,"x":2}', 'the key "x" is given twice'),
        (gzip.compress(BODY, mtime=0), "body format error"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_body_that_is_none_is_told_why(front, body, why):
    found = Asked(front, environ(body))
    assert (found.status, found.headers["Content-Type"]) == (400, "text/plain; charset=utf-8")
    assert why in found.body.decode()
    assert found.body.endswith(b"\n")
    assert found.body.count(b"\n") == 1
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert front.service.table.names() == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"hostname":"a","realAgents":null}',
        b'{"hostname" : "a", "realAgents" : [ ], "more": {"a": 1}}',
        b'{"hostname":"a"}',
        b'{"hostname":"a","realAgents":[{"name":"x"}]}',
        b'{"hostname":"a","realAgents":[{"name":"x","version":"1","status":"\\"a\\":","timestamp":1,"held":"h"}]}',
        render_report(Report("a", [], outcomes=[Outcome("x")], ip="10.0.0.1", updater_version="2")),
    ],
    ids=repr,
)
def test_what_other_peers_leave_out_or_add_is_fine(front, body):
    assert (Asked(front, environ(body)).status, front.service.table.names()) == (200, ["a"])


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS"])
def test_other_methods_are_not_allowed(front, method):
    found = Asked(front, environ(method=method))
    assert (found.status, found.headers["Allow"]) == (405, "GET, POST")


def test_hosts_that_are_too_many_are_told_to_wait(make):
    front = make(anonymous_hosts=True, max_hosts=1)
    assert Asked(front, environ()).status == 200
    found = Asked(front, environ(render_report(Report("h2", []))))
    assert (found.status, found.headers["Retry-After"]) == (429, "5")
    assert b"1 host already" in found.body


def test_a_fault_of_our_own_is_a_failure_and_no_order(front, caplog):
    front.service.table._seen = None
    found = Asked(front, environ())
    assert (found.status, found.body) == (500, b"internal error\n")
    assert "heartbeat from 127.0.0.1 failed" in caplog.text


# --- who may ---


def test_a_host_with_a_token_must_show_it_and_only_its_own(make):
    front = make(anonymous_hosts=True)
    (mine, mine_hashed), (_, other_hashed) = mint("host"), mint("host")
    front.service.host_tokens.update([("h1", mine_hashed, 1), ("h2", other_hashed, 1)])
    found = Asked(front, environ())
    assert (found.status, found.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert Asked(front, environ(HTTP_AUTHORIZATION=f"Bearer {mine}")).status == 200
    assert Asked(front, look()).status == 401
    assert Asked(front, look(HTTP_AUTHORIZATION=f"Bearer {mine}")).status == 200
    assert Asked(front, look("h2", HTTP_AUTHORIZATION=f"Bearer {mine}")).status == 403
    as_other = render_report(Report("h2", []))
    assert Asked(front, environ(as_other, HTTP_AUTHORIZATION=f"Bearer {mine}")).status == 403
    assert front.service.table.names() == ["h1"]


@pytest.mark.parametrize(
    ("settings", "more", "status"),
    [
        ({}, {}, 200),
        ({}, {"address": "::1"}, 200),
        ({}, {"address": "10.0.0.1"}, 401),
        ({}, {"HTTP_X_FORWARDED_FOR": "10.0.0.1"}, 401),
        ({"anonymous_hosts": False}, {}, 401),
        ({"anonymous_hosts": True}, {"address": "10.0.0.1"}, 200),
    ],
)
def test_hosts_without_a_token_are_answered_where_the_settings_say_so(make, settings, more, status):
    front = make(**settings)
    assert [Asked(front, each).status for each in (look(**more), environ(**more))] == [status, status]


def test_behind_a_proxy_the_host_has_its_own_address(make):
    front = make(anonymous_hosts=True, trusted_proxies=(ip_network("127.0.0.0/8"),))
    Asked(front, environ(HTTP_X_FORWARDED_FOR="6.6.6.6, 10.0.0.9"))
    assert front.service.table.get("h1").address == "10.0.0.9"


# --- health ---


def test_health_is_answered_without_the_framework(front):
    assert Asked(front, environ(b"", "/health", "GET")).body == b"ok"
    allowed = "GET, HEAD, OPTIONS"
    found = Asked(front, environ(b"", "/health", "OPTIONS"))
    assert (found.status, found.headers["Allow"], "Content-Length" in found.headers) == (204, allowed, False)
    found = Asked(front, environ(b"", "/health", "POST"))
    assert (found.status, found.headers["Allow"]) == (405, allowed)


# --- what is counted ---


def test_beats_are_counted_by_status_and_time():
    beats = Beats()
    for seconds in (0.00005, 0.0001, 0.0002, 5.0):
        beats.note(200, seconds)
    beats.note(400, 0.5)
    beats.refused(413)
    found = beats.counted()
    assert (found.by_status, beats.by_status) == ({200: 4, 400: 1, 413: 1}, {200: 4, 400: 1, 413: 1})
    assert found.by_bucket == [2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 5]
    assert len(found.by_bucket) == len(BUCKETS) + 1
    assert found.seconds == pytest.approx(5.50035)


def test_threads_lose_no_beat():
    beats, each = Beats(), 3 * GATHER
    in_threads(*[lambda: [beats.note(200, 0.001) for _ in range(each)]] * 4)
    assert beats.counted().by_status == {200: 4 * each}
    assert beats.counted().by_bucket[-1] == 4 * each
