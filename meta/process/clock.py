"""The two clocks of this process, as one value that is handed down: what one part takes for now, all parts do."""

import time
from collections.abc import Callable
from typing import NamedTuple


class Clock(NamedTuple):
    """now: Unix seconds, by a clock that people can set; monotonic: seconds since some moment, by one that nothing sets."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


SYSTEM = Clock()
