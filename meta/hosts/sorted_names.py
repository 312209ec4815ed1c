"""The names of all hosts in order, and when they came: kept so that one more host costs next to nothing.

Sorting is put off until somebody asks, and then only merges what is new. So is finding the names that are not as the name
service has them.
"""

import threading
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

_LAST = "\U0010ffff"  # after all that a name holds


def folded(name: str) -> str:
    """The same for names that the name service takes for one."""
    return name.rstrip(".").lower()


def starting(ordered: Sequence[str], prefix: str) -> range:
    """Where in a sorted list the names are that start with this."""
    return range(bisect_left(ordered, prefix), bisect_right(ordered, prefix + _LAST))


class Folded:
    """Sorted names that never change, to be asked for those that are the same but for case or a last dot. Only names that are
    not as the name service has them take room, so most fleets need none."""

    def __init__(self, ordered: Sequence[str]):
        self.ordered = ordered

    def __contains__(self, name: str) -> bool:
        at = bisect_left(self.ordered, name)
        return at < len(self.ordered) and self.ordered[at] == name

    @cached_property
    def odd(self) -> dict[str, list[str]]:
        """By what they are folded to, in order, the names that are something else."""
        found: dict[str, list[str]] = {}
        for name in self.ordered:
            if name[-1] == "." or name != name.lower():
                found.setdefault(folded(name), []).append(name)
        return dict(sorted(found.items()))

    @cached_property
    def _odd_folds(self) -> list[str]:
        return list(self.odd)

    def same(self, fold: str) -> list[str]:
        """All that are folded to this, in order."""
        names = self.odd.get(fold, [])
        return sorted([fold, *names]) if fold in self else names

    def alike(self, start: str, only_odd: bool = False) -> Iterator[str]:
        """Those that are folded to what starts with this (folded) text; only_odd: and are something else themselves."""
        places = starting(self._odd_folds, start)
        for at in places:
            yield from self.odd[self._odd_folds[at]]
        if not only_odd:
            for at in starting(self.ordered, start):
                yield self.ordered[at]


class Names:
    """lock: that of the table, which adds and discards under it; what asks takes it here."""

    def __init__(self, lock: threading.Lock):
        self._lock = lock
        self._sorting = threading.Lock()
        self._sorted: list[str] = []  # replaced, never changed
        self._new: dict[str, None] = {}
        self._gone: set[str] = set()
        self._folded = Folded(self._sorted)

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

    def folded(self) -> Folded:
        """All names, to be looked for by what nearly fits. The same one until there are other names."""
        names, known = self.all(), self._folded
        if known.ordered is not names:
            known = self._folded = Folded(names)
        return known


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

    def move_along(self, by: float, latest: float) -> None:
        """Each was seen so many seconds later, at `latest` at most."""
        self._times = array("d", [min(at + by, latest) for at in self._times])

    def after(self, at: float) -> int:
        """How many came later than this."""
        return len(self._times) - bisect_right(self._times, at)
