"""Engineers at work: the commands as they are typed, against a real meta with its own database, from the first token on."""

import json
from pathlib import Path

import pytest

from helpers.meta_people import Own, Person, first_admin
from helpers.meta_server import MetaServer
from helpers.tarbytes import CONTROL, GNU, V7, file, gz_of_isal_alone, symlink, tar, tgz
from lab.agents import publish


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("meta")
    (directory / "tarballs").mkdir()
    with Own(directory, "--tarballs", "tarballs") as server:
        yield server


def person(boss: Person, home: Path, name: str, role: str) -> Person:
    token = boss("token", "new", name, "--role", role, "--expires", "1d").strip()
    return Person(boss.server, home, token)


@pytest.fixture(scope="module")
def alice(boss, tmp_path_factory):
    return person(boss, tmp_path_factory.mktemp("alice"), "alice", "editor")


@pytest.mark.long
def test_a_release_to_some_hosts_and_then_to_all(boss_alone, tmp_path):
    boss, server = boss_alone, boss_alone.server
    alice = person(boss, tmp_path / "alice", "alice", "editor")
    tarball = publish(tmp_path, "falcon", "1.0.0", digest_file=False)
    said = alice("publish", str(tarball.path))
    line = f"meta set falcon version=1.0.0 md5={tarball.md5} sha256={tarball.sha256} tarball={server.url}/tarball"
    assert said.splitlines() == [
        f"falcon-1.0.0.tar.gz: 2 members, {tarball.path.stat().st_size} bytes, published",
        f"put it in force: {line}",
    ]
    alice(*line.split()[1:], "--why", "the first")
    for host in ("web-1", "web-2", "db-1"):
        assert [agent["version"] for agent in server.beat(host, falcon="1.0.0")["desiredAgents"]] == ["1.0.0"]

    new = publish(tmp_path, "falcon", "1.0.1", digest_file=False)
    line = alice("publish", str(new.path)).splitlines()[1].partition(": ")[2]
    assert "tarball=" not in line
    to_some = [*line.split()[1:], "--for", "prefix:web-", "--why", "try it"]
    dry = alice(*to_some, "--dry-run").splitlines()
    assert dry[0].startswith("falcon [prefix web-]: new: version 1.0.1, md5 ")
    assert dry[1:] == ["touches falcon on 2 hosts", "dry run: nothing was changed"]
    refused = alice(*to_some, code=2).splitlines()
    assert refused[-1] == (
        "meta: this changes falcon on 2 hosts; refusing without confirmation: review, then rerun with --yes"
    )
    assert alice(*to_some, "--yes") == "done: revision 4; follow it: meta status falcon --watch\n"

    assert alice("status", "falcon").splitlines() == [
        "VERSION  STATUS   HOSTS  NOTE",
        "1.0.0    started  3      desired",
        "2 to do, 1 good",
        "  web-1 (to do), web-2 (to do)",
    ]
    watched = alice.run("status", "falcon", "--watch", "--within", "1s")
    assert (watched.returncode, watched.stderr) == (1, "")
    assert "the time is up; not done yet: web-1 (to do), web-2 (to do)" in watched.stdout
    for host in ("web-1", "web-2"):
        server.beat(host, falcon="1.0.1")
    watched = alice("status", "falcon", "--watch").splitlines()
    assert watched[0].endswith(" 1.0.0 started 1, 1.0.1 started 2; every host is as desired: 3 good")
    assert watched[1:] == ["done: 3 hosts good"]

    explained = alice.json("explain", "web-9")
    version = next(field for field in explained["agents"][0]["fields"] if field["field"] == "version")
    assert (version["value"], version["by"], version["selector"]) == ("1.0.1", "override", "prefix web-")
    assert alice("rollback", "2", "--why", "leaks", "--yes").startswith("done: revision 5")
    assert boss.json("get", "falcon")["version"] == "1.0.0"
    told = boss("history", "falcon").splitlines()
    assert told[0].startswith("revision 5 rollback by alice at ")
    assert told[0].endswith(": leaks")
    assert told[1].startswith("  falcon [prefix web-]: removed (version 1.0.1")


@pytest.mark.long
def test_one_agent_is_taken_back_once(server, boss, alice):
    alice("set", "back", "version=1.0.0", "tarball=http://r.example/b", "--yes")
    server.beat("back-1", back="1.0.0")
    alice("set", "back", "version=1.0.1", "--yes")
    alice("set", "other", "version=1.0.0", "tarball=http://r.example/o", "--yes")
    shown = alice("rollback", "--agent", "back", "--dry-run").splitlines()
    assert shown[0] == "back: version 1.0.1 -> 1.0.0"
    assert shown[1].startswith("touches back on ")
    assert shown[2:] == ["dry run: nothing was changed"]
    assert "review, then rerun with --yes" in alice("rollback", "--agent", "back", code=2)
    assert alice("rollback", "--agent", "back", "--yes", "--why", "leaks").startswith("done: revision ")
    number = alice.json("history", "back", "--limit", "1")["items"][0]["number"]
    again = boss("rollback", "--agent", "back", "--yes").splitlines()
    note = f"the last change of back was rolled back already, in revision {number} by alice: leaks"
    assert again == [note, "nothing to change"]
    assert boss.json("rollback", "--agent", "back", "--yes")["notes"] == [note]
    assert "name an --agent, or a REVISION" in boss("rollback", code=2)


@pytest.mark.long
def test_two_people_at_once(server, boss, alice, tmp_path):
    alice("set", "naming", "version=1.0.0", "tarball=http://r.example/naming", "--yes")
    file = tmp_path / "records.yaml"
    alice("export", "-o", str(file))
    mine = file.read_text()
    assert mine.startswith("# revision: ")
    boss("set", "naming", "version=1.0.1", "--why", "the fix", "--yes")
    file.write_text(mine.replace("cmd: start", "cmd: stop"))

    assert "naming: version 1.0.1 -> 1.0.0" in alice("diff", str(file)).splitlines()
    [changed] = [one for one in alice.json("diff", str(file))["changes"] if one["name"] == "naming"]
    assert (changed["before"]["version"], changed["after"]["version"]) == ("1.0.1", "1.0.0")
    conflict = alice("apply", str(file), "--yes", code=1).splitlines()
    assert conflict[0].endswith("by boss: the fix")
    assert conflict[1] == "  naming: version 1.0.0 -> 1.0.1"
    assert "meta: the records changed since revision" in conflict[-1]
    assert conflict[-1].endswith(f"out of {file} to overrule them")
    assert boss.json("get", "naming")["version"] == "1.0.1"

    alice("export", "-o", str(file))
    file.write_text(file.read_text().replace("cmd: start", "cmd: stop"))
    alice("label", "far-1", "x=1", "--unseen")  # no edit of a record: no conflict
    done = alice("apply", str(file), "--yes")
    revision = int(done.splitlines()[-1].split()[2].rstrip(";"))
    assert file.read_text().startswith(f"# revision: {revision}\n")
    assert alice("apply", str(file)) == "nothing to change\n"
    assert alice("diff", "--exit-code", str(file)) == "no difference\n"
    assert boss.json("get", "naming") == {
        "name": "naming",
        "version": "1.0.1",
        "tarball": "http://r.example/naming",
        "md5": "",
        "cmd": "stop",
    }


def test_an_export_that_cannot_be_written_is_an_error_in_one_sentence(alice, tmp_path):
    (tmp_path / "file").touch()
    places = {
        str(tmp_path): "Is a directory",
        "": "Is a directory",
        "/dev/full": "No space left on device",
        "/proc/records.yaml": "No such file or directory",
        str(tmp_path / "file" / "records.yaml"): "Not a directory",
        str(tmp_path / ("r" * 300)): "File name too long",
    }
    for place, why in places.items():
        assert alice("export", "-o", place, code=2) == f"meta: {place or '.'} cannot be written: {why}\n"
    (tmp_path / "to itself").symlink_to("to itself")
    alice("export", "-o", str(tmp_path / "to itself"))
    assert alice("export", "-o", "/dev/stdout") == alice("export")


@pytest.mark.long
def test_a_file_without_a_revision_and_one_from_a_pipe(server, alice, tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(alice("export").split("\n", 1)[1])
    before = file.read_text()
    assert alice("apply", str(file), "--dry-run", "--why", "x") == "nothing to change\n"
    file.write_text(before.replace("agents:\n", "agents:\n- {name: piped, version: 1.0.0, tarball: http://r/p}\n"))
    assert alice("apply", str(file), "--yes").startswith("done: revision ")
    assert file.read_text().startswith("# The records")
    file.write_text("agents:\n- {name: a/b, version: 1}\n")
    errors = alice("apply", str(file), code=2).splitlines()
    assert [line.split(": ")[:2] for line in errors] == [
        [f"{file}:2", "agents[0]"],
        [f"{file}:2", "agents[0].name"],
    ]


@pytest.mark.long
def test_import_keeps_what_it_does_not_name(server, alice, tmp_path):
    alice("set", "kept", "version=1.0.0", "tarball=http://r.example/k", "--yes")
    default = {"name": "dinp", "version": "0.0.1", "tarball": "http://r.example/d", "md5": "", "cmd": "start"}
    legacy = {"agents": [{"default": default, "others": [{"prefix": "lg", "version": "0.0.2"}]}]}
    (tmp_path / "cfg.json").write_text(json.dumps(legacy))
    alice("import", str(tmp_path / "cfg.json"), "--why", "moved over", "--yes")
    assert alice.json("get", "dinp")["overrides"] == [{"prefix": "lg", "version": "0.0.2"}]
    assert alice.json("get", "kept")["version"] == "1.0.0"
    assert alice.json("history", "--limit", "1")["items"][0]["action"] == "import"
    default["version"] = "0.0.3"
    (tmp_path / "cfg.json").write_text(json.dumps(legacy))
    told = alice.run("import", str(tmp_path / "cfg.json"), "--dry-run")
    assert told.stderr.splitlines()[0] == "replaces the record of dinp"


@pytest.mark.long
def test_bans_and_labels(server, alice):
    alice("set", "moni", "version=2.0.0", "tarball=http://r.example/moni", "--yes")
    server.beat("lab-1", moni="2.0.0")
    alice("label", "lab-1", "lab-2", "env=staging", "rack=r7", "--unseen")
    alice("set", "moni", "version=2.0.1", "--for", "label:env=staging", "--yes")
    orders = {one["name"]: one["version"] for one in server.beat("lab-1", moni="2.0.0")["desiredAgents"]}
    assert orders["moni"] == "2.0.1"
    assert "give a reason" in alice("ban", "moni", "2.0.1", code=2)
    assert alice("ban", "moni", "2.0.1", "--why", "leaks", "--yes").startswith("done: revision ")
    assert "moni" not in {one["name"] for one in server.beat("lab-1", moni="2.0.0")["desiredAgents"]}
    assert "moni 2.0.1 is banned by alice: leaks: the host gets no order" in alice("explain", "lab-1")
    assert alice("bans").splitlines()[1].split()[:3] == ["moni", "2.0.1", "alice"]
    alice("unban", "moni", "2.0.1", "--yes")
    assert [host["name"] for host in alice.json("hosts", "--label", "env=staging")["items"]] == ["lab-1"]
    alice("label", "lab-1", "lab-2", "rack-", "env-", "--yes")
    assert alice.json("host", "lab-1")["labels"] == {}
    assert "version 2.0.0" not in alice("unset", "moni", "--for", "label:env=staging")
    assert alice("unset", "moni", "--why", "gone", "--yes").startswith("done: revision ")
    assert alice("get", "moni", code=1) == "meta: there is no agent moni\n"


@pytest.mark.long
def test_a_command_that_changes_nothing_says_so_and_makes_no_revision(server, alice, tmp_path):
    alice("set", "same", "version=1.0.0", "tarball=http://r.example/same", "--yes")
    alice("set", "same", "version=1.0.1", "--for", "hosts:s-1,s-2", "--yes")
    alice("ban", "same", "0.9.0", "--why", "leaks", "--yes")
    alice("label", "s-1", "env=staging", "--unseen")
    file = tmp_path / "records.yaml"
    alice("export", "-o", str(file))
    before = alice.json("history", "--limit", "1")["items"][0]["number"]
    for words in (
        ("set", "same", "version=1.0.0"),
        ("set", "same", "version=1.0.1", "--for", "hosts:s-2,s-1"),
        ("unset", "same", "md5"),
        ("ban", "same", "0.9.0", "--why", "leaks"),
        ("label", "s-1", "env=staging", "rack-"),
        ("apply", str(file)),
        ("import", str(file)),
        ("rollback", str(before)),
    ):
        assert alice(*words, "--yes") == "nothing to change\n", words
    assert alice.json("set", "same", "version=1.0.0")["changes"] == []
    assert alice.json("history", "--limit", "1")["items"][0]["number"] == before


@pytest.mark.long
def test_hosts_are_listed_and_put_aside(server, alice):
    alice("set", "nft", "version=1.0.0", "tarball=http://r.example/nft", "--yes")
    for number in range(5):
        server.beat(f"fw-{number}", nft="0.9.0")
    page = alice.run("hosts", "--name", "fw-*", "--limit", "2")
    assert [line.split()[0] for line in page.stdout.splitlines()] == ["HOST", "fw-0", "fw-1"]
    assert "there are more: --all" in page.stderr
    found = alice.json("hosts", "--agent", "nft", "--version", "0.9.0", "--drift", "--all")
    assert [host["name"] for host in found["items"]] == [f"fw-{number}" for number in range(5)]
    shown = alice("host", "fw-0")
    assert "nft" in shown
    assert "not yet as desired" in shown
    assert alice("retire", "fw-0", "fw-1") == "fw-0: retired\nfw-1: retired\n"
    assert alice("unretire", "fw-1") == "fw-1: not retired\n"
    again = alice.json("retire", "fw-0", "fw-1")
    assert [(one["kind"], one["name"], one["after"]) for one in again["changes"]] == [("host", "fw-1", True)]
    assert alice.json("retire", "fw-1")["changes"] == []
    back = alice.json("unretire", "fw-1")
    assert ([one["name"] for one in back["changes"]], back["revision"]) == (["fw-1"], again["revision"] + 1)
    assert [host["name"] for host in alice.json("hosts", "--name", "fw-*", "--state", "retired")["items"]] == ["fw-0"]
    assert alice("host", "nobody", code=1) == "meta: no host nobody has reported\n"
    yaml = alice("hosts", "--name", "fw-2", "-o", "yaml")
    assert yaml.startswith("items:\n- name: fw-2\n  firstSeen: ")


def test_all_agents_in_short(boss_alone):
    boss, server = boss_alone, boss_alone.server
    boss("set", "short", "version=1.0.0", "tarball=http://r.example/s", "--yes")
    server.beat("short-1", short="0.9.0", foreign="7")
    server.beat("short-2")
    lines = {line["agent"]: line for line in boss.json("status")["agents"]}
    assert lines["short"]["desired"] == "1.0.0"
    assert (lines["short"]["hosts"], lines["short"]["toGo"]) == (1, 2)
    assert lines["foreign"] == {
        "agent": "foreign",
        "desired": "",
        "overrides": 0,
        "hosts": 1,
        "toGo": 0,
        "trial": 0,
        "failed": 0,
    }
    shown = boss("status").splitlines()
    assert shown[0].split() == [
        "AGENT",
        "DESIRED",
        "OVERRIDES",
        "HOSTS",
        "NOT",
        "AS",
        "DESIRED",
        "ON",
        "TRIAL",
        "FAILED",
    ]
    assert shown[-1].startswith("hosts: ")


@pytest.mark.long
def test_records_that_a_file_manages_are_not_edited(tmp_path):
    file = tmp_path / "records.yaml"
    file.write_text("agents:\n- {name: a, version: 1.0.0, tarball: http://r.example/a}\n")
    with MetaServer(tmp_path, file) as server:
        (tmp_path / "home").mkdir()
        boss = first_admin(server, tmp_path / "home")
        refused = boss("set", "a", "version=1.0.1", code=1)
        then = f"meta reload --url {server.url}"
        assert refused == f"meta: the records are managed in {file}: edit that file, then run on its machine: {then}\n"
        file.write_text(file.read_text().replace("1.0.0", "1.0.1"))
        assert boss("reload") == "a: version 1.0.0 -> 1.0.1\ntouches no host\nreloaded: 1 agent\n"
        assert boss.json("get", "a")["version"] == "1.0.1"
        assert boss("ban", "a", "1.0.1", "--why", "x") == "done: revision 3\n"


def test_a_failure_is_told_also_of_an_agent_that_is_held_and_of_one_that_no_host_has(boss_alone):
    boss, server = boss_alone, boss_alone.server
    for agent in ("kept", "absent"):
        boss("set", agent, "version=2", "tarball=http://r", "--yes")
    server.beat("kept-1", kept="1")
    kept = {"name": "kept", "version": "1", "status": "started", "timestamp": 7, "trial": False, "held": "ann looks"}
    refused = {"from": "", "to": "2", "step": "install", "result": "refused", "reason": "no such tarball", "at": 5}
    outcomes = [refused | {"agent": "kept"}, refused | {"agent": "absent"}]
    report = {"hostname": "kept-1", "realAgents": [kept], "outcomes": outcomes}
    assert server.ask("POST", "/heartbeat", json.dumps(report)).status == 200
    assert "its change failed; held: ann looks" in boss("host", "kept-1")
    shown = boss.run("status", "absent")
    assert shown.stderr == "no host has absent\n"
    assert "2 refused on 1 host: no such tarball" in shown.stdout
    assert boss.run("status", "absent", "--for", "prefix:kept-").stderr == "no host of prefix:kept- has absent\n"


@pytest.mark.long
def test_two_machines_under_one_name_are_told(server, boss):
    boss("set", "twins", "version=1.0.0", "tarball=http://r", "--why", "x", "--yes")
    for machine in ("1" * 16, "2" * 16) * 2:
        report = {"hostname": "twin-1", "realAgents": [], "machine": machine, "boot": "b" * 16}
        assert server.ask("POST", "/heartbeat", json.dumps(report).encode()).status == 200
    assert "doubled" in boss("hosts", "--doubled")
    assert "two machines report under this name, from 127.0.0.1" in boss("host", "twin-1")
    assert "1 doubled" in boss("status", "twins")
    boss("unset", "twins", "--why", "x", "--yes")
    assert "no two machines report under one name" in boss.run("hosts", "--name", "lab-*", "--doubled").stderr


@pytest.mark.long
def test_who_may_what(server, boss, tmp_path):
    viewer = person(boss, tmp_path / "vera", "vera", "viewer")
    assert viewer("whoami") == "vera: viewer\n"
    viewer("hosts")
    viewer("export")
    assert viewer("set", "falcon", "version=9", code=2).startswith("meta: this is for editors")
    assert viewer("token", "list", code=2).startswith("meta: this is for admins")
    tarball = publish(tmp_path, "x", "1.0.0")
    refused = viewer("publish", str(tarball.path), code=2)
    assert refused == "meta: publishing needs the role editor or admin; vera is viewer\n"
    [number] = [one["id"] for one in boss.json("token", "list")["items"] if one["name"] == "vera"]
    boss("token", "revoke", str(number))
    assert "was revoked" in viewer("whoami", code=2)
    assert "vera" not in boss("token", "list")
    assert "revoked" in boss("token", "list", "--all")
    stranger = Person(server, tmp_path / "home")
    assert stranger("get", code=2).startswith("meta: this needs a token: put yours into ~/.config/meta/token")
    assert "last admin" in boss("token", "revoke", "1", code=1)


@pytest.mark.long
def test_hosts_enrol(server, boss):
    token = boss("token", "enrolment", "rack7", "--uses", "1", "--expires", "2d", "--hosts", "r7-*").strip()
    assert "r7-*, 1 more" in boss("token", "list")
    body = json.dumps({"hostname": "r7-1"})
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    assert server.ask("POST", "/api/v1/enrol", body, **headers).status == 201
    assert boss("token", "revoke-host", "r7-1") == "the token of r7-1 is revoked\n"
    assert boss("token", "revoke-host", "r7-1", code=1) == "meta: r7-1 has no token\n"


@pytest.mark.long
def test_what_hosts_would_refuse_is_not_published(server, alice, tmp_path):
    bad = publish(tmp_path, "bad", "1.0.0", {"readme": (b"", 0o644)})
    assert "every host would refuse bad-1.0.0.tar.gz: " in alice("publish", str(bad.path), code=2)
    (tmp_path / "isal-1.0.0.tar.gz").write_bytes(gz_of_isal_alone(tar(CONTROL)))  # some hosts would take it
    assert "gzip data is damaged or cut short" in alice("publish", str(tmp_path / "isal-1.0.0.tar.gz"), code=2)
    (tmp_path / "text-1.0.0.tar.gz").write_text("no archive")
    assert "every host would refuse text-1.0.0" in alice("publish", str(tmp_path / "text-1.0.0.tar.gz"), code=2)
    assert "none-1.0.0.tar.gz: No such file" in alice("publish", str(tmp_path / "none-1.0.0.tar.gz"), code=2)
    assert server.ask("GET", "/tarball/bad-1.0.0.tar.gz").status == 404


REFUSED = {  # of what README lists: the archive, and what is said of it
    "an absolute symlink": (
        tgz(symlink("s", "/etc")),
        'target "/etc" of symlink "s" is absolute: a target must be relative',
    ),
    "a symlink with .. after a name": (
        tgz(symlink("s", "lib/../x")),
        'has a ".." after a name: a target must be relative',
    ),
    "a deep name": (tgz(file("a/" * 20 + "a")), "is more than 20 directories deep"),
    "a set-uid file": (tgz(file("su", mode=0o4755)), 'member "su" has a set-uid, set-gid or sticky bit (mode 4755)'),
    "a sparse file": (
        tgz(file("x", b"x", kind=b"S", magic=GNU)),
        'member "x" is a sparse file: pack it without --sparse',
    ),
    "a header of version 7": (
        tgz(file("x", magic=V7)),
        'of "x" is neither ustar nor GNU nor PAX: pack it with another',
    ),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_publish_says_first_what_hosts_refuse_and_why(alice, tmp_path, data, reason):
    (tmp_path / "odd-1.0.0.tar.gz").write_bytes(data)
    said = alice("publish", str(tmp_path / "odd-1.0.0.tar.gz"), code=2)
    assert "every host would refuse odd-1.0.0.tar.gz: " in said
    assert reason in said


CANNOT_RUN = {  # the content of a control, and what is said of it
    "no first line": (
        b"echo started\n",
        "its control cannot run: it is neither a program (ELF) nor does it begin with `#!`",
    ),
    "CRLF": (b"#!/bin/sh\r\necho started\r\n", "its control cannot run: its first line ends in CR LF"),
}


@pytest.mark.parametrize(("content", "reason"), CANNOT_RUN.values(), ids=CANNOT_RUN.keys())
def test_a_control_that_no_host_can_run_is_not_published(server, alice, tmp_path, content, reason):
    bad = publish(tmp_path, "bad", "1.0.0", {"control": (content, 0o755)})
    assert f"every host would refuse bad-1.0.0.tar.gz: {reason}" in alice("publish", str(bad.path), code=2)
    assert server.ask("GET", "/tarball/bad-1.0.0.tar.gz").status == 404


def test_an_interpreter_that_is_not_here_is_warned_of_and_so_are_files_of_macos(alice, tmp_path):
    content = {"control": (b"#!/usr/bin/env no-such-python\n", 0o755), "._control": (b"\0\5\x16\7", 0o644)}
    done = alice.run("publish", str(publish(tmp_path, "odd", "1.0.0", content).path))
    lacking = "its interpreter no-such-python is not on the PATH of this machine"
    assert f"note: control cannot run here, and on hosts like this: {lacking}\n" in done.stderr
    assert 'note: "._control" is left out: attributes for macOS (AppleDouble)' in done.stderr
    assert "odd-1.0.0.tar.gz: 1 member, " in done.stdout


@pytest.mark.long
def test_a_published_version_keeps_its_bytes(server, alice, tmp_path):
    first = publish(tmp_path, "same", "1.0.0")
    view = alice.json("publish", str(first.path))
    assert (view["name"], view["sha256"]) == ("same-1.0.0.tar.gz", first.sha256)
    assert "was published already" in alice("publish", str(first.path))
    other = publish(tmp_path, "same", "1.0.0", {"control": (b"#!/bin/sh\n", 0o755)})
    assert "is published with other bytes" in alice("publish", str(other.path), code=1)
    (server.database.parents[1] / "tarballs/same-1.0.0.tar.gz.md5").unlink()  # what was published is written down too
    assert "is published with other bytes" in alice("publish", str(other.path), code=1)


@pytest.mark.long
def test_tarballs_are_listed_and_pruned_after_a_look(server, alice, tmp_path):
    for number in range(3):
        made = alice.json("publish", str(publish(tmp_path, "old", f"1.0.{number}").path), "--why", "nightly")
    assert made["url"] == f"{server.url}/tarball/old-1.0.2.tar.gz"
    assert made["next"].startswith(f"meta set old version=1.0.2 md5={made['md5']} sha256=")
    assert made["next"].endswith(f" tarball={server.url}/tarball")
    assert (made["isNew"], alice.json("history", "old")["items"][0]["why"]) == (True, "nightly")
    listed = [line.split() for line in alice("tarballs").splitlines() if line.startswith("old ")]
    assert [line[1] for line in listed] == ["1.0.0", "1.0.1", "1.0.2"]
    assert listed[0][5] == "alice"
    prune = ("tarballs", "prune", "--keep", "1", "--older", "1s", "--why", "tidy")
    assert "old-1.0.2.tar.gz stays: one of the newest of old" in alice(*prune, "--dry-run")
    assert "review, then rerun with --yes" in alice(*prune, code=2)
    assert len([line for line in alice("tarballs").splitlines() if line.startswith("old ")]) == 3
    assert alice(*prune, "--yes").splitlines()[-1].startswith("removed: ")
    assert [one["version"] for one in alice.json("tarballs")["items"] if one["agent"] == "old"] == ["1.0.2"]
    assert alice.json("history", "--limit", "1")["items"][0]["why"] == "tidy"
    assert alice(*prune, "--yes").splitlines()[-1] == "nothing to remove"


@pytest.mark.long
def test_a_version_that_is_not_published_is_asked_about_though_no_host_is_touched(server, alice):
    words = ("set", "unpublished", "version=1.0.0", f"tarball={server.url}/tarball", "--for", "hosts:nowhere")
    alice("set", "unpublished", "version=1.0.0", "tarball=http://r.example/u", "cmd=stop", "--yes")
    refused = alice(*words, "cmd=start", code=2).splitlines()
    assert refused[-2].startswith("warning: this meta has no unpublished-1.0.0.tar.gz")
    assert refused[-1] == "meta: there is a warning; refusing without confirmation: review, then rerun with --yes"
    assert alice.json(*words, "cmd=start", "--dry-run")["warnings"]
    assert alice(*words, "cmd=start", "--yes").splitlines()[-1].startswith("done: revision ")


@pytest.mark.long
def test_hosts_are_labelled_by_choice_and_from_stdin(server, alice):
    for host in ("ring-a1", "ring-a2", "ring-b1"):
        server.beat(host)
    alice("label", "--name", "ring-a*", "ring=1", "--yes")
    alice("label", "--where", "prefix:ring-b", "ring=2", "--yes")
    alice("label", "--where", "label:ring", "--name", "*1", "first=yes", "--yes")
    labels = {host["name"]: host["labels"] for host in alice.json("hosts", "--name", "ring-*")["items"]}
    assert labels == {
        "ring-a1": {"ring": "1", "first": "yes"},
        "ring-a2": {"ring": "1"},
        "ring-b1": {"ring": "2", "first": "yes"},
    }
    assert alice.run("label", "-", "ring-", "first-", "--yes", given="ring-a1 ring-a2\nring-b1\n").returncode == 0
    assert all(not host["labels"] for host in alice.json("hosts", "--name", "ring-*")["items"])
    none = alice("label", "--where", "prefix:rnig-", "ring=1", code=1)
    assert none == "meta: no host that has reported matches --where prefix:rnig-\n"
    assert "name hosts, or choose them" in alice("label", "ring-a1", "--name", "x*", "ring=1", code=2)


@pytest.mark.long
def test_why_a_host_was_put_aside_is_in_the_history(server, alice):
    for host in ("aside-1", "aside-2"):
        server.beat(host)
    alice("retire", "aside-1", "aside-2", "--why", "rack r7 is gone")
    told = alice("history", "--limit", "1").splitlines()
    assert " retire by alice at " in told[0]
    assert told[0].endswith(": rack r7 is gone")
    assert told[1:] == ["  host aside-1: retired", "  host aside-2: retired"]
    number = alice.json("history", "--limit", "1")["items"][0]["number"]
    assert alice("retire", "aside-1", "aside-1") == "aside-1: is retired already; nothing was changed\n"
    assert alice.json("history", "--limit", "1")["items"][0]["number"] == number
    assert "no host aside-9" in alice("retire", "aside-2", "aside-9", code=1)


def test_a_real_run_that_changes_nothing_is_no_dry_run(alice):
    alice("set", "calm", "version=1", "tarball=http://127.0.0.1/t", "--yes")
    assert not alice.json("set", "calm", "version=1", "--yes").get("dryRun")
    assert alice.json("set", "calm", "version=1", "--dry-run")["dryRun"] is True


@pytest.mark.long
def test_a_backup_of_a_live_database_is_whole(server, alice, tmp_path):
    said = alice("backup", str(tmp_path / "b.db"), "--database", f"sqlite:///{server.database}")
    assert f"is copied to {tmp_path / 'b.db'}" in said
    before = (tmp_path / "b.db").read_bytes()
    assert "exists already" in alice(
        "backup", str(tmp_path / "b.db"), "--database", f"sqlite:///{server.database}", code=2
    )
    assert (tmp_path / "b.db").read_bytes() == before
    told = alice("backup", str(tmp_path / "c.db"), "--database", "postgresql://nobody@127.0.0.1/none", code=2)
    assert "pg_dump" in told


@pytest.fixture(scope="module")
def hawk(boss):
    """An agent with a record that no test changes."""
    boss("set", "hawk", "version=1.0.0", "tarball=http://r.example/hawk", "--yes")


@pytest.mark.usefixtures("hawk")
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["set", "flacon", "version=1.0.1"], "flacon: tarball is missing; a new agent needs it"),
        (["set", "hawk", "version=1/2"], "is not 1 to 64 letters"),
        (["set", "hawk", "cmd=restart"], "restart"),
        (["unset", "hawk", "version"], "version cannot be unset"),
        (["label", "web-1"], "name hosts first"),
        (["label", "web 1", "a=b"], 'hostname "web 1" is not'),
        (["host", "web 1"], 'hostname "web 1" is not'),
        (["explain", "../x"], 'hostname "../x" is not'),
        (["ban", "a/b", "1.0", "--why", "x"], 'name "a/b" is not'),
        (["label", "web-1", "a b=c"], 'label "a b=c" is not KEY or KEY=VALUE'),
        (["token", "new", "x", "--role", "viewer", "--expires", "soon"], "is no duration like 30d"),
        (["status", "hawk", "--within", "1s"], "--within and --max-failed are for --watch"),
        (["status", "--watch"], "name an agent to watch"),
        (["status", "hawk", "--watch", "--max-failed", "5%%"], "neither a number of hosts nor a share"),
        (["status", "hawk", "--watch", "--max-failed", "101%"], "neither a number of hosts nor a share"),
        (["status", "hawk", "--watch", "--for", "web-"], "does not say how it selects hosts"),
        (["status", "--for", "prefix:web-"], "name an agent"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(boss, words, why):
    done = boss.run(*words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert why in done.stderr
