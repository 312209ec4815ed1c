"""`meta label`, `retire` and `unretire`: what engineers say of hosts."""

from typing import TYPE_CHECKING

import click

from meta.cli import options
from meta.errors import Misconfigured

if TYPE_CHECKING:
    from meta.cli.changing import Editor
    from meta.cli.client import Client


@click.command(short_help="Set and remove labels of hosts.")
@click.argument("words", metavar="HOST... KEY=VALUE|KEY-...", nargs=-1, required=True, shell_complete=options.hosts)
@options.changing
def label(editor: "Editor", words: tuple[str, ...]) -> None:
    """Set labels of HOSTs (KEY=VALUE) or remove them (KEY-). Overrides with --for label:KEY=VALUE select by them. A host need
    not have reported yet.

    \b
    Examples:
      meta label web-1 web-2 env=staging rack=r7
      meta label web-1 rack-
      meta hosts --name 'web-*' --all -o json | jq -r '.items[].name' | xargs sh -c 'meta label "$@" env=prod --yes' -
    """
    from meta.cli.changing import Wish
    from meta.cli.words import labels_of
    from updater.wire import hostname_problem

    first = next((i for i, word in enumerate(words) if "=" in word or word.endswith("-")), len(words))
    hosts, (wanted, gone) = words[:first], labels_of(words[first:])
    if not hosts or not (wanted or gone):
        raise click.UsageError("name hosts first, then what to set or remove: meta label web-1 env=staging rack-")
    if problem := next(filter(None, map(hostname_problem, hosts)), ""):
        raise Misconfigured(problem)
    editor.make(Wish("POST", "/labels", {"hosts": hosts, "set": wanted, "remove": gone}))


@click.command(short_help="Put hosts aside that are gone.")
@options.host("hosts", nargs=-1, required=True)
@options.connected
def retire(client: "Client", hosts: tuple[str, ...]) -> None:
    """Put HOSTs aside: they no longer count and are listed only with --state retired. One that reports again is back by itself.

    \b
    Example:
      meta retire web-1.example web-2.example
    """
    _retirement(client, hosts, "PUT", "retired")


@click.command(short_help="Take back hosts that were put aside.")
@options.host("hosts", nargs=-1, required=True)
@options.connected
def unretire(client: "Client", hosts: tuple[str, ...]) -> None:
    """Take back HOSTs that were retired.

    \b
    Example:
      meta unretire web-1.example
    """
    _retirement(client, hosts, "DELETE", "not retired")


def _retirement(client: "Client", hosts: tuple[str, ...], method: str, done: str) -> None:
    from meta.cli.client import at
    from meta.views import HostView

    for host in hosts:
        client.send(method, at("hosts", host, "retirement"), HostView)
        click.echo(f"{host}: {done}")
