"""The sorted names of all hosts, and when each was first seen. Adding one more host costs very little.

Names are sorted when they are asked for, and then only new ones are merged in. Names that DNS would write differently are
found on demand too.
"""

import threading
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

_LAST = "\U0010ffff"  # sorts after every character of a name


def folded(name: str) -> str:
    """Return the name in small letters and without a final dot: equal for names that are one name in DNS."""
    return name.rstrip(".").lower()


def starting(ordered: Sequence[str], prefix: str) -> range:
    """Return the positions, in a sorted list, of the names that start with this prefix."""
    return range(bisect_left(ordered, prefix), bisect_right(ordered, prefix + _LAST))


class Folded:
    """Sorted names, with a search for names that differ only in case or in a final dot. They never change.

    Only names that differ from their folded form take extra memory, and most fleets have none.
    """

    def __init__(self, ordered: Sequence[str]):
        self.ordered = ordered

    def __contains__(self, name: str) -> bool:
        at = bisect_left(self.ordered, name)
        return at < len(self.ordered) and self.ordered[at] == name

    @cached_property
    def odd(self) -> dict[str, list[str]]:
        """The names that differ from their folded form, by that form, in order."""
        found: dict[str, list[str]] = {}
        for name in self.ordered:
            if name[-1] == "." or name != name.lower():
                found.setdefault(folded(name), []).append(name)
        return dict(sorted(found.items()))

    @cached_property
    def _odd_folds(self) -> list[str]:
        return list(self.odd)

    def same(self, fold: str) -> list[str]:
        """Return all names with this folded form, in order."""
        names = self.odd.get(fold, [])
        return sorted([fold, *names]) if fold in self else names

    def alike(self, start: str, only_odd: bool = False) -> Iterator[str]:
        """Yield the names whose folded form starts with `start`, those that differ from that form last, and maybe twice.
        only_odd: only these."""
        if not only_odd:
            for at in starting(self.ordered, start):
                yield self.ordered[at]
        for at in starting(self._odd_folds, start):
            yield from self.odd[self._odd_folds[at]]


class Names:
    """The sorted names of all hosts. The table holds `lock` around `add` and `discard`; other methods take it themselves."""

    def __init__(self, lock: threading.Lock):
        self._lock = lock
        self._sorting = threading.Lock()
        self._sorted: list[str] = []  # replaced, never changed
        self._new: dict[str, None] = {}
        self._gone: set[str] = set()
        self._folded = Folded(self._sorted)

    def load(self, names: Iterable[str]) -> None:
        """Replace all names."""
        self._sorted = sorted(names)

    def add(self, name: str) -> None:
        self._new[name] = None

    def discard(self, name: str) -> None:
        if name in self._new:
            del self._new[name]
        else:
            self._gone.add(name)

    def all(self) -> list[str]:
        """Return all names in order. The list never changes afterwards."""
        with self._sorting:
            with self._lock:
                new, gone, self._new, self._gone = self._new, self._gone, {}, set()
            stay = [name for name in self._sorted if name not in gone] if gone else self._sorted
            if new or gone:
                self._sorted = sorted(stay + sorted(new)) if new else stay  # two sorted runs, which are merged
            return self._sorted

    def folded(self) -> Folded:
        """Return all names for a search by folded form. It is the same object until the names change."""
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
        """Replace all times."""
        self._times = array("d", sorted(times))

    def add(self, at: float) -> None:
        insort(self._times, at)

    def remove(self, at: float) -> None:
        del self._times[bisect_left(self._times, at)]

    def move_along(self, by: float, latest: float) -> None:
        """Move each time by `by` seconds, to `latest` at most."""
        self._times = array("d", [min(at + by, latest) for at in self._times])

    def after(self, at: float) -> int:
        """Return how many hosts were first seen later than this."""
        return len(self._times) - bisect_right(self._times, at)
