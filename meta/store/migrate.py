"""Makes the tables, or brings them to where this version wants them; a database that a newer meta has written is refused."""

from pathlib import Path

import sqlalchemy as sa

from meta.errors import TryLater
from meta.store.engine import Database, prepare_files
from meta.store.tables import head
from updater.wire import one_line

MIGRATIONS = Path(__file__).parents[1] / "migrations"


def upgrade(database: Database) -> str:
    """Make or migrate the tables and prove that they can be written; returns the revision they are at."""
    prepare_files(database)
    with database.migrating() as connection:
        revision = _migrate(connection, database.shown)
        # No row changes, but a database that is read-only says so now and not at the first heartbeat.
        connection.execute(sa.update(head).where(sa.false()).values(hosts=0))
        return revision


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
