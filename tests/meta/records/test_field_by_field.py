"""Overrides that merged versions and digests field by field, as overrides with whole releases: every answer stays."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.apart import merged, records
from helpers.record_sets import HOSTNAMES
from meta.records.field_by_field import whole_releases
from meta.records.files.load import parse, parse_record
from meta.records.files.ops_meta_format import as_ours
from meta.records.model import as_fields, from_fields, resolve_one
from meta.records.selectors import Glob, Hosts, Prefix

OLD, NEW, SUM = "a" * 32, "b" * 32, "c" * 64
KNOWN = st.one_of(
    st.sampled_from(["", "h", "h1", "lg-", "lg-1"]).map(Prefix),
    st.sampled_from(["*", "lg-*", "h1"]).map(Glob),
    st.frozensets(HOSTNAMES, min_size=1).map(Hosts),
)
LABELS = st.sampled_from([{}, {"env": "live"}, {"env": "staging", "gpu": ""}])


def told(fields, hostname, labels):
    """What this host is told by now."""
    resolved = resolve_one(from_fields(fields), lambda selector: selector.matches(hostname, labels))
    return {key: resolved[key] for key in ("version", "md5", "sha256", "tarball", "cmd")}


@pytest.mark.long
@settings(max_examples=500)
@given(records("a", KNOWN), HOSTNAMES)
def test_selectors_of_names_keep_every_answer(fields, hostname):
    whole = whole_releases(fields)
    assert not whole.is_unsure
    assert told(whole.fields, hostname, {}) == merged(fields, hostname, {})


@pytest.mark.long
@settings(max_examples=500)
@given(records("a"), HOSTNAMES, LABELS)
def test_an_answer_is_lost_only_where_that_is_said(fields, hostname, labels):
    whole = whole_releases(fields)
    assert whole.is_unsure or told(whole.fields, hostname, labels) == merged(fields, hostname, labels)


@pytest.mark.long
@given(records("a"))
def test_what_comes_out_is_a_record_that_can_be_read(fields):
    whole = whole_releases(fields)
    record = from_fields(whole.fields)
    assert parse_record(as_fields([record])[0], "record") == record
    assert len(whole.origins) == len(record.overrides)


def overrides_of(**fields):
    made = whole_releases({"name": "a", "version": "1", "tarball": "http://r"} | fields)
    return made.fields["overrides"], list(made.named)


@pytest.mark.parametrize(
    ("record", "overrides", "whole", "named"),
    [
        ({}, [{"prefix": "w", "version": "2"}], ..., []),
        ({"md5": "http://s"}, [{"prefix": "w", "version": "2"}], ..., []),
        ({"md5": OLD}, [{"prefix": "w", "cmd": "stop"}], ..., []),
        ({"md5": OLD}, [{"prefix": "w", "version": "2", "md5": NEW}], ..., []),
        ({"md5": OLD}, [{"prefix": "w", "version": "1"}], [{"prefix": "w", "version": "1", "md5": OLD}], []),
        ({"sha256": SUM}, [{"prefix": "w", "version": "2", "sha256": ""}], [{"prefix": "w", "version": "2"}], []),
        ({}, [{"prefix": "w", "sha256": SUM}], [{"prefix": "w", "version": "1", "sha256": SUM}], [(Prefix("w"), "1")]),
        ({}, [{"prefix": "w", "sha256": ""}, {"prefix": "w", "cmd": "stop"}], [{"prefix": "w", "cmd": "stop"}], []),
        (
            {"md5": OLD},
            [{"prefix": "w", "md5": ""}],
            [{"prefix": "w", "version": "1", "md5": ""}],
            [(Prefix("w"), "1")],
        ),
        (
            {"sha256": SUM},
            [{"prefix": "w1", "version": "2", "sha256": ""}, {"prefix": "w", "version": "3"}],
            [
                {"prefix": "w1", "version": "2"},
                {"prefix": "w", "version": "3", "sha256": SUM},
                {"prefix": "w1", "version": "3"},
            ],
            [],
        ),
    ],
)
def test_only_what_would_mean_something_else_is_written_otherwise(record, overrides, whole, named):
    assert overrides_of(**record, overrides=overrides) == (overrides if whole is ... else whole, named)


def test_hosts_of_a_label_and_a_prefix_are_those_of_no_selector():
    crossing = [{"label": "env", "md5": NEW}, {"prefix": "w", "version": "2"}]
    assert whole_releases({"name": "a", "version": "1", "tarball": "http://r", "overrides": crossing}).is_unsure
    apart = [{"label": "env", "version": "3"}, {"prefix": "w", "version": "2"}]
    assert not whole_releases(
        {"name": "a", "version": "1", "tarball": "http://r", "md5": OLD, "overrides": apart}
    ).is_unsure


# --- ops-meta's file ---

OTHERS = st.fixed_dictionaries(
    {"prefix": st.sampled_from(["", "h", "lg-", "lg-1"])},
    optional={"version": st.sampled_from(["", "2", "3"]), "md5": st.sampled_from(["", OLD, NEW, "http://s"])},
)


def stored(default, others):
    """The record of a file of ops-meta as it was stored before migration 0005."""
    overrides = [{"prefix": one["prefix"]} if one["prefix"] else {"glob": "*"} for one in others]
    for override, one in zip(overrides, others, strict=True):
        override.update((key, value) for key, value in one.items() if value and key != "prefix")
    return default | {"overrides": [one for one in overrides if len(one) > 1]}


@given(st.sampled_from(["", OLD, "http://sums"]), st.lists(OTHERS, max_size=5), HOSTNAMES)
def test_a_file_of_ops_meta_answers_as_ops_meta_does(md5, others, hostname):
    """A blank field of `others` inherits, each by itself."""
    default = {"name": "a", "version": "1", "tarball": "http://r", "md5": md5, "cmd": "start"}
    loaded = parse(json.dumps({"agents": [{"default": default, "others": others}]}), "cfg.json")
    there = [default, *(one for one in others if hostname.startswith(one["prefix"]))]
    expected = {
        key: next(place[key] for place in reversed(there) if place.get(key)) for key in ("version", "tarball", "cmd")
    }
    expected["md5"] = next((place["md5"] for place in reversed(there) if place.get("md5")), "")
    [ours] = as_ours(loaded.records)
    answer = told(as_fields([ours])[0], hostname, {})
    assert {key: answer[key] for key in expected} == expected
    assert ours == from_fields(
        whole_releases(stored(default, others)).fields
    )  # so a start after the migration edits nothing
    shown = loaded.as_data()["agents"][0]  # as the file has it
    assert [one["version"] for one in shown["others"] or []] == [one.get("version", "") for one in others]
