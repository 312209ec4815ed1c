"""What all checks of a history judge by. Pure.

What was committed within a Loss may be gone; until AFTER seconds later a meta may not have noticed it yet, so what memory shows
is not judged then. What metas know of each other is judged where nothing was broken for CALM seconds.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any

from lab.partitions.history import CREATED, OK, Asked, Edit, History, Loss, Read, Revision

AFTER = 30.0  # seconds after a loss: a silent server is given up after 15, and tried again after 5
CALM = 25.0
STALE = 4.0  # seconds; it is 0.4 on a machine that is not busy
SETTLED = 60.0  # seconds after the last fault until all metas are equal


def is_good(asked: Asked) -> bool:
    return asked.status in (OK, CREATED)


def overlaps(losses: Iterable[Loss], begin: float, end: float, after: float = 0.0) -> bool:
    return any(loss.begin <= end and begin <= loss.end + after for loss in losses)


def made(history: History) -> list[Edit]:
    """The edits of which a good answer says that they made a revision, and that no failover may have lost."""
    good = [one for one in history.edits if is_good(one.asked) and one.changed]
    return [one for one in good if not overlaps(history.losses, one.asked.begin, one.asked.end)]


class Highest:
    """The highest revision that had been acknowledged at some moment."""

    def __init__(self, edits: Iterable[Edit] = ()):
        by_end = sorted(edits, key=lambda edit: edit.asked.end)
        self._ends = [edit.asked.end for edit in by_end]
        self._highest = [0, *accumulate((edit.revision for edit in by_end), max)]

    def before(self, moment: float) -> int:
        return self._highest[bisect_left(self._ends, moment)]


def grouped(edits: Iterable[Edit], key: Callable[[Edit], Any]) -> dict[Any, Highest]:
    groups = defaultdict(list)
    for edit in edits:
        groups[key(edit)].append(edit)
    return defaultdict(Highest, {value: Highest(group) for value, group in groups.items()})


def of_agent(revisions: Sequence[Revision]) -> dict[str, list[Revision]]:
    found: dict[str, list[Revision]] = defaultdict(list)
    for revision in sorted(revisions, key=lambda one: one.number):
        if revision.agent:
            found[revision.agent].append(revision)
    return found


def judged(history: History, reads: Iterable[Read]) -> list[Read]:
    good = [one for one in reads if is_good(one.asked)]
    return [one for one in good if not overlaps(history.losses, one.asked.begin, one.asked.end, AFTER)]


def had_time(history: History, meta: int, begin: float, end: float) -> bool:
    """Whether nothing that this meta felt was broken for CALM seconds within this time, so that it has written everything."""
    felt = [fault for fault in history.faults if meta in fault.metas]
    starts = [begin, *(fault.end for fault in felt if begin <= fault.end)]
    return any(
        start + CALM <= end and not any(fault.begin <= start + CALM and start < fault.end for fault in felt)
        for start in starts
    )


def epoch(history: History, at: float) -> float:
    """The end of the last loss before this moment."""
    return max([loss.end for loss in history.losses if loss.end < at], default=0.0)


def is_calm(history: History, begin: float, end: float) -> bool:
    broken = any(fault.begin <= end and begin - CALM <= fault.end for fault in history.faults)
    return not broken and not overlaps(history.losses, begin, end, AFTER)
