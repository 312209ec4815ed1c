"""Checks URLs of bases and proxies, and separates the credentials in them: for requests, and from what is shown. Pure.

Passwords may contain characters that no URL allows (a slash, a `#`, an `@`), and a proxy may be given without a scheme, as
for curl. Where the password is ambiguous, more than necessary is hidden.
"""

import base64
import re
from ipaddress import IPv6Address
from urllib.parse import quote, unquote, urlsplit

from updater.wire.limits import MAX_HOSTNAME, MAX_URL, MAX_URL_PART, URL_NAME_FORM
from updater.wire.text import quoted

NO_PROXY_URL = "(a proxy that is no URL)"

_URL_NAME = re.compile(URL_NAME_FORM)
_UNSAFE_IN_URL = re.compile(r"[^\x21-\x7e]|[\"<>\\^`{|}]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_END_OF_AUTHORITY = re.compile(r"[/?#\\]")
_PLACE = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_MISTYPED = re.compile(r"https?:?", re.IGNORECASE)  # a scheme without its `://`
_KEPT = "%:!$&'()*+,;=~"  # not quoted in a name and a password, which may be quoted already


def base_problem(key: str, url: str) -> str:
    """Why this is not a base URL for downloads, or "". key: the field's name, for the message."""
    if not url:
        return f"{key} is blank"
    if len(url) > MAX_URL:
        return f"{key} has {len(url):,} characters, of {MAX_URL:,} at most: {quoted(shown(url))}"
    try:
        parts = urlsplit(url)
        if problem := _length_problem(parts.hostname or ""):
            return f"{key} {quoted(shown(url))} has {problem}"
        usable = parts.scheme in ("http", "https") and parts.port != 0 and has_host(parts.netloc)
    except ValueError:
        usable = False
    if not usable or _UNSAFE_IN_URL.search(url) or parts.query or parts.fragment:
        return f"{key} {quoted(shown(url))} is not an http or https URL of a directory"
    return ""


def _length_problem(host: str) -> str:
    """Which length of a host's name DNS does not take, or ""."""
    whole, longest = len(host.removesuffix(".")), max(map(len, host.split(".")))
    if whole > MAX_HOSTNAME:
        return f"a host of {whole:,} characters, of {MAX_HOSTNAME} at most"
    return f"a host with a part of {longest} characters, of {MAX_URL_PART} at most" if longest > MAX_URL_PART else ""


def has_host(authority: str) -> bool:
    """Whether the host of an authority can be looked up: a name that DNS takes, or an address; IPv6 in brackets, no zone."""
    host = authority.rpartition("@")[2]
    host = host if host.endswith("]") else re.sub(r":[0-9]*$", "", host)
    if not host.startswith("["):
        return len(host.removesuffix(".")) <= MAX_HOSTNAME and _URL_NAME.fullmatch(host) is not None
    try:
        return host.endswith("]") and IPv6Address(host[1:-1]).scope_id is None
    except ValueError:
        return False


def shown(url: str) -> str:
    """A URL without its name and password, for logs; also for malformed URLs."""
    scheme, rest = _split(url)
    authority = _END_OF_AUTHORITY.split(rest, maxsplit=1)[0]
    path = rest[len(authority) :]
    is_place = _PLACE.fullmatch(authority) and not _MISTYPED.fullmatch(authority)
    if "@" in path and "@" not in authority and not is_place:
        authority, _, path = "", *path.rpartition("@")[1:]  # a password with a slash in it
    return f"{scheme}{authority.rpartition('@')[2]}{path}"


def basic_auth(url: str) -> str:
    """The value of an Authorization header for the name and password in a URL, in UTF-8; "" if it has none."""
    authority = _END_OF_AUTHORITY.split(_split(url)[1], maxsplit=1)[0]
    return _basic(authority.rpartition("@")[0])


def _basic(userinfo: str) -> str:
    name, _, password = userinfo.partition(":")
    pair = f"{unquote(name)}:{unquote(password)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}" if userinfo else ""


def proxy(text: str) -> str:
    """The URL of a proxy from an environment variable; "" if it is not an http or https proxy."""
    scheme, userinfo, place = _proxy_parts(text)
    if scheme.lower() not in ("http://", "https://") or not _PLACE.fullmatch(place) or not has_host(place):
        return ""
    return f"{scheme.lower()}{quote(userinfo, safe=_KEPT)}{'@' if userinfo else ''}{place}"


def proxy_shown(text: str) -> str:
    """Only HOST:PORT of a proxy from an environment variable."""
    place = _proxy_parts(text)[2]
    return place if _PLACE.fullmatch(place) else NO_PROXY_URL


def _proxy_parts(text: str) -> tuple[str, str, str]:
    """(scheme, name and password, host and port). The last `@` separates the credentials, since a proxy has no path."""
    scheme, rest = _split(text.strip())
    userinfo, _, place = rest.rpartition("@")
    return scheme or "http://", userinfo, _END_OF_AUTHORITY.split(place, maxsplit=1)[0]


def _split(url: str) -> tuple[str, str]:
    """(scheme with its `://` or "", the rest)."""
    found = _SCHEME.match(url)
    return (found[0], url[found.end() :]) if found else ("", url)
