"""What can happen to a call that a shim meets: it is noted, it is the last one, it fails, or the disk is full from it on."""

import contextlib
import errno
import os
import pickle
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.shim import Call, real

BEFORE, AFTER, HALF = "before", "after", "half"
FAILED = " failed"
NEEDS_ROOM = ("write", "fsync", "mkdir", "symlink", "link", "copy_file_range", "sendfile")


class Note:
    """Does all calls, and writes their keys down in a file, with FAILED after those that raised."""

    def __init__(self, log: Path) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def __call__(self, call: Call, do: Callable[..., Any]) -> Any:
        try:
            result = do()
        except OSError:
            self.note(call, FAILED)
            raise
        self.note(call)
        return result

    def note(self, call: Call, more: str = "") -> None:
        real["write"](self._log, f"{call.key}{more}\n".encode())


class Kill:
    """Ends the process by SIGKILL before or after one call, or after half of what it writes."""

    def __init__(self, key: str, when: str) -> None:
        self._key, self._when = key, when

    def __call__(self, call: Call, do: Callable[..., Any]) -> Any:
        if call.key != self._key:
            return do()
        if self._when == AFTER:
            do()
        elif self._when == HALF:
            do(memoryview(call.data)[: len(call.data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
        return signal.pause()  # another thread may be the one that the signal comes to


class Record:
    """Does all calls, one at a time, and writes those that went well down, with their data; may kill after one of them."""

    def __init__(self, log: Path, last: str = "") -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._last = last
        self._lock = threading.Lock()

    def __call__(self, call: Call, do: Callable[..., Any]) -> Any:
        if call.reads:
            return do()
        with self._lock:
            result = do()
            real["write"](self._log, pickle.dumps(call))
            if call.key == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()
        return result


def recorded(log: Path) -> list[Call]:
    """What a Record wrote down."""
    calls = []
    with log.open("rb") as file, contextlib.suppress(EOFError):
        while True:
            calls.append(pickle.load(file))
    return calls


class Fail(Note):
    """One call fails with an errno, once; notes that it did. short: it is a write whose first half goes well, and whose
    file takes no more."""

    def __init__(self, key: str, number: int, log: Path, short: bool = False) -> None:
        super().__init__(log)
        self._key, self._number, self._short = key, number, short
        self._full = ""

    def __call__(self, call: Call, do: Callable[..., Any]) -> Any:
        if call.key == self._key:
            self.note(call)
            if self._short:
                self._full = call.path
                return do(memoryview(call.data)[: len(call.data) // 2])
        elif not (call.op == "write" and call.path == self._full):
            return do()
        raise OSError(self._number, os.strerror(self._number), call.path)


class FailEach(Note):
    """From one call on each of its kind on its path fails with an errno; notes that they did."""

    def __init__(self, key: str, number: int, log: Path) -> None:
        super().__init__(log)
        self._kind, self._number = key.rpartition(":")[0], number

    def __call__(self, call: Call, do: Callable[..., Any]) -> Any:
        if call.key.rpartition(":")[0] != self._kind:
            return do()
        self.note(call)
        raise OSError(self._number, os.strerror(self._number), call.path)


class Full(Note):
    """From one call on the disk is full: nothing new is made or written, what is there can be removed and renamed."""

    def __init__(self, key: str, log: Path) -> None:
        super().__init__(log)
        self._key = key
        self._is_full = False

    def __call__(self, call: Call, do: Callable[..., Any]) -> Any:
        if call.key == self._key:
            self.note(call)
            self._is_full = True
        if self._is_full and (call.op in NEEDS_ROOM or (call.op == "open" and call.new)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), call.path)
        return do()
