"""Names that nearly fit: what was probably meant is said, and a name stays as it was sent."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.meta_api import World, record
from helpers.meta_people import Own, first_admin
from meta.hosts.similar_names import TOLD, NameDoubt, doubtful, doubts, nearly_fitting, no_hosts
from meta.hosts.sorted_names import Folded
from meta.hosts.table import HostTable
from meta.records.model import Override, Record, RecordSet, Release
from meta.records.selectors import Glob, Hosts, Prefix
from updater.wire.heartbeat import Report

MANY = Folded(sorted(["db-prod-07", "Web-1", *(f"lg-{n}.example" for n in range(3000)), "zz"]))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Db-Prod-07", "db-prod-07"),
        ("db-prod-07.", "db-prod-07"),
        ("DB-PROD-07.", "db-prod-07"),
        ("web-1", "Web-1"),
        ("lg-17", "lg-17.example"),
        ("LG-17.Example.", "lg-17.example"),
        ("db-prod-07.example", "db-prod-07"),
        ("db-prod-08", ""),
        ("lg-1.example", ""),
    ],
)
def test_a_name_is_nearly_that_of_a_host_but_for_case_a_last_dot_or_the_domain(name, meant):
    assert nearly_fitting([name], MANY).get(name, "") == meant


TWICE = Folded(sorted(["Web-1", "web-1", "web-1.", "web-2.", "Db-1.example", "db-1.example"]))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WEB-1", "web-1"),
        ("WEB-1.", "web-1."),
        ("WEB-1.example", "web-1"),
        ("WEB-2", "web-2."),
        ("DB-1", "db-1.example"),
    ],
)
def test_of_several_hosts_that_are_one_in_dns_the_plain_one_is_meant(name, meant):
    assert nearly_fitting([name], TWICE)[name] == meant


def test_for_a_glob_the_plain_one_is_meant_too():
    assert doubts(RecordSet(), edited([Glob("WEB-*")]), Folded(["web-1", "web-1."])).warnings == [
        "glob WEB-* fits no host; did you mean host web-1?"
    ]


def test_of_many_names_that_one_is_told_of_which_it_is_known_what_was_meant():
    assert (
        no_hosts(["new-1", "Db-Prod-07"], MANY)
        == "no host Db-Prod-07 has reported; did you mean db-prod-07? (and 1 more)"
    )
    assert no_hosts(["zzz"], MANY) == "no host zzz has reported; did you mean zz?"


def test_hosts_that_differ_by_case_or_a_dot_and_any_machine_s_names_are_doubtful():
    names = sorted(["web-1", "Web-1", "web-1.", "DB", "localhost", "localhost.localdomain", "localhost-7", "x"])
    assert doubtful(Folded(names)) == [
        NameDoubt(["Web-1", "web-1", "web-1."], "differ only by case or a last dot: is it one machine?"),
        NameDoubt(["localhost"], "is what any machine calls itself"),
        NameDoubt(["localhost.localdomain"], "is what any machine calls itself"),
    ]


def edited(selectors):
    return RecordSet(
        records=(
            Record("a", Release("1"), "http://r", overrides=tuple(Override(one, cmd="stop") for one in selectors)),
        )
    )


def test_of_a_million_names_many_new_selectors_are_told_at_once():
    """What looks at all names for each of them takes minutes."""
    known = Folded(sorted([*(f"lg-{n}.example" for n in range(1_000_000)), "Web-1", "DB"]))
    selectors = []
    for n in range(70):
        selectors += [
            Prefix(f"none-{n}-"),
            Glob(f"*-none-{n}"),
            Glob(f"*-None-{n}"),
            Hosts(frozenset([f"x{n}", f"Lg-{n}"])),
        ]
    began = time.monotonic()
    found = doubts(RecordSet(), edited(selectors), known)
    assert time.monotonic() - began < 10
    assert found.warnings[0] == "no host Lg-0 has reported; did you mean lg-0.example?"
    assert [len(found.warnings), len(found.notes)] == [TOLD + 1, TOLD + 1]
    assert found.notes[-1] == "and 50 more like these"


def test_what_names_nearly_fit_is_found_out_once_until_there_are_other_names():
    table = HostTable()
    table.beat(Report("web-1"), "10.0.0.1", 1.0)
    known = table.folded_names()
    assert known.odd == {}
    table.beat(Report("web-1"), "10.0.0.1", 2.0)
    assert table.folded_names() is known
    table.beat(Report("Web-1"), "10.0.0.1", 3.0)
    assert table.folded_names().odd == {"web-1": ["Web-1"]}


NAMES = st.from_regex(r"[aA][bB.]{0,3}", fullmatch=True)
PATTERNS = st.from_regex(r"[aA*][bB.?*]{0,3}", fullmatch=True)


@given(st.sets(NAMES).map(sorted), PATTERNS)
def test_a_glob_or_a_prefix_is_warned_of_where_it_fits_a_host_but_for_case_and_none_as_it_is(names, text):
    for selector in (Glob(text), Prefix(text.strip("*?.") or "a")):
        fits = any(selector.matches(name, {}) for name in names)
        small = [name.lower() for name in names]
        words = words_of(selector).lower()
        would = any(type(selector)(words).matches(name, {}) for name in small)
        assert bool(doubts(RecordSet(), edited([selector]), Folded(names)).warnings) == (would and not fits)


def words_of(selector):
    return selector.glob if isinstance(selector, Glob) else selector.prefix


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.call("PUT", "records/a", headers={"If-None-Match": "*"}, json=record("a"))
    world.beat("db-prod-07")
    world.beat("web-1")
    yield world
    world.close()


def test_a_selector_that_nearly_fits_is_warned_of_and_a_new_host_is_a_note(world):
    def seen(selector):
        body = {"selector": selector, "set": {"version": "2.0"}}
        found = world.call("PATCH", "records/a?dryRun=true", headers={"If-Match": "*"}, json=body).json
        return found["warnings"], found["notes"]

    assert seen({"hosts": ["Db-Prod-07"]}) == (["no host Db-Prod-07 has reported; did you mean db-prod-07?"], [])
    assert seen({"hosts": ["db-prod-07", "web-1"]}) == ([], [])
    assert seen({"hosts": ["quite-new"]}) == ([], ["no host quite-new has reported"])
    assert seen({"prefix": "Web-"}) == (["prefix Web- fits no host; did you mean prefix web-?"], [])
    assert seen({"glob": "DB-*"}) == (["glob DB-* fits no host; did you mean host db-prod-07?"], [])
    assert seen({"prefix": "none-"}) == ([], [])


def test_a_name_stays_as_it_was_sent(world):
    world.beat("Web-1")
    assert world.service.table.names() == ["Web-1", "db-prod-07", "web-1"]
    assert world.call("GET", "names").json == {
        "items": [{"names": ["Web-1", "web-1"], "why": "differ only by case or a last dot: is it one machine?"}]
    }


@pytest.mark.long
def test_the_commands_say_what_was_meant(tmp_path):
    (tmp_path / "home").mkdir()
    with Own(tmp_path) as server:
        boss = first_admin(server, tmp_path / "home")
        boss("set", "a", "version=1", "tarball=http://r.example")
        server.beat("db-prod-07", a="1")
        server.beat("localhost", a="1")
        meant = "no host Db-Prod-07 has reported; did you mean db-prod-07?"
        for words in (["host"], ["retire"], ["hosts", "--name"]):
            assert meant in boss(*words, "Db-Prod-07", code=1)
        assert boss.run("hosts", "--name", "DB-*").stderr == "glob DB-* fits no host; did you mean host db-prod-07?\n"
        enrolment = ["token", "enrolment", "rack", "--hosts"]
        warned = boss.run(*enrolment, "Db-Prod-*").stderr
        assert "warning: glob Db-Prod-* fits no host; did you mean host db-prod-07?\n" in warned
        for hosts in ("db-*", "db-prod-07", "new-*"):
            assert "warning" not in boss.run(*enrolment, hosts).stderr
        assert meant in boss("label", "Db-Prod-07", "x=1", code=1)
        for where in ("prefix:DB-", "glob:DB-*", "hosts:Db-Prod-07"):
            said = boss("label", "--where", where, "x=1", code=1)
            assert said == f"meta: no host that has reported matches --where {where}; did you mean host db-prod-07?\n"
        assert f"note: {meant}" in boss.run("explain", "Db-Prod-07").stderr
        done = boss.run("set", "a", "version=2", "--for", "hosts:Db-Prod-07")
        assert (done.returncode, f"warning: {meant}" in done.stderr) == (2, True)
        file = tmp_path / "records.yaml"
        override = "overrides: [{hosts: [Db-Prod-07], cmd: stop}]"
        file.write_text(f"agents: [{{name: a, version: 1, tarball: http://r.example, {override}}}]\n")
        assert f"warning: {meant}" in boss.run("check", str(file)).stderr
        assert "warning: localhost is what any machine calls itself" in boss.run("status").stderr
