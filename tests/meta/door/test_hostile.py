"""Raw requests of strangers: each is answered, and nobody sees another request in it than there is."""

import logging
import socket
import time

import pytest
from door_cases import CHUNKED, SECOND, cases, framed

from helpers.opened_door import LOOPS, OpenedDoor, answers, received

ALL = list(cases())


@pytest.fixture(scope="module", params=LOOPS.values(), ids=LOOPS.keys())
def door(request):
    with OpenedDoor(request.param) as opened:
        yield opened


@pytest.fixture(autouse=True)
def quiet(door, caplog):
    """Nothing that a client sends is an error of ours."""
    door.seen.clear()
    yield
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []
    assert door.errors == []


def paths(door):
    return tuple(one.path for one in door.seen)


def test_there_are_many_cases_and_no_two_of_one_name():
    assert len({case.name for case in ALL}) == len(ALL) > 400


@pytest.mark.parametrize("case", ALL, ids=[case.name for case in ALL])
def test_a_raw_request_is_seen_as_it_is_and_answered(door, case):
    found = door.ask(case.raw)
    assert paths(door) == case.seen
    assert (found[-1].status, len(found)) == (case.status, len(case.seen) + (case.status != 200))
    assert found[-1].headers["date"]


SPLIT = [
    framed(path, headers, body, True) + SECOND
    for path in (b"/heartbeat", b"/app")
    for headers, body in ((b"Content-Length: 3", b"abc"), (b"Transfer-Encoding: chunked", CHUNKED))
]


@pytest.mark.parametrize("raw", SPLIT, ids=range(len(SPLIT)))
def test_where_it_is_split_makes_no_difference(door, raw):
    whole = [one.body for one in door.ask(raw)]
    assert len(whole) == 2
    for at in range(1, len(raw)):
        with door.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.sendall(raw[:at])
            time.sleep(0.0005)
            client.sendall(raw[at:])
            client.shutdown(socket.SHUT_WR)
            assert [one.body for one in answers(client)] == whole, at


@pytest.mark.parametrize("raw", SPLIT, ids=range(len(SPLIT)))
def test_a_request_may_come_byte_by_byte(door, raw):
    assert [one.status for one in door.ask(raw, pieces=1)] == [200, 200]


def test_a_trailer_is_no_header(door):
    body = b"3\r\nabc\r\n0\r\nX-Forwarded-For: 10.0.0.1\r\nAuthorization: Bearer x\r\n\r\n"
    for path in (b"/heartbeat", b"/app"):
        door.ask(framed(path, b"Transfer-Encoding: chunked", body, True))
        assert not {"HTTP_X_FORWARDED_FOR", "HTTP_AUTHORIZATION"} & door.environs[-1].keys()


def test_a_header_with_an_underscore_is_dropped_and_a_repeated_one_is_a_list(door):
    headers = b"X_Forwarded_For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nx-forwarded-for: 3.3.3.3\r\nCookie: a=b\r\nCookie: c=d"
    door.ask(framed(b"/app", headers, b"", True))
    environ = door.environs[-1]
    assert (environ["HTTP_X_FORWARDED_FOR"], environ["HTTP_COOKIE"]) == ("2.2.2.2, 3.3.3.3", "a=b; c=d")


def test_the_authority_of_an_absolute_target_is_the_host(door):
    door.ask(b"GET http://y:2000/app?q=%41 HTTP/1.1\r\nHost: x\r\n\r\n")
    environ = door.environs[-1]
    assert (environ["HTTP_HOST"], environ["PATH_INFO"], environ["QUERY_STRING"]) == ("y:2000", "/app", "q=%41")


def test_a_path_is_decoded_once(door):
    door.ask(b"GET /%68eartbeat%2520%c3%a9 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert paths(door) == ("/heartbeat%20\xc3\xa9",)
    assert door.ask(b"GET /%68eartbeat HTTP/1.1\r\nHost: x\r\n\r\n")[0].body == b"hot 0"


def test_the_answer_to_head_has_no_body(door):
    for path in (b"/heartbeat", b"/app"):
        with door.connect() as client:
            client.sendall(b"HEAD " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            assert received(client).endswith(b"\r\n\r\n")
