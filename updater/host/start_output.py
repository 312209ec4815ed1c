"""What the agents' starts leave in their logs, kept small: a thread that looks at a timer's pace, whatever the cycles do.

Promises that a log is cut back to its last KEPT bytes soon after it is larger than `maxOutput` of cfg.json allows: within SLOW
seconds while anything grows, and while it grows fast, within QUICK ones, so that an agent that floods fills no disk. While
nothing grows the looks become rarer, up to REST seconds, as far as the disk has room for a flood of that time. The agent writes
on: its descriptor appends. What it writes between the reading of the last bytes and the cut is lost.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from updater import durable_files
from updater.errors import TryLater
from updater.host.context import Host

log = logging.getLogger("updater")

KEPT = 64 << 10  # bytes
QUICK, SLOW = 0.05, 1.0  # seconds between two looks
REST = 8.0  # seconds between two looks at most
FLOOD = 1e9  # bytes a second that an agent may begin to write at any time
FAST = 1 << 20  # bytes of growth between two looks, from which on the next one comes quickly


@contextlib.contextmanager
def trimmed(host: Host) -> Iterator[None]:
    """Keep the logs small while the block runs, and from the first moment on."""
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
    """Looks at all logs of a directory. cap: bytes that one may have, asked for at each look."""

    def __init__(self, directory: Path, cap: Callable[[], int]) -> None:
        self._directory = directory
        self._cap = cap
        self._sizes: dict[str, int] = {}
        self._complained = ""
        self._rest = SLOW / 2

    def run(self, over: threading.Event) -> None:
        """Look again and again, until it is over."""
        while not over.wait(self._pause(self._look())):
            pass

    def _pause(self, grown: int) -> float:
        """Seconds until the next look, after one that has found the logs grown by so many bytes."""
        self._rest = SLOW / 2 if grown else min(self._rest * 2, REST)
        if grown > FAST:
            return QUICK
        return max(SLOW, min(self._rest, self._room() / FLOOD))

    def _room(self) -> int:
        """Bytes that the disk of the logs still has, 0 where that cannot be said."""
        try:
            disk = os.statvfs(self._directory)
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize

    def _look(self) -> int:
        """Cut what is too large; returns by how many bytes the logs have grown since the last look."""
        sizes = self._measured()
        grown = sum(max(size - self._sizes.get(name, 0), 0) for name, size in sizes.items())
        for name, size in sizes.items():
            if size > self._cap():
                self._cut(name, size)
                sizes[name] = KEPT
        self._sizes = sizes
        return grown

    def _measured(self) -> dict[str, int]:
        """The bytes that each log has on the disk: one that is not appended to may have a hole in front of them."""
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
        except (TryLater, OSError) as e:  # whatever it is: the other logs are cut, and this one at the next look
            if str(e) != self._complained:
                log.error("an agent's output cannot be cut: %s", e)
            self._complained = str(e)
        else:
            log.debug("%s had %d bytes of output: the last %d are kept", name, size, KEPT)
