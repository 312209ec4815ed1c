"""The database: the same tests for every kind of it; another is one more parameter of `url`."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from meta.errors import MetaError, Misconfigured, TryLater
from meta.hosts import Host
from meta.store import Store
from updater.wire import Outcome, RealAgent

FULL = Host(
    "h1",
    1.25,
    2.5,
    "::1",
    "0.1.0",
    {"a": RealAgent("a", "1.0.0", "exec `./control status` fail: “no”", 2**62)},
    {"a": Outcome("a", from_="1", to="2", step="start", result="failed", evidence="x\ny", at=-1)},
)


@pytest.fixture(params=["sqlite"])
def url(request, tmp_path):
    return f"{request.param}:///{tmp_path}/made/on the way/meta.db"


@pytest.fixture
def store(url):
    with closing(Store(url)) as store:
        store.upgrade()
        yield store


def execute(url: str, *statements: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_a_new_database_is_empty(store):
    assert store.load_hosts() == []


def test_hosts_come_back_as_they_were_saved(store, url):
    bare = Host("h2", 1.0, 1.0)
    store.save_hosts([FULL, bare])
    with closing(Store(url)) as other:
        assert other.load_hosts() == [bare, FULL]


def test_a_known_host_is_replaced_but_for_its_first_sight(store):
    store.save_hosts([FULL])
    store.save_hosts([Host("h1", 99.0, 100.0, "10.0.0.1")])
    assert store.load_hosts() == [Host("h1", 1.25, 100.0, "10.0.0.1")]


def test_saving_nothing_is_no_error(store):
    store.save_hosts([])
    assert store.load_hosts() == []


def test_many_hosts_are_saved_at_once(store):
    hosts = [Host(f"h{i:04}", 1.0, 2.0) for i in range(2500)]
    store.save_hosts(hosts)
    assert store.load_hosts() == hosts


def test_a_transaction_that_fails_in_the_middle_leaves_nothing(store):
    unfit = Host(None, 1.0, 1.0)  # type: ignore[arg-type]  # as only a defect of ours could make it
    with pytest.raises(TryLater):
        store.save_hosts([FULL, unfit])
    assert store.load_hosts() == []


def test_upgrading_again_changes_nothing(store):
    store.save_hosts([FULL])
    assert store.upgrade() == "0001"
    assert store.load_hosts() == [FULL]


def test_a_row_that_cannot_be_read_is_left_out_and_told(store, url, caplog):
    store.save_hosts([FULL, Host("h2", 2.0, 2.0), Host("h3", 3.0, 3.0)])
    execute(
        url,
        "UPDATE host SET agents = '[1]' WHERE hostname = 'h1'",
        "UPDATE host SET outcomes = '{' WHERE hostname = 'h2'",
    )
    assert [host.hostname for host in store.load_hosts()] == ["h3"]
    assert [record.args[0] for record in caplog.records] == ["h1", "h2"]


def test_the_database_of_a_newer_meta_is_refused(store, url):
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(TryLater, match=r"newer meta \(revision 9999, this one knows up to 0001\)"):
        store.upgrade()


def test_a_password_is_not_shown():
    with pytest.raises(Misconfigured, match="psycopg"), closing(Store("postgresql://u:secret@h/meta")) as store:
        assert "secret" not in store.shown
        raise Misconfigured("psycopg is installed here")


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("", "no URL like"),
        ("meta.db", "no URL like"),
        ("mysql://h/meta", "mysql is not known here"),
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


def test_a_file_that_is_no_database_is_told(tmp_path):
    file = tmp_path / "meta.db"
    file.write_bytes(b"something else, long enough to be looked at" * 100)
    assert refusal(file) == f"the database sqlite:///{file} cannot be prepared: file is not a database"


def test_a_damaged_database_is_told(tmp_path):
    file = tmp_path / "meta.db"
    with closing(Store(f"sqlite:///{file}")) as store:
        store.upgrade()
        store.save_hosts([Host(f"h{i}", 1.0, 1.0) for i in range(200)])
    content = bytearray(file.read_bytes())
    content[200:] = b"\xff" * len(content[200:])
    file.write_bytes(content)
    assert "malformed" in refusal(file)


def test_a_place_that_cannot_hold_a_database_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file" / "meta.db").endswith("cannot be made: File exists")
    assert refusal(tmp_path).endswith("cannot be prepared: unable to open database file")


def test_a_database_that_cannot_be_written_is_told_before_the_first_heartbeat(tmp_path):
    file = tmp_path / "meta.db"
    with closing(Store(f"sqlite:///{file}")) as store:
        store.upgrade()
    with closing(Store(f"sqlite:///file:{file}?mode=ro&uri=true")) as store, pytest.raises(TryLater, match="readonly"):
        store.upgrade()


def test_half_a_migration_is_none(tmp_path):
    file = tmp_path / "meta.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE host (something TEXT)")
    assert "table host already exists" in refusal(file)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("host",)]


def test_the_file_is_kept_in_write_ahead_mode(tmp_path):
    with closing(Store(f"sqlite:///{tmp_path}/meta.db")) as store:
        store.upgrade()
    with closing(sqlite3.connect(tmp_path / "meta.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
