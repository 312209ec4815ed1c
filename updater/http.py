"""HTTP out: the only place that opens a connection. Every exchange has one deadline from connect to the last byte.

A timeout of the HTTP library holds for one read only, so a server that drips a byte a second would hold us for hours. Here a
timer shuts the socket down at the deadline, whatever phase the exchange is in. TLS is verified; redirects are few, stay within
http(s) and never leave TLS; bodies are taken as they are, so nothing can inflate in memory.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from updater import peer_values
from updater.connection_errors import in_words
from updater.credentials import Credentials
from updater.errors import Refused, TryLater
from updater.wire import VERSION, one_line

CONNECT = 10.0  # seconds for one address to accept
REDIRECTS = 5
IDLE = 30.0  # seconds without a byte
CHUNK = 256 << 10  # bytes

_REDIRECTS = (301, 302, 303, 307, 308)
_NO_URL = (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)


class Http:
    """Makes exchanges, from any thread.

    Each has a connection of its own: between two heartbeats a kept one would mostly be closed by the server, or by a
    firewall without a word. ca_file: authorities to trust instead of the system's, "" for the latter; credentials: origin
    -> file, and enrolled: meta and the file of its token, see Credentials.
    """

    def __init__(
        self,
        ca_file: str = "",
        credentials: Mapping[str, str] | None = None,
        enrolled: tuple[str, Path] | None = None,
    ) -> None:
        self._ca_file = ca_file
        self._credentials = Credentials(credentials or {}, enrolled)

    @contextlib.contextmanager
    def exchange(
        self,
        method: str,
        url: str,
        within: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        redirects: bool = True,
    ) -> Iterator["Response"]:
        """Send a request; the block reads the response, all in at most `within` seconds, none of them IDLE without a byte.

        redirects: whether a GET follows them, each hop with the credentials of its own origin alone. Raises TryLater for
        everything that the network or the server's state may cause, Refused for an answer that breaks the rules above. Any
        status code is an answer: judging it is the caller's part.
        """
        hops = REDIRECTS if redirects and method == "GET" else 0
        with _Deadline(within) as deadline:
            try:
                with _session() as session, self._followed(session, method, url, within, body, headers, hops) as answer:
                    yield Response(answer, deadline)
            except (requests.RequestException, HTTPError, OSError) as e:
                if deadline.expired:
                    raise TryLater(f"{shown(url)}: no complete answer within {within:g} s") from e
                if isinstance(e, _NO_URL):
                    raise Refused(f"{shown(url)} cannot be asked: {in_words(e)}") from e
                raise TryLater(f"{shown(url)}: {in_words(e)}") from e

    def _followed(
        self,
        session: requests.Session,
        method: str,
        url: str,
        within: float,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        hops: int,
    ) -> requests.Response:
        """The answer at the end of at most `hops` redirects."""
        asked = url
        for _ in range(hops + 1):
            given = {**(headers or {}), **self._credentials.header(asked)}
            answer = session.request(
                method,
                asked,
                data=body,
                headers=given,
                auth=_as_it_is if "Authorization" in given else None,
                timeout=(min(CONNECT, within), min(IDLE, within)),
                stream=True,
                allow_redirects=False,
                verify=self._ca_file or None,
            )
            location = answer.headers.get("Location")
            if not hops or location is None or answer.status_code not in _REDIRECTS:
                return answer
            answer.close()
            try:
                asked = peer_values.redirect_target(asked, location)
            except Refused as e:
                raise Refused(f"{shown(url)}: {e}") from e
        raise Refused(f"{shown(url)}: more than {hops} redirects")


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps requests from putting what a ~/.netrc says in the place of our own Authorization."""
    return request


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Location is read by peer_values alone; requests would look at it even when told not to follow."""


def _session() -> requests.Session:
    session = _Session()
    session.headers.clear()
    session.headers.update({"User-Agent": f"ops-updater/{VERSION}", "Accept-Encoding": "identity"})
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session


class Response:
    """An answer whose body is not read yet."""

    def __init__(self, answer: requests.Response, deadline: "_Deadline") -> None:
        self._raw: Any = answer.raw
        self._deadline = deadline
        self.status: int = answer.status_code
        self.headers: Mapping[str, str] = answer.headers

    @property
    def retry_after(self) -> float:
        """The seconds that the server asks us to wait, at most a day; 0 when it does not, or in words we do not know."""
        return peer_values.wait(self.headers.get("Retry-After", ""), datetime.now(UTC))

    @property
    def length(self) -> int | None:
        """The bytes of the body as announced, None when it is not. Raises TryLater for an announcement that is no number."""
        return None if self._raw.chunked else peer_values.content_length(self.headers.get("Content-Length", ""))

    def chunks(self) -> Iterator[bytes]:
        """The body, as it comes. Raises Refused when it is encoded: we ask for it plain."""
        if self.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
            raise Refused(
                f"the body is {one_line(self.headers['Content-Encoding'], 40)}-encoded, which was not asked for"
            )
        _ = self.length  # or a length that cannot be read would be taken for none
        try:
            # What has come, not as much as fits, so that the reader sees how fast it comes. Chunked or not: urllib3's own
            # reader of chunks takes a length of -1 for "all there is", in memory.
            while chunk := self._raw.read1(CHUNK, decode_content=False):
                yield chunk
        except ValueError as e:
            raise TryLater(f"the answer is not HTTP ({one_line(str(e), 100)})") from e
        if self._deadline.expired:  # a body without a length ends where the socket does, and that end was ours
            raise TimeoutError

    def read(self, limit: int) -> bytes:
        """The whole body, of at most `limit` bytes; Refused when it is longer."""
        body = b""
        for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise Refused(f"the answer is longer than {limit} bytes")
        return body


def shown(url: str) -> str:
    """A URL fit for logs: without a user's name and password."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


class _Deadline:
    """Shuts down the sockets that this thread's exchange uses when the time is up."""

    _of_thread = threading.local()

    def __init__(self, seconds: float) -> None:
        self.expired = False
        self._lock = threading.Lock()
        self._sockets: list[int] = []
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    @classmethod
    def watch(cls, sock: socket.socket) -> None:
        """Called by a connection with its new socket."""
        current: _Deadline | None = getattr(cls._of_thread, "current", None)
        if current is None:
            return
        with current._lock:
            if current.expired:  # a redirect met the deadline between two connections
                sock.shutdown(socket.SHUT_RDWR)
            # A duplicate, because TLS takes the descriptor of the plain socket over.
            current._sockets.append(os.dup(sock.fileno()))

    def __enter__(self) -> "_Deadline":
        self._of_thread.current = self
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._of_thread.current = None
        self._timer.cancel()
        with self._lock:
            for fd in self._sockets:
                os.close(fd)
            self._sockets.clear()

    def _expire(self) -> None:
        with self._lock:
            self.expired = True
            for fd in self._sockets:
                with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
                    sock.shutdown(socket.SHUT_RDWR)


class _WatchedHTTP(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _Deadline.watch(sock)
        return sock


class _WatchedHTTPS(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _Deadline.watch(sock)
        return sock


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPS


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager
