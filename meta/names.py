"""The names of all hosts in order, and when they came: kept so that one more host costs next to nothing.

Sorting is put off until somebody asks, and then only merges what is new.
"""

import threading
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable


class Names:
    """lock: that of the table, held by whoever adds and discards."""

    def __init__(self, lock: threading.Lock):
        self._lock = lock
        self._sorting = threading.Lock()
        self._sorted: list[str] = []  # replaced, never changed
        self._new: dict[str, None] = {}
        self._gone: set[str] = set()

    def load(self, names: Iterable[str]) -> None:
        """All there are."""
        self._sorted = sorted(names)

    def add(self, name: str) -> None:
        self._new[name] = None

    def discard(self, name: str) -> None:
        if name in self._new:
            del self._new[name]
        else:
            self._gone.add(name)

    def all(self) -> list[str]:
        """All names in order. The list never changes once it was handed out."""
        with self._sorting:
            with self._lock:
                new, gone, self._new, self._gone = self._new, self._gone, {}, set()
            stay = [name for name in self._sorted if name not in gone] if gone else self._sorted
            if new or gone:
                self._sorted = sorted(stay + sorted(new)) if new else stay  # two runs, which it only merges
            return self._sorted


class Arrivals:
    """When each host was first seen (Unix seconds). Not safe for threads."""

    def __init__(self) -> None:
        self._times = array("d")

    def __len__(self) -> int:
        return len(self._times)

    def load(self, times: Iterable[float]) -> None:
        """All there are."""
        self._times = array("d", sorted(times))

    def add(self, at: float) -> None:
        insort(self._times, at)

    def remove(self, at: float) -> None:
        del self._times[bisect_left(self._times, at)]

    def after(self, at: float) -> int:
        """How many came later than this."""
        return len(self._times) - bisect_right(self._times, at)
