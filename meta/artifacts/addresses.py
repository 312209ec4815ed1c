"""Under which URLs this meta's tarballs are: below `/tarball/`, and at `/` too only while hosts may be sent there, for that is
where a console has its place. Pure.

ops-meta has them at `/`, so they stay there while its cfg.json manages the records, and while a base in the records in force
(of a tarball, a mirror or a digest file) points at this meta outside `/tarball/`. Under which names other machines know it is
seen from their requests alone: a base points at it also when its host is that which the request names.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from meta.records.model import RecordSet

TARBALLS = "/tarball"
_PORTS = {"http": 80, "https": 443}


def authorities(host_header: str, scheme: str, names: Sequence[str], port: int) -> frozenset[str]:
    """HOST:PORT by which this meta is reached. host_header: of the current request; names: of this machine; port: on which it
    listens."""
    asked, _ = _authority_and_path(f"{scheme}://{host_header}")
    return frozenset({f"{name.lower()}:{port}" for name in names} | ({asked} if asked else set()))


def path_here(base: str, authorities: frozenset[str]) -> str | None:
    """The path below this meta's tarball directory that a base refers to; None if it is on another server."""
    authority, path = _authority_and_path(base)
    if authority not in authorities:
        return None
    return path.removeprefix(TARBALLS) if _is_below_tarballs(path) else path


def outside(records: RecordSet) -> frozenset[str]:
    """Where hosts are sent outside `/tarball/`, by us or by others: of each such base HOST:PORT, and HOST alone, which is all
    that a proxy may pass on."""
    found: set[str] = set()
    for base in set(_bases(records)):
        authority, path = _authority_and_path(base)
        if authority and not _is_below_tarballs(path):
            found |= {authority, authority.rpartition(":")[0]}
    return frozenset(found)


def _bases(records: RecordSet) -> Iterator[str]:
    """Also of what is to stop. A digest is no URL, so it has no authority."""
    for record in records.records:
        yield from (record.tarball, record.md5, *record.mirrors)
        for override in record.overrides:
            yield from filter(None, (override.tarball, override.md5, *override.mirrors))


def _authority_and_path(base: str) -> tuple[str, str]:
    """(HOST:PORT, the path without slashes at its end) of a URL; ("", "") for what is none."""
    try:
        url = urlsplit(base)
        port = url.port or _PORTS.get(url.scheme, 0)
    except ValueError:
        return "", ""
    return (f"{url.hostname}:{port}", url.path.rstrip("/")) if url.hostname else ("", "")


def _is_below_tarballs(path: str) -> bool:
    return path == TARBALLS or path.startswith(f"{TARBALLS}/")


class _Found(NamedTuple):
    """What was found in one state of the records. is_own: whether one of the places outside `/tarball/` is surely this meta."""

    state: tuple[int, str]
    outside: frozenset[str]
    is_own: bool


class Root:
    """Whether tarballs are served at `/` too. Safe for threads: what was found is one value that is swapped whole, and found
    again only when other records are in force.

    in_force: the records; is_of_ops_meta: whether its cfg.json manages them; own: what this meta knows of its own HOST:PORT."""

    def __init__(self, in_force: Callable[[], RecordSet], is_of_ops_meta: Callable[[], bool], own: frozenset[str]):
        self._in_force = in_force
        self._is_of_ops_meta = is_of_ops_meta
        self._own = own
        self._found = self._look(in_force())

    def has_tarballs(self, host_header: str) -> bool:
        """host_header: what the request calls this meta."""
        if self._is_of_ops_meta():
            return True
        found, records = self._found, self._in_force()
        if found.state != (records.revision, records.identity):
            found = self._found = self._look(records)
        return found.is_own or bool(found.outside and _asked(host_header) in found.outside)

    def _look(self, records: RecordSet) -> _Found:
        places = outside(records)
        return _Found((records.revision, records.identity), places, not places.isdisjoint(self._own))


def _asked(host_header: str) -> str:
    """HOST:PORT, or HOST where there is no port; "" for what is neither."""
    try:
        asked = urlsplit(f"//{host_header}")
        return f"{asked.hostname}:{asked.port}" if asked.port else asked.hostname or ""
    except ValueError:
        return ""
