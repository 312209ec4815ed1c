"""Another try of what hosts have rolled back: the field `attempt` of a record, and the edit that raises it."""

import msgspec
import pytest
from msgspec import UNSET

from helpers.meta_api import NOW, World
from helpers.record_sets import resolve
from meta.edits import attempts, operations
from meta.edits.diff import difference
from meta.records.explanation import explain
from meta.records.files import load
from meta.records.history import changes
from meta.records.model import Override, Record, RecordSet, Release, as_fields, from_fields
from meta.records.selectors import Hosts, Label, Prefix
from updater.wire.heartbeat import Outcome, RealAgent, Report, desired_fields

WEB, ONE = Prefix("web-"), Hosts(frozenset({"web-1"}))
RECORDS = RecordSet(7, (Record("a", Release("1"), "http://r"), Record("b", Release("1"), "http://r")))


def attempts_of(records, *hosts):
    return [resolve(records, host)[0].attempt for host in hosts]


def test_a_retry_for_all_gives_every_host_the_number_of_its_revision():
    after = attempts.retry(RECORDS, "a")
    assert attempts_of(after, "web-1", "db-1") == [8, 8]
    assert after.records[1] == RECORDS.records[1]
    assert difference(changes(RECORDS, after)) == ["a: attempt 0 -> 8"]


def test_a_retry_for_some_is_an_override_of_theirs():
    after = attempts.retry(RECORDS, "a", [WEB, Label("env=test")])
    assert attempts_of(after, "web-1", "db-1") == [8, 0]
    assert difference(changes(RECORDS, after)) == [
        "a [prefix web-]: new: attempt 8",
        "a [label env=test]: new: attempt 8",
    ]


def test_a_retry_stands_in_the_override_that_is_there():
    record = Record("a", Release("1"), "http://r", overrides=(Override(WEB, Release("2")),))
    after = attempts.retry(RecordSet(1, (record,)), "a", [WEB])
    assert after.records[0].overrides == (Override(WEB, Release("2"), attempt=2),)


def test_no_earlier_attempt_hides_a_later_retry():
    record = Record(
        "a", Release("1"), "http://r", overrides=(Override(WEB, attempt=90), Override(ONE, attempt=95)), attempt=3
    )
    records = RecordSet(1, (record,))
    assert attempts_of(attempts.retry(records, "a", [WEB]), "web-1", "web-2", "db-1") == [96, 96, 3]
    assert attempts_of(attempts.retry(records, "a"), "web-1", "web-2", "db-1") == [96, 96, 96]


def test_an_attempt_that_was_unset_is_never_given_again():
    first = msgspec.structs.replace(attempts.retry(RECORDS, "a"), revision=8)
    unset = msgspec.structs.replace(operations.unset_fields(first, "a", ["attempt"]), revision=9)
    assert attempts_of(unset, "db-1") == [0]
    assert attempts_of(attempts.retry(unset, "a"), "db-1") == [10]


def test_an_attempt_travels_only_where_there_is_one():
    plain, raised = resolve(RECORDS, "h")[0], resolve(attempts.retry(RECORDS, "a"), "h")[0]
    assert "attempt" not in desired_fields(plain)
    assert desired_fields(raised)["attempt"] == 8


def test_an_attempt_is_explained_where_there_is_one():
    after = attempts.retry(RECORDS, "a", [WEB])
    explained = {one.field: (one.value, one.by) for one in explain(after, "web-1")[0].fields}
    assert explained["attempt"] == (8, "override")
    assert "attempt" not in {one.field for one in explain(after, "db-1")[0].fields}


def test_an_attempt_survives_an_export_and_records_without_one_are_as_before():
    after = attempts.retry(attempts.retry(RECORDS, "a", [WEB]), "b")
    assert tuple(map(from_fields, as_fields(after.records))) == after.records
    assert "attempt" not in str(as_fields(RECORDS.records))


@pytest.mark.parametrize("text", ["attempt: 3", "attempt: '3'", "attempt: 03"])
def test_an_attempt_is_read_from_a_file(tmp_path, text):
    file = tmp_path / "records.yaml"
    file.write_text(f"agents:\n  - name: a\n    version: 1\n    tarball: http://r\n    {text}\n")
    assert load.load(file).records[0].attempt == 3


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "''", "[1]", "99999999999999999", "9007199254740993"])
def test_what_is_no_attempt_is_refused_with_its_line(tmp_path, text):
    file = tmp_path / "records.yaml"
    file.write_text(f"agents:\n  - name: a\n    version: 1\n    tarball: http://r\n    attempt: {text}\n")
    with pytest.raises(load.RecordsError, match=r"5: agents\[0\]\.attempt: must be a whole number from 0 to"):
        load.load(file)


# --- by REST, with what hosts have said ---


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    record = {"name": "a", "version": "2", "tarball": "http://r"}
    assert made.call("PUT", "records/a", json=record, headers={"If-None-Match": "*"}).status_code == 201
    yield made
    made.close()


def beat(world, host, **outcome):
    told = Outcome("a", "1", **{"to": "2", "step": "start", "result": "rolled back", "reason": "x", "at": 1} | outcome)
    report = Report(host, [RealAgent("a", "1", "started", 1)], updater_version="0.1.0", outcomes=[told])
    world.service.table.beat(report, "10.0.0.1", NOW)


def retry(world, *selectors, query="", **more):
    asked = {"selectors": list(selectors)} if selectors else {}
    return world.call("POST", f"records/a/retry{query}", json=asked, headers={"If-Match": '"1"'}, **more)


def test_a_retry_says_how_many_hosts_try_again_and_on_which_it_cannot_act(world):
    beat(world, "web-1", attempt=0)
    beat(world, "web-2", attempt=0)
    for number in range(5):
        beat(world, f"old-{number}")
    beat(world, "fine-1", result="done")
    beat(world, "fine-2", to="0", attempt=0)
    seen = retry(world, query="?dryRun=true").json
    assert (seen["affected"], seen["revision"]) == ({"a": 9}, 1)
    said = [
        "2 hosts rolled this version back and will try it again; it cannot act on 5 hosts, whose updater does not know "
        "attempts: old-0, old-1, old-2 and 2 more"
    ]
    assert seen["notes"] == said
    done = retry(world)
    assert (done.status_code, done.json["notes"], done.json["revision"]) == (200, said, 2)
    assert world.call("GET", "records/a").json["attempt"] == 2
    assert world.call("GET", "revisions/2").json["action"] == "retry"


def test_a_retry_for_some_hosts_counts_those_alone(world):
    beat(world, "web-1", attempt=0)
    beat(world, "db-1", attempt=0)
    assert retry(world, {"prefix": "web-"}).json["notes"] == ["1 host rolled this version back and will try it again"]
    assert world.call("GET", "records/a").json["overrides"] == [{"prefix": "web-", "attempt": 2}]


def says(world, host, **more):
    """A host that tells of trials, without an outcome."""
    report = Report(host, [RealAgent("a", "1", "started", 1, trial=False, **more)])
    world.service.table.beat(report, "10.0.0.1", NOW + 1)


def test_a_host_that_says_what_it_rejects_is_counted_by_that_whatever_it_has_told_before(world):
    says(world, "web-1", rejected="2")
    beat(world, "web-2", attempt=0)
    says(world, "web-2")  # it has heard of another version since
    beat(world, "web-3", to="1", result="failed")  # on the way back
    says(world, "web-3", rejected="2")
    says(world, "web-4", rejected="3")
    assert retry(world).json["notes"] == ["2 hosts rolled this version back and will try it again"]


def refused(world, host, trial=False, **more):
    told = Outcome("a", "1", **{"to": "2", "step": "install", "result": "refused", "reason": "x", "at": 1} | more)
    report = Report(host, [RealAgent("a", "1", "started", 1, trial=trial)], outcomes=[told])
    world.service.table.beat(report, "10.0.0.1", NOW)


def test_hosts_that_refused_the_version_try_it_again_too(world):
    refused(world, "web-1", attempt=0)
    said = retry(world, query="?dryRun=true").json["notes"]
    assert said == ["1 host refused this version and will try it again"]
    refused(world, "web-2")  # by an updater that knows attempts, and told them of rollbacks alone
    refused(world, "web-3", to="3", attempt=0)
    refused(world, "web-4", step="order", attempt=0)
    refused(world, "old-1", trial=UNSET)
    says(world, "web-5", rejected="2")
    done = retry(world).json
    assert done["notes"] == [
        "1 host rolled this version back and 2 hosts refused it: they will try it again; it cannot act on 1 host, whose "
        "updater does not know attempts: old-1"
    ]
    assert done["revision"] == 2
    progress = world.call("GET", "progress?agent=a").json
    assert (progress["failed"], progress["todo"]) == (2, 4), "what failed at a lower attempt is older than the order"


def test_a_retry_that_acts_on_no_host_says_so_and_is_no_edit(world):
    beat(world, "fine", result="done")
    done = retry(world).json
    assert done["notes"] == ["no host is known to have rolled this version back or refused it: nothing is tried again"]
    assert (done["revision"], done["changes"]) == (1, [])
    beat(world, "old-1")
    done = retry(world).json
    assert done["notes"] == [
        "nothing is tried again; it cannot act on 1 host, whose updater does not know attempts: old-1"
    ]
    assert (done["revision"], done["changes"]) == (1, [])
    assert world.service.records.revision == 1


@pytest.mark.parametrize(
    ("selector", "sentence"),
    [
        ({"prefix": "db-"}, "no host that has reported matches prefix db-"),
        ({"prefix": "Web-"}, "prefix Web- fits no host; did you mean prefix web-?"),
        ({"glob": "WEB-?"}, "glob WEB-? fits no host; did you mean host web-1?"),
        ({"label": "env=prod"}, "no host that has reported matches label env=prod"),
        ({"hosts": ["web-1", "wbe-2"]}, "no host wbe-2 has reported; did you mean web-2?"),
    ],
)
def test_a_retry_for_hosts_that_meta_does_not_know_is_not_found(world, selector, sentence):
    beat(world, "web-1", attempt=0)
    beat(world, "web-2", attempt=0)
    for query in ("", "?dryRun=true"):
        refused = retry(world, {"prefix": "web-"}, selector, query=query)
        assert (refused.status_code, refused.json["detail"]) == (404, sentence)
    assert world.service.records.revision == 1


@pytest.mark.parametrize(
    ("selectors", "who", "status"),
    [([{"prefix": ""}], "admin", 400), ([{}], "admin", 400), ([], "viewer", 403), ([], "nobody", 401)],
)
def test_a_retry_that_is_not_allowed_or_not_understood_is_refused(world, selectors, who, status):
    assert retry(world, *selectors, who=who).status_code == status


def test_a_retry_of_an_agent_that_is_not_there_is_not_found(world):
    assert world.call("POST", "records/x/retry", json={}, headers={"If-Match": '"1"'}).status_code == 404


def test_a_retry_of_a_record_that_was_edited_since_is_a_conflict(world):
    beat(world, "web-1", attempt=0)
    assert retry(world).status_code == 200
    assert retry(world).status_code == 412


def test_an_attempt_is_set_and_unset_like_any_field(world):
    done = world.call("PATCH", "records/a", json={"set": {"attempt": 3}}, headers={"If-Match": '"1"'})
    assert (done.status_code, world.call("GET", "records/a").json["attempt"]) == (200, 3)
    for wrong in ("3", -1, 1.5, True):
        body = {"set": {"attempt": wrong}}
        assert world.call("PATCH", "records/a", json=body, headers={"If-Match": '"2"'}).status_code == 400
    world.call("PATCH", "records/a", json={"unset": ["attempt"]}, headers={"If-Match": '"2"'})
    assert "attempt" not in world.call("GET", "records/a").json
