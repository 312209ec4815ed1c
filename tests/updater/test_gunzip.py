"""The reader of gzip files, and the threads beside it."""

import gzip
import io
import os
import threading
import zlib

import pytest

from updater.errors import Refused
from updater.gunzip import AHEAD, PIECE, Ahead, Stream, fastest, inflate, plain
from updater.syncer import syncing

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

    with Ahead(pieces()) as received:
        assert last.wait(10)
        assert made == list(range(AHEAD + 1))
        assert b"".join(received) == bytes(range(100))


def test_an_error_comes_after_the_pieces_before_it() -> None:
    def pieces():
        yield b"good"
        raise Refused("no more")

    with Ahead(pieces()) as received:
        assert next(received) == b"good"
        with pytest.raises(Refused, match="no more"):
            next(received)


@pytest.mark.parametrize("taken", [0, 1, 50])
def test_the_thread_ends_with_the_block(taken: int) -> None:
    before = threading.active_count()
    with Ahead(bytes([n]) for n in range(100)) as received:
        assert [next(received) for _ in range(taken)] == [bytes([n]) for n in range(taken)]
    assert threading.active_count() == before


def test_reads_are_exact_across_pieces() -> None:
    stream = Stream(iter([b"abc", b"d", b"efgh"]))
    assert (stream.read(2), stream.read(3), stream.at) == (b"ab", b"cde", 5)
    assert b"".join(stream.parts(2)) == b"fg"
    assert (stream.read(9), stream.read(1), stream.at) == (b"h", b"", 8)


@INFLATERS
def test_both_inflaters_take_the_same_files(inflater) -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31, 9, zlib.Z_FIXED)
    assert b"".join(inflate(io.BytesIO(deflate.compress(b"x" * 1000) + deflate.flush()), inflater)) == b"x" * 1000


def test_what_cannot_be_synced_is_an_error_and_still_closed() -> None:
    pipes = [os.pipe() for _ in range(3)]  # no fsync for these
    with pytest.raises(OSError, match="Invalid argument"), syncing() as syncer:
        for ends in pipes:
            for fd in ends:
                syncer.take(fd)
        syncer.wait()
    for fd in (fd for ends in pipes for fd in ends):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
