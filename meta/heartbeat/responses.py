"""HTTP responses that are rendered once and sent many times: all hosts of a class get the same bytes and headers."""

from http import HTTPStatus

JSON = "application/json; charset=UTF-8"
TEXT = "text/plain; charset=utf-8"
_MORE = {
    401: [("WWW-Authenticate", "Bearer")],
    405: [("Allow", "GET, POST")],
    429: [("Retry-After", "5")],
    503: [("Retry-After", "5")],
}


class Answer:
    """A complete response; `line`, `headers` and `parts` are as WSGI needs them, and must not be changed."""

    __slots__ = ("body", "headers", "line", "parts", "status")

    def __init__(self, status: int, content_type: str, body: bytes):
        self.status = status
        self.body = body
        self.line = f"{status} {HTTPStatus(status).phrase}"
        self.headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("X-Content-Type-Options", "nosniff"),
            *_MORE.get(status, ()),
        ]
        self.parts = [body]


def refusal(status: int, why: str) -> Answer:
    """A response of one line of text."""
    return Answer(status, TEXT, f"{why}\n".encode("utf-8", "replace"))
