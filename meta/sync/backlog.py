"""When hosts were heard of, as long as it is not in the database yet."""

from array import array
from collections import deque
from collections.abc import Sequence
from itertools import islice

from meta.store import HeartbeatBatch

FEW = 100_000  # ids


class Backlog:
    """Ids of hosts by tick, oldest tick first.

    If the database is away for long, older entries of a host are dropped: only its latest one matters. So the backlog never
    grows much beyond the number of hosts.
    """

    def __init__(self, few: int = FEW) -> None:
        self._ticks: deque[tuple[float, array[int]]] = deque()  # when the tick began (Unix seconds), and its hosts
        self._few = self._limit = few  # older entries are dropped when there are this many more ids than hosts
        self.waiting = 0  # ids in it

    def add(self, at: float, seen: Sequence[int]) -> None:
        if not seen:
            return
        self._ticks.append((at, array("I", seen)))
        self.waiting += len(seen)
        if self.waiting > self._limit:
            self._compact()

    def first(self, count: int) -> list[HeartbeatBatch]:
        """Return up to `count` of the oldest ticks."""
        return [HeartbeatBatch(at, seen) for at, seen in islice(self._ticks, count)]

    def drop(self, count: int) -> None:
        """Remove the `count` oldest ticks, which are written."""
        for _ in range(count):
            self.waiting -= len(self._ticks.popleft()[1])

    def move_along(self, by: float, now: float) -> None:
        """Move all times by the seconds that the clock was set by. now: the new time."""
        self._ticks = deque((min(at + by, now), seen) for at, seen in self._ticks)

    def clear(self) -> None:
        """Remove everything: the database may have given the ids to other hosts."""
        self._ticks.clear()
        self.waiting = 0

    def _compact(self) -> None:
        later: set[int] = set()
        kept: deque[tuple[float, array[int]]] = deque()
        for at, seen in reversed(self._ticks):
            new = array("I", [number for number in seen if number not in later])
            later.update(new)
            if new:
                kept.appendleft((at, new))
        self._ticks, self.waiting = kept, len(later)
        self._limit = 2 * self.waiting + self._few
