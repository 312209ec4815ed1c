"""Inflates a local gzip file in a thread of its own, a few pieces ahead of its reader.

Memory is bounded for any input: AHEAD pieces of PIECE bytes, and one more in the making. The pieces end without an error
only if the CRC and the length in the gzip trailer are right. Refuses files that are not gzip, truncated files, and anything
behind the first gzip member, so that no two readers can see different archives.

The header is read here and the inflater gets a minimal one, since zlib and isal accept different headers. They differ in
reserved flags, an extra field of 65,535 bytes, and the CRC of a header with a long name. isal also accepts some data that
zlib refuses and that no compressor writes (incomplete code sets), so `meta publish` inflates with zlib.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import BinaryIO, Protocol

from updater.errors import Refused, TryLater

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None  # type: ignore[assignment]

_BAD = "the tarball's gzip data is damaged or cut short"  # zlib and isal differ in which of the two they find
PIECE = 256 << 10  # inflated bytes in one piece
AHEAD = 4  # pieces that may wait for the reader
_INPUT = 64 << 10  # compressed bytes read at once
_GZIP = 31  # zlib's wbits: gzip header and trailer only, the largest window
_DAMAGE: tuple[type[Exception], ...] = (zlib.error, getattr(isal_zlib, "error", zlib.error))
_MAGIC = b"\x1f\x8b\x08"  # RFC 1952, 2.3: two magic bytes, then the only compression method
_HEADER_CRC, _EXTRA, _NAME, _COMMENT, _RESERVED = 2, 4, 8, 16, 0xE0  # header flags; 1, "this is text", is ignored
_BARE = _MAGIC + bytes(6) + b"\xff"  # a header without optional fields
MAX_HEADER = 256 << 10  # bytes; the extra field has 64 KB at most, a name and a comment are short


class Decompressor(Protocol):
    """The part of zlib's decompressobj that is used here; isal's object has it, too."""

    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def plain() -> Decompressor:
    """The standard library's inflater, for hosts without isal."""
    return zlib.decompressobj(wbits=_GZIP)


def fastest() -> Decompressor:
    """isal's inflater, which is two to three times as fast, if isal is installed; else the standard library's."""
    if isal_zlib is None:
        return plain()
    inflater: Decompressor = isal_zlib.decompressobj(wbits=_GZIP)
    return inflater


def inflate(file: BinaryIO, decompressor: Callable[[], Decompressor] = fastest) -> Iterator[bytes]:
    """Yield a gzip file's content in pieces of 1 to PIECE bytes; raises Refused as soon as the file is seen to be bad.

    Each piece takes at most PIECE bytes of memory, so a decompression bomb costs no more than other files.
    """
    data = _BARE + _behind_header(file)
    stream = decompressor()
    while not stream.eof:
        try:
            piece = stream.decompress(data, PIECE)
        except _DAMAGE as e:
            raise Refused(_BAD) from e
        if piece:
            yield piece
        if not piece and stream.unconsumed_tail == data and not stream.eof:  # no progress: it would never end
            raise Refused(_BAD)
        data = stream.unconsumed_tail or file.read(_INPUT)
    if rest := stream.unused_data or data:
        what = "a second gzip member" if rest.startswith(_MAGIC[:2]) else "something else"
        raise Refused(f"the tarball's gzip data is followed by {what}")


def _behind_header(file: BinaryIO) -> bytes:
    """Read the gzip header, and return the bytes that were read beyond it."""
    data = file.read(_INPUT)
    if not data.startswith(_MAGIC):
        raise Refused(f"the tarball is not a gzip file{_what_else(data)}")
    while (end := _header_end(data)) < 0:
        if len(data) > MAX_HEADER:
            raise Refused(f"the tarball's gzip header is longer than {MAX_HEADER} bytes")
        more = file.read(_INPUT)
        if not more:
            raise Refused("the tarball's gzip data is cut short, within its header")
        data += more
    return data[end:]


def _header_end(data: bytes) -> int:
    """The position behind the header, or -1 if these bytes do not hold all of it. Raises Refused for an invalid header."""
    if len(data) < len(_BARE):
        return -1
    flags, at = data[3], len(_BARE)
    if flags & _RESERVED:
        raise Refused("the tarball's gzip header has flags that RFC 1952 reserves")
    if flags & _EXTRA:
        at += 2 + int.from_bytes(data[at : at + 2], "little")
    for flag in (_NAME, _COMMENT):
        if flags & flag:
            at = data.find(0, at) + 1
            if not at:
                return -1
    if flags & _HEADER_CRC:
        at += 2
        if at <= len(data) and zlib.crc32(data[: at - 2]) & 0xFFFF != int.from_bytes(data[at - 2 : at], "little"):
            raise Refused("the tarball's gzip header is damaged: its CRC is wrong")
    return at if at <= len(data) else -1


def _what_else(start: bytes) -> str:
    if not start:
        return ": it is empty"
    return ": it begins like a web page" if start.lstrip()[:1] == b"<" else ""


class ReadAhead:
    """Context manager that runs an iterator of pieces in a thread, at most AHEAD pieces before the reader.

    An exception of the iterator is raised to the reader after the pieces before it. Leaving the context ends the thread,
    and waits for the piece in progress.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self._ready: SimpleQueue[bytes | Exception | None] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()  # one entry for each piece that may still be made
        self._left = False
        self._thread = Thread(target=self._run, name="gunzip")

    def __enter__(self) -> Iterator[bytes]:
        for _ in range(AHEAD):
            self._room.put(None)
        try:
            self._thread.start()
        except RuntimeError as e:
            raise TryLater("this host has no thread left to inflate the tarball") from e
        return self._received()

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self._left = True
        self._room.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            for piece in self._pieces:
                self._room.get()
                if self._left:
                    return
                self._ready.put(piece)
        except Exception as e:  # noqa: BLE001 (not swallowed: the reader raises it)
            self._ready.put(e)
        else:
            self._ready.put(None)

    def _received(self) -> Iterator[bytes]:
        while (piece := self._ready.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece
            del piece  # free it before waiting for the next one
            self._room.put(None)


class Stream:
    """Reads of exact sizes from an iterator of pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._next = 0  # position in the piece of the first byte that was not read yet
        self.at = 0  # bytes that were read or skipped so far

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end of the content."""
        start = self._next
        data = self._piece[start : start + size]
        if len(data) == size:
            self._next = start + size
            self.at += size
            return data
        return b"".join(self.parts(size))

    def parts(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes without copying them; fewer only at the end of the content."""
        while size > 0 and (self._next < len(self._piece) or self._more()):
            part = memoryview(self._piece)[self._next : self._next + size]
            self._next += len(part)
            self.at += len(part)
            size -= len(part)
            yield part

    def _more(self) -> bool:
        self._next = 0
        self._piece = b""  # free it before the next one is made
        self._piece = next(self._pieces, b"")
        return bool(self._piece)
