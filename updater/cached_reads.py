"""What was read of a file or a directory, kept until that changes: a cycle in which nothing happens reads it no second time.

Promises that a change is seen: a file is told from the one before by inode, size and both times, and what has changed within
the last second is never kept, since the kernel's times are coarse. What is blank is not kept either, nor what raises.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_COARSE = 1.0  # seconds
_MOST = 1024  # paths for which something is kept


class Kept(Generic[T]):
    """Calls `read` with a path, and gives its last answer as long as what is there is the same."""

    def __init__(self, read: Callable[[Path], T]) -> None:
        self._read = read
        self._kept: dict[Path, tuple[tuple[int, ...], T]] = {}
        os.register_at_fork(after_in_child=self._kept.clear)  # a fork begins as a process of its own does

    def __call__(self, path: Path) -> T:
        """Raises what `read` does."""
        stamp, changed = _stamp(path)
        kept = self._kept.get(path)
        if kept and kept[0] == stamp:
            return kept[1]
        found = self._read(path)
        if found and abs(time.time() - changed) > _COARSE:
            if len(self._kept) >= _MOST:
                self._kept.clear()
            self._kept[path] = (stamp, found)
        return found


def _stamp(path: Path) -> tuple[tuple[int, ...], float]:
    """What tells it from another, and when it changed last (Unix seconds); nothing for what is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116 (the quickest way)
    except OSError:
        return (), 0.0
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns), status.st_ctime
