"""Databases for tests: an SQLite file, or a database of its own on a PostgreSQL server that is dropped after the test.

The server is that of the environment's TEST_POSTGRESQL_URL, or the one on this machine. Where it does not answer, a test is
skipped and says so; in CI it fails.
"""

import atexit
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from meta.store.migrate import MIGRATIONS

SERVER = "postgresql://postgres@127.0.0.1:5432/postgres"
KINDS = ("sqlite", "postgresql")
NEWEST = max(path.name[:4] for path in (MIGRATIONS / "versions").glob("0*.py"))  # the revision that a meta of now makes


@contextmanager
def database(kind: str, directory: Path) -> Iterator[str]:
    """The URL of an empty database of this kind, as `meta serve --database` takes it."""
    if kind == "sqlite":
        yield f"sqlite:///{directory}/meta.db"
        return
    with closing(_server()) as server:
        name = _empty.pop() if _empty else _new(server)
        url = sa.make_url(_server_url()).set(drivername="postgresql", database=name)
        try:
            yield url.render_as_string(hide_password=False)
            _clear(server, name)
        except BaseException:
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            raise
        _empty.append(name)


_empty: list[
    str
] = []  # databases to be used again: to drop one is a checkpoint, of all that the server has not written

_made: list[str] = []


def _new(server: Any) -> str:
    name = f"meta_test_{secrets.token_hex(8)}"
    server.execute(f"CREATE DATABASE {name}")
    server.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    if not _made:
        atexit.register(_drop_empty)
    _made.append(name)
    return name


def _clear(server: Any, name: str) -> None:
    """Leave nothing of a test in its database, nor anybody."""
    server.execute(f"ALTER DATABASE {name} RESET ALL")
    server.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,))
    with closing(_server(name)) as inside:
        schemas = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        for (schema,) in inside.execute(schemas).fetchall():
            inside.execute(f'DROP SCHEMA "{schema}" CASCADE')
        inside.execute("CREATE SCHEMA public AUTHORIZATION pg_database_owner")
        inside.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")


def _drop_empty() -> None:
    with closing(_server()) as server:
        for name in _made:
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def copied(url: str, directory: Path) -> Iterator[Callable[[], None]]:
    """A copy, as a standby has it that hears no more of its primary; what is yielded puts it into the place of that. Nobody may
    be connected at either moment."""
    if url.startswith("sqlite:"):
        file, copied = Path(url.removeprefix("sqlite:///")), directory / "standby.db"
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copied)) as copy:
            source.backup(copy)
        yield lambda: shutil.copy(copied, file)
        return
    name = sa.make_url(url).database
    with closing(_server()) as server:
        server.execute(f"CREATE DATABASE {name}_standby TEMPLATE {name}")

        def take_over() -> None:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")
            server.execute(f"ALTER DATABASE {name}_standby RENAME TO {name}")

        try:
            yield take_over
        finally:
            server.execute(f"DROP DATABASE IF EXISTS {name}_standby WITH (FORCE)")


def _server_url() -> str:
    return os.environ.get("TEST_POSTGRESQL_URL") or SERVER


def _server(database: str = "") -> Any:
    """A connection, to this database of the server."""
    try:
        import psycopg

        return psycopg.connect(
            _server_url(), autocommit=True, connect_timeout=5, **{"dbname": database} if database else {}
        )
    except (ImportError, OSError) as e:
        why = f"psycopg is not there: {e}"
    except psycopg.Error as e:
        shown = sa.make_url(_server_url()).render_as_string()
        why = f"no PostgreSQL at {shown} (TEST_POSTGRESQL_URL): {' '.join(str(e).split())}"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    """A transaction of the test's own."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def execute(url: str, *statements: str) -> list[Any]:
    """The rows of the last of these statements."""
    with connected(url) as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
        return [tuple(row) for row in result] if result.returns_rows else []
