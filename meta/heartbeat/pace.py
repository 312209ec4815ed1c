"""How fast hosts are woken, so that no more than a given number of them beats in a second. Pure: the caller passes times.

Hosts that are woken together get the time over which they are to spread their heartbeats. The next ones wait until that time
is over. A tenth of the rate is kept for a few hosts at a time, so that an edit for a canary need not wait for a large wave.
"""

_LARGE = 0.9  # of the rate, for waves; the rest is for a few hosts while one is under way


class Pace:
    """rate: heartbeats a second. Times are monotonic seconds."""

    def __init__(self, rate: float):
        self._large, self._few = rate * _LARGE, rate - rate * _LARGE
        self._spare = self._few  # hosts that may be woken during a wave
        self._at = 0.0  # when `_spare` was counted
        self._until = 0.0  # when the last wave is over

    def within(self, hosts: int, now: float) -> float | None:
        """Over how many seconds so many hosts are to beat if they are woken now; None if they must wait: see `left`."""
        self._spare = min(self._spare + (now - self._at) * self._few, self._few)
        self._at = now
        if now >= self._until:
            spread = hosts / self._large
            self._until = now + spread
            return spread
        if hosts > self._spare:
            return None
        self._spare -= hosts
        return hosts / self._few

    def left(self, now: float) -> float:
        """Seconds until the last wave is over."""
        return max(self._until - now, 0.0)
