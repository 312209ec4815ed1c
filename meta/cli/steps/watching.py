"""Asks meta for the status of an agent, once or until a watch ends.

A watch ends as soon as its result is certain. It goes on if meta does not answer for a while, or is behind another meta; a
wrong token or URL ends it.
"""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from meta.api.schemas.types import Counts
from meta.cli.client import Client, at
from meta.cli.gate import End, Gate, Judged, Status, Wanted
from meta.cli.known import require_label
from meta.cli.views import agent_status, show
from meta.errors import Misconfigured, NotThere, TryLater
from meta.queries.representations import GOING_BACK, Progress
from updater.wire.text import visible

REASONS_WITHIN = 5.0  # seconds for which a watch that has failed goes on to ask, as a way back mostly takes less
REASONS_EVERY = 0.5  # seconds between two requests for them


def ask(client: Client, wanted: Wanted, is_known: bool = False, failed_before: Sequence[str] = ()) -> Status:
    """Get the status of an agent from meta. Raises NotThere for an unknown agent or label, or a pattern that but nearly fits.

    is_known: known from an earlier answer, so they are not checked; failed_before: names of hosts that had failed then.
    """
    agent = wanted.agent
    query = {"selector": wanted.selector, "includeLost": wanted.include_lost, "failedBefore": ",".join(failed_before)}
    progress = client.get("/progress", Progress, agent=agent, **query)
    counts = client.get("/counts", Counts, agent=agent, selector=wanted.selector).items
    record: dict[str, Any] | None = None
    try:
        record = client.get(at("records", agent), dict[str, Any])
    except NotThere:
        if not is_known and not (counts or client.get("/counts", Counts, agent=agent).items):
            raise
    if progress.hint and not is_known and not progress.behind:
        raise NotThere(progress.hint)
    if not is_known and not progress.judged + progress.left and wanted.selector.startswith("label:"):
        require_label(client, wanted.selector.removeprefix("label:"))
    return Status(agent, record, counts, progress)


def watch(client: Client, wanted: Wanted, every: float, within: float | None, as_json: bool) -> int:
    """Ask every `every` seconds and show the result, for at most `within` seconds; returns an End, or 130 after Ctrl-C."""
    deadline = time.monotonic() + within if within else None
    shower, gate = agent_status.live if show.is_terminal() and not as_json else agent_status.lines, Gate(wanted)
    try:
        last = shower(_answers(client, wanted, gate, every, deadline), as_json)
    except KeyboardInterrupt:
        return 130
    found, end = last or (None, None)
    if not as_json:
        for line in agent_status.last_words(end, found, wanted, gate):
            click.echo(line)
    return End.NOT_YET if end is None else end


def _answers(client: Client, wanted: Wanted, gate: Gate, every: float, deadline: float | None) -> Iterator[Judged]:
    """Yield one answer after the other until the watch or the time ends."""
    found = None
    while True:
        try:
            found = ask(client, wanted, found is not None, gate.failed_before)
            end = gate.end(found.progress, time.monotonic())
            yield found, end
            if end is not None:
                yield from _with_reasons(client, wanted, gate, (found, end), deadline)
                return
        except (TryLater, NotThere) as e:
            if isinstance(e, NotThere) and found is None:  # a misspelt name, and no failure of a version
                raise Misconfigured(str(e)) from e
            click.echo(visible(f"meta: {e}"), err=True)
        left = every if deadline is None else min(every, deadline - time.monotonic())
        if left <= 0:
            return
        time.sleep(left)


def _with_reasons(client: Client, wanted: Wanted, gate: Gate, last: Judged, deadline: float | None) -> Iterator[Judged]:
    """Yield later answers, until they give the reasons of all failures by which the watch has ended. Its end stays.

    A host tells that it rolls a version back before it has done so, and why only then.
    """
    found, end = last
    until = min(deadline or math.inf, time.monotonic() + REASONS_WITHIN)
    while end is End.NOT_YET and any(one.reason == GOING_BACK for one in found.progress.failures):
        left = until - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(REASONS_EVERY, left))
        try:
            later = ask(client, wanted, True, gate.failed_before)
        except (TryLater, NotThere):
            return
        progress = later.progress
        if progress.behind or progress.revision != found.progress.revision or progress.failed < found.progress.failed:
            return
        found = later
        yield found, end
