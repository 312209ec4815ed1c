"""Logs with a limited rate, so that neither a hostile client nor a lasting failure fills the disk."""

import logging
import threading
import time
from collections import Counter

from updater.wire.text import counted

EVERY = 10.0  # seconds
AT_MOST = 20  # lines with one text in this time
REMIND_EVERY = 60.0  # seconds between two equal lines about a lasting failure
REASONS = 10  # different lines about one failure in this time


class RateLimitedLog:
    """Logs at most AT_MOST lines with the same text in EVERY seconds, and then how many were left out. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[str, float] = {}
        self._said: Counter[str] = Counter()

    def say(
        self,
        log: logging.Logger,
        text: str,
        *arguments: object,
        level: int = logging.WARNING,
        trace: bool = False,
    ) -> None:
        """Log a line, unless there were too many with this text. trace: log it as an error, with the current traceback.

        text: a constant with placeholders for the arguments; lines with the same text share a limit.
        """
        level, now = logging.ERROR if trace else level, time.monotonic()
        with self._lock:
            left_out = 0
            if now - self._begun.get(text, -EVERY) >= EVERY:
                left_out = max(0, self._said[text] - AT_MOST)
                self._begun[text] = now
                self._said[text] = 0
            self._said[text] += 1
            too_many = self._said[text] > AT_MOST
        if left_out:
            log.log(level, "left out: %s like the following", counted(left_out, "more line"))
        if not too_many:
            log.log(level, text, *arguments, exc_info=trace)


class Reminder:
    """Logs a lasting failure: each different line once, and again after REMIND_EVERY seconds. For one thread."""

    def __init__(self, log: logging.Logger, again: float = REMIND_EVERY):
        self._log = log
        self._again = again
        self._said: dict[str, float] = {}

    @property
    def is_on(self) -> bool:
        return bool(self._said)

    def say(self, text: str, *arguments: object) -> None:
        now, line = time.monotonic(), text % arguments
        self._said = {said: at for said, at in self._said.items() if now - at < self._again}
        if line not in self._said and len(self._said) < REASONS:
            self._said[line] = now
            self._log.warning("%s", line)

    def over(self) -> None:
        """Note that the failure is over; the next one is logged at once."""
        self._said.clear()
