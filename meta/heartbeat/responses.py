"""HTTP responses that are rendered once and sent many times: all hosts of a class get the same bytes."""

from collections.abc import Sequence
from hashlib import sha256
from http import HTTPStatus

JSON = "application/json; charset=UTF-8"
TEXT = "text/plain; charset=utf-8"
Headers = Sequence[tuple[str, str]]
_MORE: dict[int, Headers] = {
    401: [("WWW-Authenticate", "Bearer")],
    405: [("Allow", "GET, POST")],
    429: [("Retry-After", "5")],
    503: [("Retry-After", "5")],
}
CLOSE = b"Connection: close\r\n"


class Answer:
    """A complete response. On the wire it is `start`, the Date header, and `kept` or `closed`: all else with the body."""

    __slots__ = ("_closed", "_known", "body", "headers", "kept", "start", "status")

    def __init__(self, status: int, content_type: str, body: bytes, more: Headers = ()):
        self.status = status
        self.body = body
        self.headers = [("X-Content-Type-Options", "nosniff"), *(more or _MORE.get(status, ()))]
        if status != 204:
            self.headers += [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        self.start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode("ascii")
        self.kept = rendered(self.headers) + b"\r\n" + body  # for a connection that goes on
        self._closed = b""
        self._known = ""

    @property
    def closed(self) -> bytes:
        """For a connection that is closed then; rendered on first use."""
        if not self._closed:
            self._closed = CLOSE + self.kept
        return self._closed

    @property
    def known(self) -> str:
        """By which a host says that it has this reply; computed on first use."""
        if not self._known:
            self._known = sha256(self.body).hexdigest()[:16]
        return self._known

    @property
    def line(self) -> str:
        """The status line of WSGI."""
        return self.start[9:-2].decode("ascii")


def rendered(headers: Headers) -> bytes:
    """Header lines."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")


def refusal(status: int, why: str, more: Headers = ()) -> Answer:
    """A response of one line of text. more: headers instead of those that are usual for the status."""
    return Answer(status, TEXT, f"{why}\n".encode("utf-8", "replace"), more)
