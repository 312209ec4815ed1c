"""Who was heard of when, and is not written yet."""

from array import array
from collections import deque
from collections.abc import Sequence
from itertools import islice

from meta.store import Beat

FEW = 100_000


class Backlog:
    """Ids of hosts by tick. However long the database is away, it grows no longer than the hosts are many: of each only the
    last time counts. few: ids that may wait twice."""

    def __init__(self, few: int = FEW) -> None:
        self._ticks: deque[tuple[float, array[int]]] = deque()
        self._few = self._limit = few
        self.waiting = 0

    def add(self, at: float, seen: Sequence[int]) -> None:
        if not seen:
            return
        self._ticks.append((at, array("I", seen)))
        self.waiting += len(seen)
        if self.waiting > self._limit:
            self._compact()

    def first(self, count: int) -> list[Beat]:
        """The oldest, up to this many."""
        return [Beat(at, seen) for at, seen in islice(self._ticks, count)]

    def drop(self, count: int) -> None:
        """These are written."""
        for _ in range(count):
            self.waiting -= len(self._ticks.popleft()[1])

    def move_along(self, by: float, now: float) -> None:
        """The clock was set by so many seconds, and it is `now`."""
        self._ticks = deque((min(at + by, now), seen) for at, seen in self._ticks)

    def clear(self) -> None:
        """Their ids mean nothing any more."""
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
