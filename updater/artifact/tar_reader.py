"""Reads tar: a stream of 512-byte blocks -> the members of an archive, in order. Touches no file but the stream.

Understands ustar, GNU's long names (L, K) and PAX headers (x, g), as in POSIX.1-2017 pax(1) and GNU tar's manual ("Basic
Tar Format"). Each announced size is checked against the limits before its data is read. Refuses what two readers could
understand differently, and every kind of member but files, directories, symlinks and hard links.
"""

import re
import struct
from collections.abc import Iterator
from zlib import adler32

import msgspec

from updater.artifact.gzip_stream import Stream
from updater.errors import Refused

FILE, PROGRAM, DIRECTORY, SYMLINK, HARD_LINK = "file", "program", "directory", "symlink", "hard link"
BLOCK = 512

_ZEROS = bytes(BLOCK)
_PADDING = 8 << 20  # zeros allowed after the end mark; GNU tar fills up to 10 KB, or to the size given with -b
_FIELDS = struct.Struct("100s8s16x12s12s8sc100s8s80x155s12s")  # owner and device are ignored
_USTAR, _GNU = b"ustar\x0000", b"ustar  \0"
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_BEYOND_OCTAL = 8**11  # the first size that does not fit into a header's octal field
_RECORD = re.compile(rb"([1-9][0-9]{0,6}) ")
_RECORDS = 100  # records of one PAX header; a member needs ten, and 20,000 headers of 10,000 records would take minutes
_DECIMAL = re.compile(rb"[0-9]{1,19}")
_KINDS = {b"0": FILE, b"\0": FILE, b"1": HARD_LINK, b"2": SYMLINK, b"5": DIRECTORY}
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_EXTENSIONS = (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL)
_UNWANTED = {
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"7": "a contiguous file",
    b"S": "a sparse file: pack it without --sparse",
    b"D": "a directory of an incremental backup",
    b"M": "the rest of a file from another volume",
    b"V": "a volume's label",
}


class Limits(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Limits of one unpacking; each is checked before the bytes in question are read or written."""

    members: int = 20_000  # files, directories (also those only implied by a name), links and global headers
    file: int = 2 << 30  # bytes of one file
    total: int = 4 << 30  # inflated bytes of the archive
    ratio: int = 200  # inflated bytes per byte of the tarball, beyond the first `lenient` bytes
    lenient: int = 10 << 20  # inflated bytes that are always allowed: small archives of zeros or logs are legitimate
    header: int = 64 << 10  # bytes of one extended header
    path: int = 1024  # bytes of a name or of a link's target
    part: int = 255  # bytes between two slashes
    depth: int = 20  # parts of a name
    reserve: int = 64 << 20  # bytes that stay free on the disk

    def inflated(self, tarball: int) -> int:
        """How many bytes a tarball of `tarball` bytes may inflate to."""
        return min(self.total, max(self.lenient, self.ratio * tarball))


class Header(msgspec.Struct, frozen=True):
    """The fields of one header block."""

    name: bytes
    kind: bytes
    mode: int
    size: int  # bytes
    mtime: int | None  # Unix seconds, None if not octal
    link: bytes


class Member(msgspec.Struct, frozen=True):
    """One thing to unpack."""

    name: str  # relative, without a trailing slash; "" for the archive's root
    kind: str  # FILE, PROGRAM (an executable file), DIRECTORY, SYMLINK or HARD_LINK
    size: int  # bytes of data that follow
    mtime: int | None  # Unix seconds
    target: str  # of a link, unchanged; else ""


def members(stream: Stream, limits: Limits, ceiling: int) -> Iterator[Member]:
    """Yield the archive's members, with the stream at the data of each; data that is not read is skipped.

    ceiling: the largest allowed number of inflated bytes. Raises Refused, also for data after the end mark.
    """
    pending: dict[bytes, bytes] = {}  # extensions of the member to come
    count = 0
    while (block := _block(stream)) != _ZEROS:
        header = parse_header(block)
        extends = header.kind in _EXTENSIONS
        end = _checked_end(header.name, header.size, stream.at, limits.header if extends else limits.file, ceiling)
        if extends:
            _keep(header, stream.read(header.size), pending)
        if not extends or header.kind == _PAX_GLOBAL:
            count += 1
            if count > limits.members:
                raise Refused(f"the archive has more than {limits.members} members")
        if not extends:
            member = _member(header, pending)
            if member.size != header.size:
                end = _checked_end(header.name, member.size, stream.at, limits.file, ceiling)
            pending.clear()
            yield member
        _skip(stream, end - stream.at)
    if pending:
        raise Refused("the archive ends after an extended header, without the member that it belongs to")
    _expect_nothing_more(stream)


def parse_header(block: bytes) -> Header:
    """512 bytes -> Header; raises Refused for anything but a consistent ustar or GNU header."""
    name, mode, size, mtime, checksum, kind, link, magic, prefix, pad = _FIELDS.unpack(block)
    # Adler-32's low half is 1 + the sum of the bytes (exact for up to 256 bytes); the checksum field itself counts as blanks.
    total = (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2 - sum(checksum) + 8 * 32
    name, link, prefix, pad = name.rstrip(b"\0"), link.rstrip(b"\0"), prefix.rstrip(b"\0"), pad.rstrip(b"\0")
    if _octal(checksum) != total:
        raise Refused(f"the tar header of {shown(name)} is damaged: its checksum is wrong")
    if magic == _USTAR:
        name = prefix + b"/" + name if prefix else name
    elif magic != _GNU:
        raise Refused(
            f"the tar header of {shown(name)} is neither ustar nor GNU nor PAX: pack it with another --format"
        )
    elif prefix and kind not in _UNWANTED:  # a sparse file has its map there, and is refused below by its kind
        raise Refused(f"the GNU header of {shown(name)} has fields of an incremental backup")
    if b"\0" in name or b"\0" in link or pad:
        raise Refused(f"the tar header of {shown(name)} has bytes where there should be none")
    bits, length = _octal(mode), _number(size)
    if bits is None or length is None:
        raise Refused(f"the tar header of {shown(name)} has no usable {'mode' if bits is None else 'size'}")
    return Header(name, kind, bits, length, _octal(mtime), link)


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """The records of a PAX header, `length key=value\\n` each; raises Refused unless every byte belongs to a valid record."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        length = _RECORD.match(data, at)
        end = at + int(length[1]) if length else 0
        key, equals, value = data[length.end() if length else at : max(end - 1, 0)].partition(b"=")
        if not length or end > len(data) or data[end - 1 : end] != b"\n" or not equals or not key:
            raise Refused(f"a PAX header is malformed at its byte {at}")
        if key in records:
            raise Refused(f"a PAX header says {shown(key)} twice")
        if len(records) == _RECORDS:
            raise Refused(f"a PAX header has more than {_RECORDS} records")
        records[key] = value
        at = end
    return records


def shown(name: bytes | str) -> str:
    """A foreign name in quotes for messages: unprintable characters are escaped, and long names are cut."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:400])
    return f'"{safe[:120]}"'


def _block(stream: Stream) -> bytes:
    block = stream.read(BLOCK)
    if len(block) < BLOCK:
        raise Refused("the archive is cut short: it ends without its end mark")
    return block


def _expect_nothing_more(stream: Stream) -> None:
    """The end mark is two blocks of zeros; more of them may follow."""
    if _block(stream) != _ZEROS:
        raise Refused("the archive goes on after its end mark")
    end = stream.at + _PADDING
    for part in stream.parts(_PADDING + 1):
        if bytes(part).count(0) != len(part):
            raise Refused("the archive goes on after its end mark")
    if stream.at > end:
        raise Refused(f"the archive goes on after its end mark, for more than {_PADDING} bytes")


def _checked_end(name: bytes, size: int, at: int, most: int, ceiling: int) -> int:
    """The position at which a member's data ends, with its padding. Raises Refused if it is beyond a limit."""
    if size > most:
        raise Refused(f"member {shown(name)} is too large: {size} bytes where {most} are allowed")
    if at + size > ceiling:
        raise Refused(
            f"with member {shown(name)} the archive inflates to more than the {ceiling} bytes that a tarball of its size may"
        )
    return at + -(-size // BLOCK) * BLOCK


def _skip(stream: Stream, size: int) -> None:
    for _ in stream.parts(size):
        pass


def _keep(header: Header, data: bytes, pending: dict[bytes, bytes]) -> None:
    if len(data) < header.size:
        raise Refused("the archive is cut short within an extended header")
    if header.kind == _PAX_GLOBAL:
        if pending:
            raise Refused("a global PAX header stands between a member and its own extended header")
        _check_records(parse_pax(data), (b"path", b"linkpath", b"size"))
        return
    if header.kind in pending:
        raise Refused(f"a member has two extended headers of one kind, the second before {shown(data)}")
    pending[header.kind] = data
    if _PAX in pending and len(pending) > 1:
        raise Refused("a member has both a GNU long name and a PAX header")


def _check_records(records: dict[bytes, bytes], unwanted: tuple[bytes, ...] = ()) -> None:
    for key in records:
        if key.startswith(b"GNU.sparse.") or key == b"SCHILY.realsize":
            raise Refused("a PAX header announces a sparse file: pack it without --sparse")
        if key in unwanted:
            raise Refused(f"a PAX header says {shown(key)} of all members")
    if records.get(b"hdrcharset", b"ISO-IR 10646 2000 UTF-8") != b"ISO-IR 10646 2000 UTF-8":
        raise Refused("a PAX header says that its names are not UTF-8")


def _member(header: Header, pending: dict[bytes, bytes]) -> Member:
    """Combine a header with the extended headers before it."""
    name, link, records = header.name, header.link, {}
    if pending:
        records = parse_pax(pending[_PAX]) if _PAX in pending else {}
        _check_records(records)
        name = records.get(b"path", _long(pending, _LONG_NAME, name))
        link = records.get(b"linkpath", _long(pending, _LONG_LINK, link))
    kind = _KINDS.get(header.kind)
    if kind is None:
        raise Refused(
            f"member {shown(name)} is {_UNWANTED.get(header.kind, f'of the unknown kind {shown(header.kind)}')}"
        )
    if header.mode & 0o7000 and kind != DIRECTORY:  # on a directory they do not affect what may be run, and are dropped
        mode = f"mode {header.mode & 0o7777:04o}"
        raise Refused(f"member {shown(name)} has a set-uid, set-gid or sticky bit ({mode}): no host would keep it")
    size = _size(name, header.size, records)
    if size and kind != FILE:
        raise Refused(f"member {shown(name)} is a {kind} and yet has data")
    if kind == FILE and header.mode & 0o111:
        kind = PROGRAM
    return Member(
        _member_name(name, kind), kind, size, header.mtime, _decoded(link) if kind in (SYMLINK, HARD_LINK) else ""
    )


def _size(name: bytes, size: int, records: dict[bytes, bytes]) -> int:
    """The size in bytes. PAX overrides the header, and may differ only if the size does not fit into the header's field:
    otherwise a reader without PAX would take the data for headers."""
    if b"size" not in records:
        return size
    said = int(records[b"size"]) if _DECIMAL.fullmatch(records[b"size"]) else -1
    if said == size or (size == 0 and said >= _BEYOND_OCTAL):
        return said
    raise Refused(f"member {shown(name)} has two sizes, {size} in its header and {shown(records[b'size'])} in PAX")


def _member_name(raw: bytes, kind: str) -> str:
    """The name without the leading `./` of `tar c .` and without a directory's trailing slash."""
    name = _decoded(raw)
    if kind == DIRECTORY and name in (".", "./"):
        return ""
    if name.endswith("/") and kind != DIRECTORY:
        raise Refused(f"member {shown(raw)} is a {kind} with a directory's name")
    name = name.removesuffix("/").removeprefix("./")
    if not name:
        raise Refused(f"member {shown(raw)} has an empty name")
    return name


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as e:
        raise Refused(f"member {shown(raw)} has a name that is not UTF-8") from e


def _long(pending: dict[bytes, bytes], kind: bytes, short: bytes) -> bytes:
    return pending[kind].rstrip(b"\0") if kind in pending else short


def _octal(field: bytes) -> int | None:
    digits = _OCTAL.fullmatch(field)
    return int(digits[1], 8) if digits else None


def _number(field: bytes) -> int | None:
    """A number in octal, or in GNU's base-256 if the first bit is set; None if neither, or negative."""
    return int.from_bytes(field[1:]) if field[0] == 0x80 else _octal(field)
