"""Hosts that the same selectors match share their desired state, whatever way they came to it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.record_sets import HOSTNAMES, RECORD_SETS, resolve
from meta.heartbeat.dialects import Dialect, reply
from meta.hosts.classes import Classes, Reported, Step, drifting, drifts
from meta.records.model import Override, Record, RecordSet, Release
from meta.records.selectors import Glob, Label, Prefix
from updater.wire.heartbeat import Desired
from updater.wire.reply import parse_reply

NAMES = ["h1", "h2", "lg-1.x", "lg-2", "x"]


def one(*overrides, labels=()):
    return RecordSet(records=(Record("a", Release("1"), "http://r", overrides=overrides),), labels=dict(labels))


@pytest.mark.long
@given(RECORD_SETS, HOSTNAMES)
def test_a_class_is_what_its_hosts_shall_run(records, name):
    found = Classes(records).of(name)
    assert found.desired == resolve(records, name)
    assert found.orders == {desired.name: desired for desired in found.desired}


@pytest.mark.long
@given(RECORD_SETS)
def test_hosts_with_the_same_matches_are_of_one_class(records):
    classes = Classes(records)
    found = [classes.of(name) for name in NAMES]
    assert len({id(klass) for klass in found}) == len({klass.matched for klass in found})
    assert [classes.of(name) for name in NAMES] == found
    assert {klass.book for klass in found} == {classes}


@pytest.mark.long
@given(RECORD_SETS, RECORD_SETS)
def test_every_host_gets_where_it_belongs_by_a_step(before, after):
    step = Step(Classes(before), Classes(after))
    for name in NAMES:
        here, there = step.before.of(name), step.after.of(name)
        assert step.of(here, name) is there
        assert step.of(there, name) is there  # when it is there already
        if name not in step.relabelled:
            assert step.whole(here) in (None, there)


@pytest.mark.long
@given(RECORD_SETS, RECORD_SETS, st.lists(HOSTNAMES, unique=True))
def test_a_tally_counts_what_single_steps_would_do(before, after, names):
    step = Step(Classes(before), Classes(after))
    here = step.before.of("h1")
    tally = step.tally(here, names)
    assert {klass: hosts for klass, hosts in tally.items() if hosts} == {
        klass: sum(step.of(here, name) is klass for name in names) for klass in {step.of(here, name) for name in names}
    }


def test_only_new_selectors_and_other_labels_make_hosts_go_different_ways():
    plain, prefixed = Classes(one()), Classes(one(Override(Prefix("h"), Release("2"))))
    labelled = Classes(one(Override(Prefix("h"), Release("3")), labels=[("h1", {"env": "x"})]))
    assert Step(plain, prefixed).whole(plain.of("h1")) is None
    assert Step(prefixed, plain).whole(prefixed.of("h1")) is plain.of("h1")
    assert Step(prefixed, labelled).whole(prefixed.of("h1")) is labelled.of("h1")
    assert Step(prefixed, labelled).relabelled == {"h1"}


def test_labels_and_globs_select():
    classes = Classes(
        one(
            Override(Label("env=x"), Release("2")),
            Override(Glob("lg-[12]"), Release("3")),
            labels=[("h1", {"env": "x"}), ("h2", {"env": "y"})],
        )
    )
    assert [classes.of(name).orders["a"].version for name in NAMES] == ["2", "1", "1", "3", "1"]


def test_a_class_has_one_answer_in_each_dialect():
    found = Classes(one()).of("h1")
    answer = reply(found, Dialect.FALCON)
    assert parse_reply(answer.body).desired == found.desired
    assert (answer.line, dict(answer.headers)["Content-Length"]) == ("200 OK", str(len(answer.body)))
    assert answer.kept.endswith(b"\r\n\r\n" + answer.body)
    assert reply(found, Dialect.FALCON) is answer
    assert json.loads(reply(found, Dialect.CORALDANE).body) == {"errorMessage": "", "desiredAgents": []}


def test_coraldanes_updater_is_told_only_of_agents_with_a_user_and_a_directory():
    records = RecordSet(
        records=(
            Record("a", Release("1"), "http://r", run_user="moni", work_dir="/srv/agents"),
            Record("half", Release("1"), "http://r", run_user="moni"),
            Record("none", Release("1"), "http://r", cmd="stop"),
            Record(
                "some",
                Release("1"),
                "http://r",
                overrides=(Override(Prefix("lg-"), run_user="moni", work_dir="/srv/agents"),),
            ),
            Record(
                "not",
                Release("1"),
                "http://r",
                run_user="moni",
                work_dir="/srv",
                overrides=(Override(Prefix("lg-"), run_user=""),),
            ),
        )
    )
    classes = Classes(records)
    told = {
        name: json.loads(reply(classes.of(name), Dialect.CORALDANE).body)["desiredAgents"] for name in ("h1", "lg-1")
    }
    assert {name: [one["name"] for one in agents] for name, agents in told.items()} == {
        "h1": ["a", "not"],
        "lg-1": ["a", "some"],
    }
    plain = json.loads(reply(classes.of("h1"), Dialect.FALCON).body)["desiredAgents"]
    more = {"runUser": "moni", "workDir": "/srv/agents", "configFileName": "", "configRemoteUrl": ""}
    assert told["h1"][0] == plain[0] | more
    assert [one["name"] for one in plain] == ["a", "half", "none", "some", "not"]
    assert b"runUser" not in reply(classes.of("h1"), Dialect.FALCON).body


@pytest.mark.parametrize(
    ("cmd", "version", "status", "expected"),
    [
        ("start", "1", "started", False),
        ("start", "2", "started", True),
        ("start", "1", "stoped", True),
        ("start", "1", "exec fail", True),
        ("start", "", "", True),
        ("stop", "1", "stoped", False),
        ("stop", "1", "stopped", False),
        ("stop", "2", "stoped", False),
        ("stop", "1", "started", True),
        ("stop", "", "", False),
    ],
)
def test_an_agent_drifts_when_it_is_not_as_ordered(cmd, version, status, expected):
    order = Desired("a", "1", "http://r", cmd=cmd)
    assert drifts(order, version, status) == expected
    all_reported = [Reported("a", version, status)] if version else []
    assert drifting({"a": order}, all_reported) == ([order] if expected else [])


def test_what_nobody_ordered_does_not_drift():
    assert not drifts(None, "1", "whatever")
    assert drifting({}, [Reported("a", "1", "started")]) == []
