"""`meta db upgrade` and `backup`: the database itself."""

from pathlib import Path

import click

from meta.cli import options
from meta.errors import Misconfigured
from updater.service.command_line import a_path


@click.group()
def db() -> None:
    """Maintain the database."""


@db.command(short_help="Create or migrate the tables.")
@click.option("--check", is_flag=True, help="Only say what the upgrade would do: exit 0, or 2 if a person must decide.")
@click.option("--accept", metavar="SEAL", default="", help="Let hosts have the other answers that --check has listed.")
@options.database
def upgrade(check: bool, accept: str, database: str | None) -> None:
    """Create the tables, or migrate them to this version. `meta serve` does it too.

    Where known hosts would get other answers than before, nothing is upgraded until a person has decided.

    \b
    Examples:
      meta db upgrade --database sqlite:////var/lib/meta/meta.db
      meta db upgrade --check
      meta db upgrade --accept 0123456789ab
    """
    from contextlib import closing

    from meta.settings import DEFAULT_DATABASE
    from meta.store import Store, Tables, Undecided

    with closing(Store(database or DEFAULT_DATABASE)) as store:
        if not check:
            click.echo(f"{store.shown} is at revision {store.upgrade(accept)}")
            return
        if store.check() is Tables.CURRENT:
            click.echo(f"{store.shown} needs no upgrade")
            return
        found = store.findings()
        for line in (*found.notes, *found.answers):
            click.echo(line)
        if found.answers:
            raise Misconfigured(Undecided(found, store.shown).remedy)
        click.echo(f"{store.shown} can be upgraded, and all known hosts get the answers that they have now")


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
