"""Tar and gzip, byte by byte: headers that may say anything, for archives that no honest program would write."""

import gzip
import zlib

USTAR, GNU, V7 = b"ustar\x0000", b"ustar  \0", bytes(8)
END = bytes(1024)
_SCRIPT = b"#!/bin/sh\n"


def header(
    name: bytes | str,
    kind: bytes = b"0",
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    link: bytes | str = b"",
    *,
    mtime: int | bytes = 1_700_000_000,
    uid: int | bytes = 0,
    magic: bytes = USTAR,
    prefix: bytes = b"",
    pad: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One block. A number is written in octal, bytes as they are; the checksum is the right one unless given."""
    name = name.encode() if isinstance(name, str) else name
    link = link.encode() if isinstance(link, str) else link
    fields = [name.ljust(100, b"\0"), octal(mode, 8), octal(uid, 8), octal(0, 8), octal(size, 12), octal(mtime, 12)]
    fields += [b" " * 8, kind, link.ljust(100, b"\0"), magic, b"root".ljust(32, b"\0"), bytes(48)]
    block = b"".join(fields) + prefix.ljust(155, b"\0") + pad.ljust(12, b"\0")
    assert len(block) == 512
    checksum = octal(sum(block), 7) + b" " if checksum is None else checksum
    return block[:148] + checksum + block[156:]


def octal(value: int | bytes, width: int) -> bytes:
    """A header's number: digits and a NUL, or the bytes given."""
    return value if isinstance(value, bytes) else b"%0*o\0" % (width - 1, value)


def base256(value: int, width: int) -> bytes:
    """A header's number as GNU writes large and negative ones."""
    sign = 0x80 if value >= 0 else 0xFF
    return bytes([sign]) + (value % 256 ** (width - 1)).to_bytes(width - 1)


def padded(data: bytes) -> bytes:
    """Data as it stands in an archive: in whole blocks."""
    return data + bytes(-len(data) % 512)


def file(name: bytes | str, data: bytes = b"", mode: int | bytes = 0o644, kind: bytes = b"0", **fields) -> bytes:
    return header(name, kind, len(data), mode, **fields) + padded(data)


def directory(name: bytes | str, mode: int = 0o755) -> bytes:
    return header(name, b"5", 0, mode)


def symlink(name: bytes | str, target: bytes | str) -> bytes:
    return header(name, b"2", 0, 0o777, target)


def hard_link(name: bytes | str, target: bytes | str, mode: int = 0o644) -> bytes:
    return header(name, b"1", 0, mode, target)


def long_name(name: bytes | str, kind: bytes = b"L") -> bytes:
    """GNU's extension before a member: its name (L) or its link's target (K)."""
    name = name.encode() if isinstance(name, str) else name
    return file("././@LongLink", name + b"\0", kind=kind, magic=GNU)


def record(key: str, value: str | bytes) -> bytes:
    """One record of a PAX header; its length counts itself."""
    value = value.encode() if isinstance(value, str) else value
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    length = len(rest) + len(str(length))
    return str(length).encode() + rest


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    return file("PaxHeaders/x", b"".join(records), kind=kind)


def pax_path(path: str | bytes) -> bytes:
    return pax(record("path", path))


CONTROL = file("control", _SCRIPT, 0o755)


def tar(*members: bytes) -> bytes:
    return b"".join(members) + END


def tgz(*members: bytes, control: bytes = CONTROL) -> bytes:
    """A tarball with a good `control` and these members after it."""
    return gz(tar(control, *members))


def gz(data: bytes, level: int = 6) -> bytes:
    return gzip.compress(data, level, mtime=0)


def gz_repeated(start: bytes, more: bytes, times: int) -> bytes:
    """A gzip of `start` and then so many times `more`, which is deflated once; its CRC, at its very end, is wrong."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = deflate.compress(start) + deflate.flush(zlib.Z_FULL_FLUSH)
    again = deflate.compress(more) + deflate.flush(zlib.Z_FULL_FLUSH)
    return gz_header() + first + again * times + deflate.flush() + bytes(8)


def gz_of_zeros(start: bytes, megabytes: int) -> bytes:
    return gz_repeated(start, bytes(1 << 20), megabytes)


def gz_header(flags: int = 0, method: int = 8, fields: bytes = b"") -> bytes:
    return b"\x1f\x8b" + bytes([method, flags, 0, 0, 0, 0, 0, 3]) + fields


def gz_with(flags: int, fields: bytes, data: bytes) -> bytes:
    """A whole gzip with optional fields in its header."""
    return gz_header(flags, 8, fields) + gz(data)[10:]


def gz_with_header_crc(flags: int, fields: bytes, data: bytes) -> bytes:
    """The same, its header vouched for by a CRC of its own."""
    start = gz_header(flags | 0b10, 8, fields)
    return start + (zlib.crc32(start) & 0xFFFF).to_bytes(2, "little") + gz(data)[10:]


def gz_of_isal_alone(data: bytes) -> bytes:
    """A gzip whose last block has an incomplete set of codes (and no content), which isal takes and zlib refuses."""
    deflate = zlib.compressobj(0, zlib.DEFLATED, -15)
    stored = deflate.compress(data) + deflate.flush(zlib.Z_FULL_FLUSH)
    trailer = zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")
    return gz_header() + stored + bytes.fromhex("058a810000000040feaf0500") + trailer
