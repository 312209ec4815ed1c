"""A part of an open file as the body of a response. A server may send it by `os.sendfile`; any other reads it in chunks."""

import weakref
from collections.abc import Callable, Iterator
from typing import BinaryIO

CHUNK = 256 * 1024  # bytes


class FilePart:
    """`length` bytes of a file from `offset` on, all of it at first.

    `end` is called once the file is closed, also if this is only forgotten.
    """

    def __init__(self, file: BinaryIO, length: int, end: Callable[[], None]):
        self.file = file
        self.offset = 0
        self.length = length
        self._end = weakref.finalize(self, _close, file, end)

    def narrow(self, offset: int, length: int) -> None:
        """Be this part instead."""
        self.offset, self.length = offset, length

    def __iter__(self) -> Iterator[bytes]:
        left = self.length
        self.file.seek(self.offset)
        while left and (chunk := self.file.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk

    def close(self) -> None:
        self._end()


def _close(file: BinaryIO, end: Callable[[], None]) -> None:
    file.close()
    end()
