"""The two clocks of this process, as one value that is passed to all its parts, so that they agree on the time.

A wall clock may be set at any moment. If each part saw that by itself, times from before and after it would be compared. So the
time of all parts goes on as before until one of them, which can change all of it together, has it follow.
"""

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

T = TypeVar("T")
Now = Callable[[], float]  # Unix seconds


class Clock(NamedTuple):
    """Both clocks, as functions."""

    now: Now = time.time  # people can set this clock
    monotonic: Callable[[], float] = time.monotonic  # seconds since some moment; cannot be set


SYSTEM = Clock()


class SteadyClock:
    """A clock that is not moved by setting the wall clock, but only by `follow`."""

    def __init__(self, clock: Clock = SYSTEM):
        self.wall, self.monotonic = clock
        self.began = self.wall() - self.monotonic()  # the time at which `monotonic` was 0 (Unix seconds)

    def now(self) -> float:
        """Return Unix seconds."""
        return self.monotonic() + self.began

    def follow(self, by: float) -> None:
        """Move the time by the seconds that the wall clock was set by."""
        self.began += by

    def at_one_time(self, work: Callable[[float], T]) -> T:
        """Return the result of `work`, called with the present time, and again if the time was moved in between."""
        while True:
            began = self.began
            found = work(self.monotonic() + began)
            if self.began == began:
                return found
