"""What `meta status` shows: an agent's versions and statuses by hosts, how far its change has come, and where that failed.

A watch ends as soon as its end is certain. A meta that does not answer for a while ends no watch; a wrong token or URL does.
"""

import sys
import time
from collections.abc import Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from meta.api.types import Counts
from meta.cli import show
from meta.cli.client import Client, at
from meta.errors import NotThere, TryLater
from meta.records import selector_of
from meta.views import Count, Failure, Progress, Standing

if TYPE_CHECKING:
    from rich.console import Group

SHOWN = 10  # reasons of failures that are shown


class End(IntEnum):
    """Exit codes of every watch."""

    DONE = 0
    NOT_YET = 1  # time is over, or it failed
    WAITS_FOR_A_PERSON = 3  # 2 is wrong use
    TAKEN_BACK = 4


class Wanted(NamedTuple):
    """What is looked at. max_failed: hosts that may fail, or (is_share) per cent of those that are not left out; None: none,
    but the watch goes on to the end."""

    agent: str
    selector: str = ""
    include_lost: bool = False
    max_failed: int | None = None
    is_share: bool = False

    def allowed(self, judged: int) -> int:
        """How many of so many hosts may fail."""
        most = self.max_failed or 0
        return most * judged // 100 if self.is_share else most


class Status(msgspec.Struct, rename="camel"):
    """One agent. record: None when there is no such record (any more); counts: of all hosts; progress: of those that are asked
    for."""

    agent: str
    record: dict[str, Any] | None
    counts: list[Count]
    progress: Progress


def look(client: Client, wanted: Wanted) -> Status:
    """Raises NotThere when neither the records nor any host know the agent."""
    agent = wanted.agent
    query = {"selector": wanted.selector, "includeLost": wanted.include_lost}
    progress = client.get(
        "/progress", Progress, agent=agent, **query
    )  # before the record: a change in between is then seen
    counts = client.get("/counts", Counts, agent=agent).items
    record: dict[str, Any] | None = None
    try:
        record = client.get(at("records", agent), dict[str, Any])
    except NotThere:
        if not counts:
            raise
    return Status(agent, record, counts, progress)


def end_of(found: Status, wanted: Wanted, first: Status) -> End | None:
    """Whether this is the end of a watch that began with `first`; None: not yet. Pure."""
    if found.record is None or not _versions(first.record) <= _versions(found.record):
        return End.TAKEN_BACK if first.record is not None else End.NOT_YET
    progress, allowed = found.progress, wanted.allowed(found.progress.judged)
    if not progress.judged:
        return End.WAITS_FOR_A_PERSON if progress.held else End.NOT_YET
    if progress.failed > allowed and wanted.max_failed is not None:
        return End.NOT_YET
    if progress.todo or progress.trial:
        return None
    return End.NOT_YET if progress.failed > allowed else End.DONE


def _versions(record: dict[str, Any] | None) -> set[tuple[str, str]]:
    """What hosts shall have by this record."""
    if record is None:
        return set()
    own = {"version": record["version"], "cmd": record.get("cmd", "start")}
    return {(one["version"], one["cmd"]) for one in (own, *(own | other for other in record.get("overrides", [])))}


def print_once(found: Status) -> None:
    if show.is_terminal():
        from rich.console import Console

        Console().print(_drawn(found))
        return
    show.table(["version", "status", "hosts", "note"], _rows(found), f"no host has reported {found.agent}")
    for cells in _words(found):
        click.echo("".join(cell.text for cell in cells))


def watch(client: Client, wanted: Wanted, every: float, within: float | None, as_json: bool) -> int:
    """Look and show until the end, or `within` these seconds; returns the exit code: one of End, or 130 for Ctrl-C."""
    deadline = time.monotonic() + within if within else None
    shower = _live if show.is_terminal() and not as_json else _lines
    try:
        last = shower(_looks(client, wanted, every, deadline), as_json)
    except KeyboardInterrupt:
        return 130
    found, end = last or (None, None)
    if not as_json:
        for line in _last_words(end, found, wanted):
            click.echo(line)
    return End.NOT_YET if end is None else end


Look = tuple[Status, End | None]


def _looks(client: Client, wanted: Wanted, every: float, deadline: float | None) -> Iterator[Look]:
    """One look after the other; the last one is the end, or at the deadline."""
    first = None
    while True:
        try:
            found = look(client, wanted)
            first = first or found
            end = end_of(found, wanted, first)
            yield found, end
            if end is not None:
                return
        except TryLater as e:
            click.echo(f"meta: {e}", err=True)
        left = every if deadline is None else min(every, deadline - time.monotonic())
        if left <= 0:
            return
        time.sleep(left)


def _lines(looks: Iterator[Look], as_json: bool) -> Look | None:
    """Show them, and return the last."""
    shown, last = "", None
    for last in looks:
        line = msgspec.json.encode(show.for_programs(last[0])).decode() if as_json else _line(last[0])
        if line != shown:
            click.echo(line if as_json else f"{time.strftime('%H:%M:%S')} {line}")
            sys.stdout.flush()
        shown = line
    return last


def _live(looks: Iterator[Look], _as_json: bool) -> Look | None:
    from rich.live import Live

    last = None
    with Live(auto_refresh=False) as live:
        for last in looks:
            live.update(_drawn(last[0]), refresh=True)
    return last


def _last_words(end: End | None, found: Status | None, wanted: Wanted) -> Iterator[str]:
    """How it ended, and the hosts that one would ask about then."""
    if found is None:
        yield "meta did not answer"
        return
    progress = found.progress
    if end is End.TAKEN_BACK:
        yield "taken back: the record has changed, and what hosts had to have when this began they need not have any more"
    elif end is End.WAITS_FOR_A_PERSON:
        yield "waits for a person: the hosts that are left hold the agent; on each of them: updater unhold"
    elif end is None:
        yield f"time is over; not done yet: {_names(progress.last, progress.todo + progress.trial)}"
    elif end is End.DONE:
        allowed = f", {progress.failed:,} failed, which --max-failed allows" if progress.failed else ""
        yield f"done: {show.hosts(progress.good)} good{allowed}"
    elif not progress.judged:
        yield "no record says what hosts shall have" if found.record is None else "no host to judge"
    else:
        yield f"failed on {show.hosts(progress.failed)}: meta hosts --agent {wanted.agent} --failed"
    if left := progress.late + progress.lost + progress.held:
        yield f"left out: {_names(progress.left_out, left)}"


def _names(some: list[Standing], count: int) -> str:
    named = ", ".join(f"{one.name} ({one.state})" for one in some)
    return f"{named} and {count - len(some):,} more" if count > len(some) else named


def _line(found: Status) -> str:
    """`1.0.1 started 98, 1.0.2 started 22; 98 to do, 22 good; left out: 1 lost`."""
    counts = ", ".join(f"{one.version} {show.one_line_kept(one.status)} {one.hosts}" for one in found.counts)
    failed = "".join(f"; {''.join(cell.text for cell in _failed(one))}" for one in found.progress.failures[:1])
    return f"{counts or 'no host has it'}; {_sentence(found)}{failed}"


def _sentence(found: Status) -> str:
    progress = found.progress
    if found.record is None:
        return "no record says what hosts shall have"
    waits = ", ".join(f"{count:,} wait for {word}" for word, count in sorted(progress.waits.items()))
    parts = [
        f"{progress.todo:,} to do{f' ({waits})' if waits else ''}" if progress.todo else "",
        f"{progress.trial:,} on trial" if progress.trial else "",
        f"{progress.failed:,} failed" if progress.failed else "",
        f"{progress.good:,} good" if progress.good else "",
    ]
    left = [f"{count:,} {word}" for word in ("late", "lost", "held") if (count := getattr(progress, word))]
    told = ", ".join(filter(None, parts)) or "no host to judge"
    if progress.good == progress.judged > 0:
        told = f"every host is as desired: {told}"
    return f"{told}; left out: {', '.join(left)}" if left else told


def _words(found: Status) -> Iterator[list[show.Cell]]:
    """The sentence, the last hosts, and the failures."""
    progress = found.progress
    settled = progress.good == progress.judged > 0
    yield [show.Cell(_sentence(found), "green" if settled else "yellow")]
    pending = progress.todo + progress.trial
    if 0 < pending <= len(progress.last):
        yield [show.Cell(f"  {_names(progress.last, pending)}")]
    if progress.left_out:
        left = progress.late + progress.lost + progress.held
        yield [show.Cell(f"  left out: {_names(progress.left_out, left)}", "dim")]
    for failure in progress.failures[:SHOWN]:
        yield [show.Cell("  "), *_failed(failure)]
    if len(progress.failures) > SHOWN:
        yield [show.Cell(f"  ... and more: meta hosts --agent {found.agent} --failed", "dim")]


def _rows(found: Status) -> list[list[show.Cell | str]]:
    wanted = _wanted(found.record)
    return [
        [one.version, show.word(one.status), f"{one.hosts:,}", _note(one, wanted)]
        for one in sorted(found.counts, key=lambda one: -one.hosts)
    ]


def _note(count: Count, wanted: dict[str, str]) -> str:
    trial = f"{count.trial:,} on trial" if count.trial else ""
    return "; ".join(filter(None, [wanted.get(count.version, ""), trial]))


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

    parts: list[Any] = [Text(found.agent, style="bold")]
    if found.counts:
        parts.append(show.rich_table(["version", "status", "hosts", "note"], _rows(found)))
    parts += [Text.assemble(*((cell.text, cell.style) for cell in cells)) for cells in _words(found)]
    return Group(*parts)
