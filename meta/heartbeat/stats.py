"""Statistics of heartbeats for /metrics: counts by status, and durations from the received body to the answer.

Successful heartbeats cost one append each, and are counted in batches.
"""

import threading
from bisect import bisect_right
from collections import Counter
from typing import NamedTuple

BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)  # seconds, for the histogram
GATHER = 1024  # heartbeats that are counted in one batch


class Counted(NamedTuple):
    """Totals since the start."""

    by_status: dict[int, int]
    by_bucket: list[int]  # heartbeats that took at most each of BUCKETS, and all
    seconds: float  # total duration


class Beats:
    """Counts heartbeats. Safe for threads."""

    def __init__(self) -> None:
        self._times: list[float] = []  # durations of heartbeats with status 200 that are not counted yet
        self._by_status: Counter[int] = Counter()
        self._by_bucket = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._lock = threading.Lock()

    def note(self, status: int, seconds: float) -> None:
        """Record one answered heartbeat. seconds: its duration."""
        if status == 200:
            times = self._times
            times.append(seconds)  # atomic under the GIL
            if len(times) >= GATHER:
                self.counted()
        else:
            with self._lock:
                self._count(status, [seconds])

    def refused(self, status: int) -> None:
        """Record one that was refused before its body was read."""
        with self._lock:
            self._by_status[status] += 1

    def counted(self) -> Counted:
        """The totals so far."""
        with self._lock:
            number = len(self._times)
            times = self._times[:number]
            del self._times[:number]  # other threads may have appended more
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
