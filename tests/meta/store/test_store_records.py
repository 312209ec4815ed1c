"""Records in the database: what was committed comes back, edits at once do not get lost, history stays."""

import threading
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from helpers.databases import KINDS, database, execute
from helpers.record_sets import RECORD_SETS
from helpers.replaying import replay
from helpers.threads import in_threads
from meta.errors import TryLater
from meta.records.history import Change, Edit, Revision, changes, committed
from meta.records.model import Ban, Override, Record, RecordSet, Release
from meta.records.selectors import Glob, Hosts, Label, Prefix
from meta.store import Lost, Moved, Store

EDIT = Edit(1.5, "ann", "because", "set")
A, B, C = (Record(name, Release("1"), "http://r") for name in "abc")
FULL = Record(
    "a",
    Release("2", md5="0" * 32, sha256="a" * 64),
    "http://r/",
    cmd="stop",
    mirrors=("http://s/", "http://t/"),
    overrides=(
        Override(Prefix("lg-"), Release("3"), md5_base=""),
        Override(Glob("*.x"), tarball="http://u/", mirrors=("http://v/",)),
        Override(Hosts(frozenset(("h1", "h2"))), cmd="start"),
        Override(Label("env=staging"), Release("4", sha256="b" * 64)),
    ),
)
LABELS = {"h1": {"env": "stäging", "gpu": ""}, "h2": {"x": "y"}}
BANS = (Ban("a", "1", "it “crashes”", "bob", 2.5), Ban("b", "9"))


def put(store: Store, before: RecordSet, *records: Record, edit: Edit = EDIT, **more) -> RecordSet:
    after = replace(before, records=records, **more)
    made = store.commit(before, after, edit)
    return committed(after, made)


def test_a_new_database_has_no_records(store):
    assert store.load_records() == RecordSet()
    assert store.revisions() == store.revisions_since(0) == []
    assert store.revision(1) is None


def test_an_edit_is_dated_by_the_databases_clock(store, url):
    now, ahead = 1000.0, -7200.0
    with closing(Store(url)) as slow:
        slow.date_by(ahead)
        made = slow.commit(RecordSet(), RecordSet(records=(A,)), replace(EDIT, at=now + ahead))
        assert (made.at, store.revision(1).at, slow.revision(1).at) == (now, now, now)


def test_what_was_committed_comes_back(store, url):
    before = store.load_records()
    after = replace(before, records=(FULL, B), bans=BANS, labels=LABELS)
    made = store.commit(before, after, EDIT)
    assert made == Revision(1, 1.5, "ann", "because", "set", changes(before, after), made.identity)
    with closing(Store(url)) as other:
        assert other.load_records() == committed(after, made)
        assert other.revision(1) == made
        assert other.head().revision == 1


def test_each_record_knows_the_revision_of_its_last_change(store):
    first = put(store, RecordSet(), A, B, C)
    second = put(store, first, A, replace(B, release=Release("2")), C)
    third = put(store, second, C, A)  # in another order; b is gone
    fourth = put(store, third, C, A, B)
    assert first.edited == {"a": 1, "b": 1, "c": 1}
    assert second.edited == {"a": 1, "b": 2, "c": 1}
    assert third.edited == {"c": 1, "a": 1}
    assert fourth.edited == {"c": 1, "a": 1, "b": 4}
    assert store.load_records() == fourth


@pytest.mark.parametrize("kind", KINDS)
def test_any_sequence_of_edits_is_replayed_to_the_same(kind, tmp_path):
    """One database for all examples: each goes on where the last one ended."""

    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(RECORD_SETS, min_size=1, max_size=4))
    def check(sets):
        start = now = store.load_records()
        for wanted in sets:
            after = replace(now, records=wanted.records, bans=wanted.bans, labels=wanted.labels)
            made = store.commit(now, after, EDIT)
            now = committed(after, made)
            assert store.load_records() == now
        for made in store.revisions_since(start.revision):
            start = replay(start, made)
        assert start == now

    with database(kind, tmp_path) as url, closing(Store(url)) as store:
        store.upgrade()
        check()


def test_history_is_paged_from_the_newest(store):
    now = put(store, RecordSet(), A, B)
    for version in "23456":
        now = put(store, now, replace(A, release=Release(version)), B)
    now = put(store, now, *now.records, bans=(Ban("b", "9"),))
    now = put(store, now, *now.records, labels=LABELS)
    numbers = [made.number for made in store.revisions()]
    assert numbers == [8, 7, 6, 5, 4, 3, 2, 1]
    assert [made.number for made in store.revisions(limit=3)] == [8, 7, 6]
    assert [made.number for made in store.revisions(before=6, limit=3)] == [5, 4, 3]
    assert [made.number for made in store.revisions("b")] == [7, 1]
    assert [made.number for made in store.revisions("a", before=4)] == [3, 2, 1]
    assert store.revisions("nobody") == []
    assert [made.number for made in store.revisions_since(6)] == [7, 8]
    assert store.revisions(limit=1)[0].changes == (
        Change("labels", "h1", None, LABELS["h1"]),
        Change("labels", "h2", None, LABELS["h2"]),
    )


def test_an_edit_of_what_has_moved_is_refused_and_leaves_nothing(store):
    first = put(store, RecordSet(), A)
    with pytest.raises(Moved, match="at revision 1 by now, no longer at 0"):
        store.commit(RecordSet(), RecordSet(records=(B,)), EDIT)
    assert store.load_records() == first
    assert [made.number for made in store.revisions()] == [1]


@pytest.mark.parametrize("unknown", [{"revision": 2}, {"identity": "another"}])
def test_an_edit_of_a_revision_that_the_database_lost_is_refused_and_leaves_nothing(store, unknown):
    """After a failover: the number is higher than the last, or it was given again."""
    first = put(store, RecordSet(), A)
    with pytest.raises(Lost):
        store.commit(replace(first, **unknown), replace(first, records=(B,), **unknown), EDIT)
    second = put(store, first, B)
    with pytest.raises(Lost):
        store.commit(replace(first, identity="another"), first, EDIT)
    assert store.load_records() == second


def test_each_revision_has_an_identity_of_its_own(store):
    first = put(store, RecordSet(), A)
    second = put(store, first, B)
    made = store.revisions()
    assert [one.identity for one in made] == [second.identity, first.identity]
    assert len({"", first.identity, second.identity}) == 3
    assert store.head().revision_identity == store.head().identity == second.identity


def test_of_two_edits_at_once_one_is_refused(store, url):
    first = put(store, RecordSet(), A)
    with closing(Store(url)) as other:
        for _ in range(5):
            now = store.load_records()
            results = in_threads(
                lambda now=now: store.commit(now, replace(now, records=(replace(A, release=Release("2")), B)), EDIT),
                lambda now=now: other.commit(now, replace(now, records=(replace(A, release=Release("3")), C)), EDIT),
            )
            [won] = [result for result in results if isinstance(result, Revision)]
            assert sum(isinstance(result, Moved) for result in results) == 1
            assert won.number == now.revision + 1
            assert store.load_records() == other.load_records() == replay(now, won)
            first = put(store, store.load_records(), A)
    assert first.revision == 11


def test_no_edit_is_lost_and_no_number_left_out(store, url):
    put(store, RecordSet(), *(Record(f"a{i}", Release("0"), "http://r") for i in range(4)))

    def edit(index):
        """Raise the version of its own record ten times, however often others come first."""
        with closing(Store(url)) as mine:
            for version in range(1, 11):
                while True:
                    now = mine.load_records()
                    records = [
                        replace(r, release=Release(str(version))) if r.name == f"a{index}" else r for r in now.records
                    ]
                    try:
                        mine.commit(now, replace(now, records=tuple(records)), EDIT)
                        break
                    except Moved:
                        continue

    assert in_threads(*(lambda i=i: edit(i) for i in range(4))) == [None] * 4
    assert [record.release.version for record in store.load_records().records] == ["10"] * 4
    assert [made.number for made in store.revisions_since(0)] == list(range(1, 42))


def test_records_are_read_as_they_were_at_one_revision(store, url):
    """Each revision gives both records the same version: a reader never sees them differ."""
    put(store, RecordSet(), A, B)
    done = threading.Event()

    def edit():
        with closing(Store(url)) as mine:
            for version in range(2, 30):
                now = mine.load_records()
                put(
                    mine,
                    now,
                    *(replace(r, release=Release(str(version))) for r in now.records),
                    labels={"h": {"v": str(version)}},
                )
        done.set()

    def read():
        seen = set()
        while not done.is_set():
            now = store.load_records()
            versions = {record.release.version for record in now.records} | {
                labels["v"] for labels in now.labels.values()
            }
            seen.add((len(versions), now.revision - int(now.records[0].release.version)))
        return seen

    edited, seen = in_threads(edit, read)
    assert (edited, seen) == (None, {(1, 0)})


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE revision SET who = 'nobody'",
        "DELETE FROM revision",
        "UPDATE change SET after = NULL",
        "DELETE FROM change WHERE revision = 1",
    ],
)
def test_the_database_itself_refuses_to_change_history(store, url, statement):
    put(store, RecordSet(), A)
    with pytest.raises(Exception, match="revisions are only ever added"):
        execute(url, statement)
    assert [made.number for made in store.revisions()] == [1]


def test_an_edit_that_fails_in_the_middle_leaves_nothing(store, url):
    first = put(store, RecordSet(), A)
    execute(url, "ALTER TABLE label RENAME TO elsewhere")
    after = replace(first, records=(A, B), labels=LABELS)
    with pytest.raises(TryLater, match="label"):
        store.commit(first, after, EDIT)
    execute(url, "ALTER TABLE elsewhere RENAME TO label")
    assert store.load_records() == first
    assert store.head().revision == 1
    assert store.commit(first, after, EDIT).number == 2
