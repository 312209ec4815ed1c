"""What takes most of the records away asks first: a file at a start, by reload and by SIGHUP; REST and the command line."""

import os
import signal
from contextlib import closing

import pytest
from msgspec.structs import replace

from helpers.meta_api import World, record
from helpers.meta_people import Person
from helpers.meta_server import MetaServer, meta
from lab.fleet import until
from meta.records.history import Edit
from meta.records.model import Ban, Override, Record, RecordSet, Release
from meta.records.removals import mass_removal
from meta.records.selectors import Glob, Hosts, Label, Prefix
from meta.store import Store

IF_ANY = {"If-Match": "*"}
CUT = "(a truncated file, or one of another fleet, looks like this); if you want that: "


def agent(name, *overrides, version="1"):
    return Record(name, Release(version), "http://r.example", overrides=overrides)


WEB, DB, LG = (
    Override(Prefix("web-"), Release("2")),
    Override(Glob("*-db"), cmd="stop"),
    Override(Prefix("lg-"), Release("3")),
)
HELD = Override(Prefix("old-"), Release("1"))  # as the record says, to be held back when that is raised
HELD_IS_GONE = "the only override of a would be gone: [prefix old-]"
WEB_IS_GONE = "the only override of a would be gone: [prefix web-]"
LEGACY, EL6 = Override(Prefix("legacy-"), Release("1.0.0")), Override(Prefix("el6-"), Release("1.0.5"))
SOME = Override(Hosts(frozenset({"h1", "h2"})), Release("2"))
FEWER = Override(Hosts(frozenset({"h2"})), Release("2"))


def many(stop, start=0, version="2", **said):
    said = said or {"release": Release(version)}
    return Override(Hosts(frozenset(f"h{n}" for n in range(start, stop))), **said)


THREE = [agent("a"), agent("b"), agent("c")]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([], THREE, []),
        (THREE, THREE[:2], []),
        (THREE, THREE[:1], ["2 of 3 agents would be gone: b, c"]),
        (THREE[:2], THREE[:1], []),
        (THREE[:1], [], ["the only agent would be gone: a"]),
        (THREE[:1], [agent("new")], ["the only agent would be gone, for 1 new: a"]),  # renamed, or another fleet's file
        (THREE, [agent("d"), agent("e"), agent("f")], ["3 of 3 agents would be gone, for 3 new: a, b, c"]),
        (THREE[:2], [agent("d"), agent("e"), agent("f")], ["2 of 2 agents would be gone, for 3 new: a, b"]),
        (THREE, [agent("a"), agent("e"), agent("f")], []),  # renamed: a file that was cut brings nothing new
        (THREE[:2], [agent("d"), agent("b")], []),
        (THREE, [agent("a"), agent("new")], []),
        (
            [agent(f"a{n}") for n in range(4)],
            [agent("new")],
            ["4 of 4 agents would be gone, for 1 new: a0, a1, a2, a3"],
        ),
        ([agent(f"a{n}") for n in range(9)], [], ["9 of 9 agents would be gone: a0, a1, a2, a3, a4 and 4 more"]),
        (
            [agent("a", WEB, DB, LG)],
            [agent("a", WEB)],
            ["2 of 3 overrides of a would be gone: [glob *-db], [prefix lg-]"],
        ),
        ([agent("a", WEB, DB, LG)], [agent("a", WEB, LG)], []),
        ([agent("a", WEB)], [agent("a")], ["the only override of a would be gone: [prefix web-]"]),
        (
            [agent("a", WEB, WEB, DB)],
            [agent("a", DB)],
            ["2 of 3 overrides of a would be gone: [prefix web-], [prefix web-]"],
        ),
        ([agent("a", SOME)], [agent("a", FEWER)], []),
        ([agent("a", WEB)], [agent("a", version="2")], []),  # what was tried on some is for all now
        ([agent("a", DB)], [agent("a", version="2")], ["the only override of a would be gone: [glob *-db]"]),
        ([agent("a", WEB)], [agent("a", Override(Prefix("web-0"), Release("2")))], []),
        (
            [agent("a", Override(Label("ring=1"), Release("2")))],
            [agent("a", Override(Label("ring=2"), Release("2")))],
            [],
        ),
        ([agent("a", SOME)], [agent("a", Override(Prefix("h"), Release("2")))], []),
        (
            [agent("a", WEB), agent("b")],
            [agent("a", version="2.1"), agent("b")],
            [WEB_IS_GONE],
        ),  # tried, and a newer is for all now: which cannot be told from what holds some hosts
        (
            [agent("a", Override(Prefix("web-"), Release("2", md5="0" * 32, sha256="a" * 64))), agent("b")],
            [agent("a", version="2.1"), agent("b")],
            [WEB_IS_GONE],
        ),
        ([agent("a", WEB), agent("b")], [agent("a", version="2"), agent("b")], []),
        (
            [agent("a", HELD), agent("b")],
            [agent("a", version="2.1")],
            [HELD_IS_GONE],
        ),  # cut, and the version was raised
        ([agent("a", HELD)], [agent("a", version="2.1")], [HELD_IS_GONE]),
        ([agent("a", HELD)], [agent("a", version="2.1"), agent("new")], [HELD_IS_GONE]),
        ([agent("b"), agent("a", HELD)], [agent("a", version="2.1"), agent("b")], [HELD_IS_GONE]),
        (
            [agent("falcon", LEGACY, EL6, version="2.0.0")],
            [agent("falcon", version="3.0.0")],
            ["2 of 2 overrides of falcon would be gone: [prefix legacy-], [prefix el6-]"],
        ),
        (
            [agent("a"), agent("falcon", LEGACY, EL6, WEB, version="2.0.0")],
            [agent("a"), agent("falcon", LEGACY, version="3.0.0")],
            ["2 of 3 overrides of falcon would be gone: [prefix el6-], [prefix web-]"],
        ),
        (
            [agent("falcon", many(5, version="1.0.0"), version="2.0.0")],
            [agent("falcon", many(1, version="1.0.0"), version="3.0.0")],
            ["4 of 5 hosts of an override of falcon would be gone: h1, h2, h3, h4"],
        ),
        (
            [agent("a", HELD, WEB, LG)],
            [agent("a", LG, version="2.1")],
            ["2 of 3 overrides of a would be gone: [prefix old-], [prefix web-]"],
        ),
        (
            [agent("a", HELD, WEB, LG)],
            [agent("a", HELD, version="2")],  # what the record says by now is not missed
            [],
        ),
        (
            [agent("a", DB, HELD, LG)],
            [agent("a", DB, version="2")],
            ["2 of 3 overrides of a would be gone: [prefix old-], [prefix lg-]"],
        ),
        (
            [agent("a", SOME), agent("b")],
            [agent("a", version="3")],
            ["the only override of a would be gone: [hosts h1, h2]"],
        ),
        ([agent("a", SOME)], [agent("a", version="2")], []),
        ([agent("a", Override(Label("canary"), attempt=1))], [agent("a")], []),
        ([agent("a", Override(Prefix("w"), Release("1", sha256="a" * 64)))], [agent("a")], []),
        (
            [agent("a", Override(Prefix("w"), md5_base="http://sums"))],
            [agent("a")],
            ["the only override of a would be gone: [prefix w]"],
        ),
        (
            [agent("a", many(1000), WEB)],
            [agent("a", many(1), WEB)],
            ["999 of 1000 hosts of an override of a would be gone: h1, h10, h100, h101, h102 and 994 more"],
        ),
        ([agent("a", many(1000))], [agent("a", many(500))], []),
        ([agent("a", many(3))], [agent("a", many(5, 2))], []),  # others came instead
        ([agent("a", many(10))], [agent("a", many(5), many(10, 5, cmd="stop"))], []),
        ([agent("a", many(10))], [agent("a", many(1), version="2")], []),
    ],
)
def test_more_than_half_or_the_only_one_must_be_confirmed(before, after, expected):
    assert mass_removal(RecordSet(records=tuple(before)), RecordSet(records=tuple(after))) == expected


def yaml(*names):
    return "agents:\n" + "".join(f"- {{name: {name}, version: 1, tarball: http://r.example}}\n" for name in names)


# --- REST ---


def test_by_rest_it_is_refused_until_it_is_confirmed(tmp_path):
    world = World(tmp_path)
    try:
        three, one = ({"agents": [record(name) for name in names]} for names in ("abc", "a"))
        assert world.call("PUT", "records", headers=IF_ANY, json=three).status_code == 200
        world.beat("h1")
        refused = world.call("PUT", "records", headers=IF_ANY, json=one)
        assert refused.status_code == 409
        assert refused.json["detail"] == f"2 of 3 agents would be gone: b, c {CUT}send the query confirm=true"
        dry = world.call("PUT", "records", headers=IF_ANY, json=one, query_string={"dryRun": "true"}).json
        seen = world.call("POST", "difference", "viewer", json=one).json
        assert dry == seen
        assert (dry["removals"], dry["affected"]) == (["2 of 3 agents would be gone: b, c"], {"b": 1, "c": 1})
        assert world.service.records.revision == 1
        done = world.call("PUT", "records", headers=IF_ANY, json=one, query_string={"confirm": "true"})
        assert (done.status_code, len(world.service.records.records)) == (200, 1)
    finally:
        world.close()


def test_the_difference_to_a_records_file_is_told_where_a_file_manages_the_records(tmp_path):
    file = tmp_path / "records.yaml"
    file.write_text(yaml("a", "b", "c"))
    world = World(tmp_path, records=file)
    try:
        assert world.call("POST", "difference", "viewer", json={"agents": []}).json["removals"] != []
        assert world.call("POST", "difference", "nobody", json={"agents": []}).status_code == 401
    finally:
        world.close()


# --- a file that manages the records ---


@pytest.fixture
def managed(tmp_path):
    """A meta of a file with three agents that one host runs."""
    file = tmp_path / "records.yaml"
    file.write_text(yaml("a", "b", "c"))
    with MetaServer(tmp_path, file) as server:
        server.beat("h1", a="1")
        yield server, file


def reload(server, *words, **environment):
    directory = server.database.parent.parent
    return meta("reload", "--url", server.url, *words, directory=directory, **environment)


def remedy(server):
    return f"meta reload --url {server.url} --yes"


def agents_of(server):
    return [one["name"] for one in server.beat("h1", a="1")["desiredAgents"]]


@pytest.mark.long
def test_a_file_that_is_cut_between_two_agents_is_not_reloaded_without_yes(managed):
    server, file = managed
    file.write_text(yaml("a"))
    done = reload(server)
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        "deleted agent b (version 1)",
        "deleted agent c (version 1)",
        "touches b on 1 host, c on 1 host",
    ]
    assert f"2 of 3 agents would be gone: b, c {CUT}review, then rerun with --yes" in done.stderr
    assert server.ask("GET", "/config/reload").json["msg"] == f"2 of 3 agents would be gone: b, c {CUT}{remedy(server)}"
    assert agents_of(server) == ["a", "b", "c"]
    done = reload(server, "--yes")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "reloaded: 1 agent")
    assert agents_of(server) == ["a"]


@pytest.mark.long
def test_a_reload_tells_what_it_changes_and_whom_it_touches(managed):
    server, file = managed
    file.write_text(yaml("a", "b", "c", "d"))
    assert reload(server).stdout.splitlines() == [
        "new agent d: version 1, tarball http://r.example, cmd start",
        "touches d on 1 host",
        "reloaded: 4 agents",
    ]
    assert reload(server).stdout == "reloaded: 4 agents\n"


@pytest.mark.long
def test_by_sighup_it_is_refused_and_logged_and_a_restart_keeps_the_former_records_and_says_so(managed):
    server, file = managed
    file.write_text(yaml("a"))
    os.kill(server.pid, signal.SIGHUP)
    until("the refusal is logged", lambda: f"2 of 3 agents would be gone: b, c {CUT}{remedy(server)}" in server.said())
    assert agents_of(server) == ["a", "b", "c"]
    assert server.ask("GET", "/ready").text == "ready"
    assert server.stop() == 0
    server.start()
    assert agents_of(server) == ["a", "b", "c"]
    ready = server.ask("GET", "/ready")
    words = f"{file} is not in force: 2 of 3 agents would be gone: b, c {CUT}{remedy(server)}"
    assert (ready.status, ready.text) == (503, f"{words}\n")
    assert words in server.said()
    assert reload(server, "--yes").returncode == 0
    assert (agents_of(server), server.ask("GET", "/ready").text) == (["a"], "ready")
    file.write_text("agents: []\n")
    assert server.stop() == 0
    server.database.unlink()
    server.start()
    assert (agents_of(server), server.ask("GET", "/ready").text) == ([], "ready")  # an empty store takes any file


LONG = f"http://r.example/{'x' * 900}"
LARGE = "agents:\n" + "".join(
    f"- {{name: a{n}, version: 1, tarball: http://r.example, overrides: "
    f"[{{prefix: h, tarball: {LONG}}}, {{glob: '*1', md5: {LONG}}}]}}\n"
    for n in range(700)
)


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "records"),
    [
        (
            "1,003 agents are 3 more",
            "agents:\n" + "".join(f"- {{name: a{n}, version: 1, tarball: http://r.example}}\n" for n in range(1003)),
        ),
        ("to hosts that [glob *1] and [prefix h] select", LARGE),
        ("version 6.6.6 is banned", "agents: [{name: a, version: 6.6.6, tarball: http://r.example}]\n"),
    ],
    ids=["more than hosts take", "more than the one known host takes", "banned"],
)
def test_a_file_that_is_refused_for_what_it_holds_is_no_good_to_check_and_waits_at_a_start(managed, words, records):
    server, file = managed
    directory = server.database.parent.parent
    with closing(Store(f"sqlite:///{server.database}")) as store:
        before = store.load_records()
        ban = Ban("a", "6.6.6", "leaks", "ann", 1.0)
        store.commit(before, replace(before, bans=(ban,)), Edit(1.0, "ann", "", "ban"))
    file.write_text(records)
    done = meta("serve", "--check", "--records", str(file), "--listen", "127.0.0.1:0", directory=directory)
    assert done.returncode == 2
    assert f"{file} would not be put in force, and the former records would stay: " in done.stderr
    assert words in done.stderr
    assert server.stop() == 0
    server.start()
    assert agents_of(server) == ["a", "b", "c"]
    ready = server.ask("GET", "/ready")
    assert ready.status == 503
    assert ready.text.startswith(f"{file} is not in force: ")
    assert words in ready.text
    assert "the former ones stay in force" in server.said()
    file.write_text(yaml("a", "b", "c"))
    assert reload(server).returncode == 0
    assert server.ask("GET", "/ready").text == "ready"


@pytest.mark.long
def test_where_no_records_are_in_force_a_file_that_hosts_cannot_take_is_no_good_and_ends_the_start(tmp_path):
    file = tmp_path / "records.yaml"
    file.write_text(yaml(*(f"a{n}" for n in range(1003))))
    for more in (["--check"], []):
        done = meta("serve", "--records", str(file), "--listen", "127.0.0.1:0", *more, directory=tmp_path)
        assert done.returncode == 2
        assert "1,003 agents are 3 more" in done.stderr
        assert "former" not in done.stderr


def test_a_file_that_cannot_be_read_is_no_good_whatever_the_database_holds(tmp_path):
    file = tmp_path / "records.yaml"
    file.write_text("agents: {}\n")
    done = meta("serve", "--check", "--records", str(file), "--listen", "127.0.0.1:0", directory=tmp_path)
    assert (done.returncode, "agents: must be a list" in done.stderr) == (2, True)


def test_what_was_confirmed_is_what_was_shown_and_nothing_else(managed):
    server, file = managed
    file.write_text(yaml("a"))
    shown = server.ask("GET", "/config/reload?dryRun=true").json
    file.write_text(yaml("b"))
    refused = server.ask("GET", f"/config/reload?confirm={shown['seal']}").json
    assert refused["msg"] == f"{file} or the records changed since you confirmed: review it again"
    assert "2 of 3" in server.ask("GET", "/config/reload?yes=true").json["msg"]
    assert agents_of(server) == ["a", "b", "c"]
    file.write_text(yaml("a"))
    assert server.ask("GET", f"/config/reload?confirm={shown['seal']}").json["msg"] == "success"
    assert agents_of(server) == ["a"]


@pytest.mark.long
def test_a_reload_by_signal_tells_what_it_changes_too(managed):
    server, file = managed
    assert server.stop() == 0
    state = file.parent / "state"
    with MetaServer(file.parent, file, "--state-file", str(state)) as server:
        file.write_text(yaml("a", "b", "c", "d"))
        done = meta("reload", "--state-file", str(state), directory=file.parent)
        assert done.stdout.splitlines() == [
            "new agent d: version 1, tarball http://r.example, cmd start",
            "touches d on 1 host",
            "reloaded: 4 agents",
        ]
        done = meta("reload", "--state-file", str(state), directory=file.parent)
        assert done.stdout == "reloaded: 4 agents\n"


@pytest.mark.long
def test_of_several_metas_that_wait_all_are_ready_when_the_file_is_confirmed_at_one(managed):
    server, file = managed
    assert server.stop() == 0
    file.write_text(yaml("a"))
    with server, MetaServer(file.parent, file) as other:
        assert [one.ask("GET", "/ready").status for one in (server, other)] == [503, 503]
        assert reload(server, "--yes").returncode == 0
        until("the other has the same records in force", lambda: other.ask("GET", "/ready").text == "ready")
        assert agents_of(other) == ["a"]


@pytest.mark.long
def test_with_a_whole_file_again_a_meta_that_waited_is_ready(managed):
    server, file = managed
    file.write_text(yaml("a"))
    assert server.stop() == 0
    server.start()
    assert server.ask("GET", "/ready").status == 503
    file.write_text(yaml("a", "b", "c", "d"))
    os.kill(server.pid, signal.SIGHUP)
    until("the whole file is in force", lambda: server.ask("GET", "/ready").status == 200)
    assert agents_of(server) == ["a", "b", "c", "d"]


# --- the command line ---


@pytest.mark.long
def test_apply_and_check_of_a_cut_file_ask_for_yes(boss, tmp_path):
    file = tmp_path / "records.yaml"
    file.write_text(yaml("a", "b", "c"))
    assert boss("check", str(file)) == f"{file}: 3 agents, no errors\n"
    boss("apply", str(file))
    boss.server.beat("h1", b="1")
    file.write_text(yaml("a"))
    for command in ("check", "apply"):
        done = boss.run(command, str(file))
        assert (done.returncode, "touches b on 1 host, c on 1 host" in done.stderr) == (2, True)
        assert f"2 of 3 agents would be gone: b, c {CUT}review, then rerun with --yes" in done.stderr
    assert "to be confirmed: 2 of 3 agents would be gone: b, c" in boss.run("apply", str(file), "--dry-run").stderr
    assert boss.run("diff", str(file)).stdout.splitlines()[-1] == "touches b on 1 host, c on 1 host"
    with boss.terminal("apply", str(file)) as terminal:
        terminal.expect("2 of 3 agents would be gone: b, c. Do you want that? [y/N]:")
        terminal.type("n\n")
        assert terminal.end() == 1
    assert boss("check", str(file), "--yes") == f"{file}: 1 agent, no errors\n"
    assert boss("apply", str(file), "--yes").startswith("done: revision ")
    assert [one["name"] for one in boss.json("get")["agents"]] == ["a"]


@pytest.mark.long
def test_check_without_a_token_or_a_meta_checks_the_file_alone(boss, tmp_path):
    file = tmp_path / "records.yaml"
    file.write_text(yaml("x"))
    nobody = Person(boss.server, tmp_path)
    done = nobody.run("check", str(file))
    assert (done.returncode, done.stdout) == (0, f"{file}: 1 agent, no errors\n")
    assert done.stderr == "note: not compared with the records in force: this needs a token of a viewer\n"
    done = nobody.run("check", str(file), "--url", "http://127.0.0.1:1")
    assert (done.returncode, "note: not compared" in done.stderr, "no meta answers" in done.stderr) == (0, True, True)
