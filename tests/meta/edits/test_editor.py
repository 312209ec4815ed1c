"""Edits over a real store: two metas on one database, conflicts, and what is in force when."""

import sqlite3
import threading
import time
from contextlib import closing
from functools import partial

import msgspec
import pytest

from helpers.replaying import replay
from helpers.threads import in_threads
from meta.edits import operations
from meta.edits.editor import TRIES, Editor
from meta.errors import Conflict, EditRefused, MetaError, NotThere, TryLater
from meta.records import history
from meta.records.model import Ban, Record, RecordSet, Release
from meta.store import Store


class Meta:
    """What an Editor needs of a meta. It follows no other one by itself."""

    def __init__(self, url):
        self.store = Store(url)
        self.records = self.store.load_records()
        self.editor = Editor(self.store, lambda: self.records, self.put_in_force)

    def put_in_force(self, records: RecordSet):
        self.records = records

    def put(self, name, version, expected=None, why=""):
        def change(before):
            if expected is not None:
                self.editor.require(before, name, expected)
            return operations.put_record(before, Record(name, Release(version), "http://x.example"))

        return self.editor.apply(history.Edit(1.0, "anna", why, "set"), change)


@pytest.fixture
def url(tmp_path):
    url = f"sqlite:///{tmp_path}/meta.db"
    store = Store(url)
    store.upgrade()
    store.close()
    return url


@pytest.fixture
def metas(url):
    metas = [Meta(url), Meta(url)]
    yield metas
    for meta in metas:
        meta.store.close()


def test_what_was_applied_is_in_force_and_stored(metas):
    meta = metas[0]
    done = meta.put("a", "1")
    assert done.revision == meta.records.revision == 1
    assert meta.records == meta.store.load_records()
    assert meta.records.edited == {"a": 1}


def test_an_edit_at_another_meta_is_built_upon_and_not_lost(metas):
    here, there = metas
    here.put("a", "1")
    there.put("b", "1")  # which had not heard of a
    assert there.records == there.store.load_records()
    assert {record.name for record in there.records.records} == {"a", "b"}


def test_a_conflict_with_another_meta_is_found_at_the_last_moment(metas):
    here, there = metas
    here.put("a", "1")
    there.records = here.records
    here.put("a", "2", expected=1)
    with pytest.raises(Conflict) as e:
        there.put("a", "3", expected=1)
    assert (e.value.expected, e.value.actual) == (1, 2)
    assert e.value.lines == ["revision 2 by anna", "  a: version 1 -> 2"]
    assert there.store.load_records().record("a").release.version == "2"


def test_what_was_read_at_another_meta_a_moment_ago_is_no_conflict_here(metas):
    here, there = metas
    here.put("a", "1")
    assert there.put("a", "2", expected=1).revision == 2  # not in force there when it was asked


def test_a_refusal_by_what_is_old_here_is_looked_at_again(metas):
    here, there = metas
    here.put("a", "1")
    change = partial(operations.set_fields, agent="a", fields={"version": "2"})
    assert there.editor.apply(history.Edit(1.0, "anna", "", "set"), change).revision == 2
    with pytest.raises(NotThere):
        there.editor.apply(history.Edit(1.0, "anna", "", "set"), partial(operations.delete_record, agent="nothing"))


def test_nothing_to_change_is_said_of_what_the_database_holds_and_not_of_memory(metas):
    """Sets a version back that another meta has just replaced, which is not in force here yet."""
    here, there = metas
    there.put("a", "1")
    here.put("a", "1")
    there.put("a", "2")
    assert here.put("a", "1").revision == 3
    assert there.store.load_records().record("a").release.version == here.records.record("a").release.version == "1"


def test_nothing_to_change_under_an_old_condition_is_a_conflict(metas):
    here, there = metas
    there.put("a", "1")
    here.put("a", "1", expected=1)
    there.put("a", "2")
    with pytest.raises(Conflict) as e:
        here.put("a", "1", expected=1)
    assert (e.value.expected, e.value.actual) == (1, 2)


def test_nothing_to_change_is_in_force_here_when_it_is_said(metas):
    here, there = metas
    there.put("a", "1")
    there.put("a", "2")
    done = here.put("a", "2")
    assert (done.revision, done.changes) == (2, ())
    assert here.records == there.records == done.records


def test_a_roll_back_that_is_repeated_at_a_third_meta_is_made(metas, url):
    here, there = metas
    third = Meta(url)
    here.put("a", "1")
    third.put("a", "1")
    here.put("a", "2")
    roll_back = partial(third.editor.rollback, to=1)
    assert third.editor.apply(history.Edit(1.0, "anna", "", "rollback"), roll_back).revision == 3
    third.store.close()
    assert there.store.load_records().record("a").release.version == "1"


def test_a_refusal_of_any_kind_is_only_said_of_what_the_database_holds(metas):
    class NotBanned(MetaError):
        pass

    def unban(records):
        if not records.bans:
            raise NotBanned
        return operations.unban(records, "a", "1")

    here, there = metas
    there.editor.apply(history.Edit(1.0, "anna", "", "ban"), lambda now: operations.ban(now, Ban("a", "1")))
    assert here.editor.apply(history.Edit(1.0, "anna", "", "unban"), unban).revision == 2
    with pytest.raises(NotBanned):
        there.editor.apply(history.Edit(1.0, "anna", "", "unban"), unban)


def test_an_edit_tells_of_its_own_revision_also_when_a_later_one_is_in_force_by_then(url):
    meta = Meta(url)

    def overtaken(records):
        meta.records = msgspec.structs.replace(records, revision=7, edited={"a": 7})

    meta.editor = Editor(meta.store, lambda: meta.records, overtaken)
    done = meta.put("a", "1")
    meta.store.close()
    assert (done.revision, done.records.edited) == (1, {"a": 1})


def test_no_edit_is_lost_however_many_are_made_at_once(metas):
    failed = []

    def work(meta, number):
        for step in range(5):
            try:
                meta.put(f"agent{number}", str(step))
            except TryLater as e:  # refused clearly; the editor would press the button again
                failed.append(e)

    threads = [threading.Thread(target=work, args=(metas[n % 2], n)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = metas[0].store
    last = store.load_records()
    assert last.revision == 30 - len(failed)
    replayed = RecordSet()
    for revision in store.revisions_since(0):
        replayed = replay(replayed, revision)
    assert replayed == last
    assert len(failed) < 15


def test_of_two_edits_of_one_record_one_is_told(metas):
    metas[0].put("a", "1")
    metas[1].records = metas[0].records
    ready, told = threading.Barrier(2), []

    def work(meta, version):
        ready.wait()
        try:
            meta.put("a", version, expected=1)
        except Conflict as e:
            told.append(e.lines)

    threads = [threading.Thread(target=work, args=(metas[n], f"2.{n}")) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 1
    assert metas[0].store.load_records().revision == 2


def test_an_edit_that_is_overtaken_every_time_is_put_off(metas):
    here, there = metas
    steps = iter(range(100))

    def change(before):
        there.put("b", str(next(steps)))
        return operations.put_record(before, Record("a", Release("1"), "http://x.example"))

    with pytest.raises(TryLater):
        here.editor.apply(history.Edit(1.0, "anna", "", "set"), change)
    assert next(steps) == TRIES
    assert here.store.load_records().record("a") is None


def test_a_preview_changes_nothing(metas):
    meta = metas[0]
    seen = meta.editor.preview(
        lambda before: operations.put_record(before, Record("a", Release("1"), "http://x.example"))
    )
    assert (seen.revision, len(seen.changes), seen.after.record("a").release.version) == (0, 1, "1")
    assert meta.records == meta.store.load_records() == RecordSet()


def test_a_reason_is_one_line(metas):
    for why in ("a\nb", "x" * 501, "\x1b[2J", "\0"):
        with pytest.raises(EditRefused):
            metas[0].put("a", "1", why=why)
    assert metas[0].records.revision == 0


def test_without_the_database_nothing_changes(metas, tmp_path):
    meta = metas[0]
    meta.put("a", "1")
    before = meta.records
    with closing(sqlite3.connect(tmp_path / "meta.db", isolation_level=None)) as other:
        other.execute("ALTER TABLE revision RENAME TO gone")
        other.execute("ALTER TABLE head RENAME TO gone_too")
    for version in ("1", "2"):  # also one that would change nothing
        with pytest.raises(TryLater):
            meta.put("a", version)
    assert meta.records is before


class Silent:
    """A store whose database does not answer to a commit until `heard` is set."""

    def __init__(self, store):
        self._store = store
        self.asked, self.heard = threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._store, name)

    def commit(self, *arguments):
        self.asked.set()
        self.heard.wait(30)
        raise TryLater("the database does not answer")


def test_edits_do_not_queue_behind_a_silent_database(metas):
    meta, silent = metas[0], Silent(metas[0].store)
    meta.editor = Editor(silent, lambda: meta.records, meta.put_in_force, turn=0.2)

    def second():
        assert silent.asked.wait(10)
        begin = time.monotonic()
        try:
            meta.put("b", "1")
        finally:
            silent.heard.set()
            assert time.monotonic() - begin < 5

    first, other = in_threads(partial(meta.put, "a", "1"), second)
    assert str(first) == "the database does not answer"
    assert str(other) == "another edit has been waiting for the database for more than 0.2 s; try again"
    assert isinstance(other, TryLater)


def test_an_edit_fails_at_once_while_the_database_is_known_not_to_answer(metas):
    def away():
        raise TryLater("away")

    meta, silent = metas[0], Silent(metas[0].store)
    meta.editor = Editor(silent, lambda: meta.records, meta.put_in_force, away)
    with pytest.raises(TryLater, match="away"):
        meta.put("a", "1")
    assert not silent.asked.is_set()


def test_a_roll_back_looks_only_at_what_is_in_force(metas):
    here, there = metas
    here.put("a", "1")
    here.put("a", "2")
    there.records = here.records
    here.put("a", "3")
    assert there.editor.rollback(there.records, 1).record("a").release.version == "1"
    for wanted in (-1, 3):
        with pytest.raises(NotThere):
            there.editor.rollback(there.records, wanted)


def test_all_records_may_be_required_to_be_as_they_were(metas):
    meta = metas[0]
    meta.put("a", "1")
    meta.editor.require_all(meta.records, 1)
    meta.put("a", "2", why="fix")
    with pytest.raises(Conflict) as e:
        meta.editor.require_all(meta.records, 1)
    assert e.value.lines == ["revision 2 by anna: fix", "  a: version 1 -> 2"]
    with pytest.raises(Conflict):
        meta.editor.require_all(msgspec.structs.replace(meta.records, revision=5000), 1)
