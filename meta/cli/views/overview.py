"""The output of `meta status` without an agent: a line for each agent, and the number of hosts in each state."""

from collections import Counter
from typing import Any

import click
import msgspec

from meta.api.schemas.types import Counts, Drifts, NameDoubts, NameDoubtView, States
from meta.cli.client import Client
from meta.cli.views import show
from meta.errors import NotThere
from updater.wire.text import counted


class Line(msgspec.Struct, rename="camel"):
    """One agent."""

    agent: str
    desired: str  # the record's own version, "" without a record
    overrides: int
    hosts: int  # that report it
    to_go: int  # hosts that are not as desired, also those that should report it and do not
    trial: int = 0  # hosts on which it is on trial
    failed: int = 0  # hosts on which its change failed


class Overview(msgspec.Struct, rename="camel"):
    agents: list[Line]
    states: States
    doubtful: list[NameDoubtView]


def show_all(client: Client, output: str) -> None:
    found = ask(client)
    if show.data(found, output):
        return
    rows: list[show.Row] = [_row(line) for line in found.agents]
    show.table(
        ["agent", "desired", "overrides", "hosts", "not as desired", "on trial", "failed"], rows, "no agents yet"
    )
    states = [(name, getattr(found.states, name)) for name in found.states.__struct_fields__ if name != "doubled"]
    told = ", ".join(f"{count:,} {name}" for name, count in states if count)
    click.echo(f"hosts: {told or 'none has reported yet'}")
    if found.states.doubled:
        text = f"warning: two machines report under one name on {counted(found.states.doubled, 'host')}: meta hosts --doubled"
        show.styled([show.Cell(text, "yellow")], err=True)
    for doubt in found.doubtful:
        text = f"warning: {' and '.join(doubt.names)} {doubt.why}"
        show.styled([show.Cell(show.one_line_kept(text), "yellow")], err=True)


def ask(client: Client) -> Overview:
    records = client.get("/records", dict[str, list[dict[str, Any]]])["agents"]
    reported: Counter[str] = Counter()
    to_go: Counter[str] = Counter()
    trial: Counter[str] = Counter()
    counts = client.get("/counts", Counts)
    for count in counts.items:
        reported[count.agent] += count.hosts
        trial[count.agent] += count.trial
    for drift in client.get("/drift", Drifts).items:
        to_go[drift.agent] += drift.hosts
    wanted = {one["name"]: (one["version"], len(one.get("overrides", []))) for one in records}
    names = [*wanted, *sorted(reported.keys() - wanted.keys())]
    hosts = {name: (reported[name], to_go[name], trial[name], counts.failed.get(name, 0)) for name in names}
    lines = [Line(name, *wanted.get(name, ("", 0)), *hosts[name]) for name in names]
    return Overview(lines, client.get("/states", States), _doubtful(client))


def _doubtful(client: Client) -> list[NameDoubtView]:
    try:
        return client.get("/names", NameDoubts).items
    except NotThere:  # an older meta
        return []


def _row(line: Line) -> show.Row:
    style = "yellow" if line.to_go else "green"
    overrides = str(line.overrides) if line.overrides else ""
    return [
        show.Cell(line.agent, "bold"),
        line.desired,
        overrides,
        f"{line.hosts:,}",
        show.Cell(f"{line.to_go:,}", style if line.desired else ""),
        f"{line.trial:,}" if line.trial else "",
        show.Cell(f"{line.failed:,}" if line.failed else "", "red"),
    ]
