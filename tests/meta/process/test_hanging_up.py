"""Which requests a stop waits for: whole ones until their response was sent, none while its body is still to come."""

import io

import pytest

from meta.process.hanging_up import Requests


class Slow(io.BytesIO):
    """A body; notes whether a stop would wait while it is read."""

    def __init__(self, requests):
        super().__init__(b"one\ntwo\n")
        self.requests = requests
        self.seen = []

    def read(self, *size):
        self.seen.append(self.requests.are_done)
        return super().read(*size)

    def readline(self, *size):
        self.seen.append(self.requests.are_done)
        return super().readline(*size)

    def readlines(self, *size):
        self.seen.append(self.requests.are_done)
        return super().readlines(*size)


READS = {
    "read": lambda body: body.read(),
    "in pieces": lambda body: b"".join(iter(lambda: body.read(3), b"")),
    "readline": lambda body: body.readline() + body.readline(),
    "readlines": lambda body: b"".join(body.readlines()),
    "lines": lambda body: b"".join(body),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_a_request_is_waited_for_but_not_for_its_body(read):
    requests = Requests()
    body = Slow(requests)
    found = []

    def application(environ, _start):
        found.append(requests.are_done)
        found.append(read(environ["wsgi.input"]))
        found.append(requests.are_done)
        return [b"done"]

    response = requests.handle(application, {"wsgi.input": body}, lambda *_: None)
    assert found == [False, b"one\ntwo\n", False]
    assert body.seen
    assert all(body.seen)
    assert not requests.are_done, "its response is still to be sent"
    assert list(response) == [b"done"]
    response.close()
    assert requests.are_done


def test_a_response_that_the_server_forgets_is_not_waited_for():
    requests = Requests()
    response = requests.handle(lambda *_: iter([b""]), {"wsgi.input": io.BytesIO()}, lambda *_: None)
    assert not requests.are_done
    del response
    assert requests.are_done


def test_a_response_is_closed_and_done_though_closing_it_fails():
    class Failing(list):
        def close(self):
            raise OSError

    requests = Requests()
    response = requests.handle(lambda *_: Failing(), {"wsgi.input": io.BytesIO()}, lambda *_: None)
    with pytest.raises(OSError):
        response.close()
    assert requests.are_done


def test_a_request_that_fails_is_done():
    def application(*_):
        raise LookupError

    requests = Requests()
    with pytest.raises(LookupError):
        requests.handle(application, {"wsgi.input": io.BytesIO()}, lambda *_: None)
    assert requests.are_done
