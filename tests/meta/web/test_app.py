"""The routes, over real records, a real host table and real files, without a server between."""

import json
import logging
import os
import socket
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.hot_paths import whole_app
from meta.artifacts.transfer import MAX_DOWNLOADS
from meta.heartbeat import answer
from meta.hosts.table import HostTable
from meta.process.clock import Clock
from meta.queries.ops_meta_status import FRESH_FOR
from meta.service import Service
from meta.settings import Settings
from meta.store import Store
from updater.wire.heartbeat import VERSION, Outcome, RealAgent, Report, render_report
from updater.wire.limits import MAX_BODY
from updater.wire.reply import parse_reply

RECORDED = json.loads((Path(__file__).parents[2] / "wire/go-meta.json").read_text())
RAW_BEAT = (Path(__file__).parents[2] / "wire/go-updater-heartbeat.http").read_bytes()
NOW = 1465874900.0
JSON_TYPE = "application/json; charset=UTF-8"
TEXT_TYPE = "text/plain; charset=utf-8"


class Time:
    """Goes on when a test says so."""

    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def tarballs(tmp_path):
    directory = tmp_path / "tarballs"
    directory.mkdir()
    return directory


@pytest.fixture
def records(tmp_path):
    file = tmp_path / "cfg.json"
    file.write_text(json.dumps(RECORDED["config"]))
    return file


@pytest.fixture
def service(tmp_path, records, tarballs, clock):
    store = Store(f"sqlite:///{tmp_path}/meta.db")
    store.upgrade()
    service = Service(store, Settings(records=records, tarballs=tarballs), Clock(clock, clock))
    service.start()
    yield service
    service.close(5)
    store.close()


@pytest.fixture
def client(service):
    return whole_app(service).test_client()


def names(service):
    return service.table.names()


def beat(client, *agents: RealAgent, hostname: str = "h", path: str = "/heartbeat", **more):
    return client.post(path, data=render_report(Report(hostname, list(agents), **more)))


# --- as the Go peer ---


def _without_our_own(reply):
    """Without the key that our updaters alone look for."""
    return {key: value for key, value in reply.items() if key != "notify"} if isinstance(reply, dict) else reply


def test_every_recorded_exchange_has_the_same_answer(client):
    for recorded in RECORDED["exchanges"]:
        answer = client.open(recorded["path"], method=recorded["method"], data=recorded["body"])
        got = (recorded["name"], answer.status_code, answer.content_type)
        assert got == (recorded["name"], recorded["status"], recorded["contentType"])
        if recorded["contentType"] == JSON_TYPE:
            assert _without_our_own(answer.json) == json.loads(recorded["reply"]), recorded["name"]
        else:
            assert answer.text.rstrip("\n") == recorded["reply"].rstrip("\n"), recorded["name"]


def test_the_go_updater_is_understood_as_it_was_recorded(client):
    body = RAW_BEAT.partition(b"\r\n\r\n")[2]
    assert parse_reply(client.post("/heartbeat", data=body).data).desired[0].name == "falcon-agent"
    assert client.get("/status/text/falcon-agent").text == "vm 1.0.1 started 1795211228 2026-11-20 21:47:08\n"


def test_the_other_dialect_is_told_of_no_agent_without_a_user_and_a_directory(client):
    body = {
        "hostname": "x",
        "ip": "10.0.0.1",
        "runUser": "root",
        "realAgents": [{"name": "a", "workDir": "/w", "runUser": "r"}],
    }
    assert client.post("/heartbeat", json=body).json["desiredAgents"]
    assert client.post("/api/heartbeat", json=body).json == {"errorMessage": "", "desiredAgents": []}


# --- status ---


def test_an_outcome_is_shown_with_the_agent_it_belongs_to(client):
    outcome = Outcome("falcon-agent", from_="1", to="2", result="rolled back", at=7)
    beat(client, RealAgent("falcon-agent", "1", "started", 8), hostname="h1", outcomes=[outcome])
    beat(client, RealAgent("falcon-agent", "1", "started", 8), hostname="h2")
    status = client.get("/status/json/falcon-agent").json
    assert status["h1"]["outcome"] == msgspec.to_builtins(outcome)
    assert "outcome" not in status["h2"]


def test_a_host_that_is_silent_for_three_days_is_not_shown(client, clock):
    beat(client, RealAgent("a"), hostname="old")
    clock.now += FRESH_FOR - 1
    beat(client, RealAgent("a"), hostname="new")
    assert set(client.get("/status/json/a").json) == {"new", "old"}
    clock.now += 1
    assert set(client.get("/status/json/a").json) == {"new"}


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("path", ["/status/{}/", "/status/{}"])
def test_a_status_needs_an_agent(client, form, path):
    answer = client.get(path.format(form))
    assert (answer.status_code, answer.text) == (400, "agent name is blank\n")


# --- small ones ---


def test_version_and_workdir(client):
    assert client.get("/version").text == VERSION
    assert client.get("/workdir").json == {"msg": "success", "data": str(Path.cwd())}


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/status", "/status/xml/a", "/a/../b", "//", "/heartbeat/x", "/%00", "/status/json/a/b"]
)
def test_an_unknown_path_is_not_found_in_plain_text(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer.content_type, answer.text) == (404, TEXT_TYPE, "not found\n")


def test_a_method_that_is_not_for_this_route_is_refused_in_plain_text(client):
    answer = client.put("/heartbeat")
    assert (answer.status_code, answer.content_type, answer.text) == (405, TEXT_TYPE, "method not allowed\n")
    assert "POST" in answer.headers["Allow"]


def test_no_answer_is_to_be_guessed_at(client):
    paths = ["/health", "/status/json/a", "/nothing", "/heartbeat"]
    assert {client.get(path).headers["X-Content-Type-Options"] for path in paths} == {"nosniff"}


def test_a_defect_of_ours_tells_the_client_nothing_and_the_log_everything(client, service, caplog):
    beat(client, RealAgent("a"))
    service.table._lock = service.table._hosts = None  # as no option or request could make it
    beaten, asked = beat(client, RealAgent("a")), client.get("/status/json/a%0aINFO%20forged")
    assert [(a.status_code, a.content_type, a.text) for a in (beaten, asked)] == [
        (500, TEXT_TYPE, "internal error\n")
    ] * 2
    told = [record for record in caplog.records if record.name in ("meta.heartbeat.answer", "meta.web.app")]
    assert [bool(record.exc_info) for record in told] == [True, True]


# --- reload ---


def test_reload_puts_an_edited_file_in_force(client, records):
    edited = json.loads(records.read_text())
    edited["agents"][0]["default"]["version"] = "9.9.9"
    records.write_text(json.dumps(edited))
    assert client.get("/config/reload").json["data"]["agents"][0]["default"]["version"] == "9.9.9"
    assert client.post("/heartbeat", json={"hostname": "x"}).json["desiredAgents"][0]["version"] == "9.9.9"


def test_reload_of_a_file_with_errors_names_them_all_and_changes_nothing(client, records, caplog):
    before = client.post("/heartbeat", json={"hostname": "x"}).json
    records.write_text('{"agents": [\n{"default": {"name": "a/b", "version": "1", "tarball": "x", "cmd": "start"}}]}')
    answer = client.get("/config/reload")
    lines = answer.json["msg"].splitlines()
    assert [line.split(": ")[1] for line in lines] == ["agents[0].default.name", "agents[0].default.tarball"]
    assert {line.split(": ")[0] for line in lines} == {f"{records}:2"}
    assert client.post("/heartbeat", json={"hostname": "x"}).json == before
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR][1:] == lines


@pytest.mark.parametrize(
    "headers", [{"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=::1"}, {"X-Real-IP": "127.0.0.1"}]
)
def test_reload_is_refused_to_what_a_proxy_hands_on(client, headers):
    answer = client.get("/config/reload", headers=headers)
    assert (answer.status_code, answer.text) == (403, "no privilege")


@pytest.mark.parametrize(
    ("address", "status"),
    [("127.0.0.1", 200), ("127.9.9.9", 200), ("::1", 200), ("::ffff:127.0.0.1", 200)]
    + [(address, 403) for address in ("10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "", "localhost", "127.0.0.1.example")],
)
def test_reload_is_for_this_machine_only(client, address, status):
    assert client.get("/config/reload", environ_base={"REMOTE_ADDR": address}).status_code == status


# --- hostile hosts ---

BAD_FORMS = {
    "deep": b"[" * 100_000,
    "deep in an ignored field": b'{"hostname":"h","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "990 deep": b'{"hostname":"h","realAgents":' + b"[" * 990 + b"]" * 990 + b"}",
    "NaN": b'{"hostname":"h","realAgents":[{"timestamp":NaN}]}',
    "1e400": b'{"hostname":"h","realAgents":[{"timestamp":1e400}]}',
    "fraction": b'{"hostname":"h","realAgents":[{"timestamp":1.5}]}',
    "2^63": b'{"hostname":"h","realAgents":[{"timestamp":9223372036854775808}]}',
    "-2^63-1": b'{"hostname":"h","realAgents":[{"timestamp":-9223372036854775809}]}',
    "5000 digits": b'{"hostname":"h","realAgents":[{"timestamp":' + b"9" * 5000 + b"}]}",
    "byte order mark": b'\xef\xbb\xbf{"hostname":"h"}',
    "UTF-16": '{"hostname":"h"}'.encode("utf-16"),
    "not UTF-8": b'{"hostname":"h\xff"}',
    "trailing data": b'{"hostname":"h"} {}',
    "truncated": b'{"hostname":"h","realAgents":[{"name":"a"',
    "HTML": b"<html></html>",
    "text": b'"hostname"',
    "number": b"5",
    "null": b"null",
    "hostname a list": b'{"hostname":["h"]}',
    "hostname an object": b'{"hostname":{"$ne":1}}',
    "hostname null": b'{"hostname":null}',
    "agents an object": b'{"hostname":"h","realAgents":{}}',
    "agent a text": b'{"hostname":"h","realAgents":["a"]}',
    "agent null": b'{"hostname":"h","realAgents":[null]}',
    "1001 agents": b'{"hostname":"h","realAgents":[' + b",".join([b"{}"] * 1001) + b"]}",
    "spaces": b" \n",
    "NUL": b"\0",
}


@pytest.mark.parametrize("body", BAD_FORMS.values(), ids=BAD_FORMS)
def test_a_body_of_another_form_is_refused_and_nobody_remembered(client, service, body):
    answer = client.post("/heartbeat", data=body)
    assert (answer.status_code, answer.content_type, answer.text) == (400, TEXT_TYPE, "body format error\n")
    assert names(service) == []


HOSTNAMES = [
    "<img src=x onerror=alert(1)>",
    "a\nINFO admin login ok",
    "a\0b",
    "a" * 65536,
    "';drop table host;--",
    "{{7*7}}",
    "../../etc",
    "😀",
    "__proto__",
    "a b",
    ".",
    "-rf",
    "javascript:alert(1)",
    "ａ",
]


@pytest.mark.parametrize("hostname", HOSTNAMES, ids=range(len(HOSTNAMES)))
@pytest.mark.parametrize("path", ["/heartbeat", "/api/heartbeat"])
def test_a_name_that_is_no_hostname_is_refused_in_one_line(client, service, hostname, path):
    answer = client.post(path, json={"hostname": hostname})
    assert (answer.status_code, answer.content_type) == (400, TEXT_TYPE)
    assert answer.text.startswith("hostname ")
    assert answer.text.count("\n") == 1
    assert len(answer.text) < 300
    assert names(service) == []


def test_a_lone_surrogate_is_refused(client, service):
    assert client.post("/heartbeat", data=b'{"hostname":"h\\ud800"}').status_code == 400
    assert names(service) == []


@pytest.mark.parametrize("text", ["<script>", "a\nb", "\0", "\x1b[2J", "\u2028", "x" * 100_000, "{{7*7}}", "‮"])
def test_whatever_an_agent_is_called_it_can_be_shown(client, text):
    assert beat(client, RealAgent(text, text, text, 2**62), hostname="h").status_code == 200
    assert client.get("/status/json/a").json == {"h": None}
    assert client.get("/status/text/a").text == "h not found\n"


def test_any_agent_name_may_be_asked_for(client):
    beat(client, RealAgent("a"))
    for name in ["%2e%2e", "a" * 100_000, "%0d%0aX: y", "%ff", "%00", "<script>", "..;"]:
        answer = client.get(f"/status/json/{name}")
        assert (answer.status_code, answer.content_type) in [(200, JSON_TYPE), (404, TEXT_TYPE)]


def test_a_body_of_one_mebibyte_is_taken(client):
    start, end = b'{"hostname":"h","x":"', b'"}'
    body = start + b"x" * (MAX_BODY - len(start + end)) + end
    assert client.post("/heartbeat", data=body).status_code == 200


KEYS = st.sampled_from(["hostname", "realAgents", "outcomes", "name", "ip"])
VALUES = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner, max_size=4),
)


@pytest.mark.long
@given(st.binary(max_size=100) | VALUES.map(json.dumps).map(str.encode))
def test_any_body_has_an_answer_and_never_a_500(body):
    answered = answer.answer(HostTable(), lambda *_: "", body, "", "", True, NOW)
    assert answered.status in (200, 400)


@pytest.mark.parametrize("host", ["", "a b", "a/b", "[::", "x" * 5000, "a:99999", "é", "a@b"])
def test_a_hostile_host_header_is_no_defect_of_ours(client, host):
    assert client.get("/health", headers={"Host": host}).status_code in (200, 400)


# --- tarballs ---


@pytest.fixture
def published(tarballs, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tarballs / "sub").mkdir()
    (tarballs / "a-1.tar.gz").write_bytes(b"\x1f\x8b packed")
    (tarballs / "sub/a-1.tar.gz.md5").write_text("0" * 32 + "  a-1.tar.gz\n")
    (tarballs / ".hidden").write_text("hidden")
    (tarballs / ".git").mkdir()
    (tarballs / ".git/config").write_text("hidden")
    (tarballs / "out").symlink_to(tmp_path / "secret")
    (tarballs / "outdir").symlink_to(tmp_path)
    (tarballs / "absolute").symlink_to("/etc/hostname")
    (tarballs / "loop").symlink_to("loop")
    (tarballs / "shown").symlink_to(".hidden")
    (tarballs / "latest.tar.gz").symlink_to("a-1.tar.gz")
    return tarballs


@pytest.mark.parametrize("prefix", ["/tarball", ""])
def test_files_are_served_below_tarball_and_as_ops_meta_does_below_the_root(client, published, prefix):
    with client.get(f"{prefix}/a-1.tar.gz") as answer:
        assert (answer.status_code, answer.content_type, answer.data) == (200, "application/gzip", b"\x1f\x8b packed")
        assert "Content-Encoding" not in answer.headers
    with client.get(f"{prefix}/sub/a-1.tar.gz.md5") as answer:
        assert (answer.status_code, answer.content_type) == (200, TEXT_TYPE)
    with client.get(f"{prefix}/latest.tar.gz") as answer:
        assert answer.data == b"\x1f\x8b packed"


def test_the_root_is_free_once_a_file_of_our_own_form_manages_the_records(client, published, records, service):
    def statuses():
        return [client.get(path).status_code for path in ("/", "/latest.tar.gz", "/tarball/latest.tar.gz")]

    of_ops_meta, ours = records.read_text(), '{"agents": [{"name": "a", "version": "1", "tarball": "http://r"}]}'
    assert statuses() == [404, 200, 200]
    records.write_text(ours)
    assert statuses() == [404, 200, 200], "the former one is in force"
    service.reload(service.would_reload().seal)
    assert statuses() == [200, 404, 200]
    records.write_text("{")
    assert client.get("/config/reload").json["msg"] != "success"
    assert statuses() == [200, 404, 200]
    records.write_text(of_ops_meta)
    service.reload(service.would_reload().seal)
    assert statuses() == [404, 200, 200]


REFUSED = [
    "out",
    "outdir",
    "outdir/secret",
    "absolute",
    "loop",
    "shown",
    ".hidden",
    ".git/config",
    "sub",
    "sub/",
    "nothing",
]
REFUSED += [
    "../secret",
    "%2e%2e/secret",
    "..%2fsecret",
    "%252e%252e/secret",
    "..\\secret",
    "sub/../../secret",
    "./a-1.tar.gz",
]
REFUSED += [
    "sub//a-1.tar.gz.md5",
    "/etc/hostname",
    "%2fetc%2fhostname",
    "a-1.tar.gz%00",
    "a-1.tar.gz/",
    "a" * 5000,
    "%ff%fe",
    "",
]


@pytest.mark.parametrize("prefix", ["/tarball/", "/"])
@pytest.mark.parametrize("path", REFUSED)
def test_nothing_else_is_served(client, published, prefix, path):
    answer = client.get(prefix + path, headers={"Host": "localhost"})  # or //etc would be taken for one
    assert (answer.status_code, answer.text) == (404, "not found\n")


def test_a_pipe_or_a_socket_is_no_file(client, tarballs):
    os.mkfifo(tarballs / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tarballs / "socket"))
        assert {client.get(path).status_code for path in ("/pipe", "/socket")} == {404}


def test_a_download_can_be_resumed_and_is_not_repeated(client, published):
    with client.get("/a-1.tar.gz", headers={"Range": "bytes=2-"}) as answer:
        assert (answer.status_code, answer.data) == (206, b" packed")
        etag = answer.headers["ETag"]
    with client.get("/a-1.tar.gz", headers={"If-None-Match": etag}) as answer:
        assert (answer.status_code, answer.data) == (304, b"")
    with client.head("/a-1.tar.gz") as answer:
        assert (answer.status_code, answer.content_length, answer.data) == (200, 9, b"")


@pytest.mark.parametrize(
    ("asked", "sent"),
    [("bytes=2-3", 2), ("bytes=2-", 7), ("bytes=0-900", 9), ("bytes=-2", 2), ("bytes=-900", 9), ("Bytes= 2-3 ", 2)],
)
def test_one_range_that_is_there_is_sent(client, published, asked, sent):
    with client.get("/a-1.tar.gz", headers={"Range": asked}) as answer:
        assert (answer.status_code, len(answer.data)) == (206, sent)


@pytest.mark.parametrize(
    "asked",
    [
        *("bytes=900-", "bytes=9-", "bytes=3-2", "bytes=-0", "bytes=-", "bytes=", "bytes=,", "bytes", "x", "2-3"),
        *("items=0-3", "bytes=a-b", "bytes=0-1,3-4", "bytes=" + ",".join(["0-"] * 1000), "bytes=" + "9" * 5000 + "-"),
        "bytes=\u0662-3",
    ],
)
def test_a_range_that_is_not_one_that_is_there_is_ignored(client, published, asked):
    with client.get("/a-1.tar.gz", headers={"Range": asked.encode().decode("latin-1")}) as answer:
        assert (answer.status_code, answer.content_length, len(answer.data)) == (200, 9, 9)


def test_a_condition_that_fails_is_answered_without_the_file(client, published):
    with client.get("/a-1.tar.gz") as answer:
        etag = answer.headers["ETag"]
    for _ in range(MAX_DOWNLOADS + 1):
        with client.get("/a-1.tar.gz", headers={"If-Match": '"other"'}) as answer:
            assert (answer.status_code, answer.text) == (412, "precondition failed\n")
    for wanted in (etag, f'"other", {etag}', "*"):
        with client.get("/a-1.tar.gz", headers={"If-Match": wanted}) as answer:
            assert (answer.status_code, len(answer.data)) == (200, 9)


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/version", "/metrics"])
def test_a_balancer_may_ask_by_options_whether_meta_answers(client, path):
    answer = client.options(path, environ_base={"REMOTE_ADDR": "10.1.2.3"})
    assert (answer.status_code, answer.headers["Allow"], answer.data) == (204, "GET, HEAD, OPTIONS", b"")


def test_more_downloads_than_there_are_places_are_put_off(client, published):
    answers = [client.get("/a-1.tar.gz") for _ in range(MAX_DOWNLOADS)]
    assert {answer.status_code for answer in answers} == {200}
    busy = client.get("/a-1.tar.gz")
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "5")
    assert client.get("/health").status_code == 200
    answers.pop().close()
    with client.get("/a-1.tar.gz") as answer:
        assert answer.status_code == 200
    for answer in answers:
        answer.close()


def test_questions_about_a_file_take_no_place(client, published):
    for _ in range(MAX_DOWNLOADS + 1):
        assert client.head("/a-1.tar.gz").status_code == 200
        assert client.get("/a-1.tar.gz", headers={"If-Match": '"x"'}).status_code == 412


def test_without_a_directory_there_are_no_tarballs(client, service):
    service.settings = service.settings._replace(tarballs=None)
    assert client.get("/tarball/cfg.json").status_code == 404
