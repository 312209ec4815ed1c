"""Keeps the threads that answer heartbeats on one CPU.

Python's interpreter lock lets one of them run at a time anyway. On several CPUs they hand it over from one to another, which
costs more than a heartbeat itself: on two, 18,000 beats a second were answered without this, and 25,000 with it.
"""

import os
import threading
from contextlib import suppress


class OneCpu:
    """Call it in the thread that shall stay there. wanted: False does nothing, and so does a process with one CPU."""

    def __init__(self, wanted: bool):
        cpus = os.sched_getaffinity(0)
        self._cpu = {max(cpus)} if wanted and len(cpus) > 1 else None
        self._done = threading.local()

    def __call__(self) -> None:
        if self._cpu is None:
            return
        try:
            self._done.here  # noqa: B018 (the thread's own: there, or not)
        except AttributeError:
            self._done.here = True
            with suppress(OSError):  # the CPU was taken from us: wherever it runs, it runs
                os.sched_setaffinity(0, self._cpu)
