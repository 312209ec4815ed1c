"""The URLs of this meta's tarballs: below `/tarball/`, and also at `/` while hosts may be sent there. Pure.

ops-meta serves tarballs at `/`. So meta does too while ops-meta's cfg.json manages the records, or while a base URL in the
records points at this meta outside `/tarball/`. That may be the base of a tarball, of a mirror or of a digest file.

meta cannot know all names that other machines use for it. So a base points at this meta also if it has the host that the
current request names.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from meta.records.model import RecordSet

TARBALLS = "/tarball"
_PORTS = {"http": 80, "https": 443}


def authorities(host_header: str, scheme: str, names: Sequence[str], port: int) -> frozenset[str]:
    """Return each HOST:PORT that means this meta.

    host_header: of the current request; names: of this machine; port: the one that meta listens on.
    """
    asked, _ = _authority_and_path(f"{scheme}://{host_header}")
    return frozenset({f"{name.lower()}:{port}" for name in names} | ({asked} if asked else set()))


def path_here(base: str, authorities: frozenset[str]) -> str | None:
    """Return the path below the tarball directory that a base URL means; None if it is on another server."""
    authority, path = _authority_and_path(base)
    if authority not in authorities:
        return None
    return path.removeprefix(TARBALLS) if _is_below_tarballs(path) else path


def outside(records: RecordSet) -> frozenset[str]:
    """Return the servers of all base URLs outside `/tarball/`, of this meta or others.

    Each is given as HOST:PORT, and as HOST alone, because a proxy may pass on only that.
    """
    found: set[str] = set()
    for base in set(_bases(records)):
        authority, path = _authority_and_path(base)
        if authority and not _is_below_tarballs(path):
            found |= {authority, authority.rpartition(":")[0]}
    return frozenset(found)


def _bases(records: RecordSet) -> Iterator[str]:
    """Yield all base URLs, also of agents that are to stop. An md5 may be a URL; plain digits have no HOST and are ignored."""
    for record in records.records:
        yield from (record.tarball, record.md5_base, *record.mirrors)
        for override in record.overrides:
            yield from filter(None, (override.tarball, override.md5_base, *override.mirrors))


def _authority_and_path(base: str) -> tuple[str, str]:
    """Return (HOST:PORT, the path without final slashes) of a URL; ("", "") if the text is no URL."""
    try:
        url = urlsplit(base)
        port = url.port or _PORTS.get(url.scheme, 0)
    except ValueError:
        return "", ""
    return (f"{url.hostname}:{port}", url.path.rstrip("/")) if url.hostname else ("", "")


def _is_below_tarballs(path: str) -> bool:
    return path == TARBALLS or path.startswith(f"{TARBALLS}/")


class _Found(NamedTuple):
    """What was found in one state of the records."""

    state: tuple[int, str]  # revision and identity of the records
    outside: frozenset[str]  # see `outside`
    is_own: bool  # whether one of those servers surely is this meta


class Root:
    """Decides whether tarballs are served at `/` too. Safe for threads: the result is one value that is replaced as a whole.

    in_force: returns the records in force; is_of_ops_meta: whether ops-meta's cfg.json manages them; own: the HOST:PORT pairs
    that this meta knows for itself.
    """

    def __init__(self, in_force: Callable[[], RecordSet], is_of_ops_meta: Callable[[], bool], own: frozenset[str]):
        self._in_force = in_force
        self._is_of_ops_meta = is_of_ops_meta
        self._own = own
        self._found = self._look(in_force())

    def has_tarballs(self, host_header: str) -> bool:
        """Whether this request gets tarballs at `/`. host_header: the name that the request uses for this meta."""
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
    """Return HOST:PORT, or HOST if there is no port; "" if the header is invalid."""
    try:
        asked = urlsplit(f"//{host_header}")
        return f"{asked.hostname}:{asked.port}" if asked.port else asked.hostname or ""
    except ValueError:
        return ""
