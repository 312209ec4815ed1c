"""The database: the only module with SQL. SQLite by default, PostgreSQL by URL.

Promises: what `save_hosts` returned from is committed as a whole; foreign errors come out as TryLater (away, locked, full,
corrupt) or Misconfigured (a URL that cannot be meant). The tables are made and changed by the migrations alone; a database
that a newer meta has written is refused.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from meta.errors import Misconfigured, TryLater
from meta.hosts import Host
from updater.wire import Outcome, RealAgent, one_line

BUSY_TIMEOUT = 5000  # milliseconds that SQLite waits for another writer
BATCH = 1000  # rows sent at once, within one transaction
MIGRATIONS = Path(__file__).parent / "migrations"
log = logging.getLogger(__name__)

_tables = sa.MetaData()
_host = sa.Table(
    "host",
    _tables,
    sa.Column("hostname", sa.String(253), primary_key=True),
    sa.Column("first_seen", sa.Double, nullable=False),
    sa.Column("last_seen", sa.Double, nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("updater_version", sa.String(64), nullable=False),
    sa.Column("agents", sa.Text, nullable=False),
    sa.Column("outcomes", sa.Text, nullable=False),
)
_agents = msgspec.json.Decoder(dict[str, RealAgent])
_outcomes = msgspec.json.Decoder(dict[str, Outcome])


class Store:
    """One database. Safe for threads; after a fork each process needs its own."""

    def __init__(self, url: str):
        """url: as SQLAlchemy writes it. Raises Misconfigured; touches neither disk nor network."""
        self._engine = _engine(url)
        self.shown = self._engine.url.render_as_string(hide_password=True)

    def upgrade(self) -> str:
        """Make or migrate the tables and prove that they can be written; returns the revision they are at."""
        self._make_directory()
        with self._errors("prepared"), self._engine.begin() as connection:
            revision = _migrate(connection, self.shown)
            # No row changes, but a database that is read-only says so now and not at the first heartbeat.
            connection.execute(sa.update(_host).where(sa.false()).values(address=""))
            return revision

    def _make_directory(self) -> None:
        if self._engine.dialect.name != "sqlite" or not self._engine.url.database:
            return
        directory = Path(self._engine.url.database).parent
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise TryLater(f"the database's directory {directory} cannot be made: {e.strerror}") from e

    def load_hosts(self) -> list[Host]:
        """All hosts, in the order of first sight. A row that cannot be read is logged and left out."""
        with self._errors("read"), self._engine.connect() as connection:
            rows = connection.execute(sa.select(_host).order_by(_host.c.first_seen, _host.c.hostname)).all()
        return [host for row in rows if (host := _read_row(row))]

    def save_hosts(self, hosts: Sequence[Host]) -> None:
        """Write these hosts, new or known, in one transaction."""
        rows = [_row(host) for host in hosts]
        if not rows:
            return
        upsert = _upsert(self._engine.dialect.name)
        with self._errors("written"), self._engine.begin() as connection:
            for start in range(0, len(rows), BATCH):
                connection.execute(upsert, rows[start : start + BATCH])

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        """Database errors, wrapped; those of the driver come bare from a connection's first statements."""
        try:
            yield
        except (sa.exc.SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error) as e:
            why = one_line(str(getattr(e, "orig", None) or e), 300)
            raise TryLater(f"the database {self.shown} cannot be {verb}: {why}") from e


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise Misconfigured(f"database {parsed.get_backend_name()} is not known here: use sqlite or postgresql")
        engine = sa.create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    except ModuleNotFoundError as e:
        raise Misconfigured(f"the database needs the Python package {e.name}: pip install 'psycopg[binary]'") from e
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ValueError) as e:
        raise Misconfigured("the database is no URL like sqlite:///var/meta.db or postgresql://user@host/meta") from e
    if engine.dialect.name == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise Misconfigured("the database must be a file, or the hosts do not survive a restart: sqlite:///FILE")
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN would come too late for DDL to be in the transaction
    cursor = connection.cursor()
    try:
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
    finally:
        cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _migrate(connection: sa.Connection, shown: str) -> str:
    from alembic import command  # half of meta's start-up, needed once
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    newest = script.get_current_head() or ""
    if current and current not in known:
        raise TryLater(
            f"the database {shown} was written by a newer meta (revision {one_line(current, 32)}, this one knows up to "
            f"{newest}): run that version, or restore a backup"
        )
    command.upgrade(config, "head")
    return newest


def _upsert(dialect: str) -> Any:
    insert = postgresql.insert(_host) if dialect == "postgresql" else sqlite.insert(_host)
    changed = {c.name: insert.excluded[c.name] for c in _host.columns if c.name not in ("hostname", "first_seen")}
    return insert.on_conflict_do_update(index_elements=["hostname"], set_=changed)


def _row(host: Host) -> dict[str, Any]:
    return {
        "hostname": host.hostname,
        "first_seen": host.first_seen,
        "last_seen": host.last_seen,
        "address": host.address,
        "updater_version": host.updater_version,
        "agents": msgspec.json.encode(host.agents).decode(),
        "outcomes": msgspec.json.encode(host.outcomes).decode(),
    }


def _read_row(row: Any) -> Host | None:
    try:
        return Host(
            hostname=row.hostname,
            first_seen=float(row.first_seen),
            last_seen=float(row.last_seen),
            address=row.address,
            updater_version=row.updater_version,
            agents=_agents.decode(row.agents),
            outcomes=_outcomes.decode(row.outcomes),
        )
    except (msgspec.DecodeError, TypeError, ValueError) as e:
        log.warning("host %s in the database cannot be read and is forgotten: %s", one_line(str(row.hostname), 253), e)
        return None
