"""`meta apply`, `diff`, `import` and `export`: all records as a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meta.cli import options
from updater.service.command_line import a_path
from updater.wire.text import counted, visible

if TYPE_CHECKING:
    from meta.cli.client import Client
    from meta.cli.steps.confirm import Editor

_file = click.argument("file", type=a_path())


@click.command(short_help="Replace all records by those in a file.")
@_file
@options.changing
def apply(editor: "Editor", file: Path) -> None:
    """Replace all records by those in FILE (- is stdin): agents that are not in it are deleted. All or nothing.

    A file that `meta export` wrote names the revision that it is based on, in its first line. If others have changed a record
    since, this is a conflict and shows what they did; export again, or remove the line to overrule them. On success the line is
    updated. A file that removes more than half of the agents, or of an agent's overrides, may be truncated: it is refused
    without --yes.

    \b
    Examples:
      meta export -o records.yaml && $EDITOR records.yaml && meta apply records.yaml
      meta apply records.yaml --dry-run
      meta apply records.yaml --yes --why "from git, commit 1a2b3c"
    """
    from meta.cli.errors import Conflict
    from meta.cli.steps import record_files
    from meta.cli.steps.confirm import Wish

    loaded = record_files.read(file)
    revision = loaded.base
    if revision is None:
        revision = editor.client.get_versioned("/records", dict[str, Any])[1]
    try:
        done = editor.make(Wish("PUT", "/records", loaded.body, revision))
    except Conflict as e:
        if loaded.base is None or not e.lines:
            raise
        hint = f"meta export, edit that; or take `# revision: {loaded.base}` out of {file} to overrule them"
        raise Conflict(f"{e}: {hint}", e.lines) from e
    if loaded.base is not None and not done.dry_run:
        record_files.rebase(file, done.revision)


@click.command(short_help="Show how a file differs from the records.")
@_file
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there is a difference.")
@options.output
@options.connected
def diff(client: "Client", file: Path, exit_code: bool, output: str) -> None:
    """Show what `meta apply FILE` would change, and on how many hosts. A viewer's token is enough.

    \b
    Examples:
      meta diff records.yaml
      meta diff --exit-code records.yaml || mail -s "records differ" team@example.com
    """
    from meta.cli.steps import confirm, record_files
    from meta.cli.views import show

    loaded = record_files.read(file)
    found = record_files.compared(client, loaded.records)
    data = {"revision": found.revision, "base": loaded.base, "changes": found.changes, "affected": found.affected}
    if not show.data(data, output):
        confirm.show_changes(found, err=False)
        confirm.show_doubts(found, err=True)
    if loaded.base not in (None, found.revision):
        click.echo(
            f"{file} is based on revision {loaded.base}, meta is at {found.revision}: see meta history", err=True
        )
    if found.changes and exit_code:
        click.get_current_context().exit(1)


@click.command("import", short_help="Add or replace the agents in a file, and keep the others.")
@_file
@options.changing
def import_(editor: "Editor", file: Path) -> None:
    """Add the agents of FILE, ops-meta's cfg.json or a records file, to the records. Agents that it does not name stay as
    they are. It shows which records it replaces.

    \b
    Examples:
      meta import cfg.json --dry-run
      meta import cfg.json --why "moved over from ops-meta"
    """
    from meta.cli.steps import record_files
    from meta.cli.steps.confirm import Wish

    loaded = record_files.read(file)
    present, revision = record_files.present(editor.client)
    for name in record_files.overwritten(present, loaded.records):
        click.echo(f"replaces the record of {name}", err=True)
    editor.make(Wish("PUT", "/records", record_files.merged(present, loaded.records), revision, "import"))


@click.command(short_help="Write all records into a file.")
@click.option("-o", "--output", "file", type=a_path(), help="The file; stdout by default.")
@options.connected
def export(client: "Client", file: Path | None) -> None:
    """Write all records into a file for `meta apply`. Its first line names the revision, so that applying it cannot undo
    changes that others make in between.

    \b
    Examples:
      meta export -o records.yaml
      meta export | grep version
    """
    from meta.cli.steps import record_files

    present, revision = record_files.present(client)
    text = record_files.text(present, revision)
    if file is None:
        click.echo(text, nl=False)
    else:
        record_files.write(file, text)
        click.echo(visible(f"{file}: revision {revision}, {counted(len(present), 'agent')}"), err=True)
