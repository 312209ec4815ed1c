"""A large body on its way from the loop to a thread of the framework, a few hundred kilobytes at a time."""

import io
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

ROOM = 512 << 10  # bytes


class BodyPipe(io.RawIOBase):
    """The loop writes with `feed`, `end` and `fail`, which never wait; a thread reads.

    wanted: called in the thread, before its first read and whenever there is room again.
    """

    def __init__(self, wanted: Callable[[], None]):
        super().__init__()
        self._wanted = wanted
        self._pieces: deque[memoryview] = deque()
        self._size = 0
        self._is_whole = self._is_broken = self._is_asked_for = False
        self._changed = threading.Condition()

    @property
    def is_full(self) -> bool:
        return self._size >= ROOM

    def feed(self, data: bytes) -> None:
        with self._changed:
            self._pieces.append(memoryview(data))
            self._size += len(data)
            self._changed.notify()

    def end(self) -> None:
        """The body is whole."""
        with self._changed:
            self._is_whole = True
            self._changed.notify()

    def fail(self) -> None:
        """No more of the body comes: reading raises OSError, unless it is whole already."""
        with self._changed:
            self._is_broken = not self._is_whole
            self._changed.notify()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._is_asked_for:
            self._is_asked_for = True
            self._wanted()
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._is_whole or self._is_broken)
            if self._is_broken:
                raise OSError("the body ended early")
            if not self._pieces:
                return 0
            was_full = self.is_full
            piece = self._pieces.popleft()
            size = min(len(piece), len(buffer))
            buffer[:size] = piece[:size]
            if size < len(piece):
                self._pieces.appendleft(piece[size:])
            self._size -= size
            has_room = was_full and not self.is_full
        if has_room:
            self._wanted()
        return size
