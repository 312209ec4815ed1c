"""HTTP out: the only place that opens a connection. Every exchange has one deadline from connect to the last byte.

TLS is verified; redirects are few, stay within http(s) and never leave TLS; bodies are taken as they are, so nothing can
inflate in memory. A URL is asked for byte by byte as it stands, since a signature may be over it: neither library may write it
in a better way. Loopback is never asked through a proxy. Errors say where a redirect or a proxy took us.
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

from updater.errors import Misconfigured, Refused, TryLater
from updater.net import peer_values
from updater.net.connection_errors import in_words
from updater.net.credentials import Credentials
from updater.net.deadline import Deadline
from updater.wire import urls
from updater.wire.heartbeat import VERSION
from updater.wire.text import one_line
from updater.wire.urls import shown

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
        everything that the network or the server's state may cause, Refused for an answer that breaks the rules above,
        Misconfigured for credentials or a proxy of this host that are none. Any status code is an answer: judging it is the
        caller's part.
        """
        asking = _Asking(method, body, headers or {}, within)
        hops = REDIRECTS if redirects and method == "GET" else 0
        way = Way(url, url)
        with Deadline(within) as deadline:
            try:
                with _session() as session, self._followed(session, asking, way, hops) as answer:
                    yield Response(answer, deadline, way)
            except (requests.RequestException, HTTPError, OSError) as e:
                if deadline.expired:
                    raise TryLater(f"{way}: no complete answer within {within:g} s") from e
                if isinstance(e, _NO_URL):
                    raise Refused(f"{way} cannot be asked: {in_words(e)}") from e
                raise TryLater(f"{way}: {in_words(e)}") from e

    def _followed(self, session: requests.Session, asking: "_Asking", way: "Way", hops: int) -> requests.Response:
        """The answer at the end of at most `hops` redirects."""
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
        """One request, with what only its own origin may see."""
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
        settings["proxies"] = _proxies(way) if way.proxy else {}
        timeout = (min(CONNECT, within), min(IDLE, within))
        return session.send(prepared, timeout=timeout, allow_redirects=False, **settings)


@dataclass(frozen=True, slots=True)
class _Asking:
    method: str
    body: bytes | None
    headers: Mapping[str, str]
    within: float


@dataclass(slots=True)
class Way:
    """Whom an exchange asks, for messages. first: the URL that was meant; asked: that of the last hop; proxy: what stands
    before it, as the environment says it, "" for nothing."""

    first: str
    asked: str
    proxy: str = ""

    def __str__(self) -> str:
        text = shown(self.first)
        if self.asked != self.first:
            text += f", redirected to {one_line(shown(self.asked).partition('?')[0], 200)}"  # a query may be a secret
        return f"{text}, through the proxy {urls.proxy_shown(self.proxy)}" if self.proxy else text


def _proxies(way: Way) -> dict[str, str]:
    """The library's form of a proxy. Raises Misconfigured."""
    usable = urls.proxy(way.proxy)
    if not usable:
        raise Misconfigured(f"{way}: the environment's proxy is to be like http://HOST:PORT, by http or https")
    return {urlsplit(way.asked).scheme: usable}


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
    """An answer whose body is not read yet. way: who gave it."""

    def __init__(self, answer: requests.Response, deadline: Deadline, way: Way) -> None:
        self._raw: Any = answer.raw
        self._deadline = deadline
        self.way = way
        self.status: int = answer.status_code
        self.headers: Mapping[str, str] = answer.headers

    @property
    def retry_after(self) -> float:
        """The seconds that the server asks us to wait, at most a day; 0 when it does not, or in words we do not know."""
        return peer_values.wait(self.headers.get("Retry-After", ""), datetime.now(UTC))

    @property
    def length(self) -> int | None:
        """The bytes of the body as announced, None when it is not. Raises TryLater for an announcement that is no number."""
        try:
            return None if self._raw.chunked else peer_values.content_length(self.headers.get("Content-Length", ""))
        except TryLater as e:
            raise TryLater(f"{self.way}: {e}") from e

    @property
    def has_end(self) -> bool:
        """Whether the answer says where its body ends, so that one that was cut short is known for it."""
        return bool(self._raw.chunked) or self.length is not None

    @property
    def encoding(self) -> str:
        """What the server says that it did to the body, "" for nothing."""
        said = self.headers.get("Content-Encoding", "").strip().lower()
        return "" if said == "identity" else one_line(said, 40)

    def chunks(self, of_a_file: bool = False) -> Iterator[bytes]:
        """The body, as it comes. Raises Refused when it is encoded: we ask for it plain. of_a_file: what it is called does no
        harm, for its bytes speak for themselves: many servers say "gzip" of a .tar.gz, and even of the digest beside it, by
        their names, and stores give back whatever word came with the upload."""
        if self.encoding and not of_a_file:
            raise Refused(f"{self.way}: the body is {self.encoding}-encoded, which was not asked for")
        _ = self.length  # or a length that cannot be read would be taken for none
        try:
            # What has come, not as much as fits, so that the reader sees how fast it comes. Chunked or not: urllib3's own
            # reader of chunks takes a length of -1 for "all there is", in memory.
            while chunk := self._raw.read1(CHUNK, decode_content=False):
                yield chunk
        except ValueError as e:
            raise TryLater(f"{self.way}: the answer is not HTTP ({one_line(str(e), 100)})") from e
        if self._deadline.expired:  # a body without a length ends where the socket does, and that end was ours
            raise TimeoutError

    def read(self, limit: int, of_a_file: bool = False) -> bytes:
        """The whole body, of at most `limit` bytes; Refused when it is longer."""
        body = b""
        for chunk in self.chunks(of_a_file):
            body += chunk
            if len(body) > limit:
                raise Refused(f"{self.way}: the answer is longer than {limit} bytes")
        return body


class _WatchedHTTP(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        Deadline.watch(sock)
        return sock


class _WatchedHTTPS(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        Deadline.watch(sock)
        return sock


class _Literal:
    """A pool that asks for what it is given: urllib3 would write a %2f in capitals, and take `..` out of a path."""

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
        """The target of the request line (RFC 9112, 3.2): requests' choice of its form, its bytes as they stand."""
        form, url = super().request_url(request, proxies), request.url or ""
        target = peer_values.target(url)
        return (
            target if form.startswith("/") else f"{urlsplit(shown(url)).scheme}://{urlsplit(shown(url)).netloc}{target}"
        )

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """As the base class, which knows Latin-1 alone."""
        said = urls.basic_auth(proxy)
        return {"Proxy-Authorization": said} if said else {}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager
