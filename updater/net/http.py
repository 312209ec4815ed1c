"""The HTTP client: the only module that opens a connection. Every exchange has one deadline from connect to the last byte.

TLS is verified. Redirects are limited, stay within http(s) and never leave TLS. Bodies are never decompressed, so nothing can
inflate in memory. URLs are sent byte for byte, since they may be signed: neither library may normalise them. Loopback is
never asked through a proxy. Errors name the redirects and the proxy that were followed.
"""

import contextlib
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from updater.errors import Refused, TryLater
from updater.net import peer_values
from updater.net.connection_errors import in_words, is_malformed
from updater.net.credentials import Credentials
from updater.net.deadline import Deadline
from updater.net.way import Way
from updater.wire import urls
from updater.wire.heartbeat import VERSION
from updater.wire.text import one_line
from updater.wire.urls import shown

CONNECT = 10.0  # seconds to connect to one address
REDIRECTS = 5
IDLE = 30.0  # longest wait for the next byte, in seconds
CHUNK = 256 << 10  # bytes

# A probe after 30 s of silence, then one each 15 s; after four without an answer the connection ends.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)
_REDIRECTS = (301, 302, 303, 307, 308)
_NO_URL = (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)


class Http:
    """Makes exchanges, from any thread, each over a new connection.

    A connection kept open between two heartbeats would mostly be closed by the server, or dropped silently by a firewall.
    ca_file: authorities to trust instead of the system's, "" for the system's; credentials (origin -> file) and enrolled:
    see Credentials.
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
        limit: float = 0.0,
        idle: float = IDLE,
        deadline: Deadline | None = None,
    ) -> Iterator["Response"]:
        """Send a request and yield the response; the whole block may take `within` seconds, each read at most `idle` seconds.

        redirects: whether a GET follows them, each hop with the credentials of its own origin only. limit: seconds to name
        in an error, where `within` is what is left of them. deadline: the caller's own of `within` seconds, which another
        thread may `expire`. Raises TryLater for errors of the network or the server, and Refused for a response that is no
        HTTP or breaks the rules above. Raises Misconfigured for unusable credentials or an unusable proxy of this host. The
        caller judges a response by its status.
        """
        asking = _Asking(method, body, headers or {}, within, idle)
        hops = REDIRECTS if redirects and method == "GET" else 0
        way = Way(url, url)
        with deadline or Deadline(within) as deadline:
            try:
                with _session() as session, self._followed(session, asking, way, hops) as answer:
                    yield Response(answer, deadline, way)
            except (requests.RequestException, HTTPError, OSError) as e:
                if deadline.expired:
                    raise TryLater(f"{way}: no complete answer within {limit or within:g} s") from e
                if isinstance(e, _NO_URL):
                    raise Refused(f"{way} is no URL that can be asked") from e
                raise (Refused if is_malformed(e) else TryLater)(f"{way}: {in_words(e)}") from e

    def _followed(self, session: requests.Session, asking: "_Asking", way: "Way", hops: int) -> requests.Response:
        """The response after at most `hops` redirects."""
        for _ in range(hops + 1):
            answer = self._asked(session, asking, way)
            location = answer.headers.get("Location")
            if not hops or location is None or answer.status_code not in _REDIRECTS:
                return answer
            answer.close()
            try:
                way.asked = peer_values.redirect_target(way.asked, location)
            except Refused as e:
                raise Refused(f"{way}: {e}") from e
        raise Refused(f"{way}: more than {hops} redirects")

    def _asked(self, session: requests.Session, asking: "_Asking", way: "Way") -> requests.Response:
        """Send one request, with the credentials of its own origin."""
        url, within = way.asked, asking.within
        given = {**asking.headers, **self._credentials.header(url)}
        if "Authorization" not in given and (said := urls.basic_auth(url)):
            given["Authorization"] = said
        auth = _as_it_is if "Authorization" in given else None
        prepared = session.prepare_request(
            requests.Request(asking.method, url, headers=given, data=asking.body, auth=auth)
        )
        prepared.url = url
        settings = session.merge_environment_settings(url, {}, True, self._ca_file or None, None)
        is_here = peer_values.is_loopback(urlsplit(url).hostname or "")
        way.proxy = "" if is_here else select_proxy(url, settings["proxies"]) or ""
        settings["proxies"] = way.proxies()
        timeout = (min(CONNECT, within), min(asking.idle, within))
        return session.send(prepared, timeout=timeout, allow_redirects=False, **settings)


@dataclass(frozen=True, slots=True)
class _Asking:
    """The arguments of an exchange."""

    method: str
    body: bytes | None
    headers: Mapping[str, str]
    within: float
    idle: float


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps requests from replacing our Authorization header by an entry of ~/.netrc."""
    return request


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Only peer_values reads Location; requests would parse it even if told not to follow redirects."""


def _session() -> requests.Session:
    session = _Session()
    session.headers.clear()
    session.headers.update({"User-Agent": f"ops-updater/{VERSION}", "Accept-Encoding": "identity"})
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session


class Response:
    """A response whose body is not read yet. way: the servers that were asked."""

    def __init__(self, answer: requests.Response, deadline: Deadline, way: Way) -> None:
        self._raw: Any = answer.raw
        self._deadline = deadline
        self.way = way
        self.status: int = answer.status_code
        self.headers: Mapping[str, str] = answer.headers

    @property
    def retry_after(self) -> float:
        """Seconds to wait as the server asks (Retry-After), at most a day; 0 without a valid one."""
        return peer_values.wait(self.headers.get("Retry-After", ""), datetime.now(UTC))

    @property
    def length(self) -> int | None:
        """The announced size of the body in bytes, None if there is none. Raises Refused if it is not a number."""
        try:
            return None if self._raw.chunked else peer_values.content_length(self.headers.get("Content-Length", ""))
        except Refused as e:
            raise Refused(f"{self.way}: {e}") from e

    @property
    def has_end(self) -> bool:
        """Whether the response says where its body ends, so that a truncated one can be recognised."""
        return bool(self._raw.chunked) or self.length is not None

    @property
    def encoding(self) -> str:
        """The Content-Encoding of the body in lower case, "" for none."""
        said = self.headers.get("Content-Encoding", "").strip().lower()
        return "" if said == "identity" else one_line(said, 40)

    def chunks(self, of_a_file: bool = False) -> Iterator[bytes]:
        """Yield the body as it arrives. Raises Refused if it has a Content-Encoding, since none was asked for.

        of_a_file: accept one, since a digest follows anyway. Many servers say "gzip" for a .tar.gz and for its digest file,
        and object stores repeat the header of the upload.
        """
        if self.encoding and not of_a_file:
            raise Refused(f"{self.way}: the body is {self.encoding}-encoded, which was not asked for")
        _ = self.length  # raises if the length is malformed; otherwise it would count as absent
        try:
            # read1 returns what has arrived rather than filling its buffer, so that the caller can measure the speed.
            # It is used for chunked bodies, too: urllib3's own reader takes a chunk length of -1 for "all of it", in memory.
            while chunk := self._raw.read1(CHUNK, decode_content=False):
                yield chunk
        except ValueError as e:
            raise Refused(f"{self.way}: the answer is not HTTP") from e
        if self._deadline.expired:  # a body without a length ends with the socket, which the deadline has shut down
            raise TimeoutError

    def read(self, limit: int, of_a_file: bool = False) -> bytes:
        """The whole body. Raises Refused if it is longer than `limit` bytes."""
        body = b""
        for chunk in self.chunks(of_a_file):
            body += chunk
            if len(body) > limit:
                raise Refused(f"{self.way}: the answer is longer than {limit} bytes")
        return body


class _Watched:
    """A connection that the deadline of its exchange ends. The kernel finds out by probes if its peer has vanished."""

    def _new_conn(self) -> socket.socket:
        sock: socket.socket = super()._new_conn()  # type: ignore[misc]
        for option in _KEEPALIVE:
            sock.setsockopt(*option)
        Deadline.watch(sock)
        return sock


class _WatchedHTTP(_Watched, HTTPConnection):
    pass


class _WatchedHTTPS(_Watched, HTTPSConnection):
    pass


class _Literal:
    """A pool that sends the target unchanged: urllib3 would write %2f in capitals, and remove `..` from a path."""

    def urlopen(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        self._target = url
        return super().urlopen(method, url, *args, **kwargs)  # type: ignore[misc]

    def _make_request(self, conn: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        return super()._make_request(conn, method, self._target, *args, **kwargs)  # type: ignore[misc]


class _HTTPPool(_Literal, HTTPConnectionPool):
    ConnectionCls = _WatchedHTTP


class _HTTPSPool(_Literal, HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPS


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """The target of the request line (RFC 9112, 3.2): requests chooses the form, the bytes stay unchanged."""
        form, url = super().request_url(request, proxies), request.url or ""
        target = peer_values.target(url)
        return (
            target if form.startswith("/") else f"{urlsplit(shown(url)).scheme}://{urlsplit(shown(url)).netloc}{target}"
        )

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Like the base class, which however encodes names and passwords in Latin-1 only."""
        said = urls.basic_auth(proxy)
        return {"Proxy-Authorization": said} if said else {}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager
