"""Tables for people, JSON for programs, plain lines for pipes."""

import sys
from collections.abc import Sequence

import click
import msgspec

from updater.model.observed import State, Status
from updater.wire.heartbeat import RealAgent

_COLOURS = {State.STARTED: "green", State.STOPPED: "yellow", State.UNKNOWN: "red"}


def agents(found: Sequence[RealAgent], as_json: bool) -> None:
    """Print the agents of this host: a table on a terminal, else a line or a JSON object for each."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    elif not (sys.stdout.isatty() and _table(found)):
        for one in found:
            click.echo(f"{one.name} {one.version or '-'} {one.status}")


def _table(found: Sequence[RealAgent]) -> bool:
    """Print a table; returns whether it could be printed, as the package for hosts does not contain rich."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table("agent", "version", "status", box=None, header_style="bold")
    for one in found:
        table.add_row(one.name, one.version, Text(one.status, style=_COLOURS[Status(one.status).state]))
    Console().print(table if found else "no agents here: none of the directories has a .version")
    return True
