"""What was published: written down with who and when, and removed only when nothing needs it any more."""

import gzip
import hashlib
import logging
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers.meta_api import NOW, REMOTE, World, record
from lab.fleet import until
from meta.artifacts import tarballs
from meta.errors import TryLater
from meta.records import publications
from meta.records.publications import Fate, Publication, Uses
from updater.wire.heartbeat import RealAgent, Report

DAY = 86400.0


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def publish(world, version, agent="a", at=NOW, **more):
    world.now = at
    body = gzip.compress(f"{agent} {version}".encode(), mtime=0)
    path = f"tarballs/{agent}-{version}.tar.gz"
    answer = world.call("PUT", path, "editor", data=body, content_type="application/octet-stream", **more)
    assert answer.status_code in (200, 201), answer.text
    world.now = NOW
    return answer.json


def many(world, count=5, agent="a"):
    """Published long ago, one a day: version 0 first."""
    for number in range(count):
        publish(world, str(number), agent, NOW - (100 - number) * DAY)


def prune(world, dry_run=False, who="editor", query="", **body):
    answer = world.call("POST", f"tarballs/prune?dryRun={str(dry_run).lower()}{query}", who, json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json
    return [one["name"] for one in found["removed"]], {one["name"]: one["why"] for one in found["kept"]}


def there(world):
    return sorted(path.name for path in world.tarballs.iterdir())


def use(world, version, agent="a", **more):
    answer = world.call("PUT", f"records/{agent}", headers={"If-Match": "*"}, json=record(agent, version, **more))
    if answer.status_code == 412:
        headers = {"If-None-Match": "*"}
        answer = world.call("PUT", f"records/{agent}", headers=headers, json=record(agent, version, **more))
    assert answer.status_code in (200, 201), answer.text


# --- the record of what was published ---


def test_publishing_is_in_the_history_and_the_log_and_survives_a_restart(world, caplog):
    with caplog.at_level(logging.INFO):
        view = publish(world, "1.0", query_string={"why": "the fix"})
    [revision] = world.call("GET", "revisions?agent=a", "viewer").json["items"]
    assert (revision["action"], revision["who"], revision["why"]) == ("publish", "editor", "the fix")
    [change] = revision["changes"]
    assert (change["kind"], change["name"], change["before"]) == ("tarball", "a-1.0.tar.gz", None)
    assert change["after"]["sha256"] == view["sha256"]
    assert f"a-1.0.tar.gz is published: {view['size']} bytes, sha256 {view['sha256']}, by editor" in caplog.text
    assert world.store.load_records().published == world.service.records.published
    assert world.store.load_records() == world.service.records


def test_the_same_bytes_again_are_no_second_publication(world):
    publish(world, "1.0")
    publish(world, "1.0")
    assert world.service.records.revision == 1


def test_a_list_says_who_published_it_what_desires_it_and_how_many_hosts_run_it(world):
    use(world, "1", overrides=[{"prefix": "h1", "version": "2"}])
    publish(world, "1")
    publish(world, "2")
    (world.tarballs / "web-agent-1.0.tar.gz").write_bytes(b"came by rsync")
    for host in ("h1", "h2", "h3"):
        world.service.table.beat(Report(host, [RealAgent("a", "2", "started", 7)]), REMOTE, NOW)
    world.service.table.retire("h3", NOW)
    one, two, foreign = world.call("GET", "tarballs", "viewer").json["items"]
    assert (one["who"], one["published"], one["desiredBy"], one["hosts"]) == ("editor", NOW, ["a"], 0)
    assert (two["agent"], two["version"], two["desiredBy"], two["hosts"]) == ("a", "2", ["a [prefix h1]"], 3)
    assert two["sha256"] == hashlib.sha256(gzip.compress(b"a 2", mtime=0)).hexdigest()
    assert (foreign["agent"], foreign["version"], foreign["who"], foreign["published"]) == ("web-agent", "1.0", "", 0)


def test_whose_a_tarball_is_is_read_by_the_agents_that_are_known_or_as_it_is_said(world):
    use(world, "1", "web-2")
    assert publish(world, "1.0", "web-2")["agent"] == "web-2"
    assert publish(world, "2-1.1", "web", query_string={"agent": "web"})["version"] == "2-1.1"


# --- pruning ---


def test_the_newest_and_the_young_stay(world):
    many(world)
    publish(world, "young", "b", NOW - DAY)
    gone, kept = prune(world, dry_run=True, keep=3, older=30 * DAY)
    assert gone == ["a-0.tar.gz", "a-1.tar.gz"]
    assert kept["a-2.tar.gz"] == "one of the newest of a"
    assert prune(world, dry_run=True, keep=0, older=30 * DAY)[1] == {"b-young.tar.gz": "published 1 day ago"}
    assert len(there(world)) == 12  # with their digests: a dry run removes nothing
    assert prune(world, keep=3, older=30 * DAY)[0] == gone
    assert "a-0.tar.gz" not in there(world)
    assert "a-0.tar.gz.md5" not in there(world)
    assert len(there(world)) == 8
    latest = world.call("GET", "revisions?limit=1").json["items"][0]
    assert (latest["action"], [one["name"] for one in latest["changes"]]) == ("prune", gone)
    assert world.store.load_records() == world.service.records
    assert prune(world, keep=3, older=30 * DAY)[0] == []
    assert world.service.records.revision == latest["number"]


def test_what_a_record_an_override_a_late_revision_or_a_host_names_is_never_removed(world):
    many(world, 6)
    use(world, "1")
    use(world, "2", overrides=[{"prefix": "h", "version": "3"}])
    world.service.table.beat(Report("h1", [RealAgent("a", "4", "stoped", 7)]), REMOTE, NOW)
    world.service.table.retire("h1", NOW)
    gone, kept = prune(world, keep=0, older=0)
    assert gone == ["a-0.tar.gz", "a-5.tar.gz"]
    assert kept == {
        "a-1.tar.gz": f"revision {world.service.records.revision - 1} names it: a rollback may need it",
        "a-2.tar.gz": "desired by a",
        "a-3.tar.gz": "desired by a [prefix h]",
        "a-4.tar.gz": "1 host runs it",
    }


def test_only_the_last_fifty_revisions_of_the_records_count_and_labels_do_not_use_them_up(world):
    many(world, 2)
    use(world, "0")
    use(world, "1")
    for number in range(60):
        assert world.call("PUT", "hosts/h1/labels", json={"labels": {"n": str(number)}}).status_code == 200
    assert prune(world, dry_run=True, keep=0, older=0)[0] == []
    for number in range(50):
        use(world, f"x{number}")
    assert list(prune(world, dry_run=True, keep=0, older=0)[1]) == ["a-1.tar.gz"]
    use(world, "y")
    assert prune(world, dry_run=True, keep=0, older=0)[0] == ["a-0.tar.gz", "a-1.tar.gz"]


def test_what_was_not_published_through_meta_or_has_other_bytes_by_now_stays(world):
    many(world, 2)
    (world.tarballs / "c-1.tar.gz").write_bytes(b"came by rsync")
    (world.tarballs / "a-0.tar.gz").write_bytes(b"put there by hand")
    gone, kept = prune(world, keep=0, older=0)
    assert gone == ["a-1.tar.gz"]
    assert kept == {"a-0.tar.gz": "has other bytes than were published"}
    assert (world.tarballs / "c-1.tar.gz").exists()


def test_only_what_was_shown_goes_and_what_is_named_meanwhile_stays(world):
    many(world, 3)
    shown, _ = prune(world, dry_run=True, keep=1, older=0)
    assert shown == ["a-0.tar.gz", "a-1.tar.gz"]
    use(world, "1")
    gone, kept = prune(world, keep=0, older=0, files=shown)
    assert gone == ["a-0.tar.gz"]
    assert kept == {"a-1.tar.gz": "desired by a"}
    assert "a-2.tar.gz" in there(world)


def test_a_file_that_is_gone_already_is_only_forgotten(world):
    many(world, 1)
    (world.tarballs / "a-0.tar.gz").unlink()
    assert prune(world, keep=0, older=0)[0] == ["a-0.tar.gz"]
    assert world.service.records.published == {}


def test_what_was_removed_can_be_published_again(world):
    many(world, 1)
    prune(world, keep=0, older=0)
    publish(world, "0")
    assert "a-0.tar.gz" in there(world)
    assert prune(world, dry_run=True, keep=0, older=0)[0] == ["a-0.tar.gz"]


def test_a_file_that_is_named_before_it_goes_stays(world):
    """Its publication is taken out of the records first; an edit may come between that and the file."""
    many(world, 2)
    with ThreadPoolExecutor(1) as pool:
        with world.service.publishing:
            pruned = pool.submit(prune, world, keep=0, older=0)
            until("both publications are taken out", lambda: not world.service.records.published)
            use(world, "1")
        pruned.result()
    assert there(world) == ["a-1.tar.gz", "a-1.tar.gz.md5"]


@pytest.mark.parametrize("names_it", [publish, use])
def test_a_file_that_another_meta_needs_before_it_goes_stays(world, names_it):
    many(world, 2)
    other = world.another()
    md5 = (world.tarballs / "a-1.tar.gz.md5").read_text()
    with ThreadPoolExecutor(1) as pool:
        with world.service.publishing:
            pruned = pool.submit(prune, world, keep=0, older=0)
            until("both publications are taken out", lambda: not world.store.load_records().published)
            names_it(other, "1")
        pruned.result()
    assert there(world) == ["a-1.tar.gz", "a-1.tar.gz.md5"]
    assert (world.tarballs / "a-1.tar.gz.md5").read_text() == md5
    other.close()


def test_what_is_published_again_while_it_goes_stays_with_its_digest(world):
    publish(world, "1")
    before = {name: (world.tarballs / name).read_bytes() for name in there(world)}

    def again():
        publish(world, "1")
        return False

    assert tarballs.remove(world.tarballs, "a-1.tar.gz", again)
    assert {name: (world.tarballs / name).read_bytes() for name in there(world)} == before
    assert not tarballs.remove(world.tarballs, "a-1.tar.gz", lambda: True)
    assert not tarballs.remove(world.tarballs, "a-1.tar.gz", lambda: publish(world, "1") is not None)
    assert {name: (world.tarballs / name).read_bytes() for name in there(world)} == before
    assert tarballs.known_md5(world.tarballs / "a-1.tar.gz")


def test_a_file_whose_need_cannot_be_told_stays(world):
    publish(world, "1")

    def away():
        raise TryLater("the database does not answer")

    with pytest.raises(TryLater, match="the database does not answer"):
        tarballs.remove(world.tarballs, "a-1.tar.gz", away)
    assert there(world) == ["a-1.tar.gz", "a-1.tar.gz.md5"]


def test_metas_that_publish_and_prune_at_once_agree_on_what_is_there(world):
    """Whatever is said to be published in the end is there, whole and with its digest."""
    metas, versions = [world, world.another()], ["1", "2", "3"]
    with ThreadPoolExecutor(4) as pool:

        def work(seed):
            chance = random.Random(seed)
            for _ in range(12):
                meta = metas[chance.randrange(2)]
                if chance.random() < 0.5:
                    version = chance.choice(versions)
                    body = gzip.compress(f"a {version}".encode(), mtime=0)
                    path, kind = f"tarballs/a-{version}.tar.gz", "application/octet-stream"
                    assert meta.call("PUT", path, "editor", data=body, content_type=kind).status_code in (200, 201, 503)
                else:
                    done = meta.call("POST", "tarballs/prune", "editor", json={"keep": 0, "older": 0})
                    assert done.status_code in (200, 503), done.text

        list(pool.map(work, range(4)))
    published = set(world.store.load_records().published)
    files = set(there(world))
    lost = published - files
    for name in lost:  # who published it was told so, and does it again
        publish(metas[0], name.removeprefix("a-").removesuffix(".tar.gz"))
    assert {f"{name}.md5" for name in published} <= set(there(world))
    assert not [name for name in there(world) if name.startswith(".")]
    metas[1].close()


def test_viewers_prune_nothing(world):
    assert world.call("POST", "tarballs/prune", "viewer", json={}).status_code == 403


@pytest.mark.parametrize(
    ("keep", "older", "gone"), [(0, 0, "1 2 3"), (1, 0, "1 2"), (0, 15, "1"), (2, 5, "1"), (9, 0, "")]
)
def test_both_limits_must_be_passed(keep, older, gone):
    published = {f"a-{n}.tar.gz": Publication("a", str(n), 1, "", "", "", 10.0 * n) for n in (1, 2, 3)}
    found = publications.judge(published, Uses({}, {}, {}), 30.0, keep, older)
    assert [one.file for one in found if not one.why] == [f"a-{n}.tar.gz" for n in gone.split()]
    assert isinstance(found[0], Fate)
