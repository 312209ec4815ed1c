"""Finds where each Thrift message ends, while its bytes arrive and before anything is decoded. Strict TBinaryProtocol. Pure.

A message is limited in length, depth and number of values. A length field that is too large is refused as soon as it is read.
So work and memory depend only on bytes that really arrived. Malformed is raised for anything over a limit or not of the
protocol.
"""

from collections.abc import Generator, Iterator

from meta.bridges.elves.limits import MAX_DEPTH, MAX_MESSAGE, MAX_METHOD, MAX_VALUES

VERSION_1 = 0x8001
STOP, STRING, STRUCT, MAP, SET, LIST = 0, 11, 12, 13, 14, 15
FIXED = {2: 1, 3: 1, 4: 8, 6: 2, 8: 4, 10: 8}  # type -> bytes: bool, byte, double, i16, i32, i64
Waiting = Generator[None, None, int]


class Malformed(ValueError):
    """The bytes are no valid message; the text says why."""


class Messages:
    """Cuts the bytes of one connection into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scan = _Scan(self._buffer)

    @property
    def held(self) -> int:
        """Bytes of the incomplete message."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add bytes, and yield the messages that are complete now. Raises Malformed."""
        self._buffer += data
        while self._buffer and self._scan.is_complete():
            yield bytes(self._buffer[: self._scan.at])
            del self._buffer[: self._scan.at]
            self._scan = _Scan(self._buffer)


class _Scan:
    """Walks over one message. `at` is the current position, and at the end the length of the message."""

    def __init__(self, buffer: bytearray):
        self._buffer = buffer
        self._values = 0
        self._walk = self._message()
        self.at = 0

    def is_complete(self) -> bool:
        return next(self._walk, self) is self

    def _message(self) -> Generator[None, None, None]:
        version = yield from self._number(4)
        if version >> 16 != VERSION_1:
            raise Malformed("not strict TBinaryProtocol")
        length = yield from self._length()
        if length > MAX_METHOD:
            raise Malformed(f"a method's name of {length} bytes")
        yield from self._skip(length + 4)  # and the sequence number
        yield from self._struct(1)

    def _number(self, size: int) -> Waiting:
        start = self.at
        yield from self._skip(size)
        return int.from_bytes(self._buffer[start : self.at], "big")

    def _length(self) -> Waiting:
        length = yield from self._number(4)
        if length > MAX_MESSAGE:  # negative ones are larger than all
            raise Malformed(f"a length of {length if length < 1 << 31 else length - (1 << 32)}")
        return length

    def _skip(self, size: int) -> Generator[None, None, None]:
        self.at += size
        if self.at > MAX_MESSAGE:
            raise Malformed(f"more than {MAX_MESSAGE} bytes")
        while len(self._buffer) < self.at:
            yield

    def _value(self, kind: int, depth: int) -> Generator[None, None, None]:
        if kind in FIXED:
            yield from self._skip(FIXED[kind])
        elif kind == STRING:
            yield from self._skip((yield from self._length()))
        elif depth > MAX_DEPTH:
            raise Malformed(f"nested more than {MAX_DEPTH} deep")
        elif kind == STRUCT:
            yield from self._struct(depth)
        elif kind in (LIST, SET):
            kinds = ((yield from self._number(1)),)
            yield from self._elements(kinds, depth)
        elif kind == MAP:
            key = yield from self._number(1)
            yield from self._elements((key, (yield from self._number(1))), depth)
        else:
            raise Malformed(f"a value of the unknown type {kind}")

    def _struct(self, depth: int) -> Generator[None, None, None]:
        while (kind := (yield from self._number(1))) != STOP:
            self._count(1)
            yield from self._skip(2)
            yield from self._value(kind, depth + 1)

    def _elements(self, kinds: tuple[int, ...], depth: int) -> Generator[None, None, None]:
        count = yield from self._length()
        if not count:
            return
        if all(kind in FIXED for kind in kinds):
            yield from self._skip(count * sum(FIXED[kind] for kind in kinds))
            return
        self._count(count * len(kinds))
        for _ in range(count):
            for kind in kinds:
                yield from self._value(kind, depth + 1)

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise Malformed(f"more than {MAX_VALUES} values")
