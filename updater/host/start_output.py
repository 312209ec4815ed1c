"""Keeps the output of agents' starts small, in a thread that is independent of the cycles.

A log that is larger than `maxOutput` of cfg.json is cut to its last KEPT bytes. This happens within SLOW seconds while any
log grows, and within QUICK seconds while logs grow fast, so that an agent cannot fill the disk. While no log grows, the
checks become rarer, up to REST seconds, if the disk has room for a flood of that duration. The agent keeps its descriptor,
which appends. Output written between the reading of the last bytes and the cut is lost.
"""

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from updater import durable_files
from updater.errors import TryLater
from updater.host.context import Host

log = logging.getLogger("updater")

_IN_USE = re.compile(r"in use|EADDRINUSE|bind|listen", re.IGNORECASE)
_PORT = re.compile(r"(?<![\w.])(?:\S*:|port\W{1,3})(\d{2,5})(?!\d)", re.IGNORECASE)

KEPT = 64 << 10  # bytes
QUICK, SLOW = 0.05, 1.0  # seconds between two checks
REST = 8.0  # longest time between two checks, in seconds
FLOOD = 1e9  # bytes per second at which an agent may start to write at any time
FAST = 1 << 20  # bytes of growth between two checks from which the next one follows after QUICK


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
        self._complained = ""
        self._rest = SLOW / 2

    def run(self, over: threading.Event) -> None:
        """Check repeatedly until `over` is set."""
        while not over.wait(self._pause(self._look())):
            pass

    def _pause(self, grown: int) -> float:
        """Seconds until the next check, after one that found the logs grown by `grown` bytes."""
        self._rest = SLOW / 2 if grown else min(self._rest * 2, REST)
        if grown > FAST:
            return QUICK
        return max(SLOW, min(self._rest, self._room() / FLOOD))

    def _room(self) -> int:
        """Free bytes on the disk of the logs, 0 if unknown."""
        try:
            disk = os.statvfs(self._directory)
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize

    def _look(self) -> int:
        """Cut logs that are too large; returns by how many bytes the logs have grown since the last check."""
        sizes = self._measured()
        grown = sum(max(size - self._sizes.get(name, 0), 0) for name, size in sizes.items())
        for name, size in sizes.items():
            if size > self._cap():
                self._cut(name, size)
                sizes[name] = KEPT
        self._sizes = sizes
        return grown

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
