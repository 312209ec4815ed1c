"""Parses numbers, waits and URLs in the headers of peers: each becomes a value, or an error with a clear text.

Python's own parsers do not suffice. `int` takes digits of other scripts and fails on 5,000 of them. `isdigit` is true
for superscripts. `urlsplit` raises a bare ValueError, and dates may overflow.
"""

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urljoin, urlsplit

from updater.errors import Refused, TryLater
from updater.net import addresses
from updater.wire.text import one_line
from updater.wire.urls import has_host

LONGEST_WAIT = 86400.0  # seconds

_NUMBER = re.compile(r"[0-9]{1,18}")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")
_LONGEST_DATE = 64  # characters
_LONGEST_URL = 8192  # characters, after quoting
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_ODD_IN_AUTHORITY = re.compile(r"[^A-Za-z0-9._~:@%!$&'()*+,;=\[\]-]")
_LOCAL = ("localhost", "localhost.localdomain", "localhost6", "localhost6.localdomain6")


def content_length(text: str) -> int | None:
    """The bytes that a Content-Length announces, None if blank. Raises Refused for anything else but a number.

    One number given twice counts once (RFC 9110, 8.6).
    """
    if not text:
        return None
    numbers = {one.strip() for one in text.split(",")}
    if len(numbers) > 1 or not _NUMBER.fullmatch(number := numbers.pop()):
        raise Refused(f"its Content-Length is not a number of bytes: {_quoted(text)}")
    return int(number)


def range_start(text: str) -> int:
    """The position of the first byte of a Content-Range. Raises TryLater."""
    found = _RANGE.fullmatch(text)
    if not found:
        raise TryLater(f"its Content-Range is not a range of bytes: {_quoted(text)}")
    return int(found[1])


def wait(text: str, now: datetime) -> float:
    """The seconds that a Retry-After asks for, at most a day; 0 if it cannot be parsed, since it is only advice."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(text[:_LONGEST_DATE])
        return min(max((until - now).total_seconds(), 0.0), LONGEST_WAIT)
    except (ValueError, TypeError, OverflowError, IndexError):  # all of them were observed
        return 0.0


def redirect_target(url: str, location: str) -> str:
    """The http or https URL to which a Location redirects from `url`, without a fragment.

    Only characters that no URL may contain are quoted. Raises Refused.
    """
    said = f"it redirects to {_quoted(location)}"
    given = quote(location.strip().encode("latin-1", "replace"), safe=_PRINTABLE).partition("#")[0]
    try:
        target = _resolved(url, given)
        parts = urlsplit(target)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as e:
        raise Refused(f"{said}, which is no URL") from e
    if usable and not has_host(parts.netloc):
        raise Refused(f"{said}, which is no URL")
    if not usable or not given or len(target) > _LONGEST_URL or _ODD_IN_AUTHORITY.search(parts.netloc):
        raise Refused(f"{said}, which is no http or https URL")
    if url.startswith("https:") and not target.startswith("https:"):
        raise Refused(f"{said}, from https to http")
    return target


def _resolved(url: str, given: str) -> str:
    """Resolve a reference as in RFC 3986, 5.2, but normalise only relative paths. Raises ValueError."""
    base, alone = urlsplit(url), urlsplit(given)
    if alone.scheme:
        return f"{alone.scheme}{given[len(alone.scheme) :]}" if alone.netloc else ""
    if given.startswith("//"):
        return f"{base.scheme}:{given}" if alone.netloc else ""
    if given.startswith("/"):
        return f"{base.scheme}://{base.netloc}{given}"
    return urljoin(url, given)


def target(url: str) -> str:
    """The path and query of a URL, unchanged, as the target of a request."""
    rest = url.partition("://")[2].partition("#")[0]
    begin = next((at for at, letter in enumerate(rest) if letter in "/?"), len(rest))
    return rest[begin:] if rest[begin:].startswith("/") else f"/{rest[begin:]}"


def is_loopback(host: str) -> bool:
    """Whether the host of a URL is this machine, by its name or address."""
    name = host.rstrip(".").lower()
    if name in _LOCAL or name.endswith(".localhost"):
        return True
    return addresses.is_loopback(name.partition("%")[0])


def _quoted(text: str) -> str:
    return f'"{one_line(text, 80)}"'
