"""`meta label`, `retire` and `unretire`: labels of hosts, and hosts that are gone."""

from typing import TYPE_CHECKING

import click

from meta.cli import options

if TYPE_CHECKING:
    from meta.cli.client import Client
    from meta.cli.steps.confirm import Editor


@click.command(short_help="Set and remove labels of hosts.")
@click.argument("words", metavar="[HOST...|-] KEY=VALUE|KEY-...", nargs=-1, required=True, shell_complete=options.hosts)
@click.option("--name", metavar="GLOB", help="Hosts with names like 'web-*'.")
@options.selecting("--where", help="Hosts of this selector: prefix:web-, label:env=staging ...")
@click.option("--unseen", is_flag=True, help="Also hosts that have not reported yet.")
@options.changing
def label(editor: "Editor", words: tuple[str, ...], name: str | None, where: str | None, unseen: bool) -> None:
    """Set labels of HOSTs (KEY=VALUE) or remove them (KEY-). Overrides with --for label:KEY=VALUE select hosts by them.

    --name and --where select among the hosts that have reported; with both, hosts must match both. - reads names from stdin.

    \b
    Examples:
      meta label web-1 web-2 env=staging rack=r7
      meta label web-1 rack-
      meta label --name 'web-*' ring=1
      meta label --where label:ring=1 ring=2 --dry-run
      meta label - env=prod --yes < hosts.txt
      meta label web-3 env=staging --unseen
    """
    from meta.cli.arguments import labels_of
    from meta.cli.steps import labelling
    from meta.cli.steps.confirm import Wish

    first = next((i for i, word in enumerate(words) if "=" in word or word[1:].endswith("-")), len(words))
    named, (wanted, gone) = words[:first], labels_of(words[first:])
    if not (wanted or gone) or not (named or name or where):
        raise click.UsageError("name hosts first, then what to set or remove: meta label web-1 env=staging rack-")
    if named and (name or where):
        raise click.UsageError("name hosts, or choose them by --name and --where")
    known = {} if unseen else {"known": True}
    hosts = labelling.named(named) if named else labelling.chosen(editor.client, name or "", where or "")
    editor.make(Wish("POST", "/labels", {"hosts": hosts, "set": wanted, "remove": gone} | known))


@click.command(short_help="Retire hosts that are gone.")
@options.host("hosts", nargs=-1, required=True)
@options.why
@options.output
@options.connected
def retire(client: "Client", hosts: tuple[str, ...], why: str, output: str) -> None:
    """Retire HOSTs: they no longer count, and are listed only with --state retired. One that reports again is back by itself.
    `meta history` shows who retired it, and why.

    \b
    Example:
      meta retire web-1.example web-2.example --why "rack r7 is gone"
    """
    _retirement(client, hosts, why, output, retired=True)


@click.command(short_help="Take back retired hosts.")
@options.host("hosts", nargs=-1, required=True)
@options.why
@options.output
@options.connected
def unretire(client: "Client", hosts: tuple[str, ...], why: str, output: str) -> None:
    """Take back HOSTs that were retired.

    \b
    Example:
      meta unretire web-1.example
    """
    _retirement(client, hosts, why, output, retired=False)


def _retirement(client: "Client", hosts: tuple[str, ...], why: str, output: str, retired: bool) -> None:
    from meta.api.schemas.types import EditView
    from meta.cli.views import show

    hosts = tuple(dict.fromkeys(hosts))
    done = client.send("POST", "/retirements", EditView, {"hosts": hosts, "retired": retired}, why=why)
    if show.data(done, output):
        return
    changed = {one.name for one in done.changes}
    for host in hosts:
        state = "retired" if retired else "not retired"
        click.echo(f"{host}: {state}" if host in changed else f"{host}: is {state} already; nothing was changed")
