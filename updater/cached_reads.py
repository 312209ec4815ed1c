"""Caches what was read from a file or directory until it changes, so that an idle cycle reads nothing twice.

Changes are recognised by inode, size and both times. A file that changed within the last second is never cached, since the
kernel's times are coarse. Empty results and exceptions are not cached either.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_COARSE = 1.0  # seconds
_MOST = 1024  # cached paths


class CachedReads(Generic[T]):
    """A cached `read`: called with a path, it returns the last result while the file is unchanged."""

    def __init__(self, read: Callable[[Path], T]) -> None:
        self._read = read
        self._kept: dict[Path, tuple[tuple[int, ...], T]] = {}
        os.register_at_fork(after_in_child=self._kept.clear)  # a forked child starts with an empty cache

    def __call__(self, path: Path) -> T:
        """The result of `read` for this path. Raises what `read` raises."""
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
    """(what identifies this state of the file, when it changed last in Unix seconds); ((), 0) if it is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116 (the quickest way)
    except OSError:
        return (), 0.0
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns), status.st_ctime
