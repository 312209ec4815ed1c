"""Records: what each agent shall be, and for which hosts something else.

Pure: `resolve` is the whole meaning of a record. A later override that selects the host wins over an earlier one, field by
field. Values here were checked when they were loaded; this module refuses nothing and reads nothing.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from updater.wire import START, Desired

CHANGEABLE = ("version", "tarball", "md5", "cmd", "sha256")  # the keys of a file
_RESOLVED = (*CHANGEABLE, "mirrors")


class Prefix(msgspec.Struct, frozen=True):
    """Selects the hosts whose name starts with it."""

    prefix: str

    def matches(self, hostname: str) -> bool:
        return hostname.startswith(self.prefix)


class Glob(msgspec.Struct, frozen=True):
    """Selects the hosts whose whole name fits a shell pattern; case matters."""

    glob: str

    def matches(self, hostname: str) -> bool:
        return fnmatchcase(hostname, self.glob)


class Hosts(msgspec.Struct, frozen=True):
    """Selects exactly these hosts."""

    hosts: tuple[str, ...]

    def matches(self, hostname: str) -> bool:
        return hostname in self.hosts


Selector = Prefix | Glob | Hosts


class Override(msgspec.Struct, frozen=True):
    """What some hosts shall have instead. None: as without this override; "" is a value like any other. mirrors: more
    bases of the same tarball, changed together with it."""

    selector: Selector
    version: str | None = None
    tarball: str | None = None
    md5: str | None = None
    cmd: str | None = None
    sha256: str | None = None
    mirrors: tuple[str, ...] = ()

    def changes(self) -> dict[str, Any]:
        """The fields that this override sets, by name."""
        changes: dict[str, Any] = {key: value for key in CHANGEABLE if (value := getattr(self, key)) is not None}
        return changes if self.tarball is None else changes | {"mirrors": self.mirrors}


class Record(msgspec.Struct, frozen=True):
    """The desired state of one agent: the same for all hosts, but for the overrides."""

    name: str
    version: str
    tarball: str
    md5: str = ""
    cmd: str = START
    sha256: str = ""
    mirrors: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()


def resolve(records: Sequence[Record], hostname: str) -> tuple[Desired, ...]:
    """What this host shall run, in the records' order."""
    return tuple(_resolve_one(record, hostname) for record in records)


def _resolve_one(record: Record, hostname: str) -> Desired:
    fields = {key: getattr(record, key) for key in _RESOLVED}
    for override in record.overrides:
        if override.selector.matches(hostname):
            fields.update(override.changes())
    return Desired(name=record.name, **fields)


def surely_overlap(one: Selector, other: Selector) -> bool:
    """Whether some host is certainly selected by both. False may also mean that nobody can tell (two globs)."""
    if isinstance(one, Hosts):
        return any(other.matches(host) for host in one.hosts)
    if isinstance(other, Hosts):
        return any(one.matches(host) for host in other.hosts)
    if isinstance(one, Prefix) and isinstance(other, Prefix):
        return one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)
    return one == other


def as_fields(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The records as a records file would spell them, ready for JSON or YAML; blank sha256 and no overrides are left out."""
    return [_record_fields(record) for record in records]


def _record_fields(record: Record) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": record.name}
    fields.update((key, getattr(record, key)) for key in _RESOLVED if key != "sha256" or record.sha256)
    fields = _with_mirrors(fields)
    if record.overrides:
        fields["overrides"] = [_selector_fields(o.selector) | _with_mirrors(o.changes()) for o in record.overrides]
    return fields


def _with_mirrors(fields: dict[str, Any]) -> dict[str, Any]:
    """Where there are mirrors, `tarball` is the list of all bases."""
    mirrors = fields.pop("mirrors", ())
    return fields | {"tarball": [fields["tarball"], *mirrors]} if mirrors else fields


def _selector_fields(selector: Selector) -> dict[str, Any]:
    return {"hosts": list(selector.hosts)} if isinstance(selector, Hosts) else msgspec.structs.asdict(selector)
