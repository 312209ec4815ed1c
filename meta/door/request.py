"""One request while it is read: what its head says, and its body as far as it has come."""

from collections.abc import Callable
from typing import Any

from meta.door import head
from meta.door.body_pipe import BodyPipe
from meta.door.limits import (
    BODY_WITHIN,
    FRAMEWORK_BODY_WITHIN,
    FRAMING,
    MAX_FRAMING,
    MAX_HEAD,
    MAX_HEADERS,
    SPEED_OVER,
)
from meta.heartbeat.notify import Park
from meta.heartbeat.responses import Answer, refusal
from updater.wire.limits import MAX_BODY

Path = Callable[[dict[str, Any], bytes], Answer | Park]
TOO_LARGE = refusal(413, f"request entity too large: at most {MAX_BODY:,} bytes")
_NO_TARGET = refusal(400, "this is no target of a request")
_LARGE_HEAD = refusal(431, f"the head is too large: at most {MAX_HEAD:,} bytes and {MAX_HEADERS} headers")
_UPGRADE = refusal(400, "a request to upgrade must have no body")
_PROTOCOLS = {"1.0": "HTTP/1.0", "1.1": "HTTP/1.1"}
_NO_PROXY = refusal(400, "this server is no proxy")


class Request:
    """See the module. Attributes are filled in by `Connection`, which has the parser."""

    path: Path | None = None  # the hot path; None: the framework's
    pipe: BodyPipe | None = None  # of a large body
    length = 0  # as announced; -1: in chunks
    size = 0  # bytes of the body so far
    raw = 0  # bytes received since the head, chunk sizes and trailers included
    held = 0  # bytes that Connections counts
    window = 0  # size when the least speed was last looked at
    url = b""
    is_headed = False
    is_whole = False
    is_last = False  # the connection takes no other after it
    is_refused = False
    is_timed: bool | None = None  # whether the deadline is that of the body; None before there is one
    head_size = 0  # bytes
    fields = 0  # headers
    body = b""  # its first piece
    rest: list[bytes] | None = None  # further ones

    def __init__(self, address: str):
        self.environ: dict[str, Any] = {"REMOTE_ADDR": address}

    def headed(
        self, method: str, version: str, wants_upgrade: bool, targets: head.Targets, paths: dict[str, Path]
    ) -> Answer | None:
        """The head is whole: fill the environ in. Returns a refusal, or None."""
        environ = self.environ
        if self.head_size + len(self.url) + len(method) + 12 > MAX_HEAD or self.fields > MAX_HEADERS:
            return _LARGE_HEAD
        is_usual = version == "1.1" and "HTTP_HOST" in environ and "HTTP_TRANSFER_ENCODING" not in environ
        if not is_usual and (problem := head.problem(environ, version)):
            return refusal(400, problem)
        target = targets.get(self.url) or head.target(self.url) if method != "CONNECT" else None
        if target is None:
            return _NO_PROXY if method == "CONNECT" else _NO_TARGET
        environ["REQUEST_METHOD"] = method
        environ["SERVER_PROTOCOL"] = _PROTOCOLS[version]
        path, environ["QUERY_STRING"], authority = target
        environ["PATH_INFO"] = path
        if authority:
            environ["HTTP_HOST"] = authority
        self.path = paths.get(path)
        if "CONTENT_LENGTH" in environ:
            self.length = int(environ["CONTENT_LENGTH"] or 0)
        elif not is_usual and "HTTP_TRANSFER_ENCODING" in environ:
            self.length = -1
        if wants_upgrade and self.length:
            return _UPGRADE
        if self.path and self.length > MAX_BODY:
            return TOO_LARGE
        self.is_headed = True
        return None

    @property
    def has_too_much_framing(self) -> bool:
        return self.length < 0 and self.raw - self.size > MAX_FRAMING + FRAMING * self.size

    @property
    def within(self) -> float:
        """Seconds that the body may take; of a large one, those over which its speed is taken."""
        if self.length > MAX_BODY:
            return SPEED_OVER
        return BODY_WITHIN if self.path else FRAMEWORK_BODY_WITHIN

    @property
    def expects(self) -> bool:
        """Whether the client waits for a word before it sends the body."""
        if "HTTP_EXPECT" not in self.environ or self.size or self.environ["SERVER_PROTOCOL"] != "HTTP/1.1":
            return False
        return str(self.environ["HTTP_EXPECT"]).lower() == "100-continue"

    def content(self) -> bytes:
        """The body of a request without a pipe."""
        return b"".join((self.body, *self.rest)) if self.rest else self.body
