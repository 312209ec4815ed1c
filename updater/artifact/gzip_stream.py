"""Inflates a local gzip file in a thread of its own, a few pieces ahead of whoever reads it.

Promises a bounded memory (AHEAD pieces of PIECE bytes and one in the making) whatever the file holds, and that the pieces
end without an error only if the CRC and the length in the gzip's trailer are right. Refuses what is no gzip, a file cut
short, and anything that follows the one gzip member: there is one way to read an archive, not two.

The header is read here and the inflater gets a bare one, since zlib and isal differ in what they take: reserved flags, an extra
field of 65,535 bytes, a CRC of a header with a long name. Of the data behind it isal takes some that zlib refuses, and that no
compressor makes (incomplete code sets): `meta publish` inflates with zlib.
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
PIECE = 256 << 10  # inflated bytes handed over at once
AHEAD = 4  # pieces that may wait for the reader
_INPUT = 64 << 10  # compressed bytes read at once
_GZIP = 31  # zlib's wbits: gzip's header and trailer only, the largest window
_DAMAGE: tuple[type[Exception], ...] = (zlib.error, getattr(isal_zlib, "error", zlib.error))
_MAGIC = b"\x1f\x8b\x08"  # RFC 1952, 2.3: two bytes of identity, then the one method there is
_HEADER_CRC, _EXTRA, _NAME, _COMMENT, _RESERVED = 2, 4, 8, 16, 0xE0  # its flags; 1, "this is text", means nothing here
_BARE = _MAGIC + bytes(6) + b"\xff"  # a header without optional fields
MAX_HEADER = 256 << 10  # bytes; the extra field has 64 KB at most, a name and a comment are short


class Decompressor(Protocol):
    """The part of zlib's decompressobj that is used here; isal's has the same."""

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
    """isal's inflater, two to three times as fast, where there is one."""
    if isal_zlib is None:
        return plain()
    inflater: Decompressor = isal_zlib.decompressobj(wbits=_GZIP)
    return inflater


def inflate(file: BinaryIO, decompressor: Callable[[], Decompressor] = fastest) -> Iterator[bytes]:
    """A gzip file -> its content in pieces of 1 to PIECE bytes; raises Refused at the first sign that it is no whole one.

    Each piece costs at most PIECE bytes of memory, so that a bomb is as cheap as any other file until its reader stops.
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
        if (
            not piece and stream.unconsumed_tail == data and not stream.eof
        ):  # nothing in, nothing out: it never would end
            raise Refused(_BAD)
        data = stream.unconsumed_tail or file.read(_INPUT)
    if rest := stream.unused_data or data:
        what = "a second gzip member" if rest.startswith(_MAGIC[:2]) else "something else"
        raise Refused(f"the tarball's gzip data is followed by {what}")


def _behind_header(file: BinaryIO) -> bytes:
    """Reads a gzip's header, and returns what was read of the data behind it."""
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
    """The position behind the header, -1 when that is not among these bytes. Raises Refused for a header that is not valid."""
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


class Ahead:
    """Runs an iterator of pieces in a thread, at most AHEAD of them before the reader; a context manager.

    What the iterator raises is raised to the reader, in its turn. Leaving the context ends the thread, which holds up
    the leaving for as long as one piece takes.
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
            del piece  # or it would be kept while the next one is waited for
            self._room.put(None)


class Stream:
    """Exact reads from pieces. at: how many bytes were read or skipped so far."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._next = 0  # the first byte of the piece that was not read yet
        self.at = 0

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only where the content ends."""
        start = self._next
        data = self._piece[start : start + size]
        if len(data) == size:
            self._next = start + size
            self.at += size
            return data
        return b"".join(self.parts(size))

    def parts(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes without copying them, fewer only where the content ends."""
        while size > 0 and (self._next < len(self._piece) or self._more()):
            part = memoryview(self._piece)[self._next : self._next + size]
            self._next += len(part)
            self.at += len(part)
            size -= len(part)
            yield part

    def _more(self) -> bool:
        self._next = 0
        self._piece = b""  # let go before the next one is made
        self._piece = next(self._pieces, b"")
        return bool(self._piece)
