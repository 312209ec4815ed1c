"""Files are sent by threads of their own: whole, in parts, many at a time, and none of them holds up a heartbeat."""

import os
import socket
import threading
import time
from contextlib import ExitStack

import pytest

from helpers.opened_door import LOOPS, OpenedDoor, answers
from lab.fleet import until
from meta.artifacts.file_part import FilePart
from meta.door import limits
from meta.door.downloads import LEAST, Rate

GET = b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n"
BEAT = b"POST /heartbeat HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
SIZE = 3_000_000
CONTENT = os.urandom(SIZE)


@pytest.fixture(params=LOOPS.values(), ids=LOOPS.keys())
def loop(request):
    return request.param


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


class Files:
    """An application that sends a part of a file; `ended` counts how many are closed."""

    def __init__(self, path, offset=0, length=SIZE):
        self.path, self.offset, self.length = path, offset, length
        self.ended = 0

    def __call__(self, _environ, start):
        part = FilePart(self.path.open("rb"), len(CONTENT), self._end)
        part.narrow(self.offset, self.length)
        start("200 OK", [("Content-Length", str(self.length))])
        return part

    def _end(self):
        self.ended += 1


@pytest.fixture
def door(loop):
    with OpenedDoor(loop) as opened:
        yield opened
    assert opened.errors == []


def quickest(door, count=5):
    """Seconds of the slowest of some heartbeats."""
    slowest = 0.0
    for _ in range(count):
        began = time.monotonic()
        assert door.ask(BEAT)[0].status == 200
        slowest = max(slowest, time.monotonic() - began)
    return slowest


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 3_000_000), (0, 1), (5, 0), (2_999_990, 10), (1_000_001, 1_500_000)]
)
def test_a_part_of_a_file_goes_out_as_it_is_in_the_order_of_the_requests(door, file, offset, length):
    door.application = files = Files(file, offset, length)
    found = door.ask((GET + BEAT) * 3)
    assert [one.body for one in found] == [CONTENT[offset : offset + length], b"hot 2"] * 3
    assert files.ended == 3
    assert door.counts.downloads == 0


def test_a_file_that_becomes_shorter_ends_the_connection(door, file):
    door.application = Files(file, 0, len(CONTENT) + 100)
    with door.connect() as client:
        client.sendall(GET)
        with pytest.raises(AssertionError):
            assert len(answers(client)[0].body) == len(CONTENT) + 100
    until("it is closed", lambda: not len(door.door.connections))


def test_a_client_that_leaves_ends_its_download(door, file):
    door.application = files = Files(file)
    for _ in range(20):
        with door.connect() as client:
            client.sendall(GET)
            assert client.recv(100)
    until("all are given up", lambda: files.ended == 20 and not len(door.door.connections))
    assert door.counts.downloads == 0


def test_a_download_after_an_answer_that_is_not_read_yet_waits_for_it(door, file):
    big = b"x" * 20_000_000

    def application(environ, start):
        if environ["PATH_INFO"] == "/file":
            return Files(file)(environ, start)
        start("200 OK", [])
        return [big]

    door.application = application
    with door.connect() as client:
        client.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        client.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        assert [one.body for one in answers(client)] == [big, CONTENT]


@pytest.mark.long
def test_two_thousand_slow_downloads_stop_no_heartbeat_and_no_other_download(door, file):
    with file.open("r+b") as grown:
        grown.truncate(30_000_000)
    door.application = files = Files(file, 0, 30_000_000)
    with ExitStack() as stack:
        slow = []
        for _ in range(2000):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(30)
            client.connect(door.address)
            client.sendall(GET)
            slow.append(client)
        assert {client.recv(15) for client in slow} == {b"HTTP/1.1 200 OK"}
        assert door.counts.downloads == 2000
        assert quickest(door) < 2
        assert len(door.ask(GET)[0].body) == 30_000_000
        for client in slow:
            assert client.recv(4096)
    until("all are given up", lambda: files.ended == 2001)
    until("all are closed", lambda: not len(door.door.connections))


def test_a_file_system_that_hangs_holds_up_no_heartbeat(door):
    """It is met where a file is opened, in a thread of the framework."""
    go = threading.Event()

    def hanging(_environ, start):
        assert go.wait(30)
        start("404 Not Found", [])
        return []

    door.application = hanging
    with ExitStack() as stack:
        for _ in range(2 * limits.THREADS):
            stack.enter_context(door.connect()).sendall(GET)
        assert quickest(door) < 2
        go.set()


def test_what_is_not_taken_in_time_is_hung_up_on(loop, file, monkeypatch):
    monkeypatch.setattr("meta.door.downloads.UNREAD", 0.5)
    with file.open("r+b") as grown:
        grown.truncate(30_000_000)
    with OpenedDoor(loop) as door, door.connect() as client:
        door.application = files = Files(file, 0, 30_000_000)
        client.sendall(GET)
        until("it is given up", lambda: files.ended == 1)
        until("it is closed", lambda: not len(door.door.connections))


def test_all_downloads_together_keep_to_their_rate(loop, file):
    with OpenedDoor(loop, rate=1_000_000) as door:
        door.application = Files(file, 0, 500_000)
        began = time.monotonic()
        threads = [threading.Thread(target=door.ask, args=(GET,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert quickest(door) < 1
        for thread in threads:
            thread.join()
        assert time.monotonic() - began > 1.6, "two megabytes, of which a quarter of one is there at once"


def test_a_rate_is_what_is_granted_in_a_second():
    now = [0.0]
    rate = Rate(1_000_000, lambda: now[0])
    granted = 0
    for _ in range(1000):
        now[0] += 0.01
        while got := rate.take(100_000):
            granted += got
    assert 9_900_000 <= granted <= 10_250_000
    now[0] += 100
    assert sum(iter(lambda: rate.take(100_000), 0)) <= 250_000 + LEAST, "what was not used is not saved up"


@pytest.mark.parametrize("slow", [1, 1000, 20_000])
def test_a_low_rate_still_goes_on(slow):
    now = [0.0]
    rate = Rate(slow, lambda: now[0])
    granted = 0
    for _ in range(100):
        now[0] += 1
        granted += rate.take(1 << 20)
    assert granted == pytest.approx(100 * slow, rel=0.3)


# --- stops ---


def test_a_stop_waits_for_a_download_as_long_as_it_may(loop, file):
    door = OpenedDoor(loop)
    with door, door.connect() as quick, door.connect() as slow:
        door.application = Files(file)
        with file.open("r+b") as grown:
            grown.truncate(30_000_000)
        door.application.length = 30_000_000
        for client in (quick, slow):
            client.sendall(GET)
            assert client.recv(100, socket.MSG_PEEK)
        found = []
        reading = threading.Thread(target=lambda: found.append(answers(quick)))
        reading.start()
        began = time.monotonic()
        assert door.close(3.0) == 1
        reading.join()
        assert len(found[0][0].body) == 30_000_000
        assert time.monotonic() - began < 6
