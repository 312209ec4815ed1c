"""Heads of requests, from bytes to what WSGI calls an environ: names of headers, the target, what is invalid. Pure.

A header with an underscore in its name is dropped: in an environ it could not be told from one with a hyphen. With it a client
could write the X-Forwarded-For of a trusted proxy. Headers that are repeated become one list, as RFC 9110 has it (5.2).
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

_ABSOLUTE = re.compile(rb"https?://([^/?#\s]+)([/?].*)?", re.IGNORECASE | re.DOTALL)
_MOST_NAMES = 1000  # that are remembered; clients choose them
_ONCE = ("HTTP_HOST", "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_AUTHORIZATION")


class Target(NamedTuple):
    """What a request is for. path: percent-decoded, each character one byte; authority: "" unless the target has one."""

    path: str
    query: str
    authority: str = ""


class Names:
    """The keys of an environ by names of headers, as they are on the wire."""

    def __init__(self) -> None:
        self.known: dict[bytes, str] = {}  # those that were asked for

    def key(self, name: bytes) -> str:
        """The key, or "" for a header that is dropped."""
        found = _key(name)
        if len(self.known) < _MOST_NAMES:
            self.known[name] = found
        return found


def _key(name: bytes) -> str:
    if b"_" in name:
        return ""
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def add(environ: dict[str, Any], key: str, value: str) -> bool:
    """Add one more value of a header that is there. Returns False if this header must not be repeated."""
    separator = "; " if key == "HTTP_COOKIE" else ", "
    environ[key] = f"{environ[key]}{separator}{value}"
    return key not in _ONCE


Targets = Mapping[bytes, Target]  # those that are asked for most, as they are on the wire


def target(url: bytes) -> Target | None:
    """Parse the target of a request in origin-form, absolute-form or asterisk-form; None for any other."""
    authority = b""
    if not url.startswith(b"/") and url != b"*":
        match = _ABSOLUTE.fullmatch(url)
        if match is None:
            return None
        authority, url = match[1], match[2] or b"/"
        url = url if url.startswith(b"/") else b"/" + url
    if b"#" in url or b"@" in authority:
        return None
    path, _, query = url.partition(b"?")
    if b"%" in path:
        path = unquote_to_bytes(path)
    return Target(path.decode("latin-1"), query.decode("latin-1"), authority.decode("latin-1"))


def problem(environ: Mapping[str, Any], version: str) -> str:
    """Why a head must be refused, or "". The parser has seen that Content-Length is one number, alone and without a coding."""
    if version not in ("1.0", "1.1"):
        return "this server speaks HTTP/1.1"
    if version == "1.1" and "HTTP_HOST" not in environ:
        return "a request of HTTP/1.1 needs a Host header"
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    if coding is not None and (version == "1.0" or coding.strip().lower() != "chunked"):
        return "the only transfer coding is chunked, in HTTP/1.1"
    return ""
