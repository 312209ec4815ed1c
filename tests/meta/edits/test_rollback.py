"""The way back of one agent: before its newest change that was no rollback, once, and bound to what was shown."""

import pytest

from helpers.meta_api import World, record


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def put(world, name, version, **more):
    answer = world.call("PUT", f"records/{name}", headers={"If-Match": "*"}, json=record(name, version, **more))
    if answer.status_code == 412:
        answer = world.call(
            "PUT", f"records/{name}", headers={"If-None-Match": "*"}, json=record(name, version, **more)
        )
    assert answer.status_code in (200, 201), answer.text


def back(world, agent="a", revision=None, match=None, query="", code=200):
    body = {"agent": agent} | ({} if revision is None else {"revision": revision})
    headers = {} if match is None else {"If-Match": f'"{match}"'}
    answer = world.call("POST", f"rollback{query}", "editor", headers, json=body)
    assert answer.status_code == code, answer.text
    return answer.json


def version(world, agent="a"):
    found = world.service.records.record(agent)
    return found.release.version if found else None


def test_the_last_change_of_one_agent_is_taken_back_and_no_other_agent_is_touched(world):
    put(world, "a", "1")
    put(world, "a", "2")
    put(world, "b", "7")
    assert [one["name"] for one in back(world)["changes"]] == ["a"]
    assert (version(world), version(world, "b")) == ("1", "7")
    assert world.service.store.revision(4).action == "rollback"


def test_overrides_that_keep_what_is_taken_back_are_named(world):
    put(world, "a", "1")
    put(world, "a", "1", overrides=[{"prefix": "web-", "version": "2"}, {"prefix": "x", "version": "3"}])
    put(world, "a", "2", overrides=[{"prefix": "web-", "version": "2"}, {"prefix": "x", "version": "3"}])
    said = ["a 2 stays for prefix web-; to undo that too, name the revision before it: meta history a"]
    assert (back(world, query="?dryRun=true")["notes"], back(world)["notes"]) == (said, said)
    assert (back(world, revision=1)["notes"], version(world)) == ([], "1")


def test_a_second_call_says_who_took_it_back_and_changes_nothing(world):
    put(world, "a", "1")
    put(world, "a", "2")
    back(world, query="?why=leaks")
    for query in ("", "?dryRun=true"):
        again = back(world, query=query)
        assert (again["changes"], again["revision"]) == ([], 3)
        assert again["notes"] == ["the last change of a was rolled back already, in revision 3 by editor: leaks"]
    assert version(world) == "1"


def test_a_change_after_a_rollback_can_be_taken_back_in_its_turn(world):
    put(world, "a", "1")
    put(world, "a", "2")
    back(world)
    put(world, "a", "3")
    back(world)
    assert version(world) == "1"
    assert back(world)["changes"] == []


def test_what_was_put_in_force_again_by_a_rollback_can_be_taken_back_again(world):
    put(world, "a", "1")
    put(world, "a", "2")
    back(world)
    back(world, revision=2)
    assert version(world) == "2"
    back(world)
    assert version(world) == "1"


def test_who_went_further_back_is_not_brought_forward_again(world):
    for number in ("1", "2", "3"):
        put(world, "a", number)
    back(world, revision=1)
    assert back(world)["notes"][0].endswith("in revision 4 by editor")
    assert version(world) == "1"


def test_a_rollback_of_everything_counts_as_one_of_each_agent(world):
    put(world, "a", "1")
    put(world, "a", "2")
    assert world.call("POST", "rollback", "editor", json={"revision": 1}).status_code == 200
    assert back(world)["changes"] == []


def test_back_to_a_revision_is_to_what_this_agent_was_right_after_it(world):
    put(world, "a", "1")
    put(world, "b", "1")
    put(world, "a", "2")
    put(world, "a", "3")
    back(world, revision=2)
    assert (version(world), version(world, "b")) == ("1", "1")
    assert back(world, revision=2)["changes"] == []
    back(world, revision=4)
    assert version(world) == "3"
    back(world, revision=0)
    assert version(world) is None


def test_a_deleted_agent_comes_back_with_its_overrides_and_a_new_one_goes(world):
    put(world, "a", "1", overrides=[{"prefix": "h1", "version": "2"}])
    assert world.call("DELETE", "records/a", headers={"If-Match": "*"}).status_code == 200
    back(world)
    assert world.call("GET", "records/a").json["overrides"] == [{"prefix": "h1", "version": "2"}]
    put(world, "new", "1")
    back(world, "new")
    assert version(world, "new") is None


def try_again(world, number, attempt, where):
    """As `meta retry` leaves the record."""
    more = {"overrides": [{"prefix": "h1", "attempt": attempt}]} if where == "on some hosts" else {"attempt": attempt}
    put(world, "a", number, **more)


@pytest.mark.parametrize("where", ["on all hosts", "on some hosts"])
def test_a_version_that_was_tried_again_is_taken_back_with_the_change_that_brought_it(world, where):
    for number in ("1", "2"):
        put(world, "a", number)
    try_again(world, "2", 3, where)
    try_again(world, "2", 4, where)
    back(world)
    assert version(world) == "1"
    assert back(world)["notes"] == ["the last change of a was rolled back already, in revision 5 by editor"]
    try_again(world, "1", 6, where)
    assert back(world)["changes"] == []
    assert version(world) == "1"


def test_a_try_that_a_rollback_took_back_hides_no_change_either(world):
    for number in ("1", "2"):
        put(world, "a", number)
    try_again(world, "2", 3, "on all hosts")
    back(world, revision=2)
    assert world.service.records.record("a").attempt == 0
    back(world)
    assert version(world) == "1"


def test_labels_and_bans_of_it_are_no_changes_of_its_record(world):
    put(world, "a", "1")
    put(world, "a", "2")
    assert world.call("PUT", "bans/a/2?why=x", "editor").status_code == 200
    back(world)
    assert version(world) == "1"
    assert len(world.service.records.bans) == 1


def test_a_version_that_is_banned_by_now_is_not_gone_back_to(world):
    put(world, "a", "1")
    put(world, "a", "2")
    assert world.call("PUT", "bans/a/1?why=x", "editor").status_code == 200
    assert "banned" in back(world, code=409)["detail"]
    assert version(world) == "2"


def test_it_is_bound_to_the_revision_that_was_shown(world):
    put(world, "a", "1")
    put(world, "a", "2")
    shown = back(world, query="?dryRun=true")["revision"]
    put(world, "b", "1")  # another agent: no conflict
    put(world, "a", "3")
    refused = back(world, match=shown, code=412)
    assert refused["difference"][-1] == "  a: version 2 -> 3"
    assert version(world) == "3"
    assert world.call("DELETE", "records/a", headers={"If-Match": "*"}).status_code == 200
    back(world, match=shown, code=412)
    everything = world.call("POST", "rollback", "editor", {"If-Match": f'"{shown}"'}, json={"revision": 1})
    assert everything.status_code == 412


def test_another_agent_that_was_changed_since_is_no_conflict(world):
    put(world, "a", "1")
    put(world, "a", "2")
    shown = back(world, query="?dryRun=true")["revision"]
    put(world, "b", "1")
    back(world, match=shown)
    assert version(world) == "1"


def test_an_agent_that_never_was_and_nothing_to_go_back_to_are_refused(world):
    put(world, "falcon", "1")
    assert back(world, "flacon", code=404)["detail"] == "there is no agent flacon; did you mean falcon?"
    assert back(world, "falcon", revision=9, code=404)["detail"] == "there is no revision 9; the last is 1"
    assert world.call("POST", "rollback", "editor", json={}).status_code == 400
    assert world.call("POST", "rollback", "viewer", json={"agent": "falcon"}).status_code == 403


def test_a_long_history_is_read_in_pages(world):
    put(world, "a", "first")
    for number in range(130):
        put(world, "a", str(number))
    back(world, revision=1)
    assert version(world) == "first"
