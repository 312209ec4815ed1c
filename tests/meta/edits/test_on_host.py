"""leftovers and unknownStatus: how a host goes about an agent; fields of a record like any other, sent only where they say
something."""

import pytest

from helpers.meta_api import World, record
from meta.cli.arguments import fields_of
from meta.errors import Misconfigured
from meta.records.model import as_fields, from_fields


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def put(world, **fields):
    return world.call("PUT", "records/a", "editor", headers={"If-None-Match": "*"}, json=record(**fields))


def patch(world, body):
    answer = world.call("PATCH", "records/a", "editor", headers={"If-Match": "*"}, json=body)
    assert answer.status_code == 200, answer.json
    return answer.json["changes"]


def reply(world, hostname):
    [desired] = world.call("POST", "/heartbeat", "local", json={"hostname": hostname}).json["desiredAgents"]
    return {key: value for key, value in desired.items() if key in ("leftovers", "unknownStatus")}


@pytest.mark.parametrize("fields", [{"leftovers": "kill"}, {"unknownStatus": "yes"}, {"leftovers": 1}])
def test_another_word_is_refused(world, fields):
    assert put(world, **fields).status_code == 400


def test_they_are_kept_changed_explained_and_taken_back(world):
    assert put(world, leftovers="end", overrides=[{"prefix": "lg-", "unknownStatus": "upgrade"}]).status_code == 201
    assert world.store.load_records() == world.service.records
    [agent] = world.call("GET", "explain/lg-1").json["agents"]
    said = {one["field"]: (one["value"], one["by"], one["selector"]) for one in agent["fields"]}
    assert said["leftovers"] == ("end", "record", "")
    assert said["unknownStatus"] == ("upgrade", "override", "prefix lg-")
    [change] = patch(world, {"set": {"leftovers": "leave"}, "selector": {"prefix": "lg-"}})
    assert change["after"]["overrides"] == [{"prefix": "lg-", "leftovers": "leave", "unknownStatus": "upgrade"}]
    assert reply(world, "lg-1") == {"leftovers": "leave", "unknownStatus": "upgrade"}
    patch(world, {"unset": ["leftovers", "unknownStatus"], "selector": {"prefix": "lg-"}})
    [change] = patch(world, {"unset": ["leftovers"]})
    assert not {"leftovers", "unknownStatus", "overrides"} & set(change["after"])


def test_a_host_is_told_only_what_is_said(world):
    put(world, overrides=[{"prefix": "lg-", "leftovers": "end", "unknownStatus": "upgrade"}])
    assert reply(world, "bj-1") == {}
    assert reply(world, "lg-1") == {"leftovers": "end", "unknownStatus": "upgrade"}


def test_they_survive_an_export():
    one = from_fields(record(leftovers="end", overrides=[{"prefix": "lg-", "unknownStatus": "upgrade"}]))
    assert from_fields(as_fields([one])[0]) == one
    assert "leftovers" not in str(as_fields([from_fields(record())]))


def test_the_command_line_takes_them():
    assert fields_of(["leftovers=end", "unknownStatus=upgrade"]) == {"leftovers": "end", "unknownStatus": "upgrade"}
    with pytest.raises(Misconfigured, match="leave or end"):
        fields_of(["leftovers=kill"])
