"""The clock by which time passes for agents."""

import time


def ran() -> float:
    """For how many seconds the machine has run since its boot.

    Setting the wall clock does not change it. While the machine sleeps it stands still, as agents do. All processes share it.
    """
    return time.clock_gettime(time.CLOCK_MONOTONIC)
