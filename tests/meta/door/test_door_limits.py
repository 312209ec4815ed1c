"""Limits of what clients may send and hold: each of them gets an answer, and those who keep to them are answered meanwhile."""

import gc
import re
import socket
import threading
import time
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path

import pytest

from helpers.opened_door import LOOPS, OpenedDoor, answers, left_of, parsed, received
from lab.fleet import until
from meta.door import limits
from updater.wire.limits import MAX_BODY

HEAD = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
BEAT = HEAD % (b"/heartbeat", 2) + b"{}"
PATHS = [b"/heartbeat", b"/app"]
OPERATING = Path(__file__).parents[3] / "docs" / "operating-meta.md"


@pytest.fixture(params=LOOPS.values(), ids=LOOPS.keys())
def loop(request):
    return request.param


@pytest.fixture
def door(loop):
    with OpenedDoor(loop) as opened:
        yield opened
    assert opened.errors == []


def is_served(door, source="127.0.0.1"):
    """Whether a heartbeat is answered as ever."""
    with door.connect(source) as client:
        client.sendall(BEAT)
        return client.recv(100).startswith(b"HTTP/1.1 200 ")


def in_time(door):
    began = time.monotonic()
    return is_served(door) and time.monotonic() - began < 5


# --- heads ---


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"X: " + b"y" * (limits.MAX_HEAD - 100) + b"\r\n", 200),
        (b"X: " + b"y" * limits.MAX_HEAD + b"\r\n", 431),
        (b"X: " + b"y" * (1 << 20) + b"\r\n", 431),
        (b"X" * (1 << 20) + b": y\r\n", 431),
        (b"".join(b"X%d: y\r\n" % number for number in range(limits.MAX_HEADERS - 1)), 200),
        (b"".join(b"X%d: y\r\n" % number for number in range(limits.MAX_HEADERS)), 431),
        (b"X: y\r\n" * limits.MAX_HEADERS, 431),
        (b"X_Y: y\r\n" * limits.MAX_HEADERS, 431),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("path", PATHS)
def test_a_head_has_its_limit(door, path, head, status):
    found = door.ask(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
    assert [one.status for one in found] == [status]
    assert len(door.seen) == (status == 200)


def test_a_target_has_the_limit_of_the_head(door):
    assert door.ask(b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n")[0].status == 431


def test_a_head_that_never_ends_is_not_kept(door):
    with door.connect() as client:
        client.sendall(b"GET /app HTTP/1.1\r\nX: ")
        client.sendall(b"y" * 3 * limits.MAX_HEAD)
        assert [one.status for one in answers(client)] == [431]


# --- bodies ---


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(("size", "status"), [(MAX_BODY, 200), (MAX_BODY + 1, 413)])
def test_a_body_has_its_limit_however_it_comes(door, path, chunked, size, status):
    if path == b"/app":
        door.application = refusing(door)
    body = b"x" * size
    if chunked:
        raw = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % path
        raw += b"%x\r\n" % (size - 5) + body[5:] + b"\r\n5\r\nxxxxx\r\n0\r\n\r\n"
    else:
        raw = HEAD % (path, size) + body
    found = door.ask(raw)
    assert [one.status for one in found] == [status]
    assert door.refused == ([413] if status == 413 and path == b"/heartbeat" else [])


def refusing(door):
    """An application that answers 413 to more than MAX_BODY bytes, as the framework does."""

    def application(environ, start):
        stream, size = environ["wsgi.input"], 0
        while size <= MAX_BODY and (piece := stream.read(MAX_BODY + 1 - size)):
            size += len(piece)
        start("200 OK" if size <= MAX_BODY else "413 Request Entity Too Large", [])
        return [b"%d" % size]

    return application


def test_who_sends_much_before_reading_still_reads_the_refusal(door):
    with door.connect() as client:
        client.sendall(HEAD % (b"/heartbeat", MAX_BODY + 1))
        client.sendall(b"x" * (MAX_BODY + 1))
        assert [one.status for one in answers(client)] == [413]


def test_who_sends_on_for_ever_after_a_refusal_is_hung_up_on(door):
    with door.connect() as client, pytest.raises(OSError):
        client.sendall(HEAD % (b"/heartbeat", 1 << 30))
        for _ in range(1000):
            client.sendall(b"x" * 65536)


@pytest.mark.parametrize("path", PATHS)
def test_chunks_with_more_around_them_than_in_them_are_refused(door, path):
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    assert door.ask(head + b"1;" + b"a" * 2 * limits.MAX_FRAMING)[0].status == 413
    assert door.ask(head + b"0\r\nX: " + b"a" * 2 * limits.MAX_FRAMING)[0].status == 413
    assert door.ask(head + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n")[0].status == 200


@pytest.mark.parametrize("path", PATHS)
def test_bodies_on_their_way_have_a_limit_for_all_of_them(door, path, monkeypatch):
    monkeypatch.setattr("meta.door.connections.MAX_HELD", 500_000)
    part = HEAD % (path, 1_000_000) + b"x" * 200_000
    with ExitStack() as stack:
        clients = [stack.enter_context(door.connect()) for _ in range(4)]
        for client in clients[:3]:
            client.sendall(part)
        until("three are held", lambda: door.door.connections.held > 400_000)
        clients[3].sendall(part)
        (refused,) = answers(clients[3])
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert is_served(door), "small ones are taken"
    until("nothing is held any more", lambda: door.door.connections.held == 0)


@pytest.mark.parametrize("path", PATHS)
def test_who_waits_for_a_word_before_the_body_gets_it(door, path):
    for size in (3, 2_000_000):
        if path == b"/heartbeat" and size > MAX_BODY:
            continue
        with door.connect() as client:
            client.sendall((HEAD % (path, size))[:-2] + b"Expect: 100-continue\r\n\r\n")
            assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"x" * size)
            client.shutdown(socket.SHUT_WR)
            assert [one.status for one in answers(client)] == [200]


def test_a_large_body_reaches_the_application_while_it_arrives(door):
    first = threading.Event()

    def application(environ, start):
        sizes = [len(environ["wsgi.input"].read(1000))]
        first.set()
        while more := environ["wsgi.input"].read(1 << 20):
            sizes.append(len(more))
        start("200 OK", [])
        return [str(sum(sizes)).encode()]

    door.application = application
    with door.connect() as client:
        client.sendall(HEAD % (b"/app", 5_000_000) + b"x" * 1000)
        assert first.wait(20)
        client.sendall(b"x" * 4_999_000)
        client.shutdown(socket.SHUT_WR)
        assert [one.body for one in answers(client)] == [b"5000000"]


def test_an_application_may_refuse_a_large_body_without_reading_it(door):
    def application(_environ, start):
        start("401 Unauthorized", [("Content-Length", "0")])
        return []

    door.application = application
    with door.connect() as client:
        client.sendall(HEAD % (b"/app", 5_000_000) + b"x" * 1_000_000)
        found = answers(client)
        assert [(one.status, one.headers["connection"]) for one in found] == [(401, "close")]


def test_large_bodies_are_so_many_and_no_more(door):
    with ExitStack() as stack:
        for _ in range(limits.LARGE_BODIES):
            stack.enter_context(door.connect()).sendall(HEAD % (b"/app", 5_000_000) + b"x")
        until("all are being read", lambda: door.door.framework._large._under_way == limits.LARGE_BODIES)
        assert door.ask(HEAD % (b"/app", 5_000_000) + b"x" * 10)[0].status == 503
        assert door.ask(HEAD % (b"/app", 3) + b"abc")[0].status == 200
    until("they have ended", lambda: door.door.framework._large._under_way == 0)


def test_a_large_body_that_is_cut_off_is_an_error_for_who_reads_it(door):
    raised = []

    def application(environ, _start):
        try:
            while environ["wsgi.input"].read(1 << 16):
                pass
        except OSError as e:
            raised.append(e)
        raise raised[0]

    door.application = application
    assert [one.status for one in door.ask(HEAD % (b"/app", 5_000_000) + b"x" * 1_500_000)] == [400]
    assert len(raised) == 1


# --- time ---


@pytest.mark.parametrize(
    ("raw", "within"),
    [
        (b"G", limits.HEAD_WITHIN),
        (b"POST /heartbeat HTTP/1.1\r\nHost: x", limits.HEAD_WITHIN),
        (BEAT + b"POST /heartbeat HTTP/1.1\r\nHost", limits.HEAD_WITHIN),
        (BEAT[:-1], limits.BODY_WITHIN),
        (b"POST /heartbeat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n", limits.BODY_WITHIN),
        (HEAD % (b"/app", 3) + b"x", limits.FRAMEWORK_BODY_WITHIN),
        (HEAD % (b"/app", 5_000_000) + b"x", limits.SPEED_OVER),
    ],
    ids=range(7),
)
def test_what_does_not_come_in_time_is_told_so(door, raw, within):
    with door.connect() as client:
        client.sendall(raw)
        until("it has begun", lambda: any(one._request for one in door.door.connections._all))
        door.later(within - 1.5)
        client.sendall(b"")
        assert len(door.door.connections) == 1, "it has its time"
        door.later(3)
        found = answers(client)
        assert (found[-1].status, found[-1].headers["connection"]) == (408, "close")
    assert in_time(door)


def test_a_large_body_that_comes_fast_enough_has_all_its_time(door):
    size = int(limits.LEAST_SPEED * limits.SPEED_OVER)
    with door.connect() as client:
        client.sendall(HEAD % (b"/app", 3 * size))
        for number in range(3):
            client.sendall(b"x" * size)
            until("it came", lambda n=number: arrived(door) >= (n + 1) * size or door.seen)
            door.later(limits.SPEED_OVER - 1)
        client.shutdown(socket.SHUT_WR)
        assert [one.status for one in answers(client)] == [200]


def arrived(door):
    return sum(one._request.size for one in door.door.connections._all if one._request)


@pytest.mark.parametrize("raw", [b"", BEAT, b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_an_idle_connection_is_closed(door, raw):
    with door.connect() as client:
        client.sendall(raw)
        if raw:
            assert client.recv(1000)
        until("it is there", lambda: len(door.door.connections) == 1)
        door.later(limits.IDLE + 2)
        assert client.recv(1000) == b""


def test_a_connection_may_be_kept(door):
    with door.connect() as client:
        for raw in (BEAT, b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n") * 5:
            client.sendall(raw)
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
            door.later(limits.IDLE - 2)


@pytest.mark.parametrize("size", [3, 2_000_000])
def test_an_answer_that_takes_long_to_make_is_waited_for(door, size):
    go, begun = threading.Event(), threading.Event()

    def slow(environ, start):
        while environ["wsgi.input"].read(1 << 16):
            pass
        begun.set()
        assert go.wait(20)
        start("200 OK", [])
        return []

    door.application = slow
    with door.connect() as client:
        client.sendall(HEAD % (b"/app", size) + b"x" * size)
        assert begun.wait(20)
        until("the body is whole", lambda: not any(one._request for one in door.door.connections._all))
        door.later(1000)
        go.set()
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")


# --- answers that nobody reads ---


def big(size):
    def application(_environ, start):
        start("200 OK", [])
        return [b"x" * size]

    return application


def test_answers_that_nobody_reads_hold_no_thread_and_end(door):
    door.application = big(20_000_000)
    with ExitStack() as stack:
        clients = [stack.enter_context(door.connect()) for _ in range(5)]
        for client in clients:
            client.sendall(b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n")
        until("all are being sent", lambda: sum(bool(one._parts) for one in door.door.connections._all) == 5)
        assert door.door.framework._whole._under_way == 0
        assert in_time(door)
        door.later(limits.UNREAD + 2)
        until("they are hung up on", lambda: not len(door.door.connections))
        assert door.door.connections.unsent == 0


def test_the_kernel_keeps_little_of_an_answer_that_nobody_reads(door):
    door.application = big(20_000_000)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(door.address)
        client.sendall(b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n")
        until("nothing goes out", lambda: any(one._is_choked for one in door.door.connections._all))
        time.sleep(0.2)
        (one,) = door.door.connections._all
        assert sum(map(len, one._parts)) > 19_500_000


def test_a_large_answer_reaches_a_slow_reader(door):
    door.application = big(5_000_000)
    with door.connect() as client:
        client.sendall(b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        client.shutdown(socket.SHUT_WR)
        found = b""
        while more := client.recv(100_000):
            found += more
            time.sleep(0.001)
        assert [len(one.body) for one in parsed(found)] == [5_000_000] * 2


def test_answers_that_are_not_sent_have_a_limit_for_all_of_them(door, monkeypatch):
    monkeypatch.setattr("meta.door.connections.MAX_UNREAD", 30_000_000)
    door.application = big(20_000_000)
    with door.connect() as client:
        client.sendall(b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n")
        until("it is being sent", lambda: door.door.connections.unsent)
        assert door.ask(b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n")[0].status == 503
    until("it is given up", lambda: not door.door.connections.unsent)
    assert door.ask(b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n")[0].status == 200


def test_who_asks_and_asks_and_never_reads_is_not_answered_without_end(door):
    with door.connect() as client:
        is_read = True
        while is_read:
            wanted = len(door.seen) + 50
            client.sendall(BEAT * 50)
            deadline = time.monotonic() + 1
            while (is_read := len(door.seen) >= wanted) is False and time.monotonic() < deadline:
                time.sleep(0.001)
            assert len(door.seen) * len(BEAT) < 100_000_000
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            for _ in range(5000):
                client.send(BEAT * 1000)
        assert in_time(door)
        client.setblocking(True)
        answered = client.recv(1 << 20)
        assert answered.startswith(b"HTTP/1.1 200 ")
        client.sendall(b"")
        door.later(limits.UNREAD + limits.IDLE)


# --- order ---


def test_answers_come_in_the_order_of_their_requests(door):
    go = threading.Event()

    def slow(environ, start):
        assert go.wait(20)
        return door.echo(environ, start)

    door.application = slow
    with door.connect() as client:
        client.sendall((b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n" + BEAT) * 20)
        client.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        assert door.seen == []
        go.set()
        assert [one.body for one in answers(client)] == [b"app 0", b"hot 2"] * 20


@pytest.mark.parametrize(
    "first", [b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n", b""], ids=["behind one that waits", "alone"]
)
def test_requests_that_one_read_brings_have_a_limit(door, first):
    """Each takes a thousand times the memory of its few bytes, or holds up the others."""
    most = limits.MAX_PIPELINED
    assert {one.status for one in door.ask(BEAT * most)} == {200}
    with door.connect() as client:
        client.sendall((first + BEAT * 10_000)[: 200 * len(BEAT)])
        client.shutdown(socket.SHUT_WR)
        statuses = [one.status for one in answers(client)]
    assert (len(statuses), statuses[-1]) == (most + 1, 503)
    assert set(statuses[:-1]) == {200}
    assert in_time(door)


def test_requests_that_are_too_many_at_once_are_told_to_wait(door):
    go = threading.Event()
    most = limits.THREADS + limits.MAX_WAITING

    def slow(environ, start):
        assert go.wait(20)
        return door.echo(environ, start)

    door.application = slow
    with ExitStack() as stack:
        clients = [stack.enter_context(door.connect()) for _ in range(most)]
        for client in clients:
            client.sendall(b"GET /app HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        until("all are under way", lambda: door.door.framework._whole._under_way == most)
        (refused,) = door.ask(b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert in_time(door)
        go.set()
        assert {answers(client)[0].status for client in clients} == {200}


def test_an_answer_that_is_being_made_is_not_lost_for_the_next_request_that_never_comes(door):
    go = threading.Event()

    def slow(environ, start):
        assert go.wait(20)
        return door.echo(environ, start)

    door.application = slow
    with door.connect() as client:
        client.sendall(b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n" + BEAT[:-1])
        until("it is under way", lambda: door.door.framework._whole._under_way == 1)
        for _ in range(3):
            door.later(limits.BODY_WITHIN + 1)
        go.set()
        assert [one.status for one in answers(client)] == [200, 408]


# --- connections ---


def test_one_client_has_so_many_connections_and_others_have_theirs(loop):
    with OpenedDoor(loop, of_one=3) as door, ExitStack() as stack:
        kept = [stack.enter_context(door.connect()) for _ in range(3)]
        until("they are there", lambda: len(door.door.connections) == 3)
        with door.connect() as client:
            (refused,) = answers(client)
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert is_served(door, "127.0.0.2")
        kept[0].close()
        until("one has left", lambda: len(door.door.connections) == 2)
        assert is_served(door)


def test_a_trusted_proxy_is_not_limited_as_a_client(loop):
    with OpenedDoor(loop, of_one=1, trusted=[ip_network("127.0.0.1")]) as door, ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(door.connect())
        assert is_served(door)


def test_connections_have_a_limit_for_all(loop):
    with OpenedDoor(loop, connections=3) as door, ExitStack() as stack:
        for number in range(3):
            stack.enter_context(door.connect(f"127.0.0.{number + 2}"))
        until("they are there", lambda: door.counts.connections == 3)
        with door.connect() as client:
            assert answers(client)[0].status == 503
    assert len(door.door.connections) == 0


def test_a_flood_of_refused_connections_is_not_kept(loop):
    with OpenedDoor(loop, connections=1) as door, ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(door.connect())
        until("few are waited for", lambda: len(door.door.connections._refused) <= 300)


def test_a_closed_connection_leaves_nothing_to_the_collector(door):
    for _ in range(20):
        is_served(door)
    until("all are closed", lambda: not len(door.door.connections))
    gc.collect()
    gc.disable()
    try:
        for number in range(500):
            with door.connect() as client:
                client.sendall(BEAT if number % 3 else BEAT[:-1])
                client.shutdown(socket.SHUT_WR)
                received(client)
        until("they are gone without it", lambda: not left_of(door))
    finally:
        gc.enable()


# --- the document ---


def test_the_table_of_limits_is_that_of_the_document():
    rows = re.findall(r"^\| (.+) \| (.+) \| (.+) \|$", OPERATING.read_text(), re.MULTILINE)
    assert [tuple(row) for row in limits.TABLE if tuple(row) not in rows] == []
