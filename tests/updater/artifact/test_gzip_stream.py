"""The reader of gzip files, and the threads beside it."""

import gzip
import io
import os
import threading
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.gzip_mutants import mutants
from helpers.tarbytes import gz_of_isal_alone, gz_with, gz_with_header_crc
from updater.artifact.fsync_pool import fsync_pool
from updater.artifact.gzip_stream import AHEAD, PIECE, ReadAhead, Stream, fastest, inflate, plain
from updater.errors import Refused

INFLATERS = pytest.mark.parametrize("inflater", [fastest, plain], ids=lambda inflater: inflater.__name__)


@INFLATERS
@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 3])
@pytest.mark.parametrize("data", [b"\0", b"noise"], ids=["zeros", "noise"])
def test_pieces_are_bounded_and_make_up_the_whole(inflater, size: int, data: bytes) -> None:
    content = os.urandom(size) if data == b"noise" else bytes(size)
    pieces = list(inflate(io.BytesIO(gzip.compress(content, 1)), inflater))
    assert b"".join(pieces) == content
    assert all(0 < len(piece) <= PIECE for piece in pieces)


@INFLATERS
def test_junk_is_found_also_where_a_read_ends_with_the_gzip(inflater) -> None:
    packed = gzip.compress(os.urandom(65_513), 0)
    assert len(packed) == 64 << 10
    with pytest.raises(Refused, match="followed by something else"):
        list(inflate(io.BytesIO(packed + b"junk"), inflater))


@INFLATERS
def test_the_last_piece_is_not_the_end_until_the_crc_is_right(inflater) -> None:
    packed = bytearray(gzip.compress(bytes(10 * PIECE)))
    packed[-8] ^= 1
    pieces = inflate(io.BytesIO(bytes(packed)), inflater)
    with pytest.raises(Refused, match="damaged"):
        for _ in pieces:
            pass


def test_an_inflater_that_makes_no_progress_is_ended() -> None:
    class Stuck:
        eof, unused_data, unconsumed_tail = False, b"", b""

        def decompress(self, data: bytes, max_length: int, /) -> bytes:
            self.unconsumed_tail = data
            return b""

    with pytest.raises(Refused, match="cut short"):
        list(inflate(io.BytesIO(gzip.compress(b"x")), Stuck))


def test_only_a_few_pieces_are_made_ahead() -> None:
    made, last = [], threading.Event()

    def pieces():
        for n in range(100):
            made.append(n)
            if n == AHEAD:
                last.set()  # it is made, and now waits for room
            yield bytes([n])

    with ReadAhead(pieces()) as received:
        assert last.wait(10)
        assert made == list(range(AHEAD + 1))
        assert b"".join(received) == bytes(range(100))


def test_an_error_comes_after_the_pieces_before_it() -> None:
    def pieces():
        yield b"good"
        raise Refused("no more")

    with ReadAhead(pieces()) as received:
        assert next(received) == b"good"
        with pytest.raises(Refused, match="no more"):
            next(received)


@pytest.mark.parametrize("taken", [0, 1, 50])
def test_the_thread_ends_with_the_block(taken: int) -> None:
    before = threading.active_count()
    with ReadAhead(bytes([n]) for n in range(100)) as received:
        assert [next(received) for _ in range(taken)] == [bytes([n]) for n in range(taken)]
    assert threading.active_count() == before


def test_reads_are_exact_across_pieces() -> None:
    stream = Stream(iter([b"abc", b"d", b"efgh"]))
    assert (stream.read(2), stream.read(3), stream.at) == (b"ab", b"cde", 5)
    assert b"".join(stream.parts(2)) == b"fg"
    assert (stream.read(9), stream.read(1), stream.at) == (b"h", b"", 8)


def verdict(data: bytes, inflater) -> bytes | str:
    """What a host reads in a gzip file, or why it does not."""
    try:
        return b"".join(inflate(io.BytesIO(data), inflater))
    except Refused as e:
        return str(e)


@INFLATERS
def test_both_inflaters_take_the_same_files(inflater) -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31, 9, zlib.Z_FIXED)
    assert verdict(deflate.compress(b"x" * 1000) + deflate.flush(), inflater) == b"x" * 1000


# Of each optional field: without it, and what may stand in it.
EXTRAS = [b"", b"\0\0", b"\4\0abcd", b"\xff\xff" + b"\0" * 65535, b"\xff\xffcut"]
TEXTS = [b"", b"\0", b"name\0", b"x" * 300 + b"\0", b"x" * 70_000 + b"\0", b"no end"]


@pytest.mark.parametrize("flags", range(256))
def test_each_set_of_header_flags_means_the_same_to_both_inflaters(flags: int) -> None:
    """The fields that the flags announce are there and good, so the file is good unless a flag is a reserved one."""
    fields = b"\4\0abcd" * bool(flags & 4) + b"name\0" * bool(flags & 8) + b"comment\0" * bool(flags & 16)
    make = gz_with_header_crc if flags & 2 else gz_with
    found = verdict(make(flags, fields, b"content"), plain)
    assert found == (b"content" if flags < 0x20 else "the tarball's gzip header has flags that RFC 1952 reserves")
    assert verdict(make(flags, fields, b"content"), fastest) == found


@pytest.mark.parametrize("comment", range(len(TEXTS)))
@pytest.mark.parametrize("name", range(len(TEXTS)))
@pytest.mark.parametrize("extra", range(len(EXTRAS)))
def test_any_header_fields_mean_the_same_to_both_inflaters(extra: int, name: int, comment: int) -> None:
    fields = (EXTRAS[extra], TEXTS[name], TEXTS[comment])
    flags = 4 * bool(extra) + 8 * bool(name) + 16 * bool(comment)
    for make in (gz_with, gz_with_header_crc):
        data = make(flags, b"".join(fields), b"content")
        assert verdict(data, plain) == verdict(data, fastest)
        if extra < 4 and name < 5 and comment < 5:
            assert verdict(data, plain) == b"content"


@settings(max_examples=500)
@given(st.integers(0, 255), st.binary(max_size=40), st.booleans())
def test_any_bytes_for_a_header_mean_the_same_to_both_inflaters(flags: int, fields: bytes, vouched: bool) -> None:
    data = (gz_with_header_crc if vouched else gz_with)(flags, fields, b"content")
    assert isinstance(verdict(data, plain), str) == isinstance(verdict(data, fastest), str)


@pytest.mark.parametrize("chunk", [1, 2, 9, 10, 11, 64])
def test_a_header_that_comes_in_small_reads_is_read_to_its_end(chunk: int) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(chunk + 2 if self.tell() == 0 else chunk)

    data = gz_with_header_crc(0b11100, b"\4\0abcd" + b"name\0" + b"comment\0", b"content")
    assert b"".join(inflate(Slow(data))) == b"content"


def test_whatever_is_done_to_a_gzip_both_inflaters_read_the_same_or_refuse_it_in_the_same_words() -> None:
    found = [(kind, verdict(data, plain), verdict(data, fastest)) for kind, data in mutants(5, 800)]
    assert [kind for kind, by_zlib, by_isal in found if by_zlib != by_isal] == []
    taken = {kind for kind, by_zlib, _ in found if isinstance(by_zlib, bytes)}
    assert {"nothing", "bits flipped", "stream cut"} <= taken, "some of what is odd is still good"
    assert not taken & {"trailer cut", "trailer wrong", "more behind"}


def test_what_only_isal_takes_is_known_and_zlib_refuses_it() -> None:
    """Of the data behind the header: `meta publish` asks zlib, so that no host meets it."""
    data = gz_of_isal_alone(b"content")
    assert verdict(data, plain) == "the tarball's gzip data is damaged or cut short"
    assert verdict(data, fastest) == b"content"


def test_what_cannot_be_synced_is_an_error_and_still_closed() -> None:
    pipes = [os.pipe() for _ in range(3)]  # no fsync for these
    with pytest.raises(OSError, match="Invalid argument"), fsync_pool() as pool:
        for ends in pipes:
            for fd in ends:
                pool.take(fd)
        pool.wait()
    for fd in (fd for ends in pipes for fd in ends):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
