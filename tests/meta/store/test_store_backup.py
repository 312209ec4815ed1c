"""Backups of a live database, and what PostgreSQL's own troubles do."""

import multiprocessing
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from helpers.databases import database
from meta.errors import Misconfigured, TryLater
from meta.records.history import Edit
from meta.records.model import Record, RecordSet, Release
from meta.store import HostRow, Store

ROW = HostRow(0, "h1", 1.25, 2.5, "::1", "0.1.0", "[]", "[0,0]", "", 0.0)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "meta.db"


@pytest.fixture
def store(file):
    with closing(Store(f"sqlite:///{file}")) as store:
        store.upgrade()
        store.save("m", 1.0, [ROW], [])
        store.commit(
            RecordSet(), RecordSet(records=(Record("a", Release("1"), "http://r"),)), Edit(1.0, "ann", "", "set")
        )
        yield store


def test_a_backup_is_a_database_of_its_own_for_its_owner_alone(store, tmp_path):
    copy = tmp_path / "copy"
    umask = os.umask(0)
    try:
        store.backup(copy)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("copy")) == ["copy"]
    with closing(sqlite3.connect(f"file:{copy}?mode=ro&immutable=1", uri=True)) as connection:
        assert connection.execute("SELECT hostname FROM host").fetchall() == [("h1",)]
    with closing(Store(f"sqlite:///{copy}")) as other:
        other.upgrade()
        assert list(other.load_hosts()) == list(store.load_hosts())
        assert other.load_records() == store.load_records()
        assert other.head() == store.head()


def test_what_exists_is_not_overwritten(store, tmp_path):
    (tmp_path / "copy").write_text("mine")
    with pytest.raises(Misconfigured, match="exists already"):
        store.backup(tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_told(store, tmp_path):
    with pytest.raises(TryLater, match="cannot be written: No such file or directory"):
        store.backup(tmp_path / "nowhere" / "copy")


@pytest.mark.parametrize("place", ["", ".", "..", "/"])
def test_a_directory_is_no_place_for_a_backup(store, place):
    with pytest.raises(Misconfigured, match="exists already and is not overwritten"):
        store.backup(Path(place))


def test_what_an_earlier_backup_left_is_no_hindrance(store, tmp_path):
    (tmp_path / "copy.partial").write_text("half")
    store.backup(tmp_path / "copy")
    assert not (tmp_path / "copy.partial").exists()


def test_a_damaged_database_is_told_and_leaves_no_backup(store, file, tmp_path):
    store.save("m", 2.0, [ROW._replace(hostname=f"h{i}", agents="x" * 500) for i in range(500)], [])
    store.close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(file.read_bytes())
    content[-8192:-4096] = b"\xff" * 4096
    file.write_bytes(content)
    with pytest.raises(TryLater, match=r"cannot be copied to .*copy: the copy is damaged"):
        store.backup(tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("copy")] == []


def write(file, begun, enough):
    """Give all hosts the same time, again and again: a copy of one moment has only one."""
    with closing(Store(f"sqlite:///{file}")) as store:
        hosts = list(store.load_hosts())
        at = 1000.0
        while not enough.is_set():
            at += 1
            store.save("m", at, [host._replace(last_seen=at) for host in hosts], [])
            begun.set()


@pytest.mark.long
def test_a_backup_while_others_write_is_one_moment(store, file, tmp_path):
    store.save("m", 1.0, [ROW._replace(hostname=f"h{i}", agents="x" * 500) for i in range(3000)], [])
    context = multiprocessing.get_context("spawn")
    begun, enough = context.Event(), context.Event()
    writer = context.Process(target=write, args=(file, begun, enough))
    writer.start()
    try:
        assert begun.wait(60)
        times = []
        for number in range(5):
            store.backup(tmp_path / f"copy{number}")
            with closing(Store(f"sqlite:///{tmp_path}/copy{number}")) as copy:
                [at] = {host.last_seen for host in copy.load_hosts()}
                times.append(at)
    finally:
        enough.set()
        writer.join(60)
    assert writer.exitcode == 0
    assert times == sorted(times)
    assert times[0] > 1000


def test_postgresql_has_its_own_means(tmp_path):
    with database("postgresql", tmp_path) as url, closing(Store(url)) as store:
        with pytest.raises(Misconfigured, match="pg_dump"):
            store.backup(tmp_path / "copy")
        assert list(tmp_path.iterdir()) == []
