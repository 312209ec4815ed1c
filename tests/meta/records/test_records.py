"""resolve: what one host shall run; explain: why; and which selectors meet."""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.record_sets import HOSTNAMES as FEW_HOSTNAMES
from helpers.record_sets import RECORD_LISTS, RECORD_SETS, SELECTORS, resolve
from meta.api.schemas.documents import OverrideBody, SelectorBody
from meta.records.explanation import Explained, Reason, explain
from meta.records.model import (
    ON_HOST,
    Ban,
    Override,
    Record,
    RecordSet,
    Release,
    as_fields,
    from_fields,
    resolve_run_as,
    selectors,
)
from meta.records.selectors import KINDS, NO_HOST, Glob, Hosts, Label, Prefix, common, selector_fields, selector_of
from updater.wire.heartbeat import Desired

BASE = Record("falcon-agent", Release("1.0.10"), "http://r/falcon")
HOSTNAMES = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,12}", fullmatch=True)


def desired(**changes: str) -> tuple[Desired, ...]:
    fields = {"version": "1.0.10", "tarball": "http://r/falcon", "md5": "", "cmd": "start", "sha256": ""}
    return (Desired(name="falcon-agent", **(fields | changes)),)


def hosts(*names: str) -> Hosts:
    return Hosts(frozenset(names))


def with_overrides(*overrides: Override, **more) -> RecordSet:
    return RecordSet(
        records=(Record("falcon-agent", Release("1.0.10"), "http://r/falcon", overrides=overrides),), **more
    )


@pytest.mark.parametrize(
    ("overrides", "hostname", "expected"),
    [
        ([], "h", desired()),
        ([Override(Prefix("lg-"), Release("2"))], "lg-1", desired(version="2")),
        ([Override(Prefix("lg-"), Release("2"))], "xlg-1", desired()),
        ([Override(Prefix("lg-"), Release("2"))], "LG-1", desired()),
        ([Override(Prefix(""), Release("2"))], "any", desired(version="2")),
        ([Override(Glob("lg-*.example"), Release("2"))], "lg-1.example", desired(version="2")),
        ([Override(Glob("lg-*.example"), Release("2"))], "lg-1.example.org", desired()),
        ([Override(Glob("h[0-3]"), cmd="stop")], "h2", desired(cmd="stop")),
        ([Override(hosts("h1", "h2"), Release("2"))], "h2", desired(version="2")),
        ([Override(hosts("h1", "h2"), Release("2"))], "h22", desired()),
        # a later one wins, field by field, whatever its kind of selector
        ([Override(hosts("h1"), Release("2")), Override(Glob("*"), Release("3"))], "h1", desired(version="3")),
        (
            [Override(Glob("*"), Release("2"), cmd="stop"), Override(Glob("h*"), Release("3"))],
            "h1",
            desired(version="3", cmd="stop"),
        ),
        ([Override(Glob("*"), Release("2")), Override(Glob("x"), Release("3"))], "h1", desired(version="2")),
        # None changes nothing, blank is a value
        # a version brings its digests along, and no others
        (
            [Override(Glob("*"), Release("2", md5="0" * 32)), Override(Glob("*"), Release("3"))],
            "h",
            desired(version="3"),
        ),
        (
            [Override(Glob("*"), Release("2", md5="0" * 32)), Override(Glob("*"), cmd="stop")],
            "h",
            desired(version="2", md5="0" * 32, cmd="stop"),
        ),
        # where digests are is inherited, and counts for versions without one
        (
            [Override(Glob("*"), md5_base="http://s"), Override(Glob("*"), Release("2"))],
            "h",
            desired(version="2", md5="http://s"),
        ),
        (
            [Override(Glob("*"), Release("2", md5="0" * 32)), Override(Glob("*"), md5_base="http://s")],
            "h",
            desired(version="2", md5="0" * 32),
        ),
        ([Override(Glob("*"), md5_base="http://s"), Override(Glob("*"), md5_base="")], "h", desired()),
        (
            [Override(Glob("*"), Release("1.0.10", sha256="a" * 64), tarball="http://o/")],
            "h",
            desired(tarball="http://o/", sha256="a" * 64),
        ),
    ],
)
def test_a_host_gets_the_record_with_the_overrides_that_select_it(overrides, hostname, expected):
    assert resolve(with_overrides(*overrides), hostname) == expected


def test_every_agent_is_resolved_in_the_order_of_the_records():
    records = RecordSet(records=(Record("b", Release("1"), "http://r"), Record("a", Release("2"), "http://r")))
    assert [(d.name, d.version) for d in resolve(records, "h")] == [("b", "1"), ("a", "2")]


def test_no_records_are_no_desired_agents():
    assert resolve(RecordSet(), "h") == ()


@pytest.mark.long
@given(st.lists(st.tuples(HOSTNAMES, HOSTNAMES), max_size=6), HOSTNAMES)
def test_the_last_override_that_fits_decides(pairs, hostname):
    overrides = [Override(Prefix(prefix), Release(version)) for prefix, version in pairs]
    fitting = [version for prefix, version in pairs if hostname.startswith(prefix)]
    assert resolve(with_overrides(*overrides), hostname)[0].version == ([BASE.release.version, *fitting])[-1]


def test_records_are_shown_as_a_file_would_spell_them():
    record = Record(
        "a",
        Release("1"),
        "http://r",
        overrides=(Override(hosts("h1"), Release("2")), Override(Prefix("x"), md5_base="")),
    )
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


@pytest.mark.long
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
    records = with_overrides(Override(Label(label), Release("2")), labels={"h": of_host})
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
    overrides = [Override(Prefix("lg-"), Release("2")), Override(hosts("lg-stopped"), cmd="stop")]
    assert resolve(with_overrides(*overrides, bans=(Ban(agent, version),)), hostname) == expected


def test_selectors_are_told_once_each_in_order_of_first_use():
    one, other = Override(Prefix("b"), cmd="stop"), Override(Label("a"), cmd="stop")
    records = RecordSet(
        records=tuple(Record(name, Release("1"), "http://r", overrides=(one, other, one)) for name in "xy")
    )
    assert selectors(records) == (Prefix("b"), Label("a"))


def test_a_hundred_agents_with_a_hundred_overrides_each_are_resolved_at_once():
    globs = [Override(Glob(f"*x{i}*"), Release(str(i))) for i in range(1000)]
    many = Override(Hosts(frozenset(f"h{i}.example" for i in range(10_000))), cmd="stop")
    records = RecordSet(
        records=tuple(
            Record(f"a{i}", Release("1"), "http://r", overrides=(*globs[10 * i :][:99], many)) for i in range(100)
        )
    )
    resolve(records, "warm")
    started = time.process_time()
    for i in range(20):
        assert resolve(records, f"h{i}.example")[0].cmd == "stop"
    assert (time.process_time() - started) / 20 < 0.1


# --- explain ---


def test_explain_says_what_set_each_field():
    records = with_overrides(
        Override(Prefix("lg-"), Release("2"), cmd="stop"),
        Override(Label("env=staging"), Release("3"), tarball="http://s", mirrors=("http://t",)),
        Override(hosts("other"), Release("4")),
        Override(Glob("lg-?"), cmd="start"),
        labels={"lg-1": {"env": "staging"}},
    )
    assert explain(records, "lg-1") == (
        Explained(
            "falcon-agent",
            (
                Reason("version", "3", "override", 1, "label env=staging"),
                Reason("tarball", ("http://s", "http://t"), "override", 1, "label env=staging"),
                Reason("md5", "", "override", 1, "label env=staging"),  # with the version
                Reason("cmd", "start", "override", 3, "glob lg-?"),
                Reason("sha256", "", "override", 1, "label env=staging"),
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
    records = with_overrides(Override(Prefix("h"), Release("2")), bans=(Ban("falcon-agent", "2", "why", "ann", 5.0),))
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


@pytest.mark.long
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


# --- the hosts of two selectors ---


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Prefix("lg-"), Prefix("lg-1"), Prefix("lg-1")),
        (Prefix("lg-"), Prefix("bj-"), NO_HOST),
        (Prefix("lg-"), Glob("lg-*.x"), Glob("lg-*.x")),
        (Prefix("lg-1"), Glob("lg-*.x"), None),
        (Prefix("lg-"), Glob("bj-*"), NO_HOST),
        (Glob("*"), Label("env=a"), Label("env=a")),
        (Glob("*"), Glob("a*b"), Glob("a*b")),
        (Prefix(""), hosts("h1", "h2"), hosts("h1", "h2")),
        (Glob("a*x"), Glob("*b"), NO_HOST),
        (Glob("a*b"), Glob("*b"), Glob("a*b")),
        (Glob("*[ab]"), Glob("*b"), None),
        (Glob("h?"), hosts("h1"), hosts("h1")),
        (Glob("h?"), hosts("h1", "h11"), hosts("h1")),
        (Glob("h?"), hosts("h11"), NO_HOST),
        (hosts("a", "b"), hosts("b", "c"), hosts("b")),
        (hosts("a"), hosts("c"), NO_HOST),
        (hosts("a"), Label("env"), None),
        (Prefix("a"), Label("env"), None),
        (Label("env=a"), Label("env"), Label("env=a")),
        (Label("env=a"), Label("env=a"), Label("env=a")),
        (Label("env=a"), Label("env=b"), NO_HOST),
        (Label("env=a"), Label("gpu"), None),
    ],
)
def test_the_hosts_of_two_selectors_have_one_too_where_it_is_known(one, other, both):
    assert common(one, other) == common(other, one) == both


@given(SELECTORS, SELECTORS, FEW_HOSTNAMES, st.sampled_from([{}, {"env": "live"}, {"env": "staging", "gpu": ""}]))
def test_it_selects_just_the_hosts_of_both(one, other, hostname, labels):
    if (both := common(one, other)) is not None:
        assert both.matches(hostname, labels) == (one.matches(hostname, labels) and other.matches(hostname, labels))


def test_every_kind_of_selector_is_a_field_of_the_rest_api():
    assert set(KINDS) == set(SelectorBody.__struct_fields__)
    assert set(KINDS) <= set(OverrideBody.__struct_fields__)
