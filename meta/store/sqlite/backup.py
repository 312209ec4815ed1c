"""Copies an SQLite database while others write to it: consistent, checked, and readable only by its owner."""

import sqlite3
from contextlib import closing
from pathlib import Path

from meta.errors import Misconfigured, TryLater
from meta.store.engine import Database
from meta.store.sqlite.files import file_of
from updater import durable_files


def backup(database: Database, path: Path) -> None:
    """Copy the database to `path`, under `path` + ".partial" until it is complete; an existing file is never replaced."""
    if database.dialect != "sqlite":
        raise Misconfigured(f"{database.shown} is a PostgreSQL database: back it up with pg_dump")
    if not file_of(database.engine.url).exists():
        raise Misconfigured(f"there is no database {database.shown}: name the one that meta serves with --database")
    try:
        if path.exists():
            raise Misconfigured(f"{path} exists already and is not overwritten: name another file")
        partial = path.with_name(path.name + ".partial")
        with durable_files.whole_file(path, 0o600, partial.name), database.errors(f"copied to {path}"):
            _copy(database, partial)
    except OSError as e:
        raise TryLater(f"the backup {path} cannot be written: {e.strerror}") from e


def _copy(database: Database, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as copy:
        with closing(database.engine.raw_connection()) as source:
            source.backup(copy)  # in one step: otherwise each write of others would restart it
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log next to it
        wrong = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        if wrong != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged, and so the database may be: {wrong}")
