"""What became of the heartbeats, for /metrics: how many by status, and how long they took once the body was there.

What all are is noted with one append, and counted some thousands at a time.
"""

import threading
from bisect import bisect_right
from collections import Counter
from typing import NamedTuple

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)  # seconds, for the histogram
GATHER = 1024  # beats that wait to be counted


class Counted(NamedTuple):
    """Since the start. by_bucket: how many took no longer than each of BUCKETS, and all; seconds: of them together."""

    by_status: dict[int, int]
    by_bucket: list[int]
    seconds: float


class Beats:
    """Safe for threads."""

    def __init__(self) -> None:
        self._times: list[float] = []  # of those that were answered with 200
        self._by_status: Counter[int] = Counter()
        self._by_bucket = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._lock = threading.Lock()

    def note(self, status: int, seconds: float) -> None:
        """One was answered."""
        if status == 200:
            times = self._times
            times.append(seconds)  # the GIL is lock enough
            if len(times) >= GATHER:
                self.counted()
        else:
            with self._lock:
                self._count(status, [seconds])

    def refused(self, status: int) -> None:
        """One was not even read."""
        with self._lock:
            self._by_status[status] += 1

    def counted(self) -> Counted:
        """All so far."""
        with self._lock:
            number = len(self._times)
            times = self._times[:number]
            del self._times[:number]  # others append meanwhile
            self._count(200, times)
            return Counted(dict(self._by_status), list(self._by_bucket), self._seconds)

    @property
    def by_status(self) -> dict[int, int]:
        return self.counted().by_status

    def _count(self, status: int, times: list[float]) -> None:
        if not times:
            return
        times.sort()
        self._by_status[status] += len(times)
        self._seconds += sum(times)
        for position, bound in enumerate(BUCKETS):
            self._by_bucket[position] += bisect_right(times, bound)
        self._by_bucket[-1] += len(times)
