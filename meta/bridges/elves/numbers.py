"""What happened how often, for /metrics; and warnings that a hostile peer cannot fill a disk with."""

import logging
import threading
from collections import Counter
from collections.abc import Mapping

EVERY = 10.0  # seconds
AT_MOST = 20  # lines of one kind in this time


class Numbers:
    """Counters and gauges by name. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._gauges: dict[str, float] = {}

    def add(self, name: str, by: int = 1) -> None:
        with self._lock:
            self._counts[name] += by

    def set(self, name: str, value: float) -> None:
        with self._lock:
            self._gauges[name] = value

    def get(self, name: str) -> float:
        with self._lock:
            return self._counts.get(name, 0) or self._gauges.get(name, 0)

    def render(self, more: Mapping[str, float]) -> str:
        """Prometheus' text format. more: gauges that are looked up when asked for."""
        with self._lock:
            counts, gauges = dict(self._counts), self._gauges | dict(more)
        lines = []
        for name, value in sorted(counts.items()):
            lines += [f"# TYPE meta_elves_{name}_total counter", f"meta_elves_{name}_total {value}"]
        for name, value in sorted(gauges.items()):
            lines += [f"# TYPE meta_elves_{name} gauge", f"meta_elves_{name} {value:g}"]
        return "\n".join(lines) + "\n"


class Sparing:
    """Logs warnings, of one text at most some in ten seconds, and says how many were left out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[str, float] = {}
        self._said: Counter[str] = Counter()

    def say(self, log: logging.Logger, now: float, text: str, *arguments: object) -> None:
        """text: a constant of the program, with its arguments apart."""
        with self._lock:
            left_out = 0
            if not 0 <= now - self._begun.get(text, 0.0) < EVERY:
                left_out = max(0, self._said[text] - AT_MOST)
                self._begun[text] = now
                self._said[text] = 0
            self._said[text] += 1
            too_many = self._said[text] > AT_MOST
        if left_out:
            log.warning("%d more warnings like the following were left out", left_out)
        if not too_many:
            log.warning(text, *arguments)
