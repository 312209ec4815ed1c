"""`meta db upgrade` and `backup`: the database itself."""

from pathlib import Path

import click

from meta.cli import options
from updater.service.command_line import a_path


@click.group()
def db() -> None:
    """Maintain the database."""


@db.command(short_help="Create or migrate the tables.")
@options.database
def upgrade(database: str | None) -> None:
    """Create the tables, or migrate them to this version. `meta serve` does it too.

    \b
    Example:
      meta db upgrade --database sqlite:////var/lib/meta/meta.db
    """
    from contextlib import closing

    from meta.settings import DEFAULT_DATABASE
    from meta.store import Store

    with closing(Store(database or DEFAULT_DATABASE)) as store:
        click.echo(f"{store.shown} is at revision {store.upgrade()}")


@click.command(short_help="Copy the database while meta serves.")
@click.argument("file", type=a_path())
@options.database
def backup(file: Path, database: str | None) -> None:
    """Copy the SQLite database, as it is at one moment, into the new FILE, while meta keeps serving.

    To restore: stop meta, remove the database with its -wal and -shm (an old -wal would undo the restore), put FILE in its
    place, start meta. Use pg_dump to copy a PostgreSQL database.

    \b
    Examples:
      meta backup meta-$(date +%F).db
      meta backup /backup/meta.db --database sqlite:////var/lib/meta/meta.db
    """
    from contextlib import closing

    from meta.settings import DEFAULT_DATABASE
    from meta.store import Store

    with closing(Store(database or DEFAULT_DATABASE)) as store:
        store.backup(file)
        click.echo(f"{store.shown} is copied to {file}, {file.stat().st_size} bytes")
