"""Creates the tables, or migrates them to this version; a database of a newer meta is refused."""

import enum
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from meta.errors import TryLater
from meta.store.engine import LOADING, Database, is_there, prepare_files
from meta.store.rows import Findings, Undecided
from meta.store.tables import head
from updater.wire.text import one_line

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"


class Tables(enum.Enum):
    """Which tables a database has. OLDER: of an older meta; `upgrade` would migrate them."""

    NONE, OLDER, CURRENT = range(3)


def upgrade(database: Database, accepted: str = "") -> str:
    """Create or migrate the tables and check that they are writable; returns the id of their migration. Raises Undecided.
    accepted: the seal of the findings that a person accepts."""
    prepare_files(database)
    database.refuse_transactions()
    with database.migrating() as connection:
        revision = _migrate(connection, database.shown, accepted)
        # Changes no row, but a read-only database fails here and not at the first heartbeat.
        connection.execute(sa.update(head).where(sa.false()).values(hosts=0))
        return revision


def check(database: Database) -> Tables:
    """Which tables exist; changes nothing. Raises TryLater for those of a newer meta, and as `upgrade` for a pooler."""
    if not is_there(database):
        return Tables.NONE
    database.refuse_transactions()
    with database.reading() as connection:
        current, newest = _revisions(connection, database.shown)
    return Tables.CURRENT if current == newest else Tables.OLDER if current else Tables.NONE


def findings(database: Database) -> Findings:
    """What an upgrade would do that people should know; changes nothing."""
    if not is_there(database):
        return Findings([], [])
    with database.reading(patience=LOADING) as connection:
        current, newest = _revisions(connection, database.shown)
        if not current or current == newest:
            return Findings([], [])
        from alembic.script import ScriptDirectory

        pending = ScriptDirectory.from_config(_config(connection)).iterate_revisions(newest, current)
        surveys = [step.module.Survey(connection) for step in pending if hasattr(step.module, "Survey")]
    steps = [survey.findings() for survey in surveys]  # may take long, so not in a transaction
    return Findings([note for one in steps for note in one.notes], [answer for one in steps for answer in one.answers])


def _migrate(connection: sa.Connection, shown: str, accepted: str) -> str:
    from alembic import command  # half of meta's start-up, needed once

    _, newest = _revisions(connection, shown)
    try:
        command.upgrade(_config(connection, accepted), "head")
    except Undecided as e:
        raise Undecided(e.found, shown) from e
    return newest


def _config(connection: sa.Connection, accepted: str = "") -> "Config":
    from alembic.config import Config

    config = Config(attributes={"connection": connection, "accepted": accepted})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _revisions(connection: sa.Connection, shown: str) -> tuple[str, str]:
    """(migration of the tables, "" without any; newest migration of this version). Raises TryLater if the first is unknown."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(_config(connection))
    known = {revision.revision for revision in script.walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    newest = script.get_current_head() or ""
    if current and current not in known:
        raise TryLater(
            f"the database {shown} was written by a newer meta (revision {one_line(current, 32)}, this one knows up to "
            f"{newest}): run that version, or restore a backup"
        )
    return current or "", newest
