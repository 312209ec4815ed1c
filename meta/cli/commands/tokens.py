"""`meta token` and `whoami`: manage tokens. A token's text is printed once, alone on stdout; it is never an argument."""

from typing import TYPE_CHECKING, Any

import click

from meta.access.roles import ROLES
from meta.cli import options

if TYPE_CHECKING:
    from meta.cli.client import Client

_expires = click.option("--expires", metavar="TIME", help="How long it is valid, like 30d or 12h; by default for ever.")


@click.command(short_help="Show whose token this is.")
@options.output
@options.connected
def whoami(client: "Client", output: str) -> None:
    """Show the name and the role of your token.

    \b
    Example:
      meta whoami
    """
    from meta.api.schemas.tokens import Whoami
    from meta.cli.views import show

    found = client.get("/whoami", Whoami)
    if not show.data(found, output):
        click.echo(f"{show.one_line_kept(found.name)}: {found.role}" if found.role else "anonymous: no token was sent")


@click.group()
def token() -> None:
    """Create, list and revoke tokens.

    \b
    For the first admin, on meta's machine (access to the database allows everything anyway):
      umask 077; mkdir -p ~/.config/meta
      meta token new me --role admin --database sqlite:///var/meta.db > ~/.config/meta/token
    For others, from anywhere:
      meta token new alice --role editor --expires 90d
    For new hosts, which get a token of their own with it:
      meta token enrolment rack7 --uses 40 --expires 2d --hosts 'r7-*'
    """


@token.command(short_help="Create a token for a person or a program.")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What it may do.")
@_expires
@click.option(
    "--database", metavar="URL", help="Write it directly into this database, the one of meta serve --database."
)
@options.connection
def new(name: str, role: str, expires: str | None, database: str | None, **connection: Any) -> None:
    """Create a token and print it. Viewers read; editors also change records, bans and labels, and publish; admins also create
    tokens.

    With --database it is written directly into the database, without a token: this is how to create the first one.

    \b
    Examples:
      meta token new alice --role editor --expires 90d
      umask 077; meta token new me --role admin --database sqlite:///var/meta.db > ~/.config/meta/token
    """
    body = {"kind": "operator", "name": name, "role": role, "expiresIn": _lifetime(expires)}
    if database:
        from meta.cli.steps.first_token import write

        made = write(database, body)
    else:
        with options.connect(**connection) as client:
            made = _made(client, body)
    _hand_out(made, f"token of {name}, {role}")


@token.command(short_help="Create a token for hosts to enrol with.")
@click.argument("name")
@click.option("--uses", type=click.IntRange(1), metavar="N", help="How many hosts; by default any number.")
@_expires
@click.option("--hosts", "pattern", default="*", show_default=True, metavar="GLOB", help="Which hosts.")
@click.option("--reenrol", is_flag=True, help="Also for hosts that have a token already, which is replaced.")
@options.connected
def enrolment(client: "Client", name: str, uses: int | None, expires: str | None, pattern: str, reenrol: bool) -> None:
    """Create a token with which new hosts get a token of their own, and print it. It should be short-lived, and for few hosts.

    \b
    Example:
      meta token enrolment rack7 --uses 40 --expires 2d --hosts 'r7-*'
    """
    body = {"kind": "enrolment", "name": name, "expiresIn": _lifetime(expires), "pattern": pattern, "reenrol": reenrol}
    _hand_out(_made(client, body | {"uses": uses or -1}), f"enrolment token {name}, for {pattern}")


@token.command("list", short_help="List tokens.")
@click.option("--all", "everything", is_flag=True, help="Also those that are revoked, expired or used up.")
@options.output
@options.connected
def list_(client: "Client", everything: bool, output: str) -> None:
    """List the tokens of people and for enrolment, without their text, which only their owners have.

    \b
    Example:
      meta token list --all
    """
    import time

    from meta.api.schemas.tokens import Tokens
    from meta.cli.views import show

    found = client.get("/tokens", Tokens)
    now = time.time()
    if not everything:
        found.items = [t for t in found.items if not t.revoked and t.uses and not 0 < t.expires <= now]
    if show.data(found, output):
        return
    rows = [[str(one.id), one.name, *_what(one), show.when(one.created), _end(one, now)] for one in found.items]
    show.table(["id", "name", "role", "for", "created", "ends"], rows, "no tokens")


def _what(one: Any) -> list[str]:
    """[role, for which hosts and how many], the latter for an enrolment token."""
    if one.kind == "operator":
        return [one.role, ""]
    return [one.kind, one.pattern if one.uses < 0 else f"{one.pattern}, {one.uses} more"]


def _end(one: Any, now: float) -> str:
    from meta.cli.views import show

    if one.revoked:
        return f"revoked {show.when(one.revoked, now)}"
    return show.when(one.expires, now) if one.expires else "never"


@token.command(short_help="Revoke a token.")
@click.argument("number", metavar="ID", type=click.IntRange(1))
@options.connected
def revoke(client: "Client", number: int) -> None:
    """Revoke the token with this ID (see `meta token list`), at once and for good.

    \b
    Example:
      meta token revoke 3
    """
    client.send("DELETE", f"/tokens/{number}", type(None))
    click.echo(f"token {number} is revoked")


@token.command(short_help="Revoke a host's token.")
@options.host("host")
@options.connected
def revoke_host(client: "Client", host: str) -> None:
    """Revoke the token of HOST. It may enrol again; until then it counts as a host without a token.

    \b
    Example:
      meta token revoke-host web-1.example
    """
    from meta.cli.client import at

    client.send("DELETE", at("hosts", host, "token"), type(None))
    click.echo(f"the token of {host} is revoked")


def _lifetime(expires: str | None) -> float:
    """The lifetime in seconds, 0 for ever; meta computes the end by its own clock."""
    if not expires:
        return 0.0
    from meta.cli.arguments import seconds

    return seconds(expires)


def _made(client: "Client", body: dict[str, Any]) -> str:
    from meta.api.schemas.tokens import NewToken
    from meta.cli.views import show

    made = client.send("POST", "/tokens", NewToken, body)
    for warning in made.warnings:
        click.echo(f"warning: {show.one_line_kept(warning)}", err=True)
    return made.token


def _hand_out(text: str, what: str) -> None:
    """Print the token alone on stdout, and the rest on stderr."""
    click.echo(f"{what}; it is shown only once:", err=True)
    click.echo(text)
