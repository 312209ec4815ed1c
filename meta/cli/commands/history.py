"""`meta history` and `rollback`: past edits, and how to undo them. `ban`, `unban` and `bans`: versions that must not run."""

from typing import TYPE_CHECKING

import click

from meta.cli import options

if TYPE_CHECKING:
    from meta.api.schemas.types import RevisionView
    from meta.cli.client import Client
    from meta.cli.steps.confirm import Editor


@click.command(short_help="Show who changed what, and why.")
@options.agent(required=False, default="")
@click.option("--limit", type=click.IntRange(1, 500), default=10, show_default=True, help="How many, newest first.")
@click.option("--before", type=click.IntRange(0), default=0, metavar="REVISION", help="Only older ones than this.")
@click.option("--newest", is_flag=True, help="Print only the number of the newest one (0: there is none), for scripts.")
@options.output
@options.connected
def history(client: "Client", agent: str, limit: int, before: int, newest: bool, output: str) -> None:
    """Show the newest revisions, or those that changed AGENT: when, who, why, and the difference.

    \b
    Examples:
      meta history
      meta history falcon-agent --limit 3
      before=$(meta history --newest)    # so that a script can: meta rollback --agent falcon-agent $before
    """
    from meta.api.schemas.types import Revisions
    from meta.cli import known
    from meta.cli.views import show

    found = client.get("/revisions", Revisions, agent=agent, before=before or "", limit=1 if newest else limit)
    if agent and not found.items and not (before and client.get("/revisions", Revisions, agent=agent, limit=1).items):
        known.require_agent(client, agent)
    if newest:
        click.echo(found.items[0].number if found.items else 0)
        return
    if show.data(found, output):
        return
    for revision in found.items:
        _show(revision)
    if not found.items:
        of_it = f" of {agent}" if agent else ""
        click.echo(f"nothing{of_it} was changed {f'before revision {before}' if before else 'yet'}")
    elif found.next:
        click.echo(f"older ones: --before {found.next}", err=True)


def _show(revision: "RevisionView") -> None:
    from meta.cli.steps.confirm import lines_of, show_difference
    from meta.cli.views import show

    why = f": {show.one_line_kept(revision.why)}" if revision.why else ""
    head = f" {revision.action} by {revision.who or 'unknown'} at {show.when(revision.at)}{why}"
    show.styled([show.Cell(f"revision {revision.number}", "bold"), show.Cell(show.one_line_kept(head))])
    show_difference([f"  {line}" for line in lines_of(revision.changes)], err=False)


@click.command(short_help="Undo an agent's last change.")
@click.argument("revision", type=click.IntRange(0), required=False)
@click.option("--agent", metavar="NAME", help="Only the record of this agent.", **options.OF_AN_AGENT)
@options.changing
def rollback(editor: "Editor", revision: int | None, agent: str | None) -> None:
    """Undo the newest change of --agent, or with REVISION restore its record as it was after that. REVISION without --agent
    restores all agents. This makes a new revision, so nothing is lost. Bans and labels stay.

    If the change was rolled back already, nothing is changed, and it shows who did it: running this twice is safe. A retry
    (meta retry) does not count as a change. To undo a release of several edits (a canary, then all hosts), name the REVISION
    before it; that undoes all other edits of the agent since, too. `meta status --watch` exits with 1 only for a failure, so a
    script checks that.

    \b
    Examples:
      meta rollback --agent falcon-agent --why "1.0.11 leaks memory"
      meta status falcon-agent --watch --within 15min || {
        code=$?; [ $code != 1 ] || meta rollback --agent falcon-agent --yes || :; (exit $code); }
      meta rollback --agent falcon-agent 41 --dry-run
      meta rollback 41
    """
    from meta.cli.steps.confirm import SHOWN, Wish

    if revision is None and not agent:
        raise click.UsageError("name an --agent, or a REVISION to restore (meta history shows them)")
    body = {"revision": revision, "agent": agent or None}
    given = {key: value for key, value in body.items() if value is not None}
    editor.make(Wish("POST", "/rollback", given, SHOWN))


@click.command(short_help="Forbid a version on all hosts.")
@options.agent()
@click.argument("version", shell_complete=options.versions)
@options.changing
def ban(editor: "Editor", agent: str, version: str) -> None:
    """Tell no host to run VERSION of AGENT, even if the records have it. Hosts that run it keep running it until the records
    have another version.

    \b
    Example:
      meta ban falcon-agent 1.0.11 --why "leaks memory"
    """
    from meta.cli.client import at
    from meta.cli.known import require_agent
    from meta.cli.steps.confirm import Wish

    if not editor.why:
        raise click.UsageError("give a reason for others: --why TEXT")
    require_agent(editor.client, agent)
    editor.make(Wish("PUT", at("bans", agent, version)))


@click.command(short_help="Lift a ban.")
@options.agent()
@click.argument("version", shell_complete=options.banned)
@options.changing
def unban(editor: "Editor", agent: str, version: str) -> None:
    """Allow VERSION of AGENT again; hosts run it if the records have it.

    \b
    Example:
      meta unban falcon-agent 1.0.11 --why "was the kernel"
    """
    from meta.cli.client import at
    from meta.cli.steps.confirm import Wish

    editor.make(Wish("DELETE", at("bans", agent, version)))


@click.command(short_help="Show the banned versions.")
@options.output
@options.connected
def bans(client: "Client", output: str) -> None:
    """Show the versions that no host is told to run, who banned them and why.

    \b
    Example:
      meta bans -o json | jq -r '.items[] | .agent + " " + .version'
    """
    from meta.api.schemas.types import Bans
    from meta.cli.views import show

    found = client.get("/bans", Bans)
    if not show.data(found, output):
        rows = [[one.agent, one.version, one.who, show.when(one.at), one.why] for one in found.items]
        show.table(["agent", "version", "by", "at", "why"], rows, "nothing is banned")
