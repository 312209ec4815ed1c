"""resolve: what one host shall run; explain: why; and which selectors meet."""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.record_sets import HOSTNAMES as FEW_HOSTNAMES
from helpers.record_sets import RECORD_LISTS, RECORD_SETS, SELECTORS, resolve
from meta.records.explanation import Explained, Reason, explain
from meta.records.model import (
    ON_HOST,
    Ban,
    Override,
    Record,
    RecordSet,
    as_fields,
    from_fields,
    resolve_run_as,
    selectors,
)
from meta.records.selectors import Glob, Hosts, Label, Prefix, may_overlap, selector_fields, selector_of, surely_overlap
from updater.wire.heartbeat import Desired

BASE = Record("falcon-agent", "1.0.10", "http://r/falcon")
HOSTNAMES = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,12}", fullmatch=True)


def desired(**changes: str) -> tuple[Desired, ...]:
    fields = {"version": "1.0.10", "tarball": "http://r/falcon", "md5": "", "cmd": "start", "sha256": ""}
    return (Desired(name="falcon-agent", **(fields | changes)),)


def hosts(*names: str) -> Hosts:
    return Hosts(frozenset(names))


def with_overrides(*overrides: Override, **more) -> RecordSet:
    return RecordSet(records=(Record("falcon-agent", "1.0.10", "http://r/falcon", overrides=overrides),), **more)


@pytest.mark.parametrize(
    ("overrides", "hostname", "expected"),
    [
        ([], "h", desired()),
        ([Override(Prefix("lg-"), version="2")], "lg-1", desired(version="2")),
        ([Override(Prefix("lg-"), version="2")], "xlg-1", desired()),
        ([Override(Prefix("lg-"), version="2")], "LG-1", desired()),
        ([Override(Prefix(""), version="2")], "any", desired(version="2")),
        ([Override(Glob("lg-*.example"), version="2")], "lg-1.example", desired(version="2")),
        ([Override(Glob("lg-*.example"), version="2")], "lg-1.example.org", desired()),
        ([Override(Glob("h[0-3]"), cmd="stop")], "h2", desired(cmd="stop")),
        ([Override(hosts("h1", "h2"), version="2")], "h2", desired(version="2")),
        ([Override(hosts("h1", "h2"), version="2")], "h22", desired()),
        # a later one wins, field by field, whatever its kind of selector
        ([Override(hosts("h1"), version="2"), Override(Glob("*"), version="3")], "h1", desired(version="3")),
        (
            [Override(Glob("*"), version="2", cmd="stop"), Override(Glob("h*"), version="3")],
            "h1",
            desired(version="3", cmd="stop"),
        ),
        ([Override(Glob("*"), version="2"), Override(Glob("x"), version="3")], "h1", desired(version="2")),
        # None changes nothing, blank is a value
        (
            [Override(Glob("*"), md5="0" * 32), Override(Glob("*"), version="2")],
            "h",
            desired(md5="0" * 32, version="2"),
        ),
        ([Override(Glob("*"), md5="0" * 32), Override(Glob("*"), md5="")], "h", desired()),
        (
            [Override(Glob("*"), tarball="http://o/", sha256="a" * 64)],
            "h",
            desired(tarball="http://o/", sha256="a" * 64),
        ),
    ],
)
def test_a_host_gets_the_record_with_the_overrides_that_select_it(overrides, hostname, expected):
    assert resolve(with_overrides(*overrides), hostname) == expected


def test_every_agent_is_resolved_in_the_order_of_the_records():
    records = RecordSet(records=(Record("b", "1", "http://r"), Record("a", "2", "http://r")))
    assert [(d.name, d.version) for d in resolve(records, "h")] == [("b", "1"), ("a", "2")]


def test_no_records_are_no_desired_agents():
    assert resolve(RecordSet(), "h") == ()


@given(st.lists(st.tuples(HOSTNAMES, HOSTNAMES), max_size=6), HOSTNAMES)
def test_the_last_override_that_fits_decides(pairs, hostname):
    overrides = [Override(Prefix(prefix), version=version) for prefix, version in pairs]
    fitting = [version for prefix, version in pairs if hostname.startswith(prefix)]
    assert resolve(with_overrides(*overrides), hostname)[0].version == ([BASE.version, *fitting])[-1]


@given(HOSTNAMES, HOSTNAMES, HOSTNAMES)
def test_selectors_that_surely_overlap_have_a_host_in_common(one, other, third):
    three = [Prefix(one), hosts(other, third), Glob(f"{third}*")]
    candidates = [one, other, third, max(one, other, key=len)]
    for a in three:
        for b in three:
            if surely_overlap(a, b):
                assert any(a.matches(host, {}) and b.matches(host, {}) for host in candidates)


def test_records_are_shown_as_a_file_would_spell_them():
    record = Record("a", "1", "http://r", overrides=(Override(hosts("h1"), version="2"), Override(Prefix("x"), md5="")))
    assert as_fields([record]) == [
        {
            "name": "a",
            "version": "1",
            "tarball": "http://r",
            "md5": "",
            "cmd": "start",
            "overrides": [{"hosts": ["h1"], "version": "2"}, {"prefix": "x", "md5": ""}],
        }
    ]


@given(RECORD_LISTS)
def test_what_was_spelled_out_can_be_read_again(records):
    spelled = msgspec.json.decode(msgspec.json.encode(as_fields(records)))
    assert tuple(from_fields(fields) for fields in spelled) == records


@given(SELECTORS)
def test_a_selector_that_was_spelled_out_can_be_read_again(selector):
    assert selector_of(selector_fields(selector)) == selector


# --- labels, bans, classes of hosts ---


@pytest.mark.parametrize(
    ("label", "of_host", "selected"),
    [
        ("env=staging", {"env": "staging"}, True),
        ("env=staging", {"env": "live"}, False),
        ("env=staging", {"env": ""}, False),
        ("env=staging", {"staging": "env"}, False),
        ("env=staging", {}, False),
        ("env", {"env": "live"}, True),
        ("env", {"env": ""}, True),
        ("env", {"environment": "live"}, False),
    ],
)
def test_a_label_selects_the_hosts_that_have_it(label, of_host, selected):
    records = with_overrides(Override(Label(label), version="2"), labels={"h": of_host})
    assert resolve(records, "h") == desired(version="2" if selected else "1.0.10")


@pytest.mark.parametrize(
    ("agent", "version", "hostname", "expected"),
    [
        ("falcon-agent", "2", "lg-1", ()),
        ("falcon-agent", "2", "other", desired()),
        ("falcon-agent", "1.0.10", "lg-1", desired(version="2")),
        ("falcon-agent", "3", "lg-1", desired(version="2")),
        ("dinp-agent", "2", "lg-1", desired(version="2")),
        ("falcon-agent", "2", "lg-stopped", desired(version="2", cmd="stop")),
    ],
)
def test_no_host_is_told_to_start_a_banned_version(agent, version, hostname, expected):
    overrides = [Override(Prefix("lg-"), version="2"), Override(hosts("lg-stopped"), cmd="stop")]
    assert resolve(with_overrides(*overrides, bans=(Ban(agent, version),)), hostname) == expected


def test_selectors_are_told_once_each_in_order_of_first_use():
    one, other = Override(Prefix("b"), cmd="stop"), Override(Label("a"), cmd="stop")
    records = RecordSet(records=tuple(Record(name, "1", "http://r", overrides=(one, other, one)) for name in "xy"))
    assert selectors(records) == (Prefix("b"), Label("a"))


def test_a_hundred_agents_with_a_hundred_overrides_each_are_resolved_at_once():
    globs = [Override(Glob(f"*x{i}*"), version=str(i)) for i in range(1000)]
    many = Override(Hosts(frozenset(f"h{i}.example" for i in range(10_000))), cmd="stop")
    records = RecordSet(
        records=tuple(Record(f"a{i}", "1", "http://r", overrides=(*globs[10 * i :][:99], many)) for i in range(100))
    )
    resolve(records, "warm")
    started = time.process_time()
    for i in range(20):
        assert resolve(records, f"h{i}.example")[0].cmd == "stop"
    assert (time.process_time() - started) / 20 < 0.1


# --- explain ---


def test_explain_says_what_set_each_field():
    records = with_overrides(
        Override(Prefix("lg-"), version="2", cmd="stop"),
        Override(Label("env=staging"), version="3", tarball="http://s", mirrors=("http://t",)),
        Override(hosts("other"), version="4"),
        Override(Glob("lg-?"), cmd="start"),
        labels={"lg-1": {"env": "staging"}},
    )
    assert explain(records, "lg-1") == (
        Explained(
            "falcon-agent",
            (
                Reason("version", "3", "override", 1, "label env=staging"),
                Reason("tarball", ("http://s", "http://t"), "override", 1, "label env=staging"),
                Reason("md5", ""),
                Reason("cmd", "start", "override", 3, "glob lg-?"),
                Reason("sha256", ""),
            ),
        ),
    )


def test_explain_names_the_ban_that_keeps_an_agent_from_being_ordered():
    ban = Ban("falcon-agent", "1.0.10", "it crashes", "ann", 5.0)
    stopped = Override(Prefix("lg-"), cmd="stop")
    records = with_overrides(stopped, bans=(ban, Ban("falcon-agent", "2")))
    assert [agent.ban for agent in explain(records, "h")] == [ban]
    assert [agent.ban for agent in explain(records, "lg-1")] == [None]


def test_an_explanation_is_json_as_it_is():
    records = with_overrides(Override(Prefix("h"), version="2"), bans=(Ban("falcon-agent", "2", "why", "ann", 5.0),))
    [agent] = msgspec.json.decode(msgspec.json.encode(explain(records, "h")))
    assert agent["fields"][0] == {
        "field": "version",
        "value": "2",
        "by": "override",
        "override": 0,
        "selector": "prefix h",
    }
    assert agent["ban"] == {"agent": "falcon-agent", "version": "2", "why": "why", "who": "ann", "at": 5.0}


def _matching(records, hostname):
    labels = records.labels.get(hostname, {})
    return [selector for selector in selectors(records) if selector.matches(hostname, labels)]


@given(RECORD_SETS, FEW_HOSTNAMES)
def test_what_is_explained_is_what_is_resolved(records, hostname):
    explained = {agent.agent: agent for agent in explain(records, hostname)}
    ordered = resolve(records, hostname)
    assert [name for name, agent in explained.items() if agent.ban is None] == [one.name for one in ordered]
    for one in ordered:
        tarball = (one.tarball, *one.mirrors) if one.mirrors else one.tarball
        values = {reason.field: reason.value for reason in explained[one.name].fields}
        user, directory = values.pop("runUser", ""), values.pop("workDir", "")
        assert (user, directory) == resolve_run_as(records, frozenset(_matching(records, hostname)))[one.name]
        said = {key: values.pop(key, "") for key in ON_HOST}
        assert said == {"leftovers": one.leftovers, "unknownStatus": one.unknown_status}
        assert values == {
            "version": one.version,
            "tarball": tarball,
            "md5": one.md5,
            "cmd": one.cmd,
            "sha256": one.sha256,
        }


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        (Prefix("lg-"), "prefix lg-"),
        (Prefix(""), 'prefix ""'),
        (Glob("*-[0-9]"), "glob *-[0-9]"),
        (Label("env=staging"), "label env=staging"),
        (hosts("b", "a"), "hosts a, b"),
        (hosts(*"gfedcba"), "hosts a, b, c and 4 more"),
    ],
)
def test_selectors_in_words(selector, words):
    assert selector.in_words() == words


# --- which selectors meet ---

SURELY, PERHAPS, NEVER = (True, True), (False, True), (False, False)


@pytest.mark.parametrize(
    ("one", "other", "answer"),
    [
        (Prefix("lg-"), Prefix("lg-1"), SURELY),
        (Prefix("lg-"), Prefix("bj-"), NEVER),
        (Prefix("lg-"), Glob("lg-*.x"), SURELY),
        (Prefix("lg-1"), Glob("lg-*.x"), PERHAPS),
        (Prefix("lg-"), Glob("bj-*"), NEVER),
        (Glob("*"), Label("env=a"), SURELY),
        (Glob("*"), Glob("a*b"), SURELY),
        (Glob("a*x"), Glob("*b"), NEVER),
        (Glob("a*b"), Glob("*b"), PERHAPS),
        (Glob("*[ab]"), Glob("*b"), PERHAPS),
        (Glob("h1"), hosts("h1"), SURELY),
        (Glob("h?"), hosts("h1"), SURELY),
        (Glob("h?"), hosts("h11"), NEVER),
        (hosts("a", "b"), hosts("b", "c"), SURELY),
        (hosts("a"), hosts("c"), NEVER),
        (hosts("a"), Label("env"), PERHAPS),
        (Prefix("a"), Label("env"), PERHAPS),
        (Label("env=a"), Label("env"), SURELY),
        (Label("env=a"), Label("env=a"), SURELY),
        (Label("env=a"), Label("env=b"), NEVER),
        (Label("env=a"), Label("gpu"), PERHAPS),
    ],
)
def test_whether_two_selectors_have_hosts_in_common(one, other, answer):
    assert (surely_overlap(one, other), may_overlap(one, other)) == answer
    assert (surely_overlap(other, one), may_overlap(other, one)) == answer


@given(SELECTORS, SELECTORS, FEW_HOSTNAMES, st.sampled_from([{}, {"env": "live"}, {"env": "staging", "gpu": ""}]))
def test_selectors_that_meet_on_a_host_may_overlap(one, other, hostname, labels):
    if one.matches(hostname, labels) and other.matches(hostname, labels):
        assert may_overlap(one, other)
    assert may_overlap(one, other) or not surely_overlap(one, other)
