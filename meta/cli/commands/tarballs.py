"""`meta publish` and `meta tarballs`: upload, list and remove the tarballs that hosts fetch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meta.cli import options
from updater.service.command_line import a_path
from updater.wire.text import counted, visible

if TYPE_CHECKING:
    from meta.cli.client import Client
    from meta.cli.views.show import Row


@click.command(short_help="Check a tarball and upload it.")
@click.argument("tarball", type=a_path())
@click.option("--agent", metavar="NAME", help="The agent, if the file name is ambiguous.", **options.OF_AN_AGENT)
@options.why
@options.output
@options.connected
def publish(client: "Client", tarball: Path, agent: str | None, why: str, output: str) -> None:
    """Check TARBALL (NAME-VERSION.tar.gz) by the rules of the hosts, and upload it to meta. No host installs it yet; the
    printed command orders that. The same file may be published again, but no other file with the same version.

    \b
    Examples:
      meta publish my-agent-1.0.1.tar.gz
      meta publish my-agent-1.0.1.tar.gz -o json | jq -r .next
    """
    from meta.cli.steps.publishing import publish as send
    from meta.cli.steps.publishing import view
    from meta.cli.views import show

    done = send(client, tarball, agent, why)
    for note in done.notes:
        click.echo(visible(f"note: {note}"), err=True)
    shown = view(done, client.url)
    if show.data(shown, output):
        return
    what = "published" if done.is_new else "was published already"
    click.echo(f"{tarball.name}: {counted(done.members, 'member')}, {done.digests.size} bytes, {what}")
    click.echo(f"put it in force: {shown.next}")


@click.group("tarballs", short_help="List published tarballs, or prune them.", invoke_without_command=True)
@options.output
@options.connection
@click.pass_context
def tarballs(context: click.Context, /, output: str, **connection: Any) -> None:
    """List the tarballs that meta serves: version, size, digest, publisher, the records that have it, and how many hosts run
    it. Files that were not added by `meta publish` have no publisher.

    \b
    Examples:
      meta tarballs
      meta tarballs -o json | jq -r '.items[] | select(.hosts == 0) | .name'
    """
    if context.invoked_subcommand is None:
        with options.connect(**connection) as client:
            _list(client, output)


def _list(client: "Client", output: str) -> None:
    from meta.api.schemas.tarballs import Tarballs
    from meta.cli.views import show

    found = client.get("/tarballs", Tarballs)
    if show.data(found, output):
        return
    heads = ["agent", "version", "size", "sha256", "published", "by", "desired by", "hosts"]
    rows: list[Row] = []
    for one in sorted(found.items, key=lambda one: (one.agent, one.published or one.modified, one.name)):
        digest = one.sha256[:12] if show.is_terminal() else one.sha256  # -o json and a pipe have all digits
        cells: list[show.Cell | str] = [show.Cell(one.agent, "bold"), one.version, f"{one.size:,}", digest]
        rows.append(
            [*cells, show.when(one.published, short=True), one.who, ", ".join(one.desired_by), f"{one.hosts:,}"]
        )
    show.table(heads, rows, "nothing is published: meta publish NAME-VERSION.tar.gz", cut=["by", "desired by"])


@tarballs.command(short_help="Remove tarballs that nothing needs.")
@click.option(
    "--keep", type=click.IntRange(0), default=3, show_default=True, help="How many of the newest of each agent stay."
)
@click.option(
    "--older", metavar="TIME", default="30d", show_default=True, help="Only tarballs that were published longer ago."
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed and what stays; remove nothing.")
@options.yes
@options.why
@options.output
@options.connected
def prune(client: "Client", keep: int, older: str, dry_run: bool, yes: bool, why: str, output: str) -> None:
    """Remove tarballs that were published through meta and are no longer needed, after showing them and asking.

    A tarball stays if a record, an override or one of the last 50 revisions of the records names it, or if a host runs it.
    Files that were not added by `meta publish` stay too.

    \b
    Examples:
      meta tarballs prune --dry-run
      meta tarballs prune --keep 5 --older 90d --yes
    """
    from meta.cli.arguments import seconds
    from meta.cli.steps import pruning

    terms = {"keep": keep, "older": seconds(older)}
    pruning.prune(client, terms, why, dry_run=dry_run, yes=yes, output=output)
