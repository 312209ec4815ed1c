"""What `meta status` shows: an agent's versions and statuses by hosts, what is not yet as desired, and the failures among that.

A meta that does not answer for a while ends no watch; a wrong token or URL does.
"""

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import msgspec

from meta.api.types import Counts, Drifts, Failures, Hosts
from meta.cli import show
from meta.cli.client import Client, at
from meta.cli.refusals import NotThere
from meta.errors import TryLater
from meta.records import selector_of
from meta.views import Count, Drift, Failure

if TYPE_CHECKING:
    from rich.console import Group

SAMPLE = 200  # hosts that are not as desired, looked at one by one
SHOWN = 10  # reasons of failures that are shown


class Status(msgspec.Struct, rename="camel"):
    """One agent. record: None when there is no such record (any more); to_go: hosts not as desired; lost: of these, as far as
    they were looked at (sampled: all of them); failures: of the versions that hosts shall have now, by reason
    (failures_are_whole: all of them)."""

    agent: str
    record: dict[str, Any] | None
    counts: list[Count]
    drift: list[Drift]
    to_go: int
    lost: int
    sampled: bool
    failures: list[Failure]
    failures_are_whole: bool = True


def look(client: Client, agent: str) -> Status:
    """Raises NotThere when neither the records nor any host know the agent."""
    counts = client.get("/counts", Counts, agent=agent).items
    record: dict[str, Any] | None = None
    try:
        record = client.get(at("records", agent), dict[str, Any])
    except NotThere:
        if not counts:
            raise
    drift = client.get("/drift", Drifts, agent=agent).items
    to_go = sum(one.hosts for one in drift)
    found = client.get("/hosts", Hosts, agent=agent, drift=True, limit=SAMPLE) if to_go else Hosts([])
    lost = sum(host.state == "lost" for host in found.items)
    failed = client.get("/failures", Failures, agent=agent) if to_go else Failures([])
    return Status(agent, record, counts, drift, to_go, lost, not found.next, failed.items, failed.is_whole)


def print_once(found: Status) -> None:
    if show.is_terminal():
        from rich.console import Console

        Console().print(_drawn(found))
        return
    show.table(["version", "status", "hosts", "note"], _rows(found), f"no host has reported {found.agent}")
    click.echo(_sentence(found))
    for failure in found.failures[:SHOWN]:
        click.echo("  " + "".join(cell.text for cell in _failed(failure)))


def watch(client: Client, agent: str, every: float, within: float | None, as_json: bool) -> int:
    """Look and show until it is done; returns the exit code: 0 done, 1 not `within` these seconds, 130 for Ctrl-C."""
    deadline = time.monotonic() + within if within else None
    shower = _live if show.is_terminal() and not as_json else _lines
    try:
        return shower(_looks(client, agent, every, deadline), as_json)
    except KeyboardInterrupt:
        return 130


def _looks(client: Client, agent: str, every: float, deadline: float | None) -> Iterator[Status]:
    """One look after the other; the last one is done, or at the deadline."""
    while True:
        try:
            found = look(client, agent)
            yield found
            if not found.to_go:
                return
        except TryLater as e:
            click.echo(f"meta: {e}", err=True)
        left = every if deadline is None else min(every, deadline - time.monotonic())
        if left <= 0:
            return
        time.sleep(left)


def _lines(looks: Iterator[Status], as_json: bool) -> int:
    last, found = "", None
    for found in looks:
        line = msgspec.json.encode(show.for_programs(found)).decode() if as_json else _line(found)
        if line != last:
            click.echo(line if as_json else f"{time.strftime('%H:%M:%S')} {line}")
            sys.stdout.flush()
        last = line
    return 0 if found and not found.to_go else 1


def _live(looks: Iterator[Status], _as_json: bool) -> int:
    from rich.live import Live

    found = None
    with Live(auto_refresh=False) as live:
        for found in looks:
            live.update(_drawn(found), refresh=True)
    return 0 if found and not found.to_go else 1


def _line(found: Status) -> str:
    """`1.0.1 started 98, 1.0.2 started 22; 98 hosts not yet as desired`."""
    counts = ", ".join(f"{one.version} {show.one_line_kept(one.status)} {one.hosts}" for one in found.counts)
    failed = "".join(f"; {''.join(cell.text for cell in _failed(one))}" for one in found.failures[:1])
    return f"{counts or 'no host has it'}; {_sentence(found)}{failed}"


def _sentence(found: Status) -> str:
    if not found.to_go:
        return "every host is as desired" if found.record else "no record says what hosts shall have"
    shall = ", ".join(f"{one.hosts:,} shall {_word(one)}" for one in found.drift)
    lost = f", {found.lost}{'' if found.sampled else ' or more'} of them lost" if found.lost else ""
    more = "" if found.failures_are_whole else " or more"
    failed = f", {sum(one.hosts for one in found.failures):,}{more} failed" if found.failures else ""
    return f"{show.hosts(found.to_go)} not yet as desired: {shall}{lost}{failed}"


def _word(drift: Drift) -> str:
    return "stop" if drift.version == "stop" else f"have {drift.version}"


def _rows(found: Status) -> list[list[show.Cell | str]]:
    wanted = _wanted(found.record)
    return [
        [one.version, show.word(one.status), f"{one.hosts:,}", wanted.get(one.version, "")]
        for one in sorted(found.counts, key=lambda one: -one.hosts)
    ]


def _wanted(record: dict[str, Any] | None) -> dict[str, str]:
    """For each version that somebody shall have, who that is."""
    if record is None:
        return {}
    found = {record["version"]: ["desired"]}
    for override in record.get("overrides", []):
        if "version" in override:
            found.setdefault(override["version"], []).append(f"for {selector_of(override).in_words()}")
    return {version: ", ".join(words) for version, words in found.items()}


def _failed(failure: Failure) -> list[show.Cell]:
    """`1.0.2 rolled back on 2 hosts: died 3 s after its start (last: web-1, 2026-11-29T04:00:00+00:00)`."""
    reason = show.one_line_kept(failure.reason) or "no reason given"
    text = f" on {show.hosts(failure.hosts)}: {reason} (last: {failure.example}, {show.when(failure.at)})"
    return [show.Cell(f"{show.one_line_kept(failure.version)} "), show.word(failure.result), show.Cell(text)]


def _drawn(found: Status) -> "Group":
    from rich.console import Group
    from rich.text import Text

    style = "yellow" if found.to_go else "green"
    parts: list[Any] = [Text(found.agent, style="bold")]
    if found.counts:
        parts.append(show.rich_table(["version", "status", "hosts", "note"], _rows(found)))
    parts.append(Text(_sentence(found), style=style))
    parts += [Text.assemble(*((cell.text, cell.style) for cell in _failed(one))) for one in found.failures[:SHOWN]]
    if len(found.failures) > SHOWN:
        parts.append(Text(f"... and more: meta hosts --agent {found.agent} --failed", style="dim"))
    return Group(*parts)
