"""What only a PostgreSQL can do to us: end our connections, be silent, hold locks, go away."""

import logging
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from helpers.databases import connected, database, execute
from helpers.freezing import Line
from helpers.threads import in_threads
from meta.errors import TryLater
from meta.records import Record, RecordSet
from meta.revisions import Edit
from meta.store import HostRow, Store

ROW = HostRow(0, "h1", 1.25, 2.5, "::1", "0.1.0", "[]", "[0,0]", "", 0.0)
OURS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'meta'"
TERMINATE = f"SELECT pg_terminate_backend(pid) FROM ({OURS}) AS ours"


@pytest.fixture
def url(tmp_path):
    with database("postgresql", tmp_path) as url:
        yield url


@pytest.fixture
def store(url):
    with closing(Store(url)) as store:
        store.upgrade()
        yield store


def test_connections_that_were_ended_while_nobody_used_them_are_replaced_unseen(store, url):
    store.head()
    assert len(execute(url, TERMINATE)) == 1
    assert store.head().hosts == 0
    assert store.save("m", 1.0, [ROW], []) == {"h1": 1}


def test_a_connection_that_is_ended_in_a_transaction_costs_this_transaction(store, url):
    with pytest.raises(TryLater), store._database.writing("hosts") as (connection, _):
        assert len(execute(url, TERMINATE)) == 1
        connection.execute(sa.text("SELECT 1"))
    assert store.head().hosts == 0
    assert store.save("m", 1.0, [ROW], []) == {"h1": 1}


def test_reading_everything_is_told_when_it_ends_early(store, url):
    store.save("m", 1.0, [ROW._replace(hostname=f"h{i}") for i in range(12_000)], [])
    hosts = store.load_hosts()
    next(hosts)
    execute(url, TERMINATE)
    with pytest.raises(TryLater):
        list(hosts)
    assert len(list(store.load_hosts())) == 12_000


def test_a_lock_that_somebody_keeps_is_waited_for_a_while(store, url):
    with connected(url) as other:
        other.exec_driver_sql("UPDATE head SET hosts = hosts")
        begin = time.monotonic()
        with pytest.raises(TryLater, match="lock timeout"):
            store.save("m", 1.0, [ROW], [])
        assert 4 < time.monotonic() - begin < 10
        assert store.head().hosts == 0  # readers do not wait
    store.save("m", 1.0, [ROW], [])


def test_a_meta_that_stops_in_a_transaction_does_not_keep_the_others(store, url):
    with (
        closing(Store(f"{url}?options=-cidle_in_transaction_session_timeout%3D200ms")) as slow,
        pytest.raises(TryLater),
        slow._database.writing("hosts") as (connection, _),
    ):
        store.save("m", 1.0, [ROW], [])  # waits for the other's lock until that one is ended
        connection.execute(sa.text("SELECT 1"))
    assert [row.hostname for row in store.load_hosts()] == ["h1"]


def test_a_server_that_is_silent_is_given_up_and_works_again(store, url, caplog):
    parsed = sa.make_url(url)
    with Line(parsed.host, parsed.port or 5432).running() as line:
        there = parsed.set(host="127.0.0.1", port=line.port).update_query_dict({"connect_timeout": "2"})
        with closing(Store(there.render_as_string(hide_password=False), patience=0.5)) as far:
            far.save("m", 1.0, [ROW], [])
            line.frozen.set()
            begin = time.monotonic()
            for _ in range(2):  # the connection that there is, and then a new one
                with pytest.raises(TryLater):
                    far.save("m", 2.0, [], [1])
            assert time.monotonic() - begin < 12
            line.frozen.clear()
            far.save("m", 3.0, [], [1])
    assert [row.last_seen for row in store.load_hosts()] == [3.0]
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        "the database has not answered for 0.5 s: the connection is closed"
    ]


def test_a_server_that_falls_silent_in_a_transaction_is_given_up(store, url):
    parsed = sa.make_url(url)
    with Line(parsed.host, parsed.port or 5432).running() as line:
        there = parsed.set(host="127.0.0.1", port=line.port)
        with closing(Store(there.render_as_string(hide_password=False), patience=0.5)) as far:
            with pytest.raises(TryLater), far._database.writing("hosts") as (connection, _):
                line.frozen.set()
                connection.execute(sa.text("SELECT 1"))
            line.frozen.clear()
            assert far.head().hosts == 0


def test_no_watch_stays_behind(store, url):
    """Neither one for a connection that was given back, nor for one that was thrown away."""
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        store.head()
        with pytest.raises(TryLater), store._database.writing("hosts") as (connection, _):
            execute(url, TERMINATE)
            connection.execute(sa.text("SELECT 1"))
    deadline = time.monotonic() + 5
    while any(isinstance(thread, threading.Timer) for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors


@pytest.mark.timed
def test_a_server_that_is_not_there_is_told_at_once():
    with closing(Store("postgresql://u@127.0.0.1:9/meta")) as store:
        begin = time.monotonic()
        with pytest.raises(TryLater, match="refused"):
            store.upgrade()
        assert time.monotonic() - begin < 2


def test_a_database_that_is_not_there_is_told(url):
    with closing(Store(f"{url}_not")) as store, pytest.raises(TryLater, match="does not exist"):
        store.upgrade()


def test_metas_that_write_different_things_at_once_do_not_stand_in_each_others_way(store, url):
    def edit():
        now = RecordSet()
        with closing(Store(url)) as mine:
            for version in range(20):
                after = RecordSet(now.revision, (Record("a", str(version), "http://r"),))
                now = RecordSet(mine.commit(now, after, Edit(1.0, "ann", "", "set")).number, after.records)

    def beat(meta):
        with closing(Store(url)) as mine:
            for at in range(20):
                mine.save(meta, float(at), [ROW._replace(hostname=f"{meta}{at}")], [1])

    assert in_threads(edit, lambda: beat("m"), lambda: beat("n")) == [None] * 3
    assert (store.head().revision, store.head().hosts) == (20, 40)
