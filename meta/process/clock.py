"""The two clocks of this process, as one value that is passed to all its parts, so that they agree on the time."""

import time
from collections.abc import Callable
from typing import NamedTuple


class Clock(NamedTuple):
    """Both clocks, as functions."""

    now: Callable[[], float] = time.time  # Unix seconds; people can set this clock
    monotonic: Callable[[], float] = time.monotonic  # seconds since some moment; cannot be set


SYSTEM = Clock()
