"""What anybody may send to the REST API: a 4xx that says why, nothing in the log, nothing changed."""

import contextlib
import io
import json

import pytest

from helpers.meta_api import World, record
from meta.api.framework.operation import MAX_RECORDS
from meta.api.framework.problems import Refusal
from meta.api.framework.strict import parse
from meta.api.state import state
from meta.artifacts.transfer import MAX_LARGE
from meta.records.files.located_tree import MAX_NODES

PROBLEM = "application/problem+json"
GOOD = json.dumps(record())

BODIES = {
    "lone surrogate": b'{"name":"a","version":"\\ud800","tarball":"http://x.example"}',
    "lone surrogate in a key": b'{"\\ud800":1}',
    "2^63": b'{"name":"a","version":9223372036854775808,"tarball":"http://x.example"}',
    "5000 digits": b'{"name":"a","version":' + b"9" * 5000 + b"}",
    "1e400": b'{"name":"a","version":1e400}',
    "NaN": b'{"name":"a","version":NaN}',
    "Infinity": b'{"name":"a","version":-Infinity}',
    "100,000 deep": b"[" * 100_000,
    "100,000 deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "100,000 deep in a field": b'{"x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "990 deep": b'{"name":"a","x":' + b"[" * 990 + b"]" * 990 + b"}",
    "40 deep": b'{"overrides":' + b"[" * 40 + b"]" * 40 + b"}",
    "NUL": b"\0",
    "NUL in a text": b'{"name":"a","version":"1","tarball":"http://x.example/\\u0000"}',
    "NUL in a key": b'{"a\\u0000":1}',
    "doubled key": GOOD[:-1].encode() + b',"version":"2"}',
    "doubled key inside": GOOD[:-1].encode() + b',"overrides":[{"prefix":"a","version":"1","version":"2"}]}',
    "doubled key by escape": GOOD[:-1].encode() + b',"ver\\u0073ion":"2"}',
    "unknown field": GOOD[:-1].encode() + b',"colour":"red"}',
    "not UTF-8": b'{"name":"\xff"}',
    "UTF-16": GOOD.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "trailing data": GOOD.encode() + b"{}",
    "truncated": GOOD[:-1].encode(),
    "HTML": b"<html></html>",
    "blank": b"",
    "spaces": b" \n",
    "null": b"null",
    "text": b'"a"',
    "number": b"1",
    "list": b"[]",
    "empty object": b"{}",
    "version a number": b'{"name":"a","version":1.10,"tarball":"http://x.example"}',
    "version a list": b'{"name":"a","version":["1"],"tarball":"http://x.example"}',
    "version an object": b'{"name":"a","version":{"$ne":1},"tarball":"http://x.example"}',
    "version null": b'{"name":"a","version":null,"tarball":"http://x.example"}',
    "name markup": json.dumps(record("<img src=x onerror=alert(1)>")).encode(),
    "name newline": json.dumps(record("a\nINFO forged")).encode(),
    "name ends in a newline": json.dumps(record("a\n")).encode(),
    "name 64 KB": json.dumps(record("a" * 65536)).encode(),
    "name SQL": json.dumps(record("';drop table host;--")).encode(),
    "name a path": json.dumps(record("../../etc")).encode(),
    "version shell": json.dumps(record(version="$(id)")).encode(),
    "version ends in a newline": json.dumps(record(version="1\n")).encode(),
    "tarball file": json.dumps(record(tarball="file:///etc/shadow")).encode(),
    "tarball script": json.dumps(record(tarball="javascript:alert(1)")).encode(),
    "tarball no list": json.dumps(record(tarball=[])).encode(),
    "17 mirrors": json.dumps(record(tarball=["http://x.example"] * 17)).encode(),
    "cmd format": json.dumps(record(cmd="format")).encode(),
    "two selectors": json.dumps(record(overrides=[{"prefix": "a", "glob": "b", "version": "1"}])).encode(),
    "label markup": json.dumps(record(overrides=[{"label": "<b>", "version": "1"}])).encode(),
}
TARGETS = [
    ("PUT", "records/a"),
    ("PATCH", "records/a"),
    ("PUT", "records"),
    ("POST", "rollback"),
    ("POST", "labels"),
    ("PUT", "hosts/h1/labels"),
    ("POST", "tokens"),
    ("POST", "enrol"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("meta"))
    yield world
    world.close()


def send(world, method, path, body, content_type="application/json", **more):
    who = "enrolment" if path == "enrol" else "admin"
    headers = {"If-None-Match": "*"} if path == "records/a" else {"If-Match": "*"}
    return world.call(method, path, who, headers, data=body, content_type=content_type, **more)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: " ".join(target))
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_hostile_body_is_a_400_that_says_why(world, caplog, target, body):
    answer = send(world, *target, body)
    assert (answer.status_code, answer.content_type) == (400, PROBLEM), answer.text
    assert 10 < len(answer.json["detail"]) < 2100
    assert answer.json["detail"].isprintable()
    assert len(answer.data) < 20_000
    assert caplog.records == []
    assert world.service.records.revision == 0


def is_of_records(path):
    return path.startswith(("records", "difference"))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: " ".join(target))
def test_a_body_over_one_mebibyte_is_a_413(world, target):
    body = b'{"name":"' + b"x" * (1 << 20) + b'"}'
    for data in (body, body * 3):
        answer = send(world, *target, data)
        wanted = 400 if is_of_records(target[1]) else 413  # these may hold more, but not such a name
        assert (answer.status_code, answer.content_type) == (wanted, PROBLEM)


@pytest.mark.parametrize(
    "target", [one for one in TARGETS if is_of_records(one[1])], ids=lambda target: " ".join(target)
)
def test_a_body_of_records_over_32_mebibytes_or_of_no_length_over_one_is_a_413(world, target):
    body = b" " * (MAX_RECORDS + 1)
    answer = send(world, *target, body)
    assert (answer.status_code, "at most 33,554,432 bytes are read" in answer.json["detail"]) == (413, True)
    unknown = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    answer = send(world, *target, body, environ_overrides=unknown)
    assert (answer.status_code, "at most 1,048,576 bytes are read" in answer.json["detail"]) == (413, True)


def test_who_may_not_send_records_is_refused_before_they_are_read(world):
    for path, who, status in (("difference", "nobody", 401), ("records", "viewer", 403), ("difference", "host", 403)):
        method = "PUT" if path == "records" else "POST"
        answer = world.call(method, path, who, data=b" " * (2 << 20), content_type="application/json")
        assert answer.status_code == status


def test_only_so_many_large_bodies_are_read_at_once(world):
    with contextlib.ExitStack() as others, world.app.app_context():
        for _ in range(MAX_LARGE):
            others.enter_context(state().places.large_body())
        busy = send(world, "POST", "difference", b" " * (1 << 20) + b'{"agents":[]}')
        assert (busy.status_code, bool(busy.headers["Retry-After"])) == (503, True)
        assert send(world, "POST", "difference", b'{"agents":[]}').status_code == 200
    assert send(world, "POST", "difference", b" " * (1 << 20) + b'{"agents":[]}').status_code == 200


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json", "a/b/c;"],
)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: " ".join(target))
def test_a_form_of_another_site_is_a_415(world, target, content_type):
    answer = send(world, *target, GOOD.encode(), content_type)
    assert (answer.status_code, answer.content_type) == (415, PROBLEM)


PATHS = ["%2e%2e", "..%2f..", "%00", "a%0aINFO%20forged", "%ff", "a" * 10_000, "<img%20src=x>", "a%20b", "-rf", "a%0a"]
PATHS += ["%F0%9F%98%80", "{{7*7}}", "';drop%20table%20host;--", "a/b/c", "%2e", "a;b", "a%3fb=c", "%ed%a0%80"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("GET", "records/{}"),
        ("DELETE", "records/{}"),
        ("GET", "hosts/{}"),
        ("GET", "explain/{}"),
        ("PUT", "hosts/{}/retirement"),
        ("DELETE", "hosts/{}/token"),
        ("PUT", "bans/{}/1"),
        ("PUT", "bans/a/{}"),
        ("GET", "revisions/{}"),
        ("DELETE", "tokens/{}"),
        ("GET", "tarballs/{}"),
        ("PUT", "tarballs/{}"),
        ("GET", "{}"),
    ],
)
def test_a_hostile_path_names_nothing(world, caplog, method, route, path):
    answer = world.call(method, route.format(path), headers={"If-Match": "*"})
    assert answer.status_code in (400, 404, 405, 411), answer.text
    assert answer.content_type == PROBLEM
    assert caplog.records == []
    assert world.service.records.revision == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"If-Match": "\xff"},
        {"If-Match": '"' + "9" * 5000 + '"'},
        {"If-Match": "x" * 60_000},
        {"If-None-Match": "\xff"},
        {"If-None-Match": ",".join(['"1"'] * 5000)},
        {"Range": "bytes=" + "9" * 5000 + "-"},
        {"Content-Length": "x"},
        {"X-HTTP-Method-Override": "DELETE"},
        {"Accept": "text/html"},
        {"Host": "evil.example"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Cookie": "token=x"},
    ],
)
def test_hostile_headers_are_no_defect_of_ours(world, headers):
    for method, path in [
        ("GET", "records"),
        ("PUT", "records"),
        ("DELETE", "records/a"),
        ("GET", "tarballs/a-1.tar.gz"),
    ]:
        assert world.call(method, path, "admin", headers).status_code < 500
    assert world.service.records.revision == 0


def test_a_forged_proxy_header_makes_nobody_local(world):
    answer = world.call(
        "GET", "/config/reload", "nobody", {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"}
    )
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "nothing", 404),
        ("POST", "nothing", 405),
        ("GET", "rollback", 405),
        ("GET", "tokens/1", 405),
        ("PATCH", "records", 405),
        ("TRACE", "records", 405),
        ("OPTIONS", "records", 405),
        ("GET", "", 404),
    ],
)
def test_what_the_api_has_not_is_a_problem_too(world, method, path, status):
    answer = world.call(method, path)
    assert (answer.status_code, answer.content_type) == (status, PROBLEM)
    assert status != 405 or answer.headers["Allow"]


def test_a_head_is_a_get_without_its_body(world):
    answer = world.call("HEAD", "records")
    assert (answer.status_code, answer.data, answer.content_type) == (200, b"", "application/json")


def test_a_defect_of_ours_tells_the_client_nothing_and_the_log_everything(tmp_path, caplog):
    world = World(tmp_path)
    try:
        world.service.editor = None  # as no option or request could make it
        answer = send(world, "PUT", "records/a", GOOD.encode())
        assert (answer.status_code, answer.content_type) == (500, PROBLEM)
        assert answer.json == {"title": "Internal Server Error", "status": 500, "detail": "internal error"}
        assert [bool(one.exc_info) for one in caplog.records] == [True]
    finally:
        world.close()


def test_a_doubled_key_behind_many_others_is_found_in_one_pass():
    """2 of 100,000 keys compared with each other would take minutes."""
    fields = ",".join(f'"k{number}":0' for number in range(100_000))
    with pytest.raises(Refusal, match='the key "k7" is given twice'):
        parse(f'{{{fields},"k7":1}}'.encode())


def test_more_values_than_records_may_have_are_refused_before_they_are_built():
    body = b"[" + b'{"":0},' * (MAX_NODES // 2 + 1) + b"0]"
    with pytest.raises(Refusal, match="more than 1,000,000 values"):
        parse(body)
    assert parse(b"[" + b"0," * 1000 + b"0]") == [0] * 1001


@pytest.mark.parametrize(
    ("method", "path", "takes"),
    [
        ("PUT", "bans/a/9.0", "`why`, `dryRun`, `action`"),
        ("DELETE", "records/a", "`why`, `dryRun`, `action`"),
        ("GET", "bans", ""),
    ],
)
def test_a_body_where_none_is_read_is_refused_and_says_where_its_words_belong(world, method, path, takes):
    before = world.service.records.revision
    for more in (
        {"json": {"why": "it leaks"}},
        {"input_stream": io.BytesIO(b"{}"), "headers": {"Transfer-Encoding": "chunked"}},
    ):
        refused = world.call(method, path, **more)
        assert (refused.status_code, world.service.records.revision) == (400, before)
        assert "takes no body" in refused.json["detail"]
        assert refused.json["detail"].endswith(takes and f"in its query it takes {takes}")
