"""resolve: what one host shall run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta.records import Glob, Hosts, Override, Prefix, Record, as_fields, resolve, surely_overlap
from updater.wire import Desired

BASE = Record("falcon-agent", "1.0.10", "http://r/falcon")
HOSTNAMES = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,12}", fullmatch=True)


def desired(**changes: str) -> tuple[Desired, ...]:
    fields = {"version": "1.0.10", "tarball": "http://r/falcon", "md5": "", "cmd": "start", "sha256": ""}
    return (Desired(name="falcon-agent", **(fields | changes)),)


def with_overrides(*overrides: Override) -> tuple[Record, ...]:
    return (Record("falcon-agent", "1.0.10", "http://r/falcon", overrides=overrides),)


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
        ([Override(Hosts(("h1", "h2")), version="2")], "h2", desired(version="2")),
        ([Override(Hosts(("h1", "h2")), version="2")], "h22", desired()),
        # a later one wins, field by field, whatever its kind of selector
        ([Override(Hosts(("h1",)), version="2"), Override(Glob("*"), version="3")], "h1", desired(version="3")),
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
    records = (Record("b", "1", "http://r"), Record("a", "2", "http://r"))
    assert [(d.name, d.version) for d in resolve(records, "h")] == [("b", "1"), ("a", "2")]


def test_no_records_are_no_desired_agents():
    assert resolve((), "h") == ()


@given(st.lists(st.tuples(HOSTNAMES, HOSTNAMES), max_size=6), HOSTNAMES)
def test_the_last_override_that_fits_decides(pairs, hostname):
    overrides = [Override(Prefix(prefix), version=version) for prefix, version in pairs]
    fitting = [version for prefix, version in pairs if hostname.startswith(prefix)]
    assert resolve(with_overrides(*overrides), hostname)[0].version == ([BASE.version, *fitting])[-1]


@given(HOSTNAMES, HOSTNAMES, HOSTNAMES)
def test_selectors_that_surely_overlap_have_a_host_in_common(one, other, third):
    selectors = [Prefix(one), Hosts((other, third)), Glob(f"{third}*")]
    candidates = [one, other, third, max(one, other, key=len)]
    for a in selectors:
        for b in selectors:
            if surely_overlap(a, b):
                assert any(a.matches(host) and b.matches(host) for host in candidates)


def test_records_are_shown_as_a_file_would_spell_them():
    record = Record(
        "a", "1", "http://r", overrides=(Override(Hosts(("h1",)), version="2"), Override(Prefix("x"), md5=""))
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
