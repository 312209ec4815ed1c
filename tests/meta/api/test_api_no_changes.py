"""An edit that changes nothing makes no revision, whatever it is an edit of, and its answer says that nothing was changed."""

import json
from typing import Any

import pytest

from helpers.meta_api import World, record
from lab.fleet import until
from meta.api.routes import operations
from meta.api.schemas.queries import ApplyQuery, EditQuery

FULL = record(
    "a",
    "1.0",
    tarball=["http://releases.example/a", "http://mirror.example/a"],
    md5="0" * 32,
    sha256="1" * 64,
    cmd="stop",
    overrides=[
        {"hosts": ["h2", "h1"], "version": "2.0", "md5": "", "sha256": ""},
        {"label": "env=staging", "cmd": "start"},
        {"glob": "*", "tarball": ["http://other.example/a", "http://mirror.example/a"]},
    ],
)
OTHER = record("b", "3.0")
OVERRIDE = {"selector": {"hosts": ["h1", "h2"]}}

# What is edited: (method, path, query, body). Each of them states what is there already.
SAME = {
    "all records": ("PUT", "/records", "", {"agents": [FULL, OTHER]}),
    "one record": ("PUT", "/records/{agent}", "", FULL),
    "hosts of an override in another order": (
        "PUT",
        "/records/{agent}",
        "",
        FULL | {"overrides": [FULL["overrides"][0] | {"hosts": ["h1", "h2", "h1"]}, *FULL["overrides"][1:]]},
    ),
    "fields of a record": (
        "PATCH",
        "/records/{agent}",
        "",
        {"set": {key: FULL[key] for key in ("version", "tarball")}},
    ),
    "fields of an override": ("PATCH", "/records/{agent}", "", OVERRIDE | {"set": {"version": "2.0", "md5": ""}}),
    "unset a field that is not set": ("PATCH", "/records/{agent}", "", OVERRIDE | {"unset": ["cmd"]}),
    "a ban for the same reason": ("PUT", "/bans/{agent}/{version}", "why=it+leaks", None),
    "a ban without a reason": ("PUT", "/bans/{agent}/{version}", "", None),
    "all labels of a host": ("PUT", "/hosts/{host}/labels", "", {"labels": {"rack": "r7", "env": "prod"}}),
    "labels of hosts": ("POST", "/labels", "", {"hosts": ["h1", "h3"], "set": {"env": "prod"}, "remove": ["old"]}),
    "another try of what no host rolled back": ("POST", "/records/{agent}/retry", "", {}),
    "the present state as a way back": ("POST", "/rollback", "", {"revision": 4}),
}
REFUSED_AGAIN = {("DELETE", "/records/{agent}"), ("DELETE", "/bans/{agent}/{version}")}  # 404: there is none


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    for method, path, query, body in (
        ("PUT", "records", "", {"agents": [FULL, OTHER]}),
        ("PUT", "bans/a/9.0", "why=it+leaks", None),
        ("PUT", "hosts/h1/labels", "", {"labels": {"env": "prod", "rack": "r7"}}),
        ("PUT", "hosts/h3/labels", "", {"labels": {"env": "prod"}}),
    ):
        assert edited(world, method, f"/{path}", query, body).status_code == 200
    yield world
    world.close()


def edited(world: World, method: str, path: str, query: str, body: Any, who: str = "editor") -> Any:
    path = path.format(agent="a", version="9.0", host="h1")
    sent = {} if body is None else {"json": body}
    return world.call(method, f"/api/v1{path}?{query}", who, headers={"If-Match": "*"}, **sent)


@pytest.mark.parametrize("what", SAME)
def test_what_is_so_already_makes_no_revision(world, what):
    world.now += 60
    answer = edited(world, *SAME[what], who="admin")
    assert (answer.status_code, answer.json["revision"], answer.json["changes"]) == (200, 4, [])
    assert [one.number for one in world.store.revisions("", 0, 10)] == [4, 3, 2, 1]
    assert world.store.load_records() == world.service.records
    [ban] = world.service.records.bans
    assert (ban.who, ban.why) == ("editor", "it leaks")


@pytest.mark.parametrize("what", SAME)
def test_a_dry_run_of_it_says_so_too(world, what):
    method, path, query, body = SAME[what]
    answer = edited(world, method, path, f"{query}&dryRun=true", body)
    assert (answer.status_code, answer.json["changes"], answer.json["affected"]) == (200, [], {})


def test_no_edit_that_there_is_was_left_out():
    edits = {(one.method, one.path) for one in operations() if one.query in (EditQuery, ApplyQuery)}
    assert edits == {(method, path) for method, path, *_ in SAME.values()} | REFUSED_AGAIN


def test_a_ban_with_another_reason_is_a_revision(world):
    assert edited(world, "PUT", "/bans/a/9.0", "why=it+crashes", None, who="admin").json["revision"] == 5
    [ban] = world.service.records.bans
    assert (ban.who, ban.why) == ("admin", "it crashes")


def test_putting_a_host_aside_again_changes_nothing(world):
    world.beat("h1")
    # The test's clock is ahead of the database's, where a row that is written later replaces what is dated in the future.
    until("the heartbeat is written", lambda: world.service.condition(world.now).waiting == 0)
    world.now += 2
    host = world.service.table.get("h1")
    first = world.call("PUT", "hosts/h1/retirement", "editor")
    assert (first.status_code, first.json["state"], host.retired_at) == (200, "retired", world.now)
    since = world.now
    world.now += 60
    assert world.call("PUT", "hosts/h1/retirement", "editor").json == first.json
    assert host.retired_at == since


def test_a_records_file_that_is_read_again_is_no_revision(tmp_path):
    file = tmp_path / "records.json"
    agents = [
        {"default": record(md5="", cmd="start"), "others": [{"prefix": "", "version": "1.1"}, {"prefix": "web-"}]}
    ]
    file.write_text(json.dumps({"debug": True, "agents": agents}))
    world = World(tmp_path, records=file)
    try:
        before = world.service.records.revision
        assert world.call("GET", "/config/reload", "local").json["msg"] == "success"
        assert world.service.records.revision == before == 1
    finally:
        world.close()
