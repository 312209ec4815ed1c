"""Hosts by REST: one, many, how many; labels; and putting them aside."""

from contextlib import closing

import pytest

from helpers.databases import execute
from helpers.meta_api import NOW, World, record
from meta.errors import Unknown
from meta.service import Service
from meta.store import Store
from updater.wire.heartbeat import RealAgent

PROBLEM = "application/problem+json"


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    body = {"agents": [record("a", "2", overrides=[{"label": "env=old", "version": "1"}])]}
    world.call("PUT", "records", headers={"If-Match": "*"}, json=body)
    for number, version in enumerate(["1", "2", "2"]):
        world.beat(f"h{number}", RealAgent("a", version, "started", 7))
    yield world
    world.close()


def refused(answer, status):
    assert (answer.status_code, answer.content_type) == (status, PROBLEM), answer.text
    return answer.json


def listed(world, query):
    answer = world.call("GET", f"hosts?{query}", "viewer")
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.json["items"]]


def test_one_host_as_it_was_last_heard_of(world):
    answer = world.call("GET", "hosts/h0", "viewer")
    assert answer.json == {
        "name": "h0",
        "firstSeen": NOW,
        "lastSeen": NOW,
        "doubled": [],
        "address": "10.1.2.3",
        "updaterVersion": "",
        "state": "new",
        "labels": {},
        "agents": [
            {
                "name": "a",
                "version": "1",
                "status": "started",
                "held": "",
                "trial": None,
                "waits": "",
                "since": NOW,
                "looked": 7,
                "desired": "2",
                "desiredCmd": "start",
                "drift": True,
                "failed": False,
                "rejected": "",
                "outcome": None,
            }
        ],
        "parked": 0.0,
    }
    refused(world.call("GET", "hosts/unknown"), 404)


def test_hosts_are_filtered_and_paged(world):
    assert listed(world, "") == ["h0", "h1", "h2"]
    assert listed(world, "version=2") == ["h1", "h2"]
    assert listed(world, "drift=true&agent=a") == ["h0"]
    assert listed(world, "name=h[12]&state=new") == ["h1", "h2"]
    assert listed(world, "status=stoped") == []
    world.service.counts.parked.update(h2=NOW, unknown=NOW)
    assert listed(world, "parked=true") == ["h2"]
    assert listed(world, "parked=true&version=1") == []
    assert [world.call("GET", f"hosts/{name}").json["parked"] for name in ("h1", "h2")] == [0.0, NOW]
    page = world.call("GET", "hosts?limit=2").json
    assert (len(page["items"]), page["next"]) == (2, "h1")
    assert listed(world, "limit=2&cursor=h1") == ["h2"]


@pytest.mark.parametrize(
    "query",
    [
        "state=dead",
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=1e2",
        "limit=",
        "drift=1",
        "drift=yes",
        "x=1",
        "limit=1&limit=2",
        "name=%00",
        "limit=99999999999999999999",
        "name=" + "x" * 300,
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(world, query):
    refused(world.call("GET", f"hosts?{query}"), 400)


@pytest.mark.parametrize("name", ["[", "[!", "[]", "***" * 40, "(((", "\\", "%ff", "'; drop table host;--", "[z-a]"])
def test_any_glob_has_an_answer(world, name):
    assert world.call("GET", "hosts", query_string={"name": name, "label": name[:100]}).status_code == 200


def test_counts_states_and_drift(world):
    assert world.call("GET", "counts?agent=a", "viewer").json["items"] == [
        {"agent": "a", "version": "1", "status": "started", "hosts": 1, "trial": 0, "failed": 0},
        {"agent": "a", "version": "2", "status": "started", "hosts": 2, "trial": 0, "failed": 0},
    ]
    assert world.call("GET", "counts?agent=b").json["items"] == []
    assert world.call("GET", "drift").json["items"] == [{"agent": "a", "version": "2", "hosts": 1}]
    assert world.call("GET", "states").json == {"new": 3, "ok": 0, "late": 0, "lost": 0, "retired": 0, "doubled": 0}


# --- labels ---


def test_labels_are_what_overrides_select(world):
    answer = world.call("PUT", "hosts/h0/labels?why=old+disks", "editor", json={"labels": {"env": "old", "x": ""}})
    assert answer.json["changes"][0] == {
        "kind": "labels",
        "name": "h0",
        "before": None,
        "after": {"env": "old", "x": ""},
    }
    assert world.call("GET", "hosts/h0").json["labels"] == {"env": "old", "x": ""}
    assert listed(world, "label=env%3Dold") == listed(world, "label=x") == ["h0"]
    assert world.call("GET", "drift").json["items"] == []
    world.call("PUT", "hosts/h0/labels", json={"labels": {"x": "1"}})
    assert world.call("GET", "hosts/h0").json["labels"] == {"x": "1"}


def test_a_dry_run_of_labels_counts_the_hosts_they_touch(world):
    body = {"hosts": ["h0", "h1"], "set": {"env": "old"}}
    answer = world.call("POST", "labels?dryRun=true", "editor", json=body)
    assert (answer.json["affected"], world.service.records.labels) == ({"a": 2}, {})


def test_many_hosts_are_labelled_in_one_revision(world):
    before = world.service.records.revision
    world.call("PUT", "hosts/h1/labels", json={"labels": {"keep": "1", "drop": "1"}})
    body = {"hosts": ["h0", "h1", "h1", "later"], "set": {"env": "old"}, "remove": ["drop"]}
    assert world.call("POST", "labels", "editor", json=body).json["revision"] == before + 2
    assert world.service.records.labels == {
        "h0": {"env": "old"},
        "h1": {"env": "old", "keep": "1"},
        "later": {"env": "old"},
    }


@pytest.mark.parametrize(
    "body",
    [
        {"hosts": ["h0"]},
        {"hosts": [], "set": {"a": "b"}},
        {"hosts": ["a b"], "set": {"a": "b"}},
        {"hosts": ["h0\n"], "set": {"a": "b"}},
        {"hosts": ["h0"], "set": {"a=b": "c"}},
        {"hosts": ["h0"], "set": {"a": "b\n"}},
        {"hosts": ["h0"], "set": {"a": "<b>"}},
        {"hosts": ["h0"], "set": {"": "b"}},
        {"hosts": ["h0"], "set": {"a": "b"}, "remove": ["a"]},
        {"hosts": ["h0"], "set": {str(i): "b" for i in range(65)}},
        {"hosts": ["h0"], "set": {"a": None}},
    ],
)
def test_labels_that_cannot_be_meant_are_refused(world, body):
    refused(world.call("POST", "labels", json=body), 400)
    assert world.service.records.labels == {}


# --- retirement ---


def test_a_host_is_put_aside_and_taken_back(world):
    assert world.call("PUT", "hosts/h0/retirement", "editor").json["state"] == "retired"
    assert listed(world, "") == ["h1", "h2"]
    assert listed(world, "state=retired") == ["h0"]
    assert world.call("DELETE", "hosts/h0/retirement", "editor").json["state"] == "new"
    assert listed(world, "") == ["h0", "h1", "h2"]
    refused(world.call("PUT", "hosts/unknown/retirement"), 404)
    refused(world.call("DELETE", "hosts/unknown/retirement"), 404)


def test_a_retirement_is_on_the_disk_when_it_is_acknowledged(world, tmp_path):
    """A meta that is killed then has lost nothing."""
    assert world.call("PUT", "hosts/h0/retirement", "editor").status_code == 200
    with closing(Store(f"sqlite:///{tmp_path}/meta.db")) as after:
        assert [row.retired_at > 0 for row in after.load_hosts() if row.hostname == "h0"] == [True]
    assert world.call("DELETE", "hosts/h0/retirement", "editor").status_code == 200
    with closing(Store(f"sqlite:///{tmp_path}/meta.db")) as after:
        assert [row.retired_at < 0 for row in after.load_hosts() if row.hostname == "h0"] == [True]


def test_a_retirement_that_cannot_be_written_is_refused(world):
    execute(world.store.shown, "ALTER TABLE head RENAME TO gone")
    for method in ("PUT", "DELETE"):
        refused(world.call(method, "hosts/h0/retirement", "editor"), 503)
    execute(world.store.shown, "ALTER TABLE gone RENAME TO head")
    assert listed(world, "state=retired") == []


def test_what_nobody_can_say_of_is_told_as_unknown_and_not_to_be_tried_again_at_once(world):
    class Mute:
        def __getattr__(self, name):
            return getattr(world.store, name)

        def revoke_token(self, *_arguments):
            raise Unknown("the database did not say")

    world.service.store = Mute()
    answer = world.call("DELETE", f"tokens/{world.ids['viewer']}")
    assert refused(answer, 504)["detail"] == "the database did not say"
    assert "Retry-After" not in answer.headers


def test_progress_says_of_which_revision_it_is_and_whether_that_may_be_an_old_one(world):
    query = "progress?agent=a"
    found = world.call("GET", query, "viewer").json
    revision = world.service.records.revision
    assert (found["revision"], found["desired"], found["wanted"], found["behind"]) == (revision, "2", ["2"], "")
    with closing(Store(world._database)) as store:
        late = Service(store, world.service.settings)  # which has not followed anything yet
        assert late.behind() == f"revision {revision} is not in force here yet"


def test_a_host_and_the_counts_tell_of_a_trial_and_what_a_change_waits_for(world):
    world.beat("h1", RealAgent("a", "2", "started", 7, trial=True))
    world.beat("h0", RealAgent("a", "1", "started", 7, trial=False, waits="download"))
    assert [(one["trial"], one["waits"]) for one in world.call("GET", "hosts/h1").json["agents"]] == [(True, "")]
    assert [(one["trial"], one["waits"]) for one in world.call("GET", "hosts/h0").json["agents"]] == [
        (False, "download")
    ]
    world.beat("go", RealAgent("a", "2", "started", 7))
    assert [one["trial"] for one in world.call("GET", "hosts/go").json["agents"]] == [None], "it does not say"
    counts = world.call("GET", "counts?agent=a").json
    assert [(one["hosts"], one["trial"]) for one in counts["items"]] == [(1, 0), (3, 1)]


def test_doubled_hosts_are_told_by_rest_and_on_the_command_line_alike(world):
    for machine in ("1" * 16, "2" * 16) * 2:
        report = {"hostname": "twin", "realAgents": [], "machine": machine, "boot": "b" * 16}
        assert world.call("POST", "/heartbeat", "local", json=report).status_code == 200
    listed = world.call("GET", "hosts", "viewer", query_string={"doubled": "true"}).json["items"]
    assert [(one["name"], one["doubled"]) for one in listed] == [("twin", ["127.0.0.1"])]
    assert world.call("GET", "states", "viewer").json["doubled"] == 1
    assert "meta_doubled_hosts 1.0" in world.call("GET", "/metrics", "viewer").text
