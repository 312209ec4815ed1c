"""Writing behind the heartbeats' back."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from helpers.meta_server import PATIENCE, until
from meta.errors import TryLater
from meta.flusher import Flusher
from meta.hosts import Host, HostTable
from meta.store import Store
from updater.wire import Report


class Shelf:
    """A place to save hosts that may be out of order."""

    def __init__(self) -> None:
        self.saved: dict[str, Host] = {}
        self.tries = 0
        self.works = threading.Event()
        self.works.set()

    def save(self, hosts: Sequence[Host]) -> None:
        self.tries += 1
        if not self.works.is_set():
            raise TryLater("the disk is away")
        self.saved.update((host.hostname, host) for host in hosts)


@contextmanager
def flushing(table: HostTable, shelf: Shelf) -> Iterator[Flusher]:
    flusher = Flusher(table, shelf.save, gather=0.02)
    flusher.start()
    try:
        yield flusher
    finally:
        shelf.works.set()
        flusher.close(PATIENCE)


def test_a_change_is_written_without_being_asked_for():
    table, shelf = HostTable(), Shelf()
    with flushing(table, shelf):
        host = table.remember(Report("h"), "", 1)
        until(lambda: shelf.saved == {"h": host}, "the host is saved")


def test_many_changes_are_written_together():
    table, shelf = HostTable(), Shelf()
    with flushing(table, shelf) as flusher:
        for i in range(1000):
            table.remember(Report(f"h{i % 10}"), "", i)
        assert flusher.close(PATIENCE)
    assert shelf.saved == {host.hostname: host for host in table.all()}
    assert shelf.tries <= 2


def test_closing_writes_what_is_left_at_once(tmp_path):
    table = HostTable()
    with closing(Store(f"sqlite:///{tmp_path}/meta.db")) as store:
        store.upgrade()
        flusher = Flusher(table, store.save_hosts)
        flusher.start()
        host = table.remember(Report("h"), "", 1)
        assert flusher.close(PATIENCE)
        assert store.load_hosts() == [host]


def test_closing_without_changes_ends_too():
    shelf = Shelf()
    with flushing(HostTable(), shelf) as flusher:
        assert flusher.close(PATIENCE)
    assert shelf.tries == 0


def test_a_failing_database_is_told_once_and_costs_nothing_but_time(caplog):
    table, shelf = HostTable(), Shelf()
    shelf.works.clear()
    with flushing(table, shelf):
        table.remember(Report("h1"), "", 1)
        until(lambda: shelf.tries >= 2, "it is tried again")
        table.remember(Report("h2"), "", 2)
        shelf.works.set()
        until(lambda: set(shelf.saved) == {"h1", "h2"}, "both are saved")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "cannot write hosts, will go on trying: the disk is away"),
        ("WARNING", "the database works again; 2 hosts written"),
    ]


def test_closing_tells_that_something_could_not_be_written():
    table, shelf = HostTable(), Shelf()
    shelf.works.clear()
    with flushing(table, shelf) as flusher:
        table.remember(Report("h"), "", 1)
        assert not flusher.close(PATIENCE)
