"""What speaks against an edit is said before it is made: a tarball that meta lacks, a version that hosts rolled back."""

import gzip

import pytest

from helpers.meta_api import NOW, REMOTE, World, record
from updater.wire.heartbeat import Outcome, RealAgent, Report

HERE = {"Host": "meta.example:2000", "If-None-Match": "*"}


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    body = gzip.compress(b"x", mtime=0)
    for version in ("1.0.0", "1.0.1"):
        path = f"tarballs/a-{version}.tar.gz"
        assert world.call("PUT", path, data=body + version.encode(), content_type="application/gzip").status_code == 201
    yield world
    world.close()


def warned(world, version, tarball="http://meta.example:2000/tarball", agent="a", headers=HERE, **more):
    body = record(agent, version, **more) | {"tarball": tarball}
    answer = world.call("PUT", f"records/{agent}?dryRun=true", "editor", headers, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json["warnings"]


LACKS = (
    "this meta has no a-1.0.2.tar.gz, which hosts would fetch from it: publish it first; did you mean a-1.0.1.tar.gz?"
)


@pytest.mark.parametrize(
    "tarball",
    [
        "http://meta.example:2000/tarball",
        "http://META.example:2000/tarball/",
        "http://meta.example:2000",
        "http://meta.example:2000/",
        "http://127.0.0.1:2000/tarball",
        "http://localhost:2000/tarball",
        ["http://mirror.example/x", "http://meta.example:2000/tarball"],
    ],
)
def test_a_version_that_meta_would_have_to_send_and_does_not_have(world, tarball):
    assert warned(world, "1.0.2", tarball) == [LACKS]
    assert warned(world, "1.0.1", tarball) == []


@pytest.mark.parametrize(
    "tarball",
    [
        "http://other.example/tarball",
        "http://meta.example/tarball",
        "https://meta.example:2001",
        "http://127.0.0.1:2001",
    ],
)
def test_what_others_send_is_not_ours_to_know(world, tarball):
    assert warned(world, "1.0.2", tarball) == []


def test_a_directory_below_is_looked_into(world):
    (world.tarballs / "sub").mkdir()
    assert len(warned(world, "1.0.0", "http://meta.example:2000/tarball/sub")) == 1
    (world.tarballs / "sub" / "a-1.0.0.tar.gz").write_bytes(b"x")
    assert warned(world, "1.0.0", "http://meta.example:2000/tarball/sub") == []


def test_an_override_is_looked_at_as_a_record_is_and_what_is_to_stop_needs_no_tarball(world):
    assert warned(world, "1.0.0", overrides=[{"prefix": "w", "version": "1.0.2"}]) == [LACKS]
    assert warned(world, "1.0.2", cmd="stop") == []
    assert warned(world, "1.0.0", overrides=[{"prefix": "w", "version": "1.0.2", "cmd": "stop"}]) == []


def test_what_stands_there_already_is_not_warned_of_again(world):
    body = record("a", "1.0.2") | {"tarball": "http://meta.example:2000/tarball"}
    assert world.call("PUT", "records/a", headers=HERE, json=body).status_code == 201
    assert warned(world, "1.0.2", headers={"Host": HERE["Host"], "If-Match": "*"}, sha256="a" * 64) == []


def test_a_version_that_hosts_have_rolled_back(world):
    for number in range(2):
        outcome = Outcome("a", "1.0.0", "1.0.1", "watch", "rolled back", f"died {number} s after its start", "", number)
        report = Report(f"h{number}", [RealAgent("a", "1.0.0", "started", 7)], outcomes=[outcome])
        world.service.table.beat(report, REMOTE, NOW)
    said = "2 hosts, h1 among them, rolled a 1.0.1 back as their last change of it: died 1 s after its start"
    assert warned(world, "1.0.1") == [said]
    assert warned(world, "1.0.0") == []
    assert warned(world, "1.0.0", overrides=[{"prefix": "h", "version": "1.0.1"}]) == [said]


def rolls_back(world, *hosts):
    for host in hosts:
        outcome = Outcome("a", "1.0.0", "1.0.1", "watch", "rolled back", "died 1 s after its start", "", 1)
        report = Report(host, [RealAgent("a", "1.0.0", "started", 7)], outcomes=[outcome])
        world.service.table.beat(report, REMOTE, NOW)


FAILED_CANARY = "host web-1 rolled a 1.0.1 back as its last change of it: died 1 s after its start"
CANARY = {"hosts": ["web-1"], "version": "1.0.1"}


@pytest.fixture
def canary(world):
    """Of three hosts web-1 was given 1.0.1 by an override, and has rolled it back."""
    rolls_back(world, "web-1")
    for host in ("web-2", "db-1"):
        world.beat(host, RealAgent("a", "1.0.0", "started", 7))
    assert (
        world.call("PUT", "records/a", headers=HERE, json=record("a", "1.0.0", overrides=[CANARY])).status_code == 201
    )
    return world


def dry(world, method, path, **body):
    answer = world.call(
        method, f"{path}?dryRun=true", "editor", {"If-Match": "*"} if "records" in path else (), json=body
    )
    assert answer.status_code == 200, answer.text
    return answer.json["warnings"]


def test_a_canary_that_was_rolled_back_is_not_promoted_without_a_warning(canary):
    assert dry(canary, "PATCH", "records/a", set={"version": "1.0.1"}) == [FAILED_CANARY]
    assert dry(canary, "PATCH", "records/a", set={"version": "1.0.1"}, selector={"prefix": "web"}) == [FAILED_CANARY]
    assert dry(canary, "PATCH", "records/a", set={"version": "1.0.1"}, selector={"prefix": "later-"}) == [FAILED_CANARY]


def test_what_brings_it_to_no_other_host_is_not_warned_of(canary):
    again = {"set": {"version": "1.0.1"}, "selector": {"hosts": ["web-1"]}}
    assert dry(canary, "PATCH", "records/a", **again) == []
    assert dry(canary, "PATCH", "records/a", set={"cmd": "stop"}) == []
    assert dry(canary, "PATCH", "records/a", unset=[], selector={"hosts": ["web-1"]}) == []


def test_an_override_that_goes_a_label_and_a_ban_that_is_lifted_can_bring_it_too(world):
    rolls_back(world, "web-1")
    world.beat("db-1", RealAgent("a", "1.0.0", "started", 7))
    others = [{"label": "ring=1", "version": "1.0.1"}, {"prefix": "web-", "version": "1.0.0"}]
    assert world.call("PUT", "records/a", headers=HERE, json=record("a", "1.0.0", overrides=others)).status_code == 201
    assert dry(world, "PUT", "hosts/db-1/labels", labels={"ring": "1"}) == [FAILED_CANARY]
    assert dry(world, "PUT", "hosts/web-1/labels", labels={"ring": "1"}) == [], "the later override keeps it at 1.0.0"
    assert world.call("PUT", "hosts/web-1/labels", json={"labels": {"ring": "1"}}).status_code == 200
    assert dry(world, "PATCH", "records/a", unset=[], selector={"prefix": "web-"}) == [FAILED_CANARY]
    assert dry(world, "PATCH", "records/a", set={"cmd": "stop"}, selector={"prefix": "web-"}) == []
    assert world.call("PUT", "bans/a/1.0.1", json={}).status_code == 200
    assert world.call("PUT", "hosts/db-1/labels", json={"labels": {"ring": "1"}}).status_code == 200
    answer = world.call("DELETE", "bans/a/1.0.1?dryRun=true", "editor")
    assert answer.json["warnings"] == [FAILED_CANARY]


def test_what_a_host_did_before_its_last_change_is_not_counted(canary):
    outcome = Outcome("a", "1.0.0", "1.0.2", "watch", "done", "it has come through its watch", "", 2)
    report = Report("web-1", [RealAgent("a", "1.0.2", "started", 7)], outcomes=[outcome])
    canary.service.table.beat(report, REMOTE, NOW)
    assert dry(canary, "PATCH", "records/a", set={"version": "1.0.1"}) == []
