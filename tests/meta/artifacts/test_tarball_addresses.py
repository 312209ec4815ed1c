"""Where tarballs are served: below `/tarball/`, and at `/`, which a console is to have, only while hosts may be sent there."""

import pytest

from helpers.meta_api import World, record
from meta.artifacts.addresses import authorities, outside
from meta.records.model import Override, Record, RecordSet, Release
from meta.records.selectors import Prefix

FILE = "a-1.tar.gz"
PORT = 2000  # where a meta listens unless it is told otherwise


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    (world.tarballs / FILE).write_bytes(b"\x1f\x8b packed")
    (world.tarballs / "sub").mkdir()
    (world.tarballs / "sub" / FILE).write_bytes(b"\x1f\x8b packed too")
    yield world
    world.close()


def put(world, **fields):
    """Makes the record of an agent this one."""
    assert world.call("PUT", "records/a", headers={"If-Match": "*"}, json=record("a") | fields).status_code == 200


@pytest.fixture
def asked(world):
    """Asks for a path under a name of meta: returns the status."""
    assert world.call("PUT", "records/a", headers={"If-None-Match": "*"}, json=record("a")).status_code == 201

    def status(path, host="meta.example:2000"):
        with world.call("GET", path, headers={"Host": host}) as answer:
            return answer.status_code

    return status


def test_tarballs_are_below_tarball_alone_and_the_root_says_what_is_where(world, asked):
    put(world, tarball="http://meta.example:2000/tarball")
    assert [asked(f"{prefix}/{FILE}") for prefix in ("/tarball", "/tarball/sub", "", "/sub")] == [200, 200, 404, 404]
    index = world.call("GET", "/", "nobody")
    assert (index.status_code, index.mimetype) == (200, "text/plain")
    for path in ("/api/v1", "/health", "/ready", "/metrics", "/tarball/"):
        assert path in index.text
    assert world.call("HEAD", "/", "nobody").status_code == 200
    assert world.call("OPTIONS", "/", "nobody").status_code == 204
    assert world.call("POST", "/", "nobody").status_code == 405


@pytest.mark.parametrize(
    "fields",
    [
        {"tarball": "http://META.example:2000"},
        {"tarball": "http://meta.example:2000/"},
        {"tarball": "http://meta.example:2000/sub"},
        {"tarball": "http://meta.example:2000/tarballs"},
        {"tarball": ["http://releases.example/a", "http://meta.example:2000/sub/"]},
        {"md5": "http://meta.example:2000/sub"},
        {"tarball": "http://meta.example:2000/sub", "cmd": "stop"},
        {"overrides": [{"prefix": "w", "tarball": "http://meta.example:2000/sub"}]},
        {"overrides": [{"prefix": "w", "tarball": ["http://releases.example/b", "http://meta.example:2000/sub"]}]},
        {"overrides": [{"prefix": "w", "md5": "http://meta.example:2000/sub"}]},
    ],
    ids=str,
)
def test_they_are_at_the_root_too_while_hosts_are_sent_there(world, asked, fields):
    put(world, **fields)
    assert [asked(path) for path in (f"/{FILE}", f"/sub/{FILE}", f"/tarball/{FILE}", "/", "/nothing")] == [
        *(200, 200, 200),
        *(404, 404),
    ]
    put(world)
    assert [asked(path) for path in (f"/{FILE}", f"/tarball/{FILE}", "/")] == [404, 200, 200]


@pytest.mark.parametrize(
    ("base", "host", "status"),
    [
        ("http://meta.example:2000", "meta.example:2000", 200),
        ("http://meta.example:2000", "META.example:2000", 200),
        ("http://meta.example:2000", "meta.example", 200),  # as a proxy may pass it on
        ("https://meta.example", "meta.example", 200),
        ("http://meta.example", "meta.example:80", 200),
        ("http://[::5]:2000", "[::5]:2000", 200),
        ("http://meta.example:2000", "meta.example:2001", 404),
        ("http://meta.example:2000", "other.example:2000", 404),
        ("http://meta.example:2000", "a b", 404),
        ("http://meta.example:2000", "[::", 404),
        ("http://meta.example:2000", "meta.example:x", 404),
        ("http://meta.example:2000/tarball/sub", "meta.example:2000", 404),
        ("http://127.0.0.1:2000", "meta.example:2000", 200),  # of this machine, under any name it is asked
        ("http://LOCALHOST:2000/sub", "meta.example:2000", 200),
        ("http://[::1]:2000", "meta.example:2000", 200),
        ("http://127.0.0.1:2001", "meta.example:2000", 404),
        ("http://127.0.0.1:2000/tarball", "meta.example:2000", 404),
    ],
)
def test_a_base_is_meant_by_a_name_of_this_machine_or_by_that_which_a_request_has(world, asked, base, host, status):
    put(world, tarball=base)
    assert asked(f"/{FILE}", host) == status


def test_what_has_a_route_is_no_tarball(world, asked):
    for name in ("health", "version", "api"):
        (world.tarballs / name).write_bytes(b"a file")
    put(world, tarball="http://meta.example:2000")
    assert world.call("GET", "/health", headers={"Host": "meta.example:2000"}).text == "ok"
    assert world.call("GET", "/api/v1/nothing", headers={"Host": "meta.example:2000"}).mimetype.endswith("problem+json")
    assert [asked("/api"), asked(f"/{FILE}")] == [200, 200]


def test_another_meta_of_the_database_serves_them_there_too(world, asked):
    put(world, tarball="http://meta.example:2000")
    other = world.another()
    try:
        with other.call("GET", f"/{FILE}", headers={"Host": "meta.example:2000"}) as answer:
            assert answer.status_code == 200
    finally:
        other.close()


def test_bases_are_looked_through_once_for_each_state_of_the_records(world, asked):
    put(world, tarball="http://meta.example:2000")
    assert asked(f"/{FILE}") == 200
    found = world.service.root._found
    for _ in range(3):
        assert asked(f"/{FILE}") == 200
    assert world.service.root._found is found


def test_where_hosts_are_sent_outside_tarball():
    override = Override(Prefix("w"), md5_base="https://d/x", tarball="http://b/", mirrors=("http://c:1/x",))
    records = (
        Record(
            "a",
            Release("1", md5="0" * 32),
            "http://a:2000/tarball",
            mirrors=("nonsense", "http://[::"),
            overrides=(override,),
        ),
    )
    assert outside(RecordSet(records=records)) == {"b:80", "b", "c:1", "c", "d:443", "d"}


def test_a_host_header_that_is_none_is_no_error():
    assert authorities("[::1", "http", ["m"], PORT) == {"m:2000"}
    assert authorities("meta.example", "https", [], PORT) == {"meta.example:443"}
