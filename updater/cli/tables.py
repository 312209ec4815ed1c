"""Tables for people, JSON for programs, plain lines for pipes."""

import sys
from collections.abc import Mapping, Sequence

import click
import msgspec

from updater.model.observed import State, Status
from updater.wire.heartbeat import RealAgent

_COLOURS = {State.STARTED: "green", State.STOPPED: "yellow", State.UNKNOWN: "red"}


def agents(found: Sequence[RealAgent], died: Mapping[str, str], as_json: bool) -> None:
    """Print the agents of this host: a table on a terminal, else a line or a JSON object for each.

    died: agent -> after how many starts it has died; not in JSON, which has what the control says.
    """
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    elif not (sys.stdout.isatty() and _table(found, died)):
        for one in found:
            note = f" (died {died[one.name]})" if one.name in died else ""
            click.echo(f"{one.name} {one.version or '-'} {one.status}{note}")


def _table(found: Sequence[RealAgent], died: Mapping[str, str]) -> bool:
    """Print a table; returns whether it could be printed, as the package for hosts does not contain rich."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table("agent", "version", "status", "died", box=None, header_style="bold")
    for one in found:
        status = Text(one.status, style=_COLOURS[Status(one.status).state])
        table.add_row(one.name, one.version, status, died.get(one.name, ""))
    Console().print(table if found else "no agents here: none of the directories has a .version")
    return True
