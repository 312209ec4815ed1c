"""Promises about records: edits, the history of revisions, and what each meta shows of them. Pure."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from lab.partitions.history import CONFLICT, CREATED, IN_DOUBT, OK, History
from lab.partitions.judging import (
    AFTER,
    STALE,
    Highest,
    epoch,
    grouped,
    is_calm,
    is_good,
    judged,
    made,
    of_agent,
    overlaps,
)


def kept(history: History) -> Iterator[str]:
    """Every acknowledged edit is in the history once, under its number, and a refused one never."""
    numbers = defaultdict(list)
    for revision in history.end.revisions:
        numbers[revision.mark].append(revision.number)
    for edit in made(history):
        if numbers[edit.mark] != [edit.revision]:
            yield f"edit {edit.mark} was acknowledged as revision {edit.revision}, and is there as {numbers[edit.mark]}"
    for edit in history.edits:
        refused = edit.asked.status not in (OK, CREATED, *IN_DOUBT)
        if refused and numbers[edit.mark]:
            yield f"edit {edit.mark} was refused ({edit.asked.status}), and is there as {numbers[edit.mark]}"
        if len(numbers[edit.mark]) > 1:
            yield f"edit {edit.mark} is there {len(numbers[edit.mark])} times"


def in_order(history: History) -> Iterator[str]:
    """What was answered before another was asked has the lower number."""
    acknowledged = made(history)
    highest = Highest(acknowledged)
    for edit in acknowledged:
        if (before := highest.before(edit.asked.begin)) > edit.revision:
            yield f"edit {edit.mark} is revision {edit.revision}, though {before} had been answered before it was asked"


def conditions(history: History) -> Iterator[str]:
    """Whoever named a revision and won came right after it; a conflict is told only where somebody else came between. And each
    revision begins with what the one before it left."""
    by_agent = of_agent(history.end.revisions)
    for agent, changes in by_agent.items():
        for former, later in pairwise(changes):
            if later.before != former.after:
                yield f"revision {later.number} of {agent} was made on {later.before}, but {former.number} left {former.after}"
    begun = {edit.mark: edit.asked.begin for edit in history.edits}
    for edit in history.edits:
        if not edit.expected or overlaps(history.losses, edit.asked.begin, edit.asked.end, AFTER):
            continue
        numbers = [one.number for one in by_agent[edit.agent]] if edit.agent in by_agent else []
        if is_good(edit.asked) and edit.changed:
            before = [number for number in numbers if number < edit.revision]
            if before and before[-1] != edit.expected:
                yield f"edit {edit.mark} expected revision {edit.expected} and won, but came after {before[-1]}"
        elif edit.asked.status == CONFLICT and edit.expected in numbers:
            following = [one for one in by_agent[edit.agent] if one.number > edit.expected]
            if not following or begun.get(following[0].mark, 0.0) > edit.asked.end:
                yield f"edit {edit.mark} was told a conflict, but revision {edit.expected} was the last of {edit.agent}"


def unchanged(history: History) -> Iterator[str]:
    """Whoever was told that nothing changes was told of the last revision, in which it is so."""
    by_agent, highest = of_agent(history.end.revisions), Highest(made(history))
    for edit in history.edits:
        if not is_good(edit.asked) or edit.changed or overlaps(history.losses, edit.asked.begin, edit.asked.end, AFTER):
            continue
        there = [one.after for one in by_agent.get(edit.agent, ()) if one.number <= edit.revision]
        if not there or there[-1] != edit.version:
            yield f"edit {edit.mark} was told that {edit.version} is so already, but at {edit.revision} it is {there[-1:]}"
        if (before := highest.before(edit.asked.begin)) > edit.revision:
            yield f"edit {edit.mark} was told that nothing changes at {edit.revision}, after {before} was answered"


def in_force(history: History) -> Iterator[str]:
    """What a meta acknowledged is what it shows from then on."""
    answered = grouped(made(history), lambda edit: (edit.asked.meta, epoch(history, edit.asked.begin)))
    for read in judged(history, history.reads):
        before = answered[read.asked.meta, epoch(history, read.asked.begin)].before(read.asked.begin)
        if before > read.revision:
            yield f"meta {read.asked.meta} shows revision {read.revision} after it answered {before}"


def monotonic(history: History) -> Iterator[str]:
    """No meta goes back."""
    by_meta = defaultdict(list)
    for read in judged(history, history.reads):
        by_meta[read.asked.meta, epoch(history, read.asked.begin)].append(read)
    for (meta, _), reads in by_meta.items():
        highest, ended = 0, sorted(reads, key=lambda one: one.asked.end)
        waiting = iter(ended)
        former = next(waiting, None)
        for read in sorted(reads, key=lambda one: one.asked.begin):
            while former and former.asked.end < read.asked.begin:
                highest, former = max(highest, former.revision), next(waiting, None)
            if read.revision < highest:
                yield f"meta {meta} shows revision {read.revision} after {highest}"


def same_content(history: History) -> Iterator[str]:
    """One revision is the same at all metas."""
    contents: dict[tuple[float, int], set[str]] = defaultdict(set)
    for read in judged(history, history.reads):
        contents[epoch(history, read.asked.begin), read.revision].add(read.content)
    for (_, revision), found in contents.items():
        if len(found) > 1:
            yield f"revision {revision} has {len(found)} contents"


def stale(history: History) -> Iterator[str]:
    """Where nothing is broken an edit is in force everywhere soon."""
    answered = grouped(made(history), lambda edit: epoch(history, edit.asked.begin))
    for read in judged(history, history.reads):
        since = read.asked.begin - STALE
        before = answered[epoch(history, since)].before(since)
        if before > read.revision and is_calm(history, since, read.asked.end):
            yield f"meta {read.asked.meta} shows revision {read.revision} {STALE:g} s after {before} was answered"
