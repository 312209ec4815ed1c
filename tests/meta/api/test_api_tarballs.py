"""Publishing tarballs by REST, and what is served of them."""

import contextlib
import gzip
import hashlib
import os
import threading

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from helpers.meta_api import NOW, World
from meta.api.state import state
from meta.artifacts import tarballs
from meta.artifacts.transfer import MAX_UPLOADS
from meta.errors import TryLater

PROBLEM = "application/problem+json"
PACKED = gzip.compress(b"control" * 1000, mtime=0)
NAME = "a-1.0.tar.gz"
MD5 = hashlib.md5(PACKED).hexdigest()
SHA256 = hashlib.sha256(PACKED).hexdigest()


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def put(world, name=NAME, body=PACKED, query="", who="editor", **more):
    return world.call("PUT", f"tarballs/{name}{query}", who, data=body, content_type="application/octet-stream", **more)


def refused(answer, status):
    assert (answer.status_code, answer.content_type) == (status, PROBLEM), answer.text
    return answer.json


def files(world):
    return sorted(os.listdir(world.tarballs))


def test_what_is_published_is_served_with_its_digests(world):
    answer = put(world, query=f"?sha256={SHA256.upper()}")
    assert answer.status_code == 201
    assert {k: v for k, v in answer.json.items() if k != "modified"} == {
        "name": NAME,
        "size": len(PACKED),
        "md5": MD5,
        "sha256": SHA256,
        "agent": "a",
        "version": "1.0",
        "who": "editor",
        "published": NOW,
        "desiredBy": [],
        "hosts": 0,
    }
    for path in (f"/tarball/{NAME}", f"/api/v1/tarballs/{NAME}"):
        with world.call("GET", path, "host") as got:
            assert (got.status_code, got.data, got.content_type) == (200, PACKED, "application/gzip")
            assert got.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert MD5 in got.headers["ETag"]
            assert not got.headers["ETag"].startswith("W/")
    assert world.call("GET", f"/tarball/{NAME}.md5", "host").text == f"{MD5}  {NAME}\n"
    listing = world.call("GET", "tarballs", "viewer").json["items"]
    assert [(one["name"], one["size"], one["md5"]) for one in listing] == [(NAME, len(PACKED), MD5)]
    assert files(world) == [NAME, f"{NAME}.md5"]
    assert {(world.tarballs / name).stat().st_mode & 0o777 for name in files(world)} == {0o644}


def test_the_same_bytes_may_come_again_and_others_never(world):
    put(world)
    assert put(world).status_code == 200
    refused(put(world, body=gzip.compress(b"other")), 409)
    with world.call("GET", f"/tarball/{NAME}", "host") as got:
        assert got.data == PACKED
    assert files(world) == [NAME, f"{NAME}.md5"]


def test_a_publishing_that_was_killed_before_its_digest_is_finished_by_the_next(world):
    (world.tarballs / NAME).write_bytes(PACKED)
    assert put(world).status_code == 200
    assert (world.tarballs / f"{NAME}.md5").read_text() == f"{MD5}  {NAME}\n"


@pytest.mark.parametrize(
    ("body", "query", "status"),
    [
        (b"", "", 411),
        (b"<html>", "", 400),
        (b"\x1f", "", 400),
        (PACKED, "?sha256=" + "0" * 64, 400),
        (PACKED, "?sha256=x", 400),
        (PACKED, "?md5=x", 400),
        (PACKED + bytes(1 << 20), "", 413),
    ],
)
def test_bytes_that_are_no_good_tarball_leave_nothing(world, body, query, status):
    refused(put(world, body=body, query=query), status)
    assert files(world) == []


@pytest.mark.parametrize(
    "name",
    [
        "a.tar.gz",
        "a-1.zip",
        ".a-1.tar.gz",
        "-a-1.tar.gz",
        "..%2fa-1.tar.gz",
        "a-1.tar.gz%00",
        "a-1.tar.gz%0a",
        "a b-1.tar.gz",
        "%252e%252e-1.tar.gz",
        "a\\b-1.tar.gz",
        "x" * 300 + "-1.tar.gz",
        "a-1.tar.gz.md5",
        "<b>-1.tar.gz",
        "a-.tar.gz",
    ],
)
def test_a_name_that_is_no_tarballs_is_refused(world, name):
    assert put(world, name=name).status_code in (400, 404, 405)
    assert files(world) == []


@pytest.mark.parametrize("who", ["nobody", "host", "viewer", "enrolment", "forged"])
def test_only_editors_publish(world, who):
    assert put(world, who=who).status_code in (401, 403)
    assert files(world) == []


@pytest.mark.parametrize(
    ("length", "status"), [("5368709120", 413), ("", 411), (str(len(PACKED) + 1), 400), (str(len(PACKED) - 1), 400)]
)
def test_a_length_that_is_not_that_of_the_body_is_refused(world, length, status):
    environ = EnvironBuilder(path=f"/api/v1/tarballs/{NAME}", method="PUT", data=PACKED).get_environ()
    environ |= {"CONTENT_LENGTH": length, "wsgi.input_terminated": True}
    environ["HTTP_AUTHORIZATION"] = f"Bearer {world.tokens['editor']}"
    body, line, headers = run_wsgi_app(world.app, environ)
    assert (line[:3], headers["Content-Type"]) == (str(status), PROBLEM), b"".join(body)
    assert files(world) == []


def test_a_stream_that_breaks_off_leaves_nothing(world):
    class Broken:
        left = 3

        def read(self, _size):
            self.left -= 1
            if not self.left:
                raise OSError(5, "connection lost")
            return PACKED

    with pytest.raises(TryLater):
        tarballs.publish(world.tarballs, NAME, Broken(), 1 << 20)
    assert files(world) == []


def test_of_two_who_publish_one_name_at_once_one_wins(world):
    bodies = [gzip.compress(bytes([i])) for i in range(MAX_UPLOADS)]
    answers = {}
    ready = threading.Barrier(MAX_UPLOADS)

    def publish(number):
        ready.wait()
        answers[number] = put(world, body=bodies[number]).status_code

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(MAX_UPLOADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers.values()) == [201] + [409] * (MAX_UPLOADS - 1)
    winner = next(number for number, status in answers.items() if status == 201)
    assert (world.tarballs / NAME).read_bytes() == bodies[winner]
    digest = hashlib.md5(bodies[winner]).hexdigest()
    assert (world.tarballs / f"{NAME}.md5").read_text() == f"{digest}  {NAME}\n"


def test_uploads_that_come_slowly_do_not_take_every_thread(world):
    with contextlib.ExitStack() as uploads, world.app.app_context():
        for _ in range(MAX_UPLOADS):
            uploads.enter_context(state().places.upload())
        busy = put(world)
        refused(busy, 503)
        assert busy.headers["Retry-After"]
        assert world.call("GET", "whoami").status_code == 200
    assert put(world).status_code == 201


def test_a_full_disk_is_a_503_and_leaves_nothing(world):
    (world.tarballs / f"{NAME}.md5").mkdir()  # what cannot be replaced stands for any error of the disk
    refused(put(world), 503)
    assert [name for name in files(world) if name.startswith(".")] == []


def test_an_upload_that_was_killed_long_ago_is_cleared_away(world):
    old, fresh = world.tarballs / ".upload-1", world.tarballs / ".upload-2"
    for path in (old, fresh):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    put(world)
    assert files(world) == [".upload-2", NAME, f"{NAME}.md5"]
    assert world.call("GET", "/tarball/.upload-2", "host").status_code == 404


# --- caching ---


def headers_of(world, name):
    with world.call("GET", f"/tarball/{name}", "host") as answer:
        return answer.headers


def test_only_what_never_changes_is_cached_for_good(world):
    put(world)
    (world.tarballs / "a-latest.tar.gz").symlink_to(NAME)
    (world.tarballs / "b-1.tar.gz").write_bytes(PACKED)
    assert "immutable" in headers_of(world, NAME)["Cache-Control"]
    for name in (f"{NAME}.md5", "a-latest.tar.gz", "b-1.tar.gz"):
        assert "immutable" not in headers_of(world, name).get("Cache-Control", "")


def test_a_digest_that_is_older_than_its_file_is_not_believed(world):
    put(world)
    former = headers_of(world, NAME)["ETag"]
    os.utime(world.tarballs / f"{NAME}.md5", (1, 1))
    assert headers_of(world, NAME)["ETag"] != former
    assert "immutable" not in headers_of(world, NAME).get("Cache-Control", "")


def test_a_download_goes_on_where_it_broke_off(world):
    put(world)
    etag = headers_of(world, NAME)["ETag"]
    path = f"/api/v1/tarballs/{NAME}"
    with world.call("GET", path, "host", {"Range": "bytes=5-", "If-Range": etag}) as part:
        assert (part.status_code, part.data) == (206, PACKED[5:])
    with world.call("GET", path, "host", {"Range": "bytes=5-", "If-Range": '"other"'}) as whole:
        assert (whole.status_code, whole.data) == (200, PACKED)
    assert world.call("GET", path, "host", {"If-None-Match": etag}).status_code == 304
    for none in ("bytes=99999-", "bytes=" + ",".join(["0-"] * 1000)):
        with world.call("GET", path, "host", {"Range": none}) as whole:
            assert (whole.status_code, whole.data) == (200, PACKED)
    failed = world.call("GET", path, "host", {"If-Match": '"other"'})
    assert (failed.status_code, failed.content_type, failed.json["status"]) == (412, PROBLEM, 412)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": '"other"', "If-None-Match": "*"}, 412),
        ({"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}, 412),
        ({"If-None-Match": "*"}, 304),
        ({"If-Match": "*", "If-None-Match": "*"}, 304),
        ({"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 304),
        ({"If-Match": "*", "If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}, 206),
        ({"If-None-Match": '"other"', "If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 206),
    ],
)
def test_conditions_are_judged_before_the_range(world, method, conditions, status):
    put(world)
    path = f"/tarball/{NAME}"
    with world.call(method, path, "host", {"Range": "bytes=0-3", **conditions}) as answer:
        assert answer.status_code == status
        assert status == 206 or PACKED[:4] not in answer.data
    whole = {206: 200}.get(status, status)
    with world.call(method, path, "host", conditions) as answer:
        assert answer.status_code == whole


@pytest.mark.parametrize(
    "path",
    ["..%2f..%2fmeta.db", "%2e%2e/meta.db", "%252e%252e%252fmeta.db", "..\\meta.db", ".hidden", "out", "sub", ""],
)
def test_the_api_serves_nothing_but_published_files(world, path):
    (world.tarballs / ".hidden").write_text("x")
    (world.tarballs / "sub").mkdir()
    (world.tarballs / "out").symlink_to("/etc/hostname")
    answer = world.call("GET", f"tarballs/{path}", "host")
    assert answer.status_code in (403, 404), answer.text
