"""The connection to the database: its URL, transactions, time-outs and errors.

Durable transactions are on the disk when they return, and a silent server is given up after a while. Errors are raised as
TryLater (away, locked, full, corrupt) or Misconfigured (an invalid URL). Writing transactions are serialised: each increments a
serial of the head, and waits there for the others. It writes an identity into the log. By it a transaction whose COMMIT got no
answer can be found (else: Unknown), and followers see whether the database still has what they know.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import sqlalchemy as sa

from meta.errors import Misconfigured, TryLater, Unknown, missing_extra
from meta.store.counting import Basis, Place, count, look, new_identity
from meta.store.postgresql.pooling import Session, connect, settings_of
from meta.store.postgresql.watch import unwatch, watch
from meta.store.rows import Head
from meta.store.sqlite import files
from meta.store.tables import commit_log, head
from updater.wire.text import one_line

BUSY_TIMEOUT = 5000  # milliseconds that SQLite waits for another writer
PATIENCE = 15.0  # seconds that a connection may be in use; longer than the server's own limits
LOADING = 600.0  # seconds that a migration may take
FETCH = 5000  # rows fetched at once if there may be a million
CONNECT = {  # parameters of libpq; the URL has precedence
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "meta",
}
SESSION = "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=10s"
UNHURRIED = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
LOCK_WAIT = 5.0  # seconds, as SESSION says
SHORT_WAIT = 0.2  # seconds to wait for a locked table, for work that can also be done later
SETTLING = 5.0  # seconds to find out whether a COMMIT without an answer was done
ASK_AGAIN = 0.1  # seconds
_WRITES = "writes"  # execution option of a connection: SQLite's `synchronous` of its next transaction
log = logging.getLogger(__name__)


class Database:
    """One database. Safe for threads; after a fork each process needs its own object."""

    def __init__(self, url: str, patience: float = PATIENCE, told: set[str] | None = None):
        """url, patience, told: as for a Store. Raises Misconfigured; uses neither disk nor network."""
        self.engine, self._session = _engine(url, patience, set() if told is None else told)
        self.dialect = self.engine.dialect.name
        self.shown = self.engine.url.render_as_string(hide_password=True)
        self.basis = Basis()
        self._patience = patience
        self._settling = min(SETTLING, patience)
        self._foreign = (sa.exc.SQLAlchemyError, self.engine.dialect.loaded_dbapi.Error)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def reading(self, lock_wait: float = 0.0, patience: float = 0.0) -> Iterator[sa.Connection]:
        """A connection that sees one committed state, even while others write. lock_wait: seconds to wait for a locked table,
        0 for the default. patience, instead: seconds that all of it may take, without the limits of a session."""
        with self.errors("read"), self.engine.connect() as connection:
            self._be_patient(connection, patience)
            if self.dialect == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                if self.dialect == "postgresql" and (lock_wait or patience):
                    wait = f"SET LOCAL lock_timeout = '{lock_wait * 1000:.0f}ms'"
                    connection.exec_driver_sql(wait if lock_wait else UNHURRIED)
                yield connection

    def refuse_transactions(self, if_lost: bool = False) -> None:
        """Raises Misconfigured if a pooler shares our sessions with others. if_lost: look only if connections were lost."""
        if self._session and (self._session.in_doubt or not if_lost):
            with self.errors("read"):
                self._session.refuse_transactions(self.engine, self._patience)

    def clock(self) -> float | None:
        """Unix seconds by the server's clock; None for SQLite."""
        if self.dialect != "postgresql":
            return None
        with self.reading() as connection:
            return float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())

    @contextmanager
    def following(self) -> Iterator[tuple[sa.Connection, Head]]:
        """A connection for reading into memory, and the current head. Waits only shortly for locks. Raises Lost."""
        before = self.basis.places
        with self.reading(SHORT_WAIT) as connection:
            found = look(connection, before)
            self.basis.move(before, Place(found.position, found.identity))
            yield connection, found

    @contextmanager
    def writing(
        self,
        counter: str,
        tables: Sequence[sa.Table] = (),
        *,
        steps: int = 1,
        identity: str = "",
        durable: bool = True,
        patience: float = 0.0,
        head_wait: float = LOCK_WAIT,
        epoch: int | None = None,
    ) -> Iterator[tuple[sa.Connection, int]]:
        """A writing transaction and its serial, the next of `counter` (the last of several `steps`). Raises Lost, and Unknown
        if the answer to COMMIT was lost and cannot be determined. tables: locked first, with SHORT_WAIT; head_wait: seconds for
        the head then. durable: on the disk when it returns, else a power failure may lose it, but never reorder. epoch: of the
        memory that it is for."""
        identity, before = identity or new_identity(), self.basis.to_write(epoch)
        with self.errors("written"), self.engine.connect() as connection:
            self._be_patient(connection, patience)
            connection = connection.execution_options(**{_WRITES: "FULL" if durable else "NORMAL"})
            with connection.begin() as transaction:
                self._lock(connection, tables, head_wait)
                serial, position = count(connection, counter, steps, identity, before)
                yield connection, serial
                if transaction.is_active:
                    self._commit(transaction, position, identity)
                    self.basis.move(before, Place(position, identity))

    def _lock(self, connection: sa.Connection, tables: Sequence[sa.Table], head_wait: float) -> None:
        """Lock tables before the head, so that waiting for a locked table does not block other writers."""
        if self.dialect == "postgresql" and tables:
            names = ", ".join(f'"{table.name}"' for table in tables)
            connection.exec_driver_sql(
                f"SET LOCAL lock_timeout = '{SHORT_WAIT * 1000:.0f}ms'; LOCK TABLE {names} IN ROW EXCLUSIVE MODE; "
                f"SET LOCAL lock_timeout = '{head_wait * 1000:.0f}ms'"
            )

    def _commit(self, transaction: sa.RootTransaction, position: int, identity: str) -> None:
        try:
            transaction.commit()
        except self._foreign as e:
            if not self._is_committed(position, identity, e):
                raise
            log.warning("the answer to a COMMIT was lost, but it was done: %s", _why(e))

    def _is_committed(self, position: int, identity: str, failure: Exception) -> bool:
        """Whether the transaction was committed; asks for up to SETTLING seconds. Raises Unknown."""
        deadline = time.monotonic() + self._settling
        while True:
            try:
                return self._find(position) == identity
            except self._foreign as e:
                if time.monotonic() < deadline:
                    time.sleep(ASK_AGAIN)
                    continue
                raise Unknown(
                    f"the database {self.shown} did not answer to a COMMIT, and does not say whether it was done: "
                    f"{_why(failure)}; {_why(e)}"
                ) from e

    def _find(self, position: int) -> str:
        """The identity of the transaction at this position of the log, "" for none. A transaction holds the lock on the head
        until it ends, so the answer is final once this lock is ours."""
        with self.engine.connect() as connection:
            self._be_patient(connection, self._settling)
            connection = connection.execution_options(**{_WRITES: "NORMAL"})
            with connection.begin() as transaction:
                connection.execute(sa.select(head.c.id).with_for_update())
                there = sa.select(commit_log.c.identity).where(commit_log.c.position == position)
                found = connection.execute(there).scalar()
                transaction.rollback()
        return found or ""

    @contextmanager
    def migrating(self) -> Iterator[sa.Connection]:
        """A transaction that may take long, and that excludes other migrations."""
        with self.errors("prepared"), self.engine.connect() as connection:
            self._be_patient(connection, LOADING)
            connection = connection.execution_options(**{_WRITES: "FULL"})
            if self.dialect == "sqlite":
                connection.connection.execute(f"PRAGMA busy_timeout={LOADING * 1000:.0f}")
            try:
                with connection.begin():
                    if self.dialect == "postgresql":
                        connection.execute(sa.text(f"SET LOCAL lock_timeout = 0; {UNHURRIED}"))
                        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('meta.migrations'))"))
                    yield connection
            finally:
                connection.invalidate()  # with its patience

    @contextmanager
    def stream(self, connection: sa.Connection, query: str, size: int = FETCH) -> Iterator[Iterator[Sequence[Any]]]:
        """Batches of plain rows; neither side holds all of them in memory. A server that is silent during one is given up."""
        dbapi: Any = connection.connection.dbapi_connection
        with closing(dbapi.cursor("stream") if self.dialect == "postgresql" else dbapi.cursor()) as cursor:

            def fetch() -> Sequence[Any]:
                self._be_patient(connection, self._patience)
                found: Sequence[Any] = cursor.fetchmany(size)
                return found

            cursor.execute(query)
            yield iter(fetch, [])

    @contextmanager
    def errors(self, verb: str) -> Iterator[None]:
        """Wrap errors of the database; the first statements of a connection raise the driver's own errors."""
        try:
            yield
        except self._foreign as e:
            raise TryLater(f"the database {self.shown} cannot be {verb}: {_why(e)}") from e

    def _be_patient(self, connection: sa.Connection, seconds: float) -> None:
        if self.dialect == "postgresql" and seconds:
            watch(connection.info, connection.connection.dbapi_connection, seconds)


def _why(error: Exception) -> str:
    return one_line(str(getattr(error, "orig", None) or error), 300)


def prepare_files(database: Database) -> None:
    """Create the directory of an SQLite database if necessary, and make its files private. Raises TryLater."""
    if database.dialect == "sqlite":
        files.make_directory(files.file_of(database.engine.url).parent)
        files.close_to_others(files.file_of(database.engine.url))


def is_there(database: Database) -> bool:
    """Whether the database exists. An SQLite file is not opened for that, since this would create it."""
    return database.dialect != "sqlite" or files.file_of(database.engine.url).exists()


def _engine(url: str, patience: float, told: set[str]) -> tuple[sa.Engine, Session | None]:
    try:
        parsed = sa.make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise Misconfigured(f"database {parsed.get_backend_name()} is not known here: use sqlite or postgresql")
        return (_sqlite(parsed), None) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed, patience, told)
    except ModuleNotFoundError as e:
        raise missing_extra(e, "postgresql") from e
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ValueError) as e:
        raise Misconfigured("the database is no URL like sqlite:///var/meta.db or postgresql://user@host/meta") from e


def _sqlite(url: sa.URL) -> sa.Engine:
    if url.database in (None, "", ":memory:"):
        raise Misconfigured("the database must be a file, or the hosts do not survive a restart: sqlite:///FILE")
    engine = sa.create_engine(url, pool_timeout=5)
    if "mode" not in url.query:  # a mode may forbid to create the file
        sa.event.listen(engine, "do_connect", lambda *_: files.make(files.file_of(url)))
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN would come too late for DDL to be in the transaction
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA journal_size_limit=67108864")  # shrinks the log again after a million new hosts


def _begin_sqlite(connection: sa.Connection) -> None:
    """Begin a transaction; a writer takes the lock at once, since SQLite does not wait for it after a read."""
    if writes := connection.get_execution_options().get(_WRITES):
        connection.exec_driver_sql(f"PRAGMA synchronous={writes}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql(url: sa.URL, patience: float, told: set[str]) -> tuple[sa.Engine, Session]:
    options = {key: value for key, value in CONNECT.items() if key not in url.query}
    options["options"] = f"{SESSION} {url.query.get('options', '')}".rstrip()
    url = url.difference_update_query(["options"])
    engine = sa.create_engine(url, connect_args=options, pool_timeout=5, use_native_hstore=False)
    shown = url.render_as_string(hide_password=True)
    session = Session(settings_of(options["options"]), settings_of(SESSION), shown, told)

    def begin(connection: Any, record: Any) -> None:
        session.begin(connection, record.info, patience)

    def check(connection: Any, record: Any, _proxy: Any) -> None:
        """Replace a connection that ended while it was idle; unlike SQLAlchemy's own ping, this has a time-out."""
        watch(record.info, connection, patience)
        try:
            session.is_still_ours(connection, record.info)
        except engine.dialect.loaded_dbapi.Error as e:
            raise sa.exc.DisconnectionError(str(e)) from e

    sa.event.listen(engine, "do_connect", lambda dialect, _record, args, named: connect(dialect, args, named))
    sa.event.listen(engine, "connect", begin, insert=True)  # before SQLAlchemy's own first questions
    sa.event.listen(engine, "checkout", check)
    sa.event.listen(engine, "invalidate", session.doubt)
    for end in ("checkin", "close"):  # a broken connection is closed without being checked in
        sa.event.listen(engine, end, lambda _connection, record: unwatch(record.info))
    return engine, session
