"""Refuses requests of foreign web pages to interfaces that trust clients on this machine. Used by updater and meta.

A browser on this machine is as local as curl, no matter which page made the request. Two things reveal such requests:

- The headers Origin and Sec-Fetch-Site (https://www.w3.org/TR/fetch-metadata/) say which page asks. Pages cannot forge them,
  and programs such as curl, Prometheus and the Go peers do not send them.
- With DNS rebinding, a page's own name points to 127.0.0.1. Then a GET has neither header, but Host is that foreign name.

Headers that occur twice or cannot be parsed count as those of another site.
"""

import re
import socket
from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from updater.net import addresses
from updater.wire.text import one_line

HOSTS = Path("/etc/hosts")
_LIMIT = 1 << 20  # bytes of HOSTS
_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9a-f:.]+(?:%[^\]\s]+)?)\]|(?P<name>[a-z0-9._-]+))(?::(?P<port>[0-9]{0,5}))?", re.ASCII
)
_PORTS = {"http": "80", "https": "443"}
_OWN_PAGES = ("same-origin", "none")  # none: a person typed the address


class _Place(NamedTuple):
    name: str
    port: str


def page_problem(origin: str, fetch_site: str, host: str) -> str:
    """Why this request comes from a page of another site, or "".

    Arguments: the headers Origin, Sec-Fetch-Site and Host; "" if missing, joined by a comma if repeated.
    """
    site = fetch_site.strip().lower()
    if site and site not in _OWN_PAGES:
        return _another_site(origin)
    if not origin or (origin.strip() == "null" and site == "same-origin"):  # null: the page hides where it is from
        return ""
    scheme, _, authority = origin.strip().lower().partition("://")
    page, here = _place(authority), _place(host)
    if page is None or here is None or page.name != here.name:
        return _another_site(origin)
    # A proxy may forward a Host without its port; a browser that says same-origin has compared the ports.
    port = _PORTS.get(scheme, "")
    return "" if site == "same-origin" or (page.port or port) == (here.port or port) else _another_site(origin)


def _another_site(origin: str) -> str:
    page = f" ({one_line(origin, 100)})" if origin else ""
    return f"a web page of another site{page} may not ask this; open the address itself, or use curl"


def host_problem(host: str, known: Collection[str] = ()) -> str:
    """Why this Host is not an address, localhost, a name of this machine or one of `known`; "" if it is.

    "" also for a request without Host, since every browser sends one.
    """
    if not host or _is_certain(host):
        return ""
    place = _place(host)
    if place is not None and place.name in {*map(_plain, known), *own_names()}:
        return ""
    return (
        f'"{one_line(host, 100)}" is no name of this machine; use 127.0.0.1 or localhost, or give the name a loopback address '
        f"in {HOSTS}"
    )


def own_names(hosts: Path = HOSTS) -> set[str]:
    """The names by which this machine can reach itself: its own, and those with a loopback address in /etc/hosts.

    DNS is not asked, since its owners can point any name to this machine.
    """
    names = {_plain(socket.gethostname())}
    for line in _lines(hosts):
        address, *more = line.partition("#")[0].split() or [""]
        if addresses.is_loopback(address):
            names.update(map(_plain, more))
    return names


def _lines(file: Path) -> list[str]:
    try:
        with file.open("rb") as opened:
            return opened.read(_LIMIT).decode("utf-8", "replace").splitlines()
    except OSError:
        return []


@lru_cache(256)
def _is_certain(host: str) -> bool:
    """Whether it is localhost or an IP address, which DNS cannot redirect. 0.0.0.0 does not count, although it leads here:
    browsers send requests to it without the headers above."""
    place = _place(host)
    if place is None or place.name == "localhost":
        return place is not None
    try:
        address = ip_address(place.name)
    except ValueError:
        return False
    return not (getattr(address, "ipv4_mapped", None) or address).is_unspecified


def _place(host: str) -> _Place | None:
    """`NAME`, `NAME:PORT` or `[IPv6]:PORT`; None for anything else."""
    match = _HOST.fullmatch(host.strip().lower())
    return _Place(_plain(match["v6"] or match["name"]), match["port"] or "") if match else None


def _plain(name: str) -> str:
    """A DNS name in lower case and without its last dot, which make no difference."""
    return name.strip().lower().removesuffix(".")
