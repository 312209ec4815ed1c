"""What goes back to a host over HTTP, made ready once: a class's reply is the same bytes and headers for all of its hosts."""

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
    """line, headers, parts: as WSGI wants them; nobody may change them."""

    __slots__ = ("body", "content_type", "headers", "line", "parts", "status")

    def __init__(self, status: int, content_type: str, body: bytes):
        self.status = status
        self.content_type = content_type
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
    """One line of text."""
    return Answer(status, TEXT, f"{why}\n".encode("utf-8", "replace"))
