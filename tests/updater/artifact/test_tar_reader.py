"""Header blocks and PAX records, read and refused one at a time."""

import pytest

from helpers.tarbytes import CONTROL, END, GNU, base256, file, header, pax, record, symlink, tar
from updater.artifact.gzip_stream import Stream
from updater.artifact.tar_reader import (
    DIRECTORY,
    FILE,
    PROGRAM,
    SYMLINK,
    Header,
    Limits,
    Member,
    members,
    parse_header,
    parse_pax,
    shown,
)
from updater.errors import Refused


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (header("x"), Header(b"x", b"0", 0o644, 0, 1_700_000_000, b"")),
        (header("x", b"5", mode=0o755), Header(b"x", b"5", 0o755, 0, 1_700_000_000, b"")),
        (header("x", b"2", link="y" * 100), Header(b"x", b"2", 0o644, 0, 1_700_000_000, b"y" * 100)),
        (
            header("x" * 100, prefix=b"y" * 155),
            Header(b"y" * 155 + b"/" + b"x" * 100, b"0", 0o644, 0, 1_700_000_000, b""),
        ),
        (header("x", b"L", 7, magic=GNU), Header(b"x", b"L", 0o644, 7, 1_700_000_000, b"")),
        (header("x", size=0o77777777777), Header(b"x", b"0", 0o644, 8**11 - 1, 1_700_000_000, b"")),
        (header("x", size=base256(8**11, 12)), Header(b"x", b"0", 0o644, 8**11, 1_700_000_000, b"")),
        (header("x", size=b"     5      "), Header(b"x", b"0", 0o644, 5, 1_700_000_000, b"")),
        (header("x", size=b"000000000005"), Header(b"x", b"0", 0o644, 5, 1_700_000_000, b"")),
        (header("x", mtime=base256(-1, 12)), Header(b"x", b"0", 0o644, 0, None, b"")),
        (header("x", mtime=bytes(12)), Header(b"x", b"0", 0o644, 0, None, b"")),
        (header(b"\xff", b"Z", mode=0o7777), Header(b"\xff", b"Z", 0o7777, 0, 1_700_000_000, b"")),
    ],
)
def test_a_header_is_read_as_it_stands(block: bytes, expected: Header) -> None:
    assert parse_header(block) == expected


def test_a_flipped_bit_of_a_header_is_noticed() -> None:
    """The checksum is a plain sum, yet no single bit can change without it; only how its own number is written may vary."""
    good, unnoticed = header("lib/x", size=5), []
    for bit in range(512 * 8):
        block = bytearray(good)
        block[bit // 8] ^= 1 << bit % 8
        try:
            assert parse_header(bytes(block)) == parse_header(good)
            unnoticed.append(bytes(block[148:156]))
        except Refused as e:
            assert "checksum" in str(e)
    assert set(unnoticed) <= {b" " + good[149:156], good[148:154] + b"  ", good[148:155] + b"\0"}


def test_a_header_full_of_the_highest_bytes_is_summed_right() -> None:
    with pytest.raises(Refused, match="neither ustar"):
        parse_header(_summed(b"\xff" * 512))
    with pytest.raises(Refused, match="checksum"):
        parse_header(b"\xff" * 512)


def _summed(block: bytes) -> bytes:
    block = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


@pytest.mark.parametrize(
    ("data", "records"),
    [
        (b"", {}),
        (b"5 a=\n", {b"a": b""}),
        (b"8 a=b=c\n", {b"a": b"b=c"}),
        (b"7 a=\n\n\n", {b"a": b"\n\n"}),
        (b"6 a=b\n7 cc=d\n", {b"a": b"b", b"cc": b"d"}),
        (record("path", "x" * 91), {b"path": b"x" * 91}),  # 99 bytes of length two, 101 of length three
        (record("path", "x" * 92), {b"path": b"x" * 92}),
        (record("path", "é"), {b"path": "é".encode()}),
    ],
)
def test_pax_records_are_read_as_they_stand(data: bytes, records: dict[bytes, bytes]) -> None:
    assert parse_pax(data) == records


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"a",
        b"0 a=b\n",
        b"1 ",
        b"2 \n",
        b"3 =\n",
        b"4 =\n",
        b"5 a\n",
        b"6 a=b",
        b"7 a=b\n",
        b"6 a=b\n\0",
        b" 6 a=b\n",
        b"9999999 a=b\n",
        b"6\ta=b\n",
        b"06 a=b\n",
        b"6 a=b\n6 a=",
        b"\xb6 a=b\n",
    ],
)
def test_pax_records_that_do_not_add_up_are_refused(data: bytes) -> None:
    with pytest.raises(Refused, match="malformed"):
        parse_pax(data)


def test_members_come_in_order_whether_their_data_is_read_or_not() -> None:
    data = tar(CONTROL, file("a", b"1" * 700), pax(record("path", "long")), file("b", b"2"), symlink("s", "a"))
    expected = [
        Member("control", PROGRAM, 10, 1_700_000_000, ""),
        Member("a", FILE, 700, 1_700_000_000, ""),
        Member("long", FILE, 1, 1_700_000_000, ""),
        Member("s", SYMLINK, 0, 1_700_000_000, "a"),
    ]
    for piece in (1, 7, 512, 700, 100_000):
        assert list(members(_stream(data, piece), Limits(), 10**6)) == expected
        stream = _stream(data, piece)
        read = [(member.name, b"".join(stream.parts(member.size))) for member in members(stream, Limits(), 10**6)]
        assert read == [("control", b"#!/bin/sh\n"), ("a", b"1" * 700), ("long", b"2"), ("s", b"")]


def _stream(data: bytes, piece: int) -> Stream:
    return Stream(iter([data[at : at + piece] for at in range(0, len(data), piece)]))


def test_no_more_of_a_too_large_extension_is_read_than_its_header() -> None:
    """The rest of the stream is endless: whoever reads on would never come back."""

    def endless():
        yield header("x", b"L", 1 << 30, magic=GNU)
        raise AssertionError("read on")

    with pytest.raises(Refused, match="too large"):
        list(members(Stream(endless()), Limits(), 1 << 40))


def test_the_top_has_no_name() -> None:
    data = header("./", b"5") + header(".", b"5") + END
    assert list(members(_stream(data, 512), Limits(), 10**6)) == [Member("", DIRECTORY, 0, 1_700_000_000, "")] * 2


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        (b"lib/x", '"lib/x"'),
        ("é 日", '"é 日"'),
        (b"a\x1b[2J\n", '"a\\x1b[2J\\n"'),
        ("a\u202eb\u200b", '"a\\u202eb\\u200b"'),
        (b"\xff", '"\\xff"'),
        ("x" * 500, '"' + "x" * 120 + '"'),
    ],
)
def test_a_foreign_name_is_safe_to_print(name: bytes | str, safe: str) -> None:
    assert shown(name) == safe
