"""Checks poolers between meta and PostgreSQL: whether a session is ours alone, and whether its time-outs are in force.

A pooler may refuse or ignore the settings that libpq sends with a connection. Then they are set by statements, which suffices
if the pooler pools whole sessions. A pooler of transactions would mix our settings with those of others, and is refused.
"""

import logging
import re
from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from meta.errors import Misconfigured
from meta.store.postgresql.watch import has_given_up, unwatch, watch

_WORD = re.compile(r"(?:\\.|[^\\\s])+", re.DOTALL)
TOO_FEW = (
    "a new connection got no answer for {:g} s: the server hangs, or a pooler before it has no connection left; meta needs 4 "
    "at least and uses up to 17 (PgBouncer: default_pool_size, for this database and user)"
)
_PID = "pid"  # where a connection's info keeps that of its server process
log = logging.getLogger(__name__)


def settings_of(options: str) -> dict[str, str]:
    """Parse `-c NAME=VALUE --NAME=VALUE ...` as the server does; the last value of a setting counts."""
    words = [re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL) for word in _WORD.findall(options)]
    found = {}
    for before, word in zip(["", *words], words, strict=False):
        said = word if before == "-c" else word[2:] if word.startswith(("-c", "--")) else ""
        name, equals, value = said.partition("=")
        if equals:
            found[name.replace("-", "_").lower()] = value
    return found


def connect(dialect: Any, arguments: Any, parameters: Mapping[str, Any]) -> Any:
    """A connection of the driver, without `options` if a pooler does not support them."""
    try:
        return dialect.connect(*arguments, **parameters)
    except dialect.loaded_dbapi.OperationalError as e:
        if "unsupported startup parameter" not in str(e):
            raise
        return dialect.connect(*arguments, **{key: value for key, value in parameters.items() if key != "options"})


class Session:
    """Checks the connections of one database.

    options: the settings sent with a connection; must: names of those that must be in force; shown: the database, for messages;
    told: warnings that were already logged.
    """

    def __init__(self, options: Mapping[str, str], must: Collection[str], shown: str, told: set[str]):
        self._wanted = {name: options[name] for name in must}
        self._others = [name for name in options if name not in must]
        self._shown = shown
        self._told = told
        self.in_doubt = False  # connections were lost since `refuse_transactions`, and others may have another pooler

    def begin(self, connection: Any, info: dict[Any, Any], patience: float) -> None:
        """Watch and check a new connection: its settings are read back, and set by a statement if they are not in force."""
        watch(info, connection, patience)
        try:
            self._begin(connection, info)
        except connection.Error as e:
            if not has_given_up(info):
                raise
            raise connection.OperationalError(TOO_FEW.format(patience)) from e
        finally:
            if connection.closed:  # no event tells of the end of one that never was in use
                unwatch(info)

    def _begin(self, connection: Any, info: dict[Any, Any]) -> None:
        query = "SELECT pg_backend_pid()" + "".join(", current_setting(%s)" for _ in self._wanted)
        try:
            pid, *found = _row(connection, query, list(self._wanted))
        except connection.Error as e:
            if "statement pooling" in str(e):
                raise Misconfigured(self._refusal("statements, so that there is no transaction")) from e
            raise
        info[_PID] = pid
        if found != list(self._wanted.values()):
            calls = ", ".join("set_config(%s, %s, false)" for _ in self._wanted)
            values = [text for pair in self._wanted.items() for text in pair]
            set_to = list(connection.execute(f"SELECT {calls}", values).fetchone())
            connection.commit()
            self._tell(found, set_to, self._read_back(connection))

    def _read_back(self, connection: Any) -> list[str]:
        return _row(connection, "SELECT " + ", ".join("current_setting(%s)" for _ in self._wanted), list(self._wanted))

    def _tell(self, found: list[str], set_to: list[str], then: list[str]) -> None:
        """Log a warning once if settings were not in force; another spelling of the same value does not count."""
        if found == set_to == then:
            return
        held = then == set_to
        wrong = ", ".join(
            f"{name} {is_so}"
            for name, is_so, wish in zip(self._wanted, found if held else then, set_to, strict=True)
            if is_so != wish
        )
        told = (
            f"the database {self._shown} does not take the time-outs that come with a connection (a pooler?): {wrong}; "
        )
        told += (
            "they are set by a statement of each session" if held else "nor those that are set: it may keep us waiting"
        )
        if self._others:
            told += f"; nor does it seem to take {', '.join(self._others)}"
        if told not in self._told:
            log.warning("%s", told)
        self._told.add(told)

    def is_still_ours(self, connection: Any, info: Mapping[Any, Any]) -> None:
        """Check a connection before reuse. Raises Misconfigured if it now leads to another server process."""
        (pid,) = _row(connection, "SELECT pg_backend_pid()", [])
        if info.get(_PID, pid) != pid:
            self.doubt()
            raise Misconfigured(self._refusal())

    def refuse_transactions(self, engine: sa.Engine, patience: float) -> None:
        """Raises Misconfigured if two connections, used in turns, share a server process, or one has several. Keeps neither,
        since a pooler may have few."""
        try:
            with engine.connect() as one:
                unwatch(
                    one.info
                )  # or it would be given up while the other is waited for, which would get its server process
                with engine.connect() as other:
                    watch(one.info, one.connection.dbapi_connection, patience)
                    pids = _processes(one, other)
        finally:
            engine.dispose()
        if pids[0] & pids[1] or max(map(len, pids)) > 1:
            raise Misconfigured(self._refusal())
        self.in_doubt = False

    def doubt(self, *_: Any) -> None:
        """Note that a connection was lost."""
        self.in_doubt = True

    def _refusal(self, what: str = "transactions, where time-outs and locks would be others'") -> str:
        return (
            f"the database {self._shown} is behind a pooler that pools {what}: "
            "let it pool sessions (PgBouncer: pool_mode = session, for this database), or name PostgreSQL itself"
        )


def _processes(one: sa.Connection, other: sa.Connection) -> tuple[set[int], set[int]]:
    """The server processes that each of them uses."""
    found: tuple[set[int], set[int]] = (set(), set())
    for connection in (one, other, one, one, other, other):
        found[connection is other].add(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
        connection.rollback()
    return found


def _row(connection: Any, query: str, values: list[str]) -> list[Any]:
    found = list(connection.execute(query, values).fetchone())
    connection.rollback()
    return found
