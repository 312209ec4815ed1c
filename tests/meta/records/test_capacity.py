"""No record is accepted that an updater would not take: how many agents, how large a reply, for which hosts."""

import json
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.meta_api import World, record
from helpers.record_sets import resolve
from meta.api.framework.operation import MAX_RECORDS
from meta.cli import cli
from meta.edits import operations
from meta.errors import EditRefused, RecordsError
from meta.records import capacity, history
from meta.records.files.load import parse_data
from meta.records.history import Edit
from meta.records.model import Ban, Override, Record, RecordSet, Release, matcher, resolve_matched, selectors
from meta.records.selectors import Glob, Hosts, Label, Prefix
from updater.wire.fitting import agents_that_fit, outcomes_that_fit
from updater.wire.heartbeat import Outcome, RealAgent, Report, decode_report, render_reply, render_report
from updater.wire.limits import MAX_AGENTS, MAX_BODY, MAX_MIRRORS, MAX_URL, ROOM, reply_problem
from updater.wire.reply import parse_reply

LONG = [f"http://mirror{number}.example/" + "x" * 4000 for number in range(MAX_MIRRORS)]  # 64 KiB for one agent
IF_ANY = {"If-Match": "*"}
ROOT = Path(__file__).parents[3]


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def put_all(world, agents, **query):
    return world.call("PUT", "records", headers=IF_ANY, json={"agents": agents}, query_string=query)


def long_override(world, number, selector, **query):
    body = {"selector": selector, "set": {"tarball": LONG}}
    return world.call("PATCH", f"records/a{number}", headers=IF_ANY, json=body, query_string=query)


def test_a_thousand_agents_are_taken_and_one_more_is_refused_by_how_much(world):
    assert put_all(world, [record(f"a{number}") for number in range(MAX_AGENTS)]).status_code == 200
    for answer in (
        put_all(world, [record(f"a{number}") for number in range(MAX_AGENTS + 7)], dryRun="true"),
        put_all(world, [record(f"a{number}") for number in range(MAX_AGENTS + 7)], action="import"),
    ):
        assert (answer.status_code, answer.json["detail"]) == (
            400,
            "1,007 agents are 7 more than the 1,000 that a host takes",
        )
    new = world.call("PUT", "records/more", headers={"If-None-Match": "*"}, json=record("more"))
    assert (new.status_code, "1,001 agents are 1 more" in new.json["detail"]) == (400, True)
    assert len(world.service.records.records) == MAX_AGENTS


def test_an_override_is_refused_that_makes_a_reply_too_large_for_hosts_that_are_yet_to_come(world):
    put_all(world, [record(f"a{number}") for number in range(20)])
    answers = [long_override(world, number, {"prefix": "lg-"}) for number in range(20)]
    codes = [answer.status_code for answer in answers]
    assert codes == [200] * codes.count(200) + [400] * codes.count(400)
    assert codes.count(200) == 16
    assert re.fullmatch(
        r"a reply of 1,\d\d\d,\d{3} bytes is [\d,]+ larger than the 1,048,320 that a host takes: to hosts that "
        r"\[prefix lg-\] select",
        answers[-1].json["detail"],
    )
    assert len(world.service.table.classes.of("lg-1").desired) == 20


def test_what_only_hosts_of_several_selectors_would_get_is_a_doubt_until_there_is_one(world):
    put_all(world, [record(f"a{number}") for number in range(20)])
    for number in range(20):
        selector = {"prefix": "lg-"} if number % 2 else {"label": "big"}
        assert long_override(world, number, selector).status_code == 200
    [warning] = long_override(world, 0, {"glob": "*"}, dryRun="true").json["warnings"]
    assert warning.startswith("a host that many of the overrides select together might not take its orders: a reply of")
    world.beat("lg-1")
    edit = {"hosts": ["web-1"], "set": {"big": ""}}
    assert world.call("POST", "labels", json=edit).status_code == 200
    refused = world.call("POST", "labels", json={"hosts": ["lg-1"], "set": {"big": ""}})
    assert refused.status_code == 400
    assert refused.json["detail"].endswith("to hosts that [label big] and [prefix lg-] select")
    assert world.service.ready() == []


def test_a_host_that_comes_into_what_it_cannot_take_is_told_by_ready(world):
    put_all(world, [record(f"a{number}") for number in range(20)])
    for number in range(20):
        selector = {"prefix": "lg-"} if number % 2 else {"glob": "*-1"}
        assert long_override(world, number, selector).status_code == 200
    world.beat("lg-1")
    [text] = world.service.ready()
    assert text.startswith("hosts cannot take their orders: a reply of 1,")


def test_while_hosts_cannot_take_their_orders_only_what_makes_it_less_is_accepted(world):
    put_all(world, [record(f"a{number}") for number in range(20)])
    for number in range(20):
        selector = {"prefix": "lg-"} if number % 2 else {"glob": "*-1"}
        assert long_override(world, number, selector).status_code == 200
    world.beat("lg-1")
    world.beat("web-2")
    for changed in ({"set": {"version": "2.0"}}, {"selector": {"prefix": "web-"}, "set": {"version": "2"}}):
        for query in ({}, {"dryRun": "true"}):
            refused = world.call("PATCH", "records/a0", headers=IF_ANY, json=changed, query_string=query)
            assert (refused.status_code, "hosts get no orders for that" in refused.json["detail"]) == (400, True)
    assert world.call("POST", "labels", json={"hosts": ["web-2"], "set": {"big": ""}}).status_code == 200
    for number in (1, 3, 5, 7, 9):  # each makes it less, and the last is enough
        assert world.service.ready() != []
        shorter = {"selector": {"prefix": "lg-"}, "set": {"tarball": LONG[:1]}}
        assert world.call("PATCH", f"records/a{number}", headers=IF_ANY, json=shorter).status_code == 200
    assert world.service.ready() == []
    assert world.call("PATCH", "records/a0", headers=IF_ANY, json={"set": {"version": "2.0"}}).status_code == 200


def test_hosts_may_leave_a_class_that_cannot_take_its_orders_and_none_may_come_into_it(world):
    put_all(world, [record(f"a{number}") for number in range(20)])
    hosts = ["lg-1", "lg-2", "lg-3"]
    for host in hosts:
        world.beat(host)
    for number in range(20):
        assert long_override(world, number, {"label": "one"} if number % 2 else {"label": "two"}).status_code == 200
    label(world, {"hosts": ["new-1", "new-2"], "set": {"one": "", "two": ""}}, 400)
    label(world, {"hosts": hosts, "set": {"one": ""}}, 200)
    labels = {"new-1": {"one": "", "two": ""}, "new-2": {"one": "", "two": ""}}
    older = world.store.load_records()
    after = operations.label_hosts(operations.label_hosts(older, labels, {"one": ""}), labels, {"two": ""})
    world.store.commit(older, after, Edit(1.0, "older", "", "label"))
    world.service.put_in_force(world.store.load_records())
    for host in labels:
        world.beat(host)
    label(world, {"hosts": ["lg-1"], "set": {"two": ""}}, 400)
    label(world, {"hosts": ["lg-1"], "set": {"three": ""}}, 200)
    label(world, {"hosts": ["new-1"], "remove": ["two"]}, 200)
    label(world, {"hosts": ["new-2"], "remove": ["two"]}, 200)


def label(world, body, status):
    answer = world.call("POST", "labels", json=body)
    assert (answer.status_code, body) == (status, body), answer.text


def test_neither_a_ban_nor_its_end_is_refused_and_what_was_too_much_before_may_become_less():
    many = tuple(Record(f"a{number}", Release("1"), "http://r") for number in range(MAX_AGENTS + 2))
    before = RecordSet(records=many, bans=(Ban("a1", "1"),))
    capacity.require(before, operations.unban(before, "a1", "1"))
    capacity.require(before, operations.delete_record(before, "a1"))
    capacity.require(before, operations.set_fields(before, "a1", {"version": "2"}))
    with pytest.raises(EditRefused, match="1,003 agents are 3 more"):
        capacity.require(before, operations.put_record(before, Record("new", Release("1"), "http://r")))


def test_a_rollback_to_what_no_host_takes_is_refused(world):
    """An older meta may have made it."""
    many = [record(f"a{number}") for number in range(MAX_AGENTS + 1)]
    loaded = parse_data({"agents": many}, "records").records
    empty = world.service.records
    for after in (operations.apply(empty, loaded), operations.apply(empty, ())):
        before = world.store.load_records()
        world.store.commit(before, after, history.Edit(1.0, "older", "", "apply"))
    world.service.put_in_force(world.store.load_records())
    answer = world.call("POST", "rollback", json={"revision": 1})
    assert (answer.status_code, "1,001 agents are 1 more" in answer.json["detail"]) == (400, True)


@pytest.mark.parametrize("path", ["/heartbeat", "/api/heartbeat", "labels"])
def test_a_request_that_is_too_large_is_told_the_limit(world, path):
    for size in (MAX_BODY + 1, 3 * MAX_BODY):
        answer = world.call("POST", path, headers={"Content-Type": "application/json"}, data=b"x" * size)
        assert (answer.status_code, "1,048,576 bytes" in answer.text) == (413, True)


def test_records_that_are_too_large_are_told_their_own_limit(world):
    answer = world.call(
        "PUT", "records", headers={"Content-Type": "application/json", **IF_ANY}, data=b"x" * (MAX_RECORDS + 1)
    )
    assert (answer.status_code, "33,554,432 bytes" in answer.text) == (413, True)


def test_check_refuses_a_file_with_more_than_a_host_takes(tmp_path):
    file = tmp_path / "records.json"
    file.write_text(json.dumps({"agents": [record(f"a{number}") for number in range(MAX_AGENTS + 1)]}))
    done = CliRunner().invoke(cli, ["check", str(file)])
    assert isinstance(done.exception, RecordsError) or done.exit_code == 2
    assert "1,001 agents are 1 more than the 1,000 that a host takes" in done.output + str(done.exception)


# --- what one side accepts the other takes ---

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,70}", fullmatch=True)
VERSIONS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+~=-]{0,70}", fullmatch=True)
PATHS = st.integers(0, MAX_URL).map(lambda length: "/" + "x" * length)
PARTS = st.integers(1, 70).map(lambda length: "h" * length)
BASES = st.builds("{}://{}.example{}".format, st.sampled_from(["http", "https"]), PARTS, PATHS)
DIGESTS = st.sampled_from(["", "0" * 32, "F" * 32, "0" * 31, "http://sums.example", "a" * 64, "A" * 63])
FIELDS = {
    "version": VERSIONS,
    "tarball": BASES | st.lists(BASES, min_size=1, max_size=MAX_MIRRORS + 1),
    "md5": DIGESTS,
    "sha256": DIGESTS,
    "cmd": st.sampled_from(["start", "stop", ""]),
    "attempt": st.integers(-1, (1 << 53) + 1),
    "leftovers": st.sampled_from(["", "leave", "end", "x"]),
    "unknownStatus": st.sampled_from(["", "wait", "upgrade", "x"]),
}
MORE = {key: FIELDS[key] for key in FIELDS.keys() - {"version", "tarball"}}
CHOSEN = st.sampled_from([{"prefix": "lg-"}, {"glob": "*-1"}, {"hosts": ["lg-1"]}, {"label": "big"}])
OVERRIDES = st.builds(lambda chosen, fields: chosen | fields, CHOSEN, st.fixed_dictionaries({}, optional=FIELDS))
AGENTS = st.fixed_dictionaries(
    {"name": NAMES, "version": VERSIONS, "tarball": FIELDS["tarball"]},
    optional={**MORE, "overrides": st.lists(OVERRIDES, max_size=3)},
)


@pytest.mark.long
@settings(max_examples=40)
@given(st.lists(AGENTS, min_size=1, max_size=3), st.sampled_from([1, 20, 330]))
def test_whatever_meta_accepts_every_updater_takes(agents, times):
    """times: how often the agents are there, under other names, so that all of them together are too much for some."""
    more = [agent | {"name": f"{agent['name']}{n}" if n else agent["name"]} for agent in agents for n in range(times)]
    try:
        records = operations.apply(RecordSet(), parse_data({"agents": more}, "records").records)
        records = operations.label_hosts(records, ["x-9"], {"big": "1"})
        capacity.require(RecordSet(), records, lambda after: {matched(after, "lg-1"): 1})
    except (RecordsError, EditRefused):
        return
    for host in ("lg-", "x-1", "lg-1", "x-9", "other"):
        if host == "x-1" and capacity.doubt(records):
            continue  # a combination of which no host is known
        body = render_reply(resolve(records, host))
        reply = parse_reply(body)
        assert (len(body) <= MAX_BODY - ROOM, reply.refused, len(reply.desired)) == (True, (), len(more))


def matched(records, host):
    return frozenset(filter(matcher(records, host), selectors(records)))


STATUSES = st.sampled_from(["started", "stoped", '"' * 300, "\U0001f600" * 300, "\\" * 299])
SEEN = st.builds(RealAgent, NAMES, VERSIONS, STATUSES, st.integers(0, 1 << 40), STATUSES)
OUTCOMES = st.builds(Outcome, NAMES, VERSIONS, VERSIONS, reason=STATUSES, evidence=STATUSES)


@settings(max_examples=40)
@given(
    st.lists(SEEN, min_size=1, max_size=3), st.lists(OUTCOMES, min_size=1, max_size=3), st.sampled_from([1, 300, 400])
)
def test_whatever_a_host_reports_meta_takes(agents, outcomes, times):
    some = agents_that_fit(agents * times, {agents[-1].name})
    told = outcomes_that_fit([("a", one) for one in outcomes * times], some)
    body = render_report(Report("h" * 253, some, outcomes=[one for _, one in told]))
    assert len(body) <= MAX_BODY
    assert len(decode_report(body).real_agents) == len(some) == min(len(agents) * times, MAX_AGENTS)
    assert told, "each report takes some"


def test_of_too_many_agents_those_with_orders_are_reported():
    agents = [RealAgent(f"a{number}", "1", "started", 1) for number in range(MAX_AGENTS + 5)]
    kept = agents_that_fit(agents, {f"a{MAX_AGENTS + 4}"})
    assert (len(kept), kept[-1].name, kept[0].name) == (MAX_AGENTS, f"a{MAX_AGENTS + 4}", "a0")


CHOSEN_ONES = (Prefix("lg-"), Prefix("l"), Glob("*-1"), Glob("?g*"), Hosts(frozenset({"lg-1"})), Label("big"))


@settings(max_examples=20)
@given(st.lists(st.sampled_from(CHOSEN_ONES), unique=True))
def test_for_each_selector_a_host_is_thought_up_that_it_selects(chosen):
    overrides = tuple(Override(one, tarball=LONG[0], mirrors=tuple(LONG[1:])) for one in chosen)
    records = RecordSet(
        records=tuple(Record(f"a{n}", Release("1"), "http://r", overrides=overrides) for n in range(20))
    )
    load = capacity.heaviest(records)
    assert bool(load.problems()) == bool(chosen)
    assert load.size <= capacity.bound(records)
    assert load.size >= len(render_reply(resolve(records, "lg-1")))


SAID = {
    "release": st.builds(Release, st.sampled_from(["1", "22"]), sha256=st.sampled_from(["", "a" * 64])),
    "md5_base": st.sampled_from(["", *LONG[:1]]),
    "tarball": st.sampled_from(LONG[:2]),
    "mirrors": st.sampled_from([(), (LONG[0],)]),
    "cmd": st.sampled_from(["start", "stop"]),
    "attempt": st.integers(0, 11),
    "leftovers": st.sampled_from(["", "end", "leave"]),
    "unknown_status": st.sampled_from(["", "wait", "upgrade"]),
}


@given(
    st.fixed_dictionaries(SAID),
    st.lists(st.tuples(st.sampled_from(CHOSEN_ONES), st.fixed_dictionaries({}, optional=SAID)), max_size=4),
    st.sets(st.sampled_from(CHOSEN_ONES)),
)
def test_no_reply_is_larger_than_the_bound_whatever_selects_a_host(said, overriding, chosen):
    overrides = tuple(Override(one, **fields) for one, fields in overriding)
    records = RecordSet(records=(Record("a", **said, overrides=overrides),))
    assert len(render_reply(resolve_matched(records, frozenset(chosen)))) <= capacity.bound(records)


def test_an_attempt_that_only_an_override_has_counts():
    before = Record("a", Release("1"), "http://r", attempt=0)
    after = Record("a", Release("1"), "http://r", overrides=(Override(Label("canary"), attempt=1),))
    there = [capacity.bound(RecordSet(records=(one,))) for one in (before, after)]
    assert there[1] - there[0] == len(',"attempt":1')


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from(CHOSEN_ONES), st.integers(0, 19)), max_size=45, unique=True),
    st.dictionaries(st.sampled_from(["lg-1", "x", "y-1"]), st.sampled_from([{"big": "1"}, {"small": ""}])),
)
def test_it_is_refused_just_where_a_host_that_is_named_or_labelled_cannot_take_it(chosen, labels):
    made = [
        Record(
            f"a{n}", Release("1"), "http://r", overrides=tuple(long_for(one) for one, number in chosen if number == n)
        )
        for n in range(20)
    ]
    records = RecordSet(records=tuple(made), labels=labels)
    load = capacity.heaviest(records)
    replies = [len(render_reply(resolve(records, host))) for host in ("lg-1", *labels)]
    assert load.size >= max(replies) or load.problems() == []
    if any(map(reply_problem, replies)):
        assert load.problems() != []
    if load.problems():
        assert load.size in {*replies, *map(len, every_reply(records))}


def long_for(selector):
    return Override(selector, tarball=LONG[0], mirrors=tuple(LONG[1:]))


def every_reply(records):
    """To hosts that are thought up."""
    for name, labels in (("lg-", {}), ("l", {}), ("-1", {}), ("x-1", {}), ("0g", {}), ("0gx", {}), ("x", {"big": ""})):
        yield render_reply(resolve(RecordSet(records=records.records, labels={name: labels}), name))


@pytest.mark.timed
def test_many_hosts_that_are_labelled_or_named_cost_little():
    """20,000 hosts, 200 labels, 900 agents, and more than a host of all labels could take; before it was 10 seconds."""
    labels = {f"h{n}": {"ring": str(n % 200)} for n in range(20_000)}
    agents = tuple(
        Record(
            f"a{n}",
            Release("1"),
            "http://r.example",
            overrides=tuple(Override(one, Release(f"1.{n}")) for one in chosen),
        )
        for n, chosen in enumerate([RINGS] * 900)
    )
    long = Record("z", Release("1"), "http://r", overrides=tuple(Override(one, tarball=LONG[0]) for one in RINGS))
    wide = tuple(Record(f"w{n}", Release("1"), LONG[1], overrides=(long_for(RINGS[n]),)) for n in range(20))
    records = RecordSet(records=(*agents, long, *wide), labels=labels)
    began = time.monotonic()
    assert capacity.heaviest(records).problems() == []
    assert capacity.doubt(records) != ""
    assert time.monotonic() - began < 6


RINGS = [Label(f"ring={n}") for n in range(200)]
