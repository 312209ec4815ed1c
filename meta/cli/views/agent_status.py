"""The output of `meta status`: an agent's versions and statuses by hosts, the progress of its change, and failures."""

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import msgspec

from meta.cli.gate import End, Gate, Judged, Status, Wanted
from meta.cli.views import show
from meta.queries.representations import Count, Failure, Progress, Standing
from meta.records.selectors import selector_of
from updater.wire.heartbeat import CHANGE
from updater.wire.names import START
from updater.wire.text import counted

if TYPE_CHECKING:
    from rich.console import Group

SHOWN = 10  # failures that are shown
IN_LINE = 3  # failures in a line of a watch


def print_once(found: Status, selector: str) -> None:
    if show.is_terminal():
        from rich.console import Console

        Console().print(_drawn(found))
        return
    whom = f"no host of {selector}" if selector else "no host"  # on which it may have failed all the same
    show.table(["version", "status", "hosts", "note"], _rows(found), f"{whom} has {found.agent}")
    for cells in _words(found):
        click.echo("".join(cell.text for cell in cells))


def lines(answers: Iterator[Judged], as_json: bool) -> Judged | None:
    """Print a line for each answer that differs from the one before; returns the last one."""
    shown, last = "", None
    for last in answers:
        line = msgspec.json.encode(show.for_programs(last[0])).decode() if as_json else _line(last[0])
        if line != shown:
            click.echo(line if as_json else f"{time.strftime('%H:%M:%S')} {line}")
            sys.stdout.flush()
        shown = line
    return last


def live(answers: Iterator[Judged], _as_json: bool) -> Judged | None:
    """Draw each answer in the place of the one before; returns the last one."""
    from rich.live import Live

    last = None
    with Live(auto_refresh=False) as drawn:
        for last in answers:
            drawn.update(_drawn(last[0]), refresh=True)
    return last


def last_words(end: End | None, found: Status | None, wanted: Wanted, gate: Gate) -> Iterator[str]:
    """Yield sentences that say how the watch ended, and for which hosts it is not done."""
    if found is None:
        yield "meta did not answer"
        return
    progress = found.progress
    if end is End.TAKEN_BACK:
        yield _taken_back(progress, wanted.agent, gate.taken)
    elif end is End.WAITS_FOR_A_PERSON:
        yield "waits for a person: all remaining hosts hold the agent; on each run: updater unhold"
    elif end is None:
        yield f"the time is up; not done yet: {_pending(progress)}"
    elif end is End.DONE:
        allowed = f", {progress.failed:,} failed, which --max-failed allows" if progress.failed else ""
        yield f"done: {counted(progress.good, 'host')} good{allowed}"
    elif not progress.judged:
        yield "no host counts" if progress.desired else "no record orders this agent"
    elif progress.failed:
        yield f"failed on {counted(progress.failed, 'host')}: see meta hosts --agent {wanted.agent} --failed"
    if gate.missing and end is not End.TAKEN_BACK:
        names, more = ", ".join(progress.gone[:SHOWN]), gate.missing - SHOWN
        named = f"{names} and {more:,} more" if more > 0 else names
        yield f"failed on {counted(gate.missing, 'host')} that {wanted.selector} no longer selects: {named}"
        yield from (f"  {''.join(cell.text for cell in _failed(one))}" for one in progress.gone_failures[:SHOWN])
    if left := progress.left:
        yield f"left out: {_names(progress.left_out, left)}"


def _taken_back(progress: Progress, agent: str, taken: int) -> str:
    if progress.banned and not taken:
        text = f"taken back from {counted(progress.banned, 'host')}: what the records name for them is banned"
        return f"{text}; set another version, or lift the ban: see meta bans"
    whom, who = (f" from {counted(taken, 'host')}", "they") if taken else ("", "hosts")
    text = f"taken back{whom}: an edit has changed what {who} were to have when this watch began"
    return f"{text}: see meta history {agent}"


def _pending(progress: Progress) -> str:
    hosts = progress.todo + progress.trial
    if hosts:
        return _names(progress.last, hosts)
    refused = f"{counted(progress.refused, 'host')} refused a download before this began, and may not have asked again"
    return _why_not_yet(progress) or (refused if progress.refused else "it was not done for long enough")


def _why_not_yet(progress: Progress) -> str:
    """Why this answer must not end a watch, or ""."""
    if progress.behind:
        return f"meta is behind: {progress.behind}"
    return f"meta was away, so silent hosts may be back within {progress.patience:.0f} s" if progress.patience else ""


def _names(some: list[Standing], count: int) -> str:
    named = ", ".join(f"{one.name} ({one.state})" for one in some)
    return f"{named} and {count - len(some):,} more" if count > len(some) else named


def _line(found: Status) -> str:
    """`1.0.1 started 98, 1.0.2 started 22; 98 to do, 22 good; left out: 1 lost`."""
    counts = ", ".join(f"{one.version} {show.one_line_kept(one.status)} {one.hosts}" for one in found.counts)
    failures = [*found.progress.failures, *found.progress.gone_failures][:IN_LINE]
    failed = "".join(f"; {''.join(cell.text for cell in _failed(one))}" for one in failures)
    return f"{counts or 'no host has it'}; {_sentence(found)}{failed}"


def _sentence(found: Status) -> str:
    progress = found.progress
    if not progress.desired:
        return "no record orders this agent"
    waits = ", ".join(_waiting(word, count) for word, count in sorted(progress.waits.items()))
    parts = [
        f"{progress.todo:,} to do{f' ({waits})' if waits else ''}" if progress.todo else "",
        f"{progress.trial:,} on trial" if progress.trial else "",
        f"{progress.failed:,} failed" if progress.failed else "",
        f"{progress.good:,} good" if progress.good else "",
        f"{len(progress.gone):,} failed and no longer selected" if progress.gone else "",
    ]
    left = [
        f"{count:,} {word}"
        for word in ("late", "lost", "held", "doubled", "banned")
        if (count := getattr(progress, word))
    ]
    told = ", ".join(filter(None, parts)) or "no host counts"
    if _is_settled(progress):
        told = f"every host {'that counts ' if left else ''}is as desired: {told}"
    told = f"{told}; left out: {', '.join(left)}" if left else told
    return f"{told}; {_why_not_yet(progress)}" if _why_not_yet(progress) else told


def _is_settled(progress: Progress) -> bool:
    return progress.good == progress.judged > 0 and not progress.gone and not progress.banned


def _waiting(word: str, count: int) -> str:
    if word == START:
        return f"{count:,} {'is' if count == 1 else 'are'} stopped"
    return f"{count:,} under way" if word == CHANGE else f"{count:,} wait for {word}"


def _words(found: Status) -> Iterator[list[show.Cell]]:
    """The sentence, the last hosts, and the failures."""
    progress = found.progress
    yield [show.Cell(_sentence(found), "green" if _is_settled(progress) else "yellow")]
    pending = progress.todo + progress.trial
    if 0 < pending <= len(progress.last):
        yield [show.Cell(f"  {_names(progress.last, pending)}")]
    if progress.left_out:
        left = progress.left
        yield [show.Cell(f"  left out: {_names(progress.left_out, left)}", "dim")]
    for failure in [*progress.failures[:SHOWN], *progress.gone_failures[:SHOWN]]:
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
    failed = f"{count.failed:,} failed" if count.failed else ""
    return "; ".join(filter(None, [wanted.get(count.version, ""), trial, failed]))


def _wanted(record: dict[str, Any] | None) -> dict[str, str]:
    """version -> for which hosts it is desired, as text."""
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
    last = ", ".join(filter(None, (failure.example, show.when(failure.at))))  # without a host, the time is unknown too
    text = f" on {counted(failure.hosts, 'host')}: {reason} (last: {last})"
    return [show.Cell(f"{show.one_line_kept(failure.version)} "), show.word(failure.result), show.Cell(text)]


def _drawn(found: Status) -> "Group":
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [Text(found.agent, style="bold")]
    if found.counts:
        parts.append(show.rich_table(["version", "status", "hosts", "note"], _rows(found)))
    parts += [Text.assemble(*((cell.text, cell.style) for cell in cells)) for cells in _words(found)]
    return Group(*parts)
