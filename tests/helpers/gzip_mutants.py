"""gzip files that are almost right: streams of every strategy, cut, flipped, doubled or made up, with the trailer that fits
what zlib reads in them. For comparing inflaters; seeded, so that each run sees the same ones."""

import random
import zlib
from collections.abc import Iterator

from helpers.tarbytes import gz_header

FLUSHES = (zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_BLOCK)
BEHIND = (b"\0", b"\0" * 8, b"junk", b"\x1f", b"\x1f\x8b", gz_header(), gz_header() + b"\3\0" + bytes(8))


def mutants(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """(what was done to it, the file)."""
    chance = random.Random(seed)
    for _ in range(count):
        content = _content(chance)
        kind = chance.choice([*_KINDS])
        stream, trailer = _KINDS[kind](chance, _deflated(chance, content), _trailer(content))
        yield kind, gz_header() + stream + trailer


def _content(chance: random.Random) -> bytes:
    whole = chance.choice([b"", b"ab" * 400, chance.randbytes(3000), bytes(70_000), b"hello world, " * 3000])
    return whole[: chance.randrange(len(whole) + 1)]


def _deflated(chance: random.Random, content: bytes) -> bytes:
    window, strategy = -chance.choice([9, 12, 15]), chance.randrange(5)
    packer = zlib.compressobj(chance.randrange(10), zlib.DEFLATED, window, 9, strategy)
    stream, size = b"", chance.choice([300, 5000, 1 << 20])
    for at in range(0, len(content), size):
        stream += packer.compress(content[at : at + size])
        if chance.random() < 0.3:
            stream += packer.flush(chance.choice(FLUSHES))
    return stream + packer.flush()


def _trailer(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")


def _fitting(stream: bytes, otherwise: bytes) -> tuple[bytes, bytes]:
    """With the trailer of what zlib reads in it, if that is anything."""
    inflater = zlib.decompressobj(-15)
    try:
        content = inflater.decompress(stream, 1 << 20)
    except zlib.error:
        return stream, otherwise
    return (stream, _trailer(content)) if inflater.eof else (stream, otherwise)


def _flipped(chance: random.Random, stream: bytes, trailer: bytes) -> tuple[bytes, bytes]:
    data = bytearray(stream)
    for _ in range(chance.randrange(1, 4)):
        data[chance.randrange(min(len(data), chance.choice([8, 80, 1 << 20])))] ^= 1 << chance.randrange(8)
    return _fitting(bytes(data), trailer)


def _cut(chance: random.Random, stream: bytes, trailer: bytes) -> tuple[bytes, bytes]:
    return _fitting(stream[: chance.randrange(len(stream) + 1)], trailer)


def _made_up(chance: random.Random, _stream: bytes, trailer: bytes) -> tuple[bytes, bytes]:
    """Any bytes, or a block that begins like one with codes of its own."""
    noise = bytes(chance.choice([0, chance.randrange(256)]) for _ in range(chance.randrange(5, 90)))
    codes = bytes([0b101 | chance.randrange(32) << 3, chance.randrange(256)])
    return _fitting(chance.choice([b"", codes]) + noise, trailer)


def _bad_trailer(chance: random.Random, stream: bytes, trailer: bytes) -> tuple[bytes, bytes]:
    data = bytearray(trailer)
    data[chance.randrange(8)] ^= 1 << chance.randrange(8)
    return stream, bytes(data)


_KINDS = {
    "nothing": lambda _chance, stream, trailer: (stream, trailer),
    "bits flipped": _flipped,
    "stream cut": _cut,
    "made up": _made_up,
    "another stream behind": lambda _chance, stream, trailer: _fitting(stream * 2, trailer),
    "trailer cut": lambda chance, stream, trailer: (stream, trailer[: chance.randrange(8)]),
    "trailer wrong": _bad_trailer,
    "more behind": lambda chance, stream, trailer: (stream, trailer + chance.choice(BEHIND)),
}
