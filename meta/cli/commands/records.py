"""`meta get`, `set` and `unset`: the desired state of one agent."""

from typing import TYPE_CHECKING, Any

import click

from meta.cli import options

if TYPE_CHECKING:
    from meta.cli.client import Client
    from meta.cli.steps.confirm import Editor

_SELECTOR_HELP = "Only for these hosts: prefix:web-, glob:*-db-*, hosts:a,b or label:env=staging."
_for = options.selecting("--for", "selector", help=_SELECTOR_HELP)


@click.command(short_help="Show the desired state of agents.")
@options.agent(required=False)
@options.output
@options.connected
def get(client: "Client", agent: str | None, output: str) -> None:
    """Show the desired state of AGENT, or of all agents.

    \b
    Examples:
      meta get
      meta get falcon-agent
      meta get falcon-agent -o json | jq -r .version
    """
    from meta.cli.client import at
    from meta.cli.views import record_tables, show

    if agent:
        record, revision = client.get_versioned(at("records", agent), dict[str, Any])
        if not show.data(record, output):
            record_tables.one(record, revision)
        return
    records, revision = client.get_versioned("/records", dict[str, Any])
    if not show.data(records, output):
        record_tables.all_of(records["agents"], revision)


@click.command("set", short_help="Change the desired state of an agent.")
@options.agent()
@click.argument("fields", metavar="FIELD=VALUE...", nargs=-1, required=True, shell_complete=options.fields)
@_for
@options.changing
def set_(editor: "Editor", agent: str, fields: tuple[str, ...], selector: str | None) -> None:
    """Change fields of AGENT, for all hosts or for those of --for. A new agent needs version and tarball.

    \b
    Fields:
      version
      tarball           base URL of its tarballs; repeat it for mirrors
      md5, sha256       digests of this version's tarball, wherever it is; another version drops them
      cmd               start or stop
      attempt           see meta retry
      leftovers         processes that a stopped version leaves: leave or end
      unknownStatus     its status says neither started nor stoped: wait or upgrade
      runUser, workDir  only for hosts of coraldane's updater

    If several overrides match a host, the last one wins; a new override comes last.

    \b
    Examples:
      meta set falcon-agent version=1.0.11
      meta set falcon-agent version=1.1.0 --for label:env=staging --why "try the new one"
      meta set falcon-agent cmd=stop --for hosts:web-1,web-2
      meta set new-agent version=0.1.0 tarball=http://releases.example/new
    """
    from meta.cli.arguments import fields_of

    _patch(editor, agent, {"set": fields_of(fields)}, selector)


@click.command(short_help="Unset fields, or remove an override or an agent.")
@options.agent()
@click.argument("fields", metavar="[FIELD...]", nargs=-1, shell_complete=options.field_names)
@_for
@options.changing
def unset(editor: "Editor", agent: str, fields: tuple[str, ...], selector: str | None) -> None:
    """Unset FIELDs of AGENT. Without FIELDs, remove the whole override of --for, or the whole agent: hosts get no more orders
    for it then, and keep it running.

    \b
    Examples:
      meta unset falcon-agent sha256
      meta unset falcon-agent version --for label:env=staging
      meta unset falcon-agent --for prefix:lg-
      meta unset falcon-agent --why "replaced by the new one"
    """
    from meta.cli.client import at
    from meta.cli.steps.confirm import Wish

    if fields or selector:
        _patch(editor, agent, {"unset": fields}, selector)
    else:
        editor.make(Wish("DELETE", at("records", agent), match=_revision(editor.client, agent)))


@click.command(short_help="Try a version again that was rolled back or refused.")
@options.agent()
@options.selecting("--for", "selectors", multiple=True, help=f"{_SELECTOR_HELP} Repeatable.")
@options.changing
def retry(editor: "Editor", agent: str, selectors: tuple[str, ...]) -> None:
    """Make hosts that rolled back or refused the version of AGENT try it again: all of them, or those of --for.

    It raises the `attempt` of the record or of an override. Hosts that run the version, or have not tried it yet, do nothing.
    It says how many hosts will try again, and how many cannot because their updater does not know attempts. On a single host,
    use: updater retry AGENT.

    \b
    Examples:
      meta retry falcon-agent --why "the disks have room again"
      meta retry falcon-agent --for hosts:web-1,web-2 --for label:env=staging
    """
    from meta.cli.arguments import selector_of
    from meta.cli.client import at
    from meta.cli.steps.confirm import Wish
    from meta.records.selectors import selector_fields

    wanted = [selector_fields(selector_of(text)) for text in selectors]
    editor.make(Wish("POST", at("records", agent, "retry"), {"selectors": wanted}, _revision(editor.client, agent)))


def _patch(editor: "Editor", agent: str, body: dict[str, Any], selector: str | None) -> None:
    from meta.cli.arguments import selector_of
    from meta.cli.client import at
    from meta.cli.steps.confirm import Wish
    from meta.records.selectors import selector_fields

    if selector:
        body["selector"] = selector_fields(selector_of(selector))
    editor.make(Wish("PATCH", at("records", agent), body, _revision(editor.client, agent)))


def _revision(client: "Client", agent: str) -> int:
    """The revision of the record's last change, ABSENT if there is no record."""
    from meta.cli.client import ABSENT, at
    from meta.errors import NotThere

    try:
        return client.get_versioned(at("records", agent), dict[str, Any])[1]
    except NotThere:
        return ABSENT
