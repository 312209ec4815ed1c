"""Records: the desired state of each agent, and overrides of it for some hosts. Pure.

`resolve` defines the meaning of a record (`explanation` gives its reasons). Of several overrides that select a host, a later
one wins over an earlier one, field by field. Values were checked when they were loaded; nothing is checked here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from meta.records.publications import Publication
from meta.records.selectors import Selector, selector_fields, selector_of
from updater.wire.heartbeat import Desired
from updater.wire.names import START, STOP

_ORDERED = ("version", "tarball", "md5", "cmd", "sha256", "attempt")
ON_HOST = ("leftovers", "unknownStatus")  # how a host handles special cases
RUN_AS = ("runUser", "workDir")  # only for hosts of coraldane's updater: who runs the agent, and where
CHANGEABLE = (*_ORDERED, *ON_HOST, *RUN_AS)  # the keys in a records file
_RESOLVED = (*CHANGEABLE, "mirrors")
_ATTRIBUTES = {"unknownStatus": "unknown_status", "runUser": "run_user", "workDir": "work_dir"}
RARE = ("attempt", *ON_HOST, *RUN_AS)  # most records have none of them
_LEFT_OUT = ("sha256", *RARE)  # left out of a records file if empty


def attribute(key: str) -> str:
    """The attribute of Record and Override for a key of a records file."""
    return _ATTRIBUTES.get(key, key)


class Override(msgspec.Struct, frozen=True):
    """Other values for the hosts of a selector. None means not overridden; "" is a value like any other."""

    selector: Selector
    version: str | None = None
    tarball: str | None = None
    md5: str | None = None
    cmd: str | None = None
    sha256: str | None = None
    mirrors: tuple[str, ...] = ()  # more bases of the tarball, overridden together with it
    run_user: str | None = None
    work_dir: str | None = None
    attempt: int | None = None
    leftovers: str | None = None
    unknown_status: str | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that this override sets, by key."""
        changes = {key: value for key in CHANGEABLE if (value := getattr(self, attribute(key))) is not None}
        return changes if self.tarball is None else changes | {"mirrors": self.mirrors}


class Record(msgspec.Struct, frozen=True):
    """The desired state of one agent, the same for all hosts except for the overrides."""

    name: str
    version: str
    tarball: str
    md5: str = ""
    cmd: str = START
    sha256: str = ""
    mirrors: tuple[str, ...] = ()  # more bases of the tarball
    overrides: tuple[Override, ...] = ()
    run_user: str = ""
    work_dir: str = ""
    attempt: int = 0  # a host that rolled the version back at a lower attempt tries it again
    leftovers: str = ""  # what to do with processes that a stopped version leaves, as in wire.heartbeat.Desired
    unknown_status: str = ""  # what to do with an agent of unknown status, as in wire.heartbeat.Desired


class Ban(msgspec.Struct, frozen=True):
    """No host is told to run this version of this agent, even if records have it."""

    agent: str
    version: str
    why: str = ""
    who: str = ""
    at: float = 0.0  # Unix seconds


class RecordSet(msgspec.Struct, frozen=True):
    """Everything that engineers have decided, at one revision."""

    revision: int = 0
    records: tuple[Record, ...] = ()
    bans: tuple[Ban, ...] = ()
    labels: Mapping[str, Mapping[str, str]] = {}  # host name -> key -> value
    edited: Mapping[str, int] = {}  # record name -> the revision of its last change
    published: Mapping[str, Publication] = {}  # file name -> tarball published through meta
    identity: str = ""  # of the revision

    def record(self, name: str) -> Record | None:
        return next((record for record in self.records if record.name == name), None)


def selectors(records: RecordSet) -> tuple[Selector, ...]:
    """The distinct selectors, in order of first use. Hosts matched by the same selectors share their desired state."""
    return tuple(dict.fromkeys(override.selector for record in records.records for override in record.overrides))


def matcher(records: RecordSet, hostname: str) -> Callable[[Selector], bool]:
    """A function that says whether a selector selects this host; each distinct selector is evaluated once."""
    labels = records.labels.get(hostname, {})
    known: dict[Selector, bool] = {}

    def matches(selector: Selector) -> bool:
        if (known_to := known.get(selector)) is None:
            known_to = known[selector] = selector.matches(hostname, labels)
        return known_to

    return matches


def resolve_matched(records: RecordSet, matched: frozenset[Selector]) -> tuple[Desired, ...]:
    """The desired agents of all hosts that exactly these selectors match, in the records' order, without orders to start a
    banned version."""
    banned = banned_versions(records)
    desired = (_desired(record, resolve_one(record, matched.__contains__)) for record in records.records)
    return tuple(d for d in desired if d.cmd == STOP or (d.name, d.version) not in banned)


def banned_versions(records: RecordSet) -> dict[tuple[str, str], Ban]:
    """The bans by (agent, version)."""
    return {(ban.agent, ban.version): ban for ban in records.bans}


def resolve_run_as(records: RecordSet, matched: frozenset[Selector]) -> dict[str, tuple[str, str]]:
    """agent -> (runUser, workDir) for hosts that exactly these selectors match."""
    resolved = {record.name: resolve_one(record, matched.__contains__) for record in records.records}
    return {name: (fields["runUser"], fields["workDir"]) for name, fields in resolved.items()}


def resolve_one(record: Record, matches: Callable[[Selector], bool]) -> dict[str, Any]:
    """The resolved fields of a record by key, with the mirrors."""
    fields = {key: getattr(record, attribute(key)) for key in _RESOLVED}
    for override in record.overrides:
        if matches(override.selector):
            fields.update(override.changes())
    return fields


def _desired(record: Record, resolved: Mapping[str, Any]) -> Desired:
    return Desired(record.name, **{attribute(key): value for key, value in resolved.items() if key not in RUN_AS})


def as_fields(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The records in the form of a records file, ready for JSON or YAML; empty overrides and rare fields are left out."""
    return [_record_fields(record) for record in records]


def _record_fields(record: Record) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": record.name}
    values = {key: getattr(record, attribute(key)) for key in _RESOLVED}
    fields.update((key, value) for key, value in values.items() if value or key not in _LEFT_OUT)
    fields = _with_mirrors(fields)
    if record.overrides:
        fields["overrides"] = [selector_fields(o.selector) | _with_mirrors(o.changes()) for o in record.overrides]
    return fields


def _with_mirrors(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with `tarball` as the list of all bases if there are mirrors."""
    mirrors = fields.pop("mirrors", ())
    return fields | {"tarball": [fields["tarball"], *mirrors]} if mirrors else fields


def from_fields(fields: Mapping[str, Any]) -> Record:
    """The inverse of as_fields for one record. Checks nothing; data from people or files goes through `files.load`."""
    values = _without_bases(fields)
    overrides = tuple(_override(override) for override in values.pop("overrides", ()))
    return Record(**{attribute(key): value for key, value in values.items()}, overrides=overrides)


def _override(fields: Mapping[str, Any]) -> Override:
    values = _without_bases(fields)
    selector = selector_of(values)
    return Override(selector, **{attribute(key): value for key, value in values.items() if key in _RESOLVED})


def _without_bases(fields: Mapping[str, Any]) -> dict[str, Any]:
    bases = fields.get("tarball")
    return {**fields, "tarball": bases[0], "mirrors": tuple(bases[1:])} if isinstance(bases, list) else dict(fields)
