"""`meta db upgrade` and `backup`: the database itself."""

from pathlib import Path

import click

from meta.cli import options


@click.group()
def db() -> None:
    """Look after the database."""


@db.command(short_help="Make or migrate the tables.")
@options.database
def upgrade(database: str | None) -> None:
    """Make the tables, or bring them to this version's form. `meta serve` does it too.

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
@click.argument("file", type=click.Path(path_type=Path))
@options.database
def backup(file: Path, database: str | None) -> None:
    """Copy the SQLite database into the new FILE, whole and at one moment, while meta goes on.

    To restore: stop meta, remove the database with its -wal and -shm (an old -wal would undo the restore), put FILE in its
    place, start meta. A PostgreSQL database is copied by pg_dump.

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
