"""Keeps the output of agents' starts small, in a thread that is independent of the cycles.

A log that is larger than `maxOutput` of cfg.json is cut to its last KEPT bytes, and so are all while together they are larger
than the free space. The next check comes before a log can reach its cap at twice the speed at which it grows now. It also
comes before a flood that begins at any moment can take half of the free space. So an agent cannot fill the disk. The agent
keeps its descriptor, which appends. Output written between the reading of the last bytes and the cut is lost.
"""

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from updater import durable_files
from updater.errors import TryLater
from updater.host.context import Host

log = logging.getLogger("updater")

_IN_USE = re.compile(r"in use|EADDRINUSE|bind|listen", re.IGNORECASE)
_PORT = re.compile(r"(?<![\w.])(?:\S*:|port\W{1,3})(\d{2,5})(?!\d)", re.IGNORECASE)

KEPT = 64 << 10  # bytes
LONGEST = 1.0  # seconds between two checks
SHORTEST = 0.02  # the same while no log grows; a check takes 0.1 ms
QUICK = 0.005  # the same while logs grow
FLOOD = 1e9  # bytes per second at which an agent may start to write at any time


@contextlib.contextmanager
def trimmed(host: Host) -> Iterator[None]:
    """Context in which the logs are kept small."""
    trimmer = Trimmer(host.layout.outputs, lambda: host.config.max_output)
    over = threading.Event()
    thread = threading.Thread(target=trimmer.run, args=(over,), name="output", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Trimmer:
    """Checks all logs of a directory. cap: returns how many bytes one may have; called at each check."""

    def __init__(self, directory: Path, cap: Callable[[], int]) -> None:
        self._directory = directory
        self._cap = cap
        self._sizes: dict[str, int] = {}
        self._rates: dict[str, float] = {}
        self._checked = 0.0  # when, in monotonic seconds; 0 for never
        self._complained = ""

    def run(self, over: threading.Event) -> None:
        """Check repeatedly until `over` is set."""
        while not over.wait(self._check()):
            pass

    def _check(self) -> float:
        """Cut logs that are too large; returns the seconds until the next check."""
        now, sizes, room, cap = time.monotonic(), self._measured(), self._room(), self._cap()
        elapsed = now - self._checked if self._checked else 0.0
        rates = self._rates_now(sizes, elapsed) if elapsed else {}
        limit = cap if sum(sizes.values()) <= room else KEPT
        for name, size in sizes.items():
            if size > max(limit, KEPT):
                self._cut(name, size)
                sizes[name] = KEPT
        self._sizes, self._rates, self._checked = sizes, rates, now
        if not elapsed:  # a flood may be under way
            return SHORTEST
        full = [(cap - sizes[name]) / (2 * rate) for name, rate in rates.items()]
        full += [room / (4 * sum(rates.values()))] if rates else []
        return max(min(LONGEST, max(room / 2 / FLOOD, SHORTEST), *full), QUICK)

    def _rates_now(self, sizes: Mapping[str, int], elapsed: float) -> dict[str, float]:
        """The bytes per second by which each log grows, without those that do not.

        A former rate counts on, and half of it a second later, since a flood may pause for longer than from check to check.
        """
        found: dict[str, float] = {}
        for name, size in sizes.items():
            old = self._sizes.get(name, 0)
            grown = size - old if size >= old else size  # a start has begun it again, or an operator has cut it
            rate = max(grown / elapsed, self._rates.get(name, 0.0) * 0.5**elapsed)
            found |= {name: rate} if rate > 1 else {}
        return found

    def _room(self) -> int:
        """Free bytes on the disk of the logs, 0 if unknown. Their directory may not be there yet."""
        for place in (self._directory, *self._directory.parents):
            with contextlib.suppress(OSError):
                disk = os.statvfs(place)
                return disk.f_bavail * disk.f_frsize
        return 0

    def _measured(self) -> dict[str, int]:
        """The bytes of each log on the disk, without the hole at its start if it was cut and is not appended to."""
        found = {}
        with contextlib.suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    found[entry.name] = min(status.st_size, status.st_blocks * 512)
        return found

    def _cut(self, name: str, size: int) -> None:
        try:
            durable_files.keep_last(self._directory / name, KEPT)
        except (TryLater, OSError) as e:  # the other logs are still cut, and this one at the next check
            if str(e) != self._complained:
                log.error("an agent's output cannot be cut: %s", e)
            self._complained = str(e)
        else:
            log.debug("%s had %d bytes of output: the last %d are kept", name, size, KEPT)


def ports_in_use(output: str) -> frozenset[int]:
    """The ports in those lines of the output that report an address in use."""
    lines = [line for line in output.splitlines() if _IN_USE.search(line)]
    return frozenset(int(port) for line in lines for port in _PORT.findall(line) if 0 < int(port) < 65536)
