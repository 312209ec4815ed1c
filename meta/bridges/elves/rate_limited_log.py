"""Warnings that a hostile peer, or a trouble that lasts, cannot fill a disk with."""

import logging
import threading
import time
from collections import Counter

EVERY = 10.0  # seconds
AT_MOST = 20  # lines of one kind in this time
REMIND_EVERY = 60.0  # seconds between two lines that say the same of a trouble that lasts
REASONS = 10  # that such a trouble may have in this time


class RateLimitedLog:
    """Logs what others cause: of one text at most AT_MOST lines in EVERY seconds, then how many more. For all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[str, float] = {}
        self._said: Counter[str] = Counter()

    def say(
        self,
        log: logging.Logger,
        now: float,
        text: str,
        *arguments: object,
        level: int = logging.WARNING,
        trace: bool = False,
    ) -> None:
        """text: a constant of the program, with its arguments apart; trace: an error, with the exception in hand."""
        level = logging.ERROR if trace else level
        with self._lock:
            left_out = 0
            if not 0 <= now - self._begun.get(text, 0.0) < EVERY:
                left_out = max(0, self._said[text] - AT_MOST)
                self._begun[text] = now
                self._said[text] = 0
            self._said[text] += 1
            too_many = self._said[text] > AT_MOST
        if left_out:
            log.log(level, "%d more lines like the following were left out", left_out)
        if not too_many:
            log.log(level, text, *arguments, exc_info=trace)


class Reminder:
    """Logs a trouble that lasts: each reason once, and again each minute. One thread's."""

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
        """The next trouble is logged at once."""
        self._said.clear()
