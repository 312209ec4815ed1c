"""The client of meta's REST API: the only module of the command line that opens a connection.

Every failure becomes one sentence that says what to do. The token is sent to the given URL only: redirects are not followed,
loopback is never asked through a proxy, and .netrc is not read. TLS is verified. A response of another type than expected, such
as the page of a captive portal, is refused.
"""

import re
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import click
import msgspec
import requests
from requests.auth import AuthBase

from meta.api.framework.operation import PREFIX
from meta.cli import errors
from meta.errors import Misconfigured, TryLater
from updater.net import connection_errors
from updater.net.peer_values import is_loopback
from updater.wire.heartbeat import VERSION
from updater.wire.text import in_plain_sight, one_line, plain
from updater.wire.text import quoted as shown_in_message
from updater.wire.urls import has_host, proxy, proxy_shown, shown

CONNECT, READ, UPLOAD = 5.0, 60.0, 600.0  # seconds; UPLOAD: until meta has hashed and stored an upload
PAGE = 1000  # hosts in one page
ABSENT = -1  # stands for a revision: it must not exist yet
_CHANGES = ("PUT", "PATCH", "POST", "DELETE")
T = TypeVar("T")


class Client:
    """The client of one meta. Every method raises Misconfigured, TryLater, or another error of meta.cli.errors."""

    def __init__(self, url: str, token: str = "", ca_file: Path | None = None, patience: float = READ):
        """patience: longest wait for the next byte, in seconds."""
        self.url, is_local = _checked(url)
        if ca_file and not ca_file.is_file():
            raise Misconfigured(f"the file of certificate authorities {plain(str(ca_file))} does not exist")
        if token and not is_local and self.url.startswith("http:"):
            click.echo(f"warning: your token goes to {self.url} unencrypted; use https", err=True)
        self._patience = patience
        self._has_token = bool(token)
        self._session = requests.Session()
        self._session.trust_env = False  # no .netrc; proxies are looked up below
        self._session.proxies.update({} if is_local else _proxies(self.url))
        self._session.verify = str(ca_file) if ca_file else True
        self._session.auth = _Bearer(token)
        self._session.headers["User-Agent"] = f"meta/{VERSION}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def get(self, path: str, kind: type[T], **query: Any) -> T:
        """GET a value of type `kind`. path: below the API's prefix, its parts quoted by `at`."""
        return self._decoded(self._ask("GET", path, query), kind)

    def get_versioned(self, path: str, kind: type[T]) -> tuple[T, int]:
        """GET a value, and the revision that an edit of it must name."""
        response = self._ask("GET", path, {})
        tag = response.headers.get("ETag", "").removeprefix("W/").strip('"')
        if not re.fullmatch(r"[0-9]{1,18}", tag):
            raise self._no_meta("its answer has no revision")
        return self._decoded(response, kind), int(tag)

    def send(
        self, method: str, path: str, kind: type[T], body: Any = None, match: int | None = None, **query: Any
    ) -> T:
        """Send PUT, PATCH, POST or DELETE. match: the base revision of the edit, ABSENT, or None for no condition."""
        return self._decoded(self._ask(method, path, query, _encoded(body), _conditions(match, body)), kind)

    def upload(self, path: str, file: IO[bytes], kind: type[T], **query: Any) -> T:
        """PUT the content of a file, which is streamed."""
        return self._decoded(self._ask("PUT", path, query, file, {"Content-Type": "application/gzip"}, UPLOAD), kind)

    def pages(self, path: str, kind: type[T], limit: int, **query: Any) -> Iterator[T]:
        """Yield the pages of a list, until they have `limit` items (0: all of them)."""
        found = 0
        cursor = ""
        while True:
            size = min(limit - found, PAGE) if limit else PAGE
            page: Any = self.get(path, kind, **query, cursor=cursor, limit=size)
            yield page
            found, cursor = found + len(page.items), page.next
            if not cursor or (limit and found >= limit):
                return

    def plain(self, path: str) -> tuple[int, Any]:
        """GET a path outside the API; returns (status, JSON data or None)."""
        response = self._exchange("GET", f"{self.url}{path}")
        try:
            return response.status_code, msgspec.json.decode(response.content)
        except (msgspec.DecodeError, UnicodeError):
            return response.status_code, None

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        patience: float = 0,
    ) -> requests.Response:
        given = {key: _shown(value) for key, value in query.items() if value not in ("", None)}
        response = self._exchange(method, f"{self.url}{PREFIX}{path}", given, body, headers, patience)
        if response.is_redirect:
            where = one_line(shown(response.headers["Location"]), 200)
            raise Misconfigured(f"{self.url} redirects to {where}: if meta is there, set META_URL or --url to it")
        if not response.ok:
            raise errors.error(response.status_code, response.content, self._what_answers(response), self._has_token)
        return response

    def _exchange(
        self,
        method: str,
        url: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        patience: float = 0,
    ) -> requests.Response:
        try:
            return self._session.request(
                method,
                url,
                params=dict(query or {}),
                data=body,
                headers=dict(headers or {}),
                timeout=(CONNECT, patience or self._patience),
                allow_redirects=False,
            )
        except (OSError, ValueError) as e:  # requests passes some errors of the libraries below on unwrapped
            raise self._failed(method, e) from e

    def _failed(self, method: str, error: Exception) -> Exception:
        why = connection_errors.reason(error)
        if isinstance(error, requests.exceptions.SSLError | ssl.SSLError):
            if not why.startswith("certificate verify failed"):
                return Misconfigured(f"the server at {self.url} does not speak TLS properly ({why}): is it http?")
            return Misconfigured(
                f"the certificate of {self.url} is not trusted ({why}): name its authorities with META_CA_FILE"
            )
        if isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError) or errors.is_unreached(error):
            return TryLater(f"no meta answers at {self.url} ({why}): is it running, and is META_URL right?")
        if isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError):
            doubt = "; check `meta history` whether it was done" if method in _CHANGES else "; try again"
            return TryLater(f"the meta at {self.url} gave no complete answer ({why}){doubt}")
        return Misconfigured(f"cannot send a request to {self.url}: {why}")

    def _decoded(self, response: requests.Response, kind: type[T]) -> T:
        if kind is type(None):
            return None
        try:
            return msgspec.json.decode(response.content, type=kind)
        except (msgspec.DecodeError, UnicodeError) as e:
            raise self._no_meta(self._what_answers(response)) from e

    def _no_meta(self, what: str) -> Misconfigured:
        return Misconfigured(f"the server at {self.url} is not meta, or of another version ({what}): check META_URL")

    def _what_answers(self, response: requests.Response) -> str:
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        return f"status {response.status_code}, {one_line(kind, 60) or 'of no type'}"


class _Bearer(AuthBase):
    """The session's own authentication, so that requests does not add an entry of ~/.netrc."""

    def __init__(self, token: str):
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def at(*parts: str) -> str:
    """Return a path below the API's prefix: `at("hosts", name)`. Raises Misconfigured for a name that cannot be in a path."""
    for part in parts:
        if not part.strip(".") or "/" in part:
            raise Misconfigured(f"{shown_in_message(part)} is no valid name")
    return "".join("/" + quote(part, safe="") for part in parts)


def _checked(url: str) -> tuple[str, bool]:
    """Return (the base URL, whether it is on this machine). Raises Misconfigured."""
    if not in_plain_sight(url.strip()):
        raise Misconfigured(f"META_URL must be like https://meta.example:2000, not {shown_in_message(shown(url))}")
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname or "", parts.port
    except ValueError as e:
        raise Misconfigured("META_URL is no URL: its host or its port cannot be read") from e
    is_base = parts.scheme in ("http", "https") and not parts.query and not parts.fragment
    is_usual = is_base and has_host(parts.netloc)
    if not is_usual:
        raise Misconfigured(f"META_URL must be like https://meta.example:2000, not {shown_in_message(shown(url))}")
    if "@" in parts.netloc:
        raise Misconfigured("META_URL must contain no user and no password: put your token into META_TOKEN or a file")
    return url.strip().rstrip("/"), is_loopback(host)


def _proxies(url: str) -> dict[str, str]:
    """Return the environment's proxy for a URL, as requests wants it."""
    named = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not named:
        return {}
    if not (usable := proxy(named)):
        raise Misconfigured(
            f"the environment's proxy {proxy_shown(named)} must be like http://HOST:PORT or https://HOST:PORT"
        )
    return {urlsplit(url).scheme: usable}


def _encoded(body: Any) -> bytes | None:
    return None if body is None else msgspec.json.encode(body)


def _conditions(match: int | None, body: Any) -> dict[str, str]:
    headers = {} if body is None else {"Content-Type": "application/json"}
    if match is not None:
        headers |= {"If-None-Match": "*"} if match == ABSENT else {"If-Match": f'"{match}"'}
    return headers


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
