"""The database itself: URLs, migrations, errors. The same tests for every kind of it."""

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from helpers.databases import NEWEST, connected, execute
from helpers.threads import in_threads
from meta.access.tokens import Token
from meta.errors import MetaError, Misconfigured, TryLater
from meta.hosts.table import HostTable
from meta.store import Forgotten, Head, HostRow, Lost, Store
from meta.store.migrate import MIGRATIONS
from meta.store.tables import metadata
from meta.sync.rows import load

ROW = HostRow(0, "h1", 1.25, 2.5, "::1", "0.1.0", '[["a","1","“up”",null]]', "[1.5,7]", "", 0.0)


def test_a_new_database_is_empty(store):
    assert store.head()._replace(identity="") == Head(0, "", 0, 0, 0, "", 0)
    assert list(store.load_hosts()) == []


def test_the_tables_are_as_the_code_knows_them(store, url):
    with connected(url) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_upgrading_again_changes_nothing(store):
    ids = store.save("m", 3.0, [ROW], [])
    assert store.upgrade() == NEWEST
    assert list(store.load_hosts()) == [ROW._replace(id=ids["h1"])]


def test_metas_that_upgrade_at_once_wait_for_each_other(url):
    stores = [Store(url) for _ in range(4)]
    assert in_threads(*(store.upgrade for store in stores)) == [NEWEST] * 4
    for store in stores:
        assert store.head()._replace(identity="") == Head(0, "", 0, 0, 0, "", 0)
        store.close()


def test_the_database_of_a_newer_meta_is_refused(store, url):
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(TryLater, match=rf"newer meta \(revision 9999, this one knows up to {NEWEST}\)"):
        store.upgrade()


def test_a_database_without_tables_is_told(url):
    with closing(Store(url)) as store, pytest.raises(TryLater, match="head"):
        store.head()


# --- the database of an older meta ---


def at_0001(url, *rows):
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with connected(url) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        keys = ["hostname", "first_seen", "last_seen", "address", "updater_version", "agents", "outcomes"]
        insert = sa.text(f"INSERT INTO host ({', '.join(keys)}) VALUES ({', '.join(f':{key}' for key in keys)})")
        connection.execute(insert, [dict(zip(keys, row, strict=True)) for row in rows])


OLD_AGENTS = {
    "a": {"name": "a", "version": "1", "status": "exec `./control status` fail: “no”", "timestamp": 2**62},
    "b": {"name": "b", "version": "2", "status": "started", "timestamp": -5, "held": "by ann"},
}
OLD_OUTCOMES = {"a": {"agent": "a", "from": "1", "to": "2", "step": "start", "result": "failed", "at": -1}}
OLD = [
    ("second", 2.0, 9.0, "", "", json.dumps({"b": OLD_AGENTS["b"]}), "{}"),
    ("first", 1.0, 8.5, "::1", "0.1.0", json.dumps(OLD_AGENTS), json.dumps(OLD_OUTCOMES)),
    ("bare", 3.0, 3.0, "", "", "{}", "{}"),
    ("broken", 4.0, 4.0, "", "", "[1]", "{}"),
]


def test_the_hosts_of_an_older_database_are_kept(url, caplog):
    at_0001(url, *OLD)
    with closing(Store(url)) as store:
        assert store.upgrade() == NEWEST
        first, second, bare, broken = store.load_hosts()
        assert json.loads(first.agents) == [
            ["a", "1", "exec `./control status` fail: “no”", None],
            ["b", "2", "started", "by ann"],
        ]
        assert json.loads(first.since) == [8.5, [2**62, -5]]
        assert first[1:6] == OLD[1][:5]
        assert json.loads(first.outcomes) == OLD_OUTCOMES
        assert json.loads(second.since) == [9.0, -5]
        assert (bare.agents, json.loads(bare.since)) == ("[]", [3.0, 0])
        assert (broken.agents, broken.retired_at) == ("[]", 0)
        assert [row.id for row in (first, second, bare, broken)] == [1, 2, 3, 4]
        assert [
            r.args[0] for r in caplog.records if r.levelno >= logging.WARNING and r.name != "meta.store.sqlite.files"
        ] == ["broken"]
        assert store.save("m", 5.0, [ROW], []) == {"h1": 5}


def test_hosts_of_an_older_database_are_what_memory_can_read(url, caplog):
    at_0001(url, *OLD)
    with closing(Store(url)) as store:
        store.upgrade()
        table = HostTable()
        load(table, store.load_hosts(), 10.0)
    assert table.names() == ["bare", "broken", "first", "second"]
    assert len(table.ids()) == 4
    first = table.get("first")
    assert [(reported[0], since, looked) for reported, since, looked in first.agents()] == [
        ("a", 8.5, 2**62),
        ("b", 8.5, -5),
    ]


# --- the log of transactions ---


OTHER = "UPDATE commit_log SET identity = 'another' WHERE position = (SELECT position FROM head)"
TAKEN = "DELETE FROM commit_log WHERE position = (SELECT position FROM head)"
BACK = "UPDATE head SET position = position - 1"


@pytest.mark.parametrize("loss", [[OTHER], [TAKEN, BACK]], ids=["given again", "not there"])
@pytest.mark.parametrize("way", ["read", "written"])
def test_what_was_read_or_written_last_must_be_there_for_whatever_comes_next(store, url, way, loss):
    """Until memory says that it begins again."""
    store.save("m", 1.0, [ROW], [])
    if way == "read":
        with closing(Store(url)) as other:
            other.save("m", 2.0, [], [1])
        assert (store.head().position, store.head().hosts, store.head().revision) == (2, 2, 0)
    execute(url, *loss)
    before = execute(url, "SELECT * FROM head")
    works = (
        store.head,
        store.load_records,
        store.tokens_at,
        lambda: list(store.host_tokens()),
        lambda: list(store.load_hosts()),
        lambda: store.hosts_since(0, "n"),
        lambda: store.save("m", 3.0, [], [1]),
        lambda: store.add_token(Token(0, "operator", "ann", "admin", b"a")),
    )
    for work in works:
        with pytest.raises(Lost):
            work()
    assert execute(url, "SELECT * FROM head") == before
    store.start_again()
    position = store.head().position
    for write in works[-2:]:  # until memory knows what it is to learn of
        with pytest.raises(Lost):
            write()
    store.resume()
    store.save("m", 3.0, [], [1])
    assert store.head().position == position + 1


def test_a_database_that_has_forgotten_what_was_read_says_so(store, url):
    store.save("m", 1.0, [ROW], [])
    with closing(Store(url)) as other:
        other.save("m", 2.0, [], [1])
    execute(url, "DELETE FROM commit_log WHERE position < 2")
    with pytest.raises(Forgotten):
        store.head()


def test_writes_at_once_leave_few_places_to_rest_on(store):
    in_threads(*[lambda: [store.save("m", 1.0, [ROW], []) for _ in range(10)]] * 3)
    assert len(store._database.basis.places) <= 3
    store.head()
    assert len(store._database.basis.places) == 1


def test_the_log_is_bounded(store, url):
    execute(
        url, "INSERT INTO commit_log VALUES (1000, 'a'), (1001, 'b'), (20999, 'c')", "UPDATE head SET position = 20999"
    )
    store.save("m", 1.0, [ROW], [])
    positions = [position for (position,) in execute(url, "SELECT position FROM commit_log ORDER BY position")]
    assert positions == [1001, 20999, 21000]


# --- URLs ---


def test_a_password_is_not_shown():
    with closing(Store("postgresql://u:secret@127.0.0.1:9/meta")) as store:
        assert "secret" not in store.shown
        with pytest.raises(TryLater, match="refused") as told:
            store.head()
        assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("", "no URL like"),
        ("meta.db", "no URL like"),
        ("mysql://h/meta", "mysql is not known here"),
        ("postgresql+psycopg2://h/meta", "psycopg2"),
        ("postgresql://h:port/meta", "no URL like"),
        ("sqlite://", "must be a file"),
        ("sqlite:///:memory:", "must be a file"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(bad, why):
    with pytest.raises(Misconfigured, match=why):
        Store(bad)


# --- a file's own troubles ---


def refusal(path: Path) -> str:
    with closing(Store(f"sqlite:///{path}")) as store, pytest.raises(MetaError) as refused:
        store.upgrade()
    return str(refused.value)


def test_the_directory_of_a_file_is_made(tmp_path):
    with closing(Store(f"sqlite:///{tmp_path}/made/on the way/meta.db")) as store:
        assert store.upgrade() == NEWEST


def test_a_file_that_is_no_database_is_told(tmp_path):
    file = tmp_path / "meta.db"
    file.write_bytes(b"something else, long enough to be looked at" * 100)
    assert refusal(file) == f"the database sqlite:///{file} cannot be prepared: file is not a database"


def test_a_damaged_database_is_told(tmp_path):
    file = tmp_path / "meta.db"
    with closing(Store(f"sqlite:///{file}")) as store:
        store.upgrade()
        store.save("m", 1.0, [ROW._replace(hostname=f"h{i}") for i in range(200)], [])
    content = bytearray(file.read_bytes())
    content[200:] = b"\xff" * len(content[200:])
    file.write_bytes(content)
    assert "malformed" in refusal(file)


def test_a_place_that_cannot_hold_a_database_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot create the database's directory" in refusal(tmp_path / "file" / "meta.db")
    assert refusal(tmp_path).endswith("cannot be prepared: unable to open database file")


def test_a_database_that_cannot_be_written_is_told_before_the_first_heartbeat(tmp_path):
    file = tmp_path / "meta.db"
    with closing(Store(f"sqlite:///{file}")) as store:
        store.upgrade()
    with closing(Store(f"sqlite:///file:{file}?mode=ro&uri=true")) as store, pytest.raises(TryLater, match="readonly"):
        store.upgrade()


@pytest.mark.parametrize("table", ["host", "beat"])
def test_half_a_migration_is_none(tmp_path, table):
    file = tmp_path / "meta.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"CREATE TABLE {table} (something TEXT)")
    assert f"table {table} already exists" in refusal(file)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [(table,)]


@pytest.mark.long
def test_a_locked_file_is_told(tmp_path):
    file = tmp_path / "meta.db"
    with closing(Store(f"sqlite:///{file}")) as store, closing(sqlite3.connect(file, isolation_level=None)) as other:
        store.upgrade()
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TryLater, match="locked"):
            store.save("m", 1.0, [ROW], [])
        assert list(store.load_hosts()) == []  # readers do not wait
        other.execute("ROLLBACK")
        store.save("m", 1.0, [ROW], [])


def test_a_full_disk_is_told_and_leaves_what_was_written(tmp_path):
    file = tmp_path / "meta.db"
    rows = [ROW._replace(hostname=f"h{i}", agents="x" * 1000) for i in range(200)]
    with closing(Store(f"sqlite:///{file}")) as store:
        store.upgrade()
        store.save("m", 1.0, [ROW], [])
        with store._database.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 3}")
        with pytest.raises(TryLater, match="full"):
            store.save("m", 1.0, rows, [])
        assert [row.hostname for row in store.load_hosts()] == ["h1"]
        with store._database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1000000")
        assert len(store.save("m", 1.0, rows, [])) == 200


def test_the_file_is_kept_in_write_ahead_mode(tmp_path):
    with closing(Store(f"sqlite:///{tmp_path}/meta.db")) as store:
        store.upgrade()
    with closing(sqlite3.connect(tmp_path / "meta.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


def test_what_must_be_durable_is_synced_when_it_is_committed(tmp_path):
    with closing(Store(f"sqlite:///{tmp_path}/meta.db")) as store:
        store.upgrade()
        for durable, synchronous in ((True, 2), (False, 1), (True, 2)):
            with store._database.writing("tokens", durable=durable) as (connection, _):
                assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == synchronous
