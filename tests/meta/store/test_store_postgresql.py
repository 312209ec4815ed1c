"""What only a PostgreSQL can do to us: end our connections, be silent, hold locks, go away."""

import logging
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from helpers.databases import connected, database, execute
from helpers.threads import in_threads
from lab.line import CUT, CUT_BEFORE, HOLD, Line
from meta.access.tokens import Token
from meta.errors import TryLater, Unknown
from meta.records.history import Edit, committed
from meta.records.model import Record, RecordSet, Release
from meta.store import HostRow, Store, Taken

ROW = HostRow(0, "h1", 1.25, 2.5, "::1", "0.1.0", "[]", "[0,0]", "", 0.0)
OURS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'meta'"
TERMINATE = f"SELECT pg_terminate_backend(pid) FROM ({OURS}) AS ours"


@pytest.fixture
def url(tmp_path):
    with database("postgresql", tmp_path) as url:
        yield url


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


@pytest.mark.long
def test_reading_everything_is_told_when_it_ends_early(store, url):
    store.save("m", 1.0, [ROW._replace(hostname=f"h{i}") for i in range(12_000)], [])
    hosts = store.load_hosts()
    next(hosts)
    execute(url, TERMINATE)
    with pytest.raises(TryLater):
        list(hosts)
    assert len(list(store.load_hosts())) == 12_000


@pytest.mark.long
@pytest.mark.parametrize("what", ["hosts", "tokens of hosts"])
def test_a_server_that_falls_silent_while_everything_is_read_is_given_up_as_soon_as_ever(store, url, what):
    """However long all of it may take, each batch may take no longer than anything else."""
    if what == "hosts":
        store.save("m", 1.0, [ROW._replace(hostname=f"h{i}") for i in range(12_000)], [])
    else:
        execute(url, "INSERT INTO host_token SELECT 'h' || i, '\\x00', 1.0, i FROM generate_series(1, 12000) AS i")
    with far_away(url, patience=0.5) as (far, line):
        found = far.load_hosts() if what == "hosts" else far.host_tokens()
        begin = time.monotonic()
        next(found)
        line.frozen.set()
        with pytest.raises(TryLater):
            list(found)
        assert time.monotonic() - begin < 5
        line.heal()


@pytest.mark.long
def test_a_lock_that_somebody_keeps_is_waited_for_a_while(store, url):
    """By edits; what is written of hosts can be written later as well, and following waits for it."""
    with connected(url) as other:
        other.exec_driver_sql("UPDATE head SET hosts = hosts")
        for longest, write in (
            (3, lambda: store.save("m", 1.0, [ROW], [])),
            (10, lambda: store.commit(RecordSet(), RECORDS, EDIT)),
        ):
            begin = time.monotonic()
            with pytest.raises(TryLater, match="lock timeout"):
                write()
            assert longest / 3 - 0.2 < time.monotonic() - begin < longest
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


@pytest.mark.long
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


# --- a COMMIT whose answer is lost ---

EDIT = Edit(1.0, "ann", "", "set")
RECORDS = RecordSet(records=(Record("a", Release("1"), "http://r"),))
ENROLMENT = Token(0, "enrolment", "rack", hash=b"e", uses=5)


@contextmanager
def far_away(url, patience=1.0):
    """A store behind a line: (store, line)."""
    parsed = sa.make_url(url)
    with Line(parsed.host, parsed.port or 5432).running() as line:
        there = parsed.set(host="127.0.0.1", port=line.port).update_query_dict({"connect_timeout": "2"})
        with closing(Store(there.render_as_string(hide_password=False), patience=patience)) as far:
            far.head()
            yield far, line


@pytest.mark.parametrize("fault", [CUT, HOLD])
def test_an_edit_whose_commit_got_no_answer_is_found_to_be_made(store, url, fault, caplog):
    with far_away(url) as (far, line):
        line.at_commit = fault
        made = far.commit(RecordSet(), RECORDS, EDIT)
    assert (made, store.load_records()) == (store.revision(1), committed(RECORDS, made))
    assert "the answer to a COMMIT was lost, but it was done" in caplog.text


@pytest.mark.parametrize("fault", [CUT, HOLD])
def test_an_enrolment_whose_commit_got_no_answer_is_found_to_be_made(store, url, fault):
    token = store.add_token(ENROLMENT).token
    with far_away(url) as (far, line):
        line.at_commit = fault
        written = far.use_enrolment(token.id, "h", b"1", 1.0)
    assert (written.token.uses, written.serial) == (4, 2)
    assert [(host, hashed) for host, hashed, _ in store.host_tokens()] == [("h", b"1")]


def test_an_edit_whose_commit_did_not_arrive_is_told_as_not_made(store, url):
    with far_away(url) as (far, line):
        line.at_commit = CUT_BEFORE
        with pytest.raises(TryLater, match="cannot be written"):
            far.commit(RecordSet(), RECORDS, EDIT)
        line.heal()
        assert store.load_records() == RecordSet()
        assert far.commit(RecordSet(), RECORDS, EDIT).number == 1


@pytest.mark.parametrize(("fault", "revision"), [(CUT, 1), (CUT_BEFORE, 0)])
def test_where_nobody_can_say_whether_an_edit_was_made_the_answer_is_that_and_where_to_look(
    store, url, fault, revision
):
    with far_away(url) as (far, line):
        line.at_commit, line.refusing = fault, True
        with pytest.raises(Unknown, match="whether revision 1 was made is unknown; check `meta history`"):
            far.commit(RecordSet(), RECORDS, EDIT)
    assert store.head().revision == revision


def test_an_enrolment_that_nobody_could_say_of_is_repeated_with_the_same_token(store, url):
    token = store.add_token(ENROLMENT).token
    with far_away(url) as (far, line):
        line.at_commit, line.refusing = CUT, True
        with pytest.raises(Unknown):
            far.use_enrolment(token.id, "h", b"1", 1.0)
        line.heal()
        again = far.use_enrolment(token.id, "h", b"1", 2.0)
    assert again.token.uses == 4
    with pytest.raises(Taken):  # another one is still refused
        store.use_enrolment(token.id, "h", b"2", 3.0)


# --- locks ---


@pytest.mark.parametrize("mode", ["ACCESS EXCLUSIVE", "SHARE"])
def test_who_waits_for_the_hosts_table_keeps_no_edit_waiting(store, url, mode):
    """ALTER TABLE, VACUUM FULL; CREATE INDEX."""
    with connected(url) as other:
        other.exec_driver_sql(f"LOCK TABLE host IN {mode} MODE")
        done, waits = threading.Event(), []

        def write():
            while not done.is_set():
                begin = time.monotonic()
                with pytest.raises(TryLater, match="lock timeout"):
                    store.save("m", 1.0, [ROW], [])
                waits.append(time.monotonic() - begin)

        def edit():
            now, longest = RecordSet(), 0.0
            with closing(Store(url)) as mine:
                for version in range(30):
                    begin = time.monotonic()
                    after = replace(now, records=(Record("a", Release(str(version)), "http://r"),))
                    now = committed(after, mine.commit(now, after, EDIT))
                    longest = max(longest, time.monotonic() - begin)
            done.set()
            return longest

        _, longest = in_threads(write, edit)
    assert longest < 2, longest
    assert min(waits) < 1.5, waits
    assert store.save("m", 1.0, [ROW], []) == {"h1": 1}


def test_a_row_that_somebody_keeps_locked_is_not_waited_for_while_all_others_wait(store, url):
    store.save("m", 1.0, [ROW], [])
    with connected(url) as other:
        other.exec_driver_sql("SELECT * FROM host FOR UPDATE")
        begin = time.monotonic()
        with pytest.raises(TryLater, match="lock timeout"):
            store.save("m", 2.0, [ROW._replace(id=1, last_seen=9.0)], [])
        assert time.monotonic() - begin < 2


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
                after = replace(now, records=(Record("a", Release(str(version)), "http://r"),))
                now = committed(after, mine.commit(now, after, Edit(1.0, "ann", "", "set")))

    def beat(meta):
        with closing(Store(url)) as mine:
            for at in range(20):
                mine.save(meta, float(at), [ROW._replace(hostname=f"{meta}{at}")], [1])

    assert in_threads(edit, lambda: beat("m"), lambda: beat("n")) == [None] * 3
    assert (store.head().revision, store.head().hosts) == (20, 40)
