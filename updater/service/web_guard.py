"""Keeps web pages away from what is answered because of where it is asked from. Used by the updater's local HTTP and by meta.

A browser on this machine is as local as curl, whatever page made it ask. Two things tell its requests apart:
- It says which page asks: Origin, and Sec-Fetch-Site (https://www.w3.org/TR/fetch-metadata/). No page can forge them, and
  what is no browser (curl, Prometheus, the Go peers) sends neither.
- Under a name whose owner lets it point to 127.0.0.1 (DNS rebinding) the page is of the same origin, and a GET carries neither
  of the two. But Host is then that name, which is none of this machine's.
Refuses to guess: what is there twice or cannot be read counts as another site's.
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
_LIMIT = 1 << 20  # bytes of it
_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9a-f:.]+(?:%[^\]\s]+)?)\]|(?P<name>[a-z0-9._-]+))(?::(?P<port>[0-9]{0,5}))?", re.ASCII
)
_PORTS = {"http": "80", "https": "443"}
_OWN_PAGES = ("same-origin", "none")  # none: a person typed the address


class _Place(NamedTuple):
    name: str
    port: str


def page_problem(origin: str, fetch_site: str, host: str) -> str:
    """Why a page of another site makes this request, or "" when none does. Arguments: the headers Origin, Sec-Fetch-Site and
    Host, "" for one that is not there, the values of one that is there twice joined by a comma."""
    site = fetch_site.strip().lower()
    if site and site not in _OWN_PAGES:
        return _another_site(origin)
    if not origin or (origin.strip() == "null" and site == "same-origin"):  # null: the page hides where it is from
        return ""
    scheme, _, authority = origin.strip().lower().partition("://")
    page, here = _place(authority), _place(host)
    if page is None or here is None or page.name != here.name:
        return _another_site(origin)
    # A proxy may hand a Host on without its port; a browser that says same-origin has compared it.
    port = _PORTS.get(scheme, "")
    return "" if site == "same-origin" or (page.port or port) == (here.port or port) else _another_site(origin)


def _another_site(origin: str) -> str:
    page = f" ({one_line(origin, 100)})" if origin else ""
    return f"a web page of another site{page} may not ask this; open the address itself, or use curl"


def host_problem(host: str, known: Collection[str] = ()) -> str:
    """Why this Host is none of this machine's, or "": an address, localhost, a name of this machine, or one of `known`. What
    sends no Host is no browser."""
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
    """The names by which this machine can reach itself on loopback: its own, and those that /etc/hosts gives such an address.
    No DNS is asked: there anybody may let a name of theirs point here."""
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
    """Whether it is localhost, or the address of one machine, which no DNS can let point elsewhere. 0.0.0.0 is none, though it
    leads here: browsers do not mark what they send there."""
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
    """Case and a last dot make no difference in DNS."""
    return name.strip().lower().removesuffix(".")
