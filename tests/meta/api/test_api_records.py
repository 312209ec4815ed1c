"""Records, their history and bans by REST."""

import logging
import sqlite3
from contextlib import closing

import pytest

from helpers.meta_api import NOW, World, record

PROBLEM = "application/problem+json"


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def put(world, body, match=None, query="", who="editor"):
    headers = {"If-None-Match": "*"} if match is None else {"If-Match": match}
    return world.call("PUT", f"records/{body['name']}{query}", who, headers, json=body)


def patch(world, agent, body, match="*", query=""):
    return world.call("PATCH", f"records/{agent}{query}", "editor", {"If-Match": match}, json=body)


def refused(answer, status):
    assert (answer.status_code, answer.content_type) == (status, PROBLEM), answer.text
    assert (answer.json["status"], answer.json.get("type", "about:blank")) == (
        status,
        "about:blank",
    )
    return answer.json


# --- one record ---


def test_a_record_is_made_read_changed_and_deleted(world):
    made = put(world, record(version="1.0"), query="?why=first")
    assert (made.status_code, made.headers["ETag"]) == (201, '"1"')
    assert made.json["revision"] == 1
    assert made.json["changes"] == [
        {"kind": "record", "name": "a", "before": None, "after": record(md5="", cmd="start")}
    ]
    got = world.call("GET", "records/a", "viewer")
    assert (got.headers["ETag"], got.json) == ('"1"', record(md5="", cmd="start"))
    changed = put(world, record(version="1.1"), '"1"')
    assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')
    gone = world.call("DELETE", "records/a", "editor", {"If-Match": '"2"'})
    assert (gone.status_code, gone.json["revision"]) == (200, 3)
    refused(world.call("GET", "records/a"), 404)
    assert world.store.load_records().records == ()


def test_an_edit_is_on_the_disk_and_in_force_when_it_is_answered(world):
    put(world, record())
    assert world.store.load_records() == world.service.records
    assert (
        world.call("POST", "/heartbeat", "host", json={"hostname": "h1"}).json["desiredAgents"][0]["version"] == "1.0"
    )


def test_an_edit_that_changes_nothing_makes_no_revision(world):
    put(world, record())
    again = put(world, record(), '"1"')
    assert (again.status_code, again.json["revision"], again.json["changes"]) == (200, 1, [])


def test_the_second_of_two_editors_is_told_what_the_first_did(world):
    put(world, record(version="1.0"))
    assert put(world, record(version="1.1"), '"1"', "?why=better").status_code == 200
    problem = refused(put(world, record(version="1.2"), '"1"'), 412)
    assert problem["difference"] == ["revision 2 by editor: better", "  a: version 1.0 -> 1.1"]
    assert world.call("GET", "records/a").json["version"] == "1.1"
    assert put(world, record(version="1.2"), '"2"').status_code == 200


def test_another_agents_edit_is_no_conflict(world):
    put(world, record("a"))
    put(world, record("b"))
    assert put(world, record("a", "1.1"), '"1"').status_code == 200


def test_what_is_there_is_not_made_again_and_what_is_gone_not_changed(world):
    put(world, record())
    refused(put(world, record(version="2")), 412)
    refused(put(world, record("b"), '"1"'), 412)
    refused(put(world, record("b"), "*"), 412)
    world.call("DELETE", "records/a", headers={"If-Match": "*"})
    refused(put(world, record(version="2"), '"1"'), 412)
    refused(world.call("DELETE", "records/a", headers={"If-Match": "*"}), 404)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_an_edit_needs_a_condition(world, method):
    put(world, record())
    body = {} if method == "DELETE" else {"json": record() if method == "PUT" else {"set": {"version": "2"}}}
    refused(world.call(method, "records/a", **body), 428)
    for headers in [{"If-Match": "1"}, {"If-Match": '"1", "2"'}, {"If-Match": '"x"'}, {"If-None-Match": '"1"'}]:
        refused(
            world.call(method, "records/a", headers=headers, **body),
            400,
        )


def test_a_record_that_is_known_is_not_sent_again(world):
    put(world, record())
    for path in ("records", "records/a"):
        answer = world.call("GET", path, headers={"If-None-Match": 'W/"0", "1"'})
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", '"1"')
        assert world.call("GET", path, headers={"If-None-Match": '"11"'}).status_code == 200


# --- some fields of it ---


def test_a_version_of_which_only_others_have_digests_is_noted(world):
    """Where they have more than one digest of it, none is taken over; so nobody is surprised by a download without any."""
    put(world, record(version="1"))
    for prefix, md5 in (("w", "a" * 32), ("x", "b" * 32)):
        tried = patch(world, "a", {"set": {"version": "2", "md5": md5}, "selector": {"prefix": prefix}})
        assert tried.json["notes"] == []
    for query in ("?dryRun=true", ""):
        [note] = patch(world, "a", {"set": {"version": "2"}}, query=query).json["notes"]
        assert note.startswith("version 2 has digests elsewhere in this record, and none here")
    assert patch(world, "a", {"set": {"cmd": "stop"}}).json["notes"] == []
    assert patch(world, "a", {"set": {"md5": "b" * 32}}).json["notes"] == []


def test_fields_are_set_and_unset_for_all_or_some_hosts(world):
    put(world, record())
    assert patch(world, "a", {"set": {"version": "1.1"}}).status_code == 200
    canary = {"glob": "*-canary"}
    assert patch(world, "a", {"set": {"version": "2.0"}, "selector": canary}).status_code == 200
    assert patch(world, "a", {"set": {"cmd": "stop"}, "selector": {"label": "env=old"}}).status_code == 200
    assert world.call("GET", "records/a").json == record(
        version="1.1",
        md5="",
        cmd="start",
        overrides=[{"glob": "*-canary", "version": "2.0"}, {"label": "env=old", "cmd": "stop"}],
    )
    assert patch(world, "a", {"unset": [], "selector": canary}).status_code == 200
    assert patch(world, "a", {"unset": ["cmd"], "selector": {"label": "env=old"}}).status_code == 200
    assert "overrides" not in world.call("GET", "records/a").json


def test_an_agent_is_made_by_setting_what_it_needs(world):
    body = {"set": {"version": "1", "tarball": ["http://a.example", "http://b.example"]}}
    made = world.call("PATCH", "records/new", headers={"If-None-Match": "*"}, json=body)
    assert made.status_code == 201
    assert world.call("GET", "records/new").json["tarball"] == ["http://a.example", "http://b.example"]
    problem = refused(
        world.call("PATCH", "records/n2", headers={"If-None-Match": "*"}, json={"set": {"version": "1"}}), 400
    )
    assert "tarball is missing" in problem["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"set": {}, "unset": []},
        {"set": {"version": "1"}, "unset": ["md5"]},
        {"set": {}},
        {"unset": []},
        {"unset": ["version"]},
        {"unset": ["colour"]},
        {"set": {"colour": "red"}},
        {"set": {"version": None}},
        {"set": {"version": 1}},
        {"set": {"version": "1"}, "selector": {}},
        {"set": {"version": "1"}, "selector": {"glob": "*", "prefix": "a"}},
        {"set": {"version": "1"}, "selector": {"glob": ""}},
        {"set": {"version": "1"}, "selector": {"hosts": []}},
        {"set": {"version": "1"}, "selector": None},
    ],
)
def test_what_cannot_be_meant_is_refused(world, body):
    put(world, record())
    before = world.service.records
    refused(patch(world, "a", body), 400)
    assert world.service.records is before


def test_what_is_not_there_is_not_found(world):
    put(world, record())
    refused(patch(world, "a", {"unset": [], "selector": {"prefix": "none"}}), 404)
    refused(patch(world, "b", {"set": {"version": "1"}, "selector": {"prefix": "x"}}, "*"), 412)
    refused(world.call("POST", "rollback", "editor", json={"revision": 2}), 404)


def test_another_version_drops_the_digests_of_the_former_one(world):
    put(world, record(md5="0" * 32, sha256="0" * 64))
    answer = patch(world, "a", {"set": {"version": "2"}})
    assert answer.status_code == 200
    assert world.call("GET", "records/a").json == record(version="2", md5="", cmd="start")
    refused(patch(world, "a", {"set": {"sha256": "0" * 64}, "selector": {"prefix": "h"}}, "*"), 400)


# --- all records ---


def test_the_whole_document_is_replaced_all_or_nothing(world):
    put(world, record("a"))
    got = world.call("GET", "records", "viewer")
    assert (got.headers["ETag"], got.json) == ('"1"', {"agents": [record(md5="", cmd="start")]})
    new = {"agents": [record("b"), record("c")]}
    answer = world.call("PUT", "records?why=all+new&confirm=true", "editor", {"If-Match": '"1"'}, json=new)
    assert {change["name"] for change in answer.json["changes"]} == {"a", "b", "c"}
    assert [one["name"] for one in world.call("GET", "records").json["agents"]] == ["b", "c"]
    assert (
        "revision 2 by editor"
        in refused(world.call("PUT", "records", "editor", {"If-Match": '"1"'}, json=new), 412)["difference"][0]
    )
    refused(world.call("PUT", "records", "editor", json=new), 428)
    assert world.call("PUT", "records", "editor", {"If-Match": "*"}, json=new).status_code == 200


def test_bans_and_labels_are_no_conflict_of_the_whole_document(world):
    put(world, record("a"))
    world.call("PUT", "bans/a/6.6.6")
    assert (
        world.call("PUT", "records?confirm=true", "editor", {"If-Match": '"1"'}, json={"agents": []}).status_code == 200
    )


def test_a_bad_document_is_refused_with_the_words_of_a_file(world):
    from meta.errors import RecordsError
    from meta.records.files.load import parse_data

    bad = {"agents": [record("a/b", versoin="1"), record("b", cmd="run"), record("b")], "x": 1}
    problem = refused(world.call("PUT", "records", headers={"If-Match": "*"}, json=bad), 400)
    with pytest.raises(RecordsError) as e:
        parse_data(bad, "records")
    assert [(one["path"], one["text"]) for one in problem["problems"]] == [(p.path, p.text) for p in e.value.problems]
    assert len(problem["problems"]) >= 4
    assert world.service.records.revision == 0


@pytest.mark.parametrize("body", [{}, {"agents": None}, [], {"agents": {}}, 5, "x", {"agents": [1]}, {"agents": [{}]}])
def test_a_document_of_another_form_never_means_no_agents(world, body):
    put(world, record())
    refused(world.call("PUT", "records", headers={"If-Match": "*"}, json=body), 400)
    assert world.service.records.record("a")


def test_a_record_is_not_renamed_by_the_path(world):
    problem = refused(world.call("PUT", "records/b", headers={"If-None-Match": "*"}, json=record("a")), 400)
    assert problem["problems"][0]["path"] == "name"


# --- dry runs ---


def test_a_dry_run_tells_what_would_change_and_for_how_many_hosts(world):
    put(world, record())
    for name in ("lg-1", "lg-2", "bj-1"):
        world.beat(name)
    body = {"set": {"version": "2"}, "selector": {"prefix": "lg-"}}
    answer = patch(world, "a", body, query="?dryRun=true").json
    assert (answer["affected"], answer["revision"], answer["dryRun"]) == ({"a": 2}, 1, True)
    assert answer["changes"][0]["after"]["overrides"] == [{"prefix": "lg-", "version": "2"}]
    assert world.service.records.revision == world.store.head().revision == 1
    new = put(world, record("b"), query="?dryRun=true")
    assert (new.status_code, new.json["affected"]) == (200, {"b": 3})
    refused(patch(world, "a", {"set": {"version": "/"}}, query="?dryRun=true"), 400)
    refused(patch(world, "a", body, '"7"', "?dryRun=true"), 412)


# --- the query ---


@pytest.mark.parametrize(
    "query", ["?dryrun=true", "?dryRun=1", "?dryRun=", "?why=a&why=b", "?why=a%0ab", "?why=%00", "?x", "?action=drop"]
)
def test_a_query_that_is_not_known_is_refused(world, query):
    refused(put(world, record(), query=query), 400)
    refused(put(world, record(), query="?why=" + "x" * 501), 400)
    assert world.service.records.revision == 0


# --- history ---


def test_every_edit_is_in_the_history_newest_first(world):
    put(world, record("a"), query="?why=first")
    put(world, record("b"))
    patch(world, "a", {"set": {"version": "2"}}, query="?why=second&action=import")
    items = world.call("GET", "revisions", "viewer").json["items"]
    assert [(one["number"], one["who"], one["why"], one["action"]) for one in items] == [
        (3, "editor", "second", "import"),
        (2, "editor", "", "set"),
        (1, "editor", "first", "set"),
    ]
    assert [one["number"] for one in world.call("GET", "revisions?agent=a").json["items"]] == [3, 1]
    page = world.call("GET", "revisions?limit=2").json
    assert ([one["number"] for one in page["items"]], page["next"]) == ([3, 2], "2")
    page = world.call("GET", "revisions?limit=2&before=2").json
    assert ([one["number"] for one in page["items"]], page["next"]) == ([1], "")
    assert world.call("GET", "revisions/3").json == items[0]
    assert items[0]["at"] == NOW
    refused(world.call("GET", "revisions/4"), 404)
    refused(world.call("GET", "revisions/x"), 400)


def test_a_roll_back_is_a_revision_like_any_other(world):
    put(world, record("a", "1"))
    patch(world, "a", {"set": {"version": "2"}})
    put(world, record("b"))
    answer = world.call("POST", "rollback?dryRun=true", "editor", json={"revision": 1})
    assert {one["name"] for one in answer.json["changes"]} == {"a", "b"}
    answer = world.call("POST", "rollback", "editor", json={"revision": 1, "why": "broken"})
    assert (answer.status_code, answer.json["revision"]) == (200, 4)
    assert world.call("GET", "records").json["agents"] == [record(version="1", md5="", cmd="start")]
    latest = world.call("GET", "revisions?limit=1").json["items"][0]
    assert (latest["action"], latest["why"]) == ("rollback", "broken")
    refused(world.call("POST", "rollback", "editor", json={"revision": 5}), 404)
    assert world.call("POST", "rollback", "editor", json={"revision": 0}).status_code == 200
    assert world.call("GET", "records").json == {"agents": []}


# --- bans ---


def test_a_banned_version_is_ordered_of_nobody(world):
    put(world, record("a", "1"))
    answer = world.call("PUT", "bans/a/1?why=eats+disks", "editor")
    assert answer.json["changes"][0]["kind"] == "ban"
    assert world.call("GET", "bans", "viewer").json == {
        "items": [{"agent": "a", "version": "1", "why": "eats disks", "who": "editor", "at": NOW}]
    }
    assert world.call("POST", "/heartbeat", "host", json={"hostname": "h1"}).json["desiredAgents"] == []
    explained = world.call("GET", "explain/h1", "viewer").json["agents"][0]
    assert explained["ban"]["why"] == "eats disks"
    patch(world, "a", {"set": {"version": "2"}})
    assert "banned" in refused(patch(world, "a", {"set": {"version": "1"}}), 409)["detail"]
    assert world.call("DELETE", "bans/a/1", "editor").status_code == 200
    refused(world.call("DELETE", "bans/a/1", "editor"), 404)
    assert world.call("GET", "bans").json == {"items": []}


# --- explain ---


def test_each_field_says_what_set_it(world):
    put(world, record(tarball=["http://a.example", "http://b.example"], overrides=[{"prefix": "h", "version": "2"}]))
    answer = world.call("GET", "explain/h1", "viewer").json
    fields = {one["field"]: one for one in answer["agents"][0]["fields"]}
    assert fields["version"] == {
        "field": "version",
        "value": "2",
        "by": "override",
        "override": 0,
        "selector": "prefix h",
    }
    assert fields["tarball"]["value"] == ["http://a.example", "http://b.example"]
    assert fields["cmd"]["by"] == "record"
    refused(world.call("GET", "explain/a b"), 400)


# --- a file that manages the records ---


def test_where_a_file_holds_the_records_they_are_not_edited_elsewhere(tmp_path):
    file = tmp_path / "records.yaml"
    file.write_text("agents:\n- {name: a, version: '1', tarball: 'http://x.example'}\n")
    world = World(tmp_path, records=file)
    try:
        for answer in (
            patch(world, "a", {"set": {"version": "2"}}),
            put(world, record("b")),
            world.call("DELETE", "records/a", headers={"If-Match": "*"}),
            world.call("PUT", "records", headers={"If-Match": "*"}, json={"agents": []}),
            world.call("POST", "rollback", json={"revision": 0}),
        ):
            assert str(file) in refused(answer, 409)["detail"]
        assert world.call("PUT", "bans/a/2").status_code == 200
        assert world.call("PUT", "hosts/h/labels", json={"labels": {"env": "x"}}).status_code == 200
        assert world.call("GET", "revisions?limit=9").json["items"][-1]["who"] == "file"
    finally:
        world.close()


# --- when the database is away ---


def test_without_the_database_edits_are_refused_and_beats_answered(world, tmp_path):
    put(world, record())
    with closing(sqlite3.connect(tmp_path / "meta.db", isolation_level=None)) as other:
        other.execute("DROP TABLE change")
        for call in (lambda: put(world, record("b")), lambda: patch(world, "a", {"set": {"version": "2"}})):
            answer = call()
            refused(answer, 503)
            assert int(answer.headers["Retry-After"]) > 0
    assert world.service.records.revision == 1
    assert (
        world.call("POST", "/heartbeat", "host", json={"hostname": "h1"}).json["desiredAgents"][0]["version"] == "1.0"
    )


# --- the log ---


def test_each_edit_is_one_line_of_the_log(world, caplog):
    caplog.set_level(logging.INFO)
    put(world, record(), query="?why=for+tests")
    lines = [one.getMessage() for one in caplog.records if one.name == "meta.edits.editor"]
    assert lines == ["revision 1: set a by editor: for tests"]
