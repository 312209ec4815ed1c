"""A stop answers what is under way, and waits for no client that has sent only a part of a request."""

import socket
import threading
import time

import pytest

from helpers.opened_door import LOOPS, OpenedDoor, answers
from lab.fleet import until

BEAT = b"POST /heartbeat HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
GET = b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = {
    "nothing": b"",
    "a head": b"POST /heartbeat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-",
    "a beat": BEAT[:-1],
    "an edit": b"PATCH /app HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    "a large body": b"PUT /app HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n{",
    "a kept connection": BEAT,
}


@pytest.fixture(params=LOOPS.values(), ids=LOOPS.keys())
def door(request):
    with OpenedDoor(request.param) as opened:
        yield opened
    assert opened.errors == []


@pytest.mark.parametrize("half", HALF.values(), ids=HALF.keys())
def test_a_stop_does_not_wait_for_who_has_sent_half_a_request(door, half):
    with door.connect() as client:
        client.sendall(half)
        if half == BEAT:
            assert client.recv(1000)
        until("it is there", lambda: len(door.door.connections) == 1)
        time.sleep(0.1)
        began = time.monotonic()
        assert door.close() == 0
        assert time.monotonic() - began < 4
        found = answers(client)
        assert [one.status for one in found] == ([] if half in (b"", BEAT) else [503])
        if found:
            assert found[0].headers["retry-after"] == "5"


def test_a_stop_answers_what_is_under_way_and_what_arrives_just_then(door):
    go, begun = threading.Event(), threading.Event()

    def slow(environ, start):
        begun.set()
        assert go.wait(20)
        return door.echo(environ, start)

    door.application = slow
    with door.connect() as one, door.connect() as another:
        one.sendall(GET)
        another.sendall(BEAT[:-1])
        assert begun.wait(20)
        left = []
        stopping = threading.Thread(target=lambda: left.append(door.close()))
        stopping.start()
        until("it is being stopped", lambda: door.door.connections.stopping)
        another.sendall(BEAT[-1:])
        found = answers(another)
        assert [(each.status, each.headers["connection"]) for each in found] == [(200, "close")]
        with pytest.raises(OSError):
            socket.create_connection(door.address, timeout=5).recv(1)
        go.set()
        assert [each.status for each in answers(one)] == [200]
        stopping.join()
        assert left == [0]


def test_a_stop_gives_up_on_what_takes_too_long(door):
    go = threading.Event()

    def hanging(_environ, start):
        go.wait(20)
        start("200 OK", [])
        return []

    door.application = hanging
    with door.connect() as client:
        client.sendall(GET)
        until("it is under way", lambda: door.door.connections.answering())
        began = time.monotonic()
        assert door.close(1.5) == 1
        assert time.monotonic() - began < 4
    go.set()
