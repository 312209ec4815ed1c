"""A version and its digests become one value (ADR 19): all stored records, also those of the history, are translated.

The table `record` becomes `agent_record`, so that a meta of before can neither read new records in the old way nor change them.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import sqlalchemy as sa
from alembic import context, op

from meta.store.migrations.releases import Row, Survey
from meta.store.rows import Undecided
from updater.wire.text import counted

revision = "0005"
down_revision = "0004"
AT_ONCE = 1000  # rows written by one round of statements

log = logging.getLogger(__name__)


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        op.execute("LOCK TABLE record, change, label IN EXCLUSIVE MODE")
    survey = Survey(connection)
    found = survey.findings()
    if found.answers and found.seal != context.config.attributes.get("accepted"):
        raise Undecided(found)
    for line in found.notes:
        log.warning("%s", line)
    if found.answers:
        log.warning(
            "a person has accepted %s to hosts, the first: %s",
            counted(len(found.answers), "other answer"),
            found.answers[0],
        )
    with _history_may_change(connection):
        rows = survey.translations()
        while batch := list(islice(rows, AT_ONCE)):
            _write(connection, batch)
    op.rename_table("record", "agent_record")


def _write(connection: sa.Connection, rows: Iterable[tuple[str, Row]]) -> None:
    values: dict[str, list[dict[str, Any]]] = {}  # by statement
    for table, row in rows:
        places = " AND ".join(f"{column} = :{column}" for column in row.key)
        update = f'UPDATE "{table}" SET "{row.column}" = :text WHERE {places}'  # noqa: S608
        values.setdefault(update, []).append({"text": row.text, **row.key})
    for update, its in values.items():
        connection.execute(sa.text(update), its)


@contextmanager
def _history_may_change(connection: sa.Connection) -> Iterator[None]:
    """Without the triggers that refuse any change of it. An error rolls all of it back."""
    if connection.dialect.name == "postgresql":
        op.execute("ALTER TABLE change DISABLE TRIGGER USER")
        yield
        op.execute("ALTER TABLE change ENABLE TRIGGER USER")
    else:
        trigger = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'change_UPDATE'").scalar_one()
        op.execute("DROP TRIGGER change_UPDATE")
        yield
        connection.exec_driver_sql(trigger)
