"""The event loop of this process, and what sees that it goes on.

The loop ticks four times a second. A thread looks at these ticks, and logs what the loop is doing when they stop. systemd gets
its watchdog's messages from the ticks, so a loop that stands still for good is ended by it.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import FrameType

from meta.process.counts import Counts
from meta.process.systemd import Notifier

EVERY = 0.25  # seconds
log = logging.getLogger(__name__)


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's event loop, or asyncio's own where uvloop is not installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()


class Watch:
    """Watches a loop from the call of `start`, in the loop's thread, to that of `stop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, counts: Counts, notifier: Notifier, longest: float):
        self._loop = loop
        self._counts = counts
        self._notifier = notifier
        self._longest = longest  # seconds
        self._seen = time.monotonic()
        self._ended = threading.Event()
        self._thread_id = threading.get_ident()

    def start(self) -> None:
        self._tick()
        threading.Thread(target=self._look, name="loop watch", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def _tick(self) -> None:
        self._seen = time.monotonic()
        self._notifier.say("WATCHDOG=1")
        if not self._ended.is_set():
            self._loop.call_later(EVERY, self._tick)

    def _look(self) -> None:
        while not self._ended.wait(EVERY):
            seen = self._seen
            if time.monotonic() - seen <= self._longest:
                continue
            self._counts.stalls += 1
            log.warning("the loop stands still: %s", _stack(sys._current_frames().get(self._thread_id)))
            while self._seen == seen and not self._ended.wait(EVERY):
                pass
            log.warning("the loop stood still for %.1f s", time.monotonic() - seen)


def _stack(frame: FrameType | None) -> str:
    """The innermost calls, the outermost of them first."""
    calls = traceback.extract_stack(frame)[-12:] if frame else []
    return " > ".join(f"{call.name} ({call.filename.rpartition('/')[2]}:{call.lineno})" for call in calls)
