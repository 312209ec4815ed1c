"""Records: the desired state of each agent, and overrides of it for some hosts. Pure.

`resolve_matched` defines the meaning of a record (`explanation` gives its reasons). Of several overrides that select a host, a
later one wins over an earlier one, field by field. A version with its digests is one of these fields. Values were checked when
they were loaded; nothing is checked here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from meta.records.publications import Publication
from meta.records.selectors import Selector, selector_fields, selector_of
from updater.wire.heartbeat import Desired
from updater.wire.names import START, STOP, is_digest

_ORDERED = ("version", "tarball", "md5", "cmd", "sha256", "attempt")
ON_HOST = ("leftovers", "unknownStatus")  # how a host handles special cases
RUN_AS = ("runUser", "workDir")  # only for hosts of coraldane's updater: who runs the agent, and where
CHANGEABLE = (*_ORDERED, *ON_HOST, *RUN_AS)  # the keys in a records file
DIGESTS = ("md5", "sha256")
OF_A_RELEASE = ("version", *DIGESTS)
_ATTRIBUTES = {"unknownStatus": "unknown_status", "runUser": "run_user", "workDir": "work_dir"}
# The attribute of each key that is not of a release.
_PLAIN = {key: _ATTRIBUTES.get(key, key) for key in CHANGEABLE if key not in OF_A_RELEASE}
RARE = ("attempt", *ON_HOST, *RUN_AS)  # most records have none of them
_LEFT_OUT = ("sha256", *RARE)  # left out of a records file if empty


def attribute(key: str) -> str:
    """The attribute of Record and Override for a key of a records file that is not of a release."""
    return _ATTRIBUTES.get(key, key)


class Release(msgspec.Struct, frozen=True):
    """A version with the digests of its tarball. They are replaced together, since a digest fits one version only."""

    version: str
    md5: str = ""  # 32 hex digits; "" if hosts take it from the digest file
    sha256: str = ""  # 64 hex digits, or "" for none

    def fields(self) -> dict[str, str]:
        """The fields that are not blank, by key."""
        fields = {"version": self.version}
        if self.md5:
            fields["md5"] = self.md5
        if self.sha256:
            fields["sha256"] = self.sha256
        return fields


class Override(msgspec.Struct, frozen=True):
    """Other values for the hosts of a selector. None means not overridden; "" is a value like any other."""

    selector: Selector
    release: Release | None = None
    tarball: str | None = None
    md5_base: str | None = None  # None too if the release has an md5, which then counts
    cmd: str | None = None
    mirrors: tuple[str, ...] = ()  # more bases of the tarball, overridden together with it
    run_user: str | None = None
    work_dir: str | None = None
    attempt: int | None = None
    leftovers: str | None = None
    unknown_status: str | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that this override sets, by key."""
        changes: dict[str, Any] = {} if self.release is None else self.release.fields()
        if self.md5_base is not None:
            changes["md5"] = self.md5_base
        for key, its in _PLAIN.items():
            if (value := getattr(self, its)) is not None:
                changes[key] = value
        if self.tarball is not None:
            changes["mirrors"] = self.mirrors
        return changes


class Record(msgspec.Struct, frozen=True):
    """The desired state of one agent, the same for all hosts except for the overrides."""

    name: str
    release: Release
    tarball: str
    md5_base: str = ""  # where the digest file is, unless the release has an md5; "": next to the tarball
    cmd: str = START
    mirrors: tuple[str, ...] = ()  # more bases of the tarball
    overrides: tuple[Override, ...] = ()
    run_user: str = ""
    work_dir: str = ""
    attempt: int = 0  # a host that rolled the version back at a lower attempt tries it again
    leftovers: str = ""  # what to do with processes that a stopped version leaves, as in wire.heartbeat.Desired
    unknown_status: str = ""  # what to do with an agent of unknown status, as in wire.heartbeat.Desired

    def fields(self) -> dict[str, Any]:
        """All fields but the name and the overrides, by key."""
        fields: dict[str, Any] = {"md5": self.md5_base, "sha256": "", "mirrors": self.mirrors} | self.release.fields()
        return fields | {key: getattr(self, its) for key, its in _PLAIN.items()}


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
    fields, release, md5_base = record.fields(), record.release, record.md5_base
    for override in record.overrides:
        if matches(override.selector):
            fields.update(override.changes())
            release = override.release or release
            md5_base = md5_base if override.md5_base is None else override.md5_base
    return fields | {"version": release.version, "md5": release.md5 or md5_base, "sha256": release.sha256}


def _desired(record: Record, resolved: Mapping[str, Any]) -> Desired:
    return Desired(record.name, **{attribute(key): value for key, value in resolved.items() if key not in RUN_AS})


def as_fields(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The records in the form of a records file, ready for JSON or YAML; empty overrides and rare fields are left out."""
    return [_record_fields(record) for record in records]


def _record_fields(record: Record) -> dict[str, Any]:
    values = record.fields()
    said = {key: values[key] for key in (*CHANGEABLE, "mirrors") if values[key] or key not in _LEFT_OUT}
    fields = {"name": record.name} | _with_mirrors(said)
    if record.overrides:
        fields["overrides"] = [selector_fields(o.selector) | _with_mirrors(o.changes()) for o in record.overrides]
    return fields


def _with_mirrors(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with `tarball` as the list of all bases if there are mirrors."""
    mirrors = fields.pop("mirrors", ())
    return fields | {"tarball": [fields["tarball"], *mirrors]} if mirrors else fields


def from_fields(fields: Mapping[str, Any]) -> Record:
    """The inverse of as_fields for one record. Checks nothing; data from people or files goes through `files.load`."""
    overrides = tuple(
        Override(selector_of(one), **from_values(_without_bases(one))) for one in fields.get("overrides", ())
    )
    return Record(fields["name"], **from_values(_without_bases(fields)), overrides=overrides)


def from_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a Record or an Override from its fields by key, with the mirrors; others are left out. So are digests
    without a version, since they belong to none."""
    made = {attribute(key): values[key] for key in (*_PLAIN, "mirrors") if key in values}
    md5 = values.get("md5")
    literal = md5 if md5 and is_digest(md5) else ""
    if md5 is not None and not literal:
        made["md5_base"] = md5
    if "version" in values:
        made["release"] = Release(values["version"], literal, values.get("sha256", ""))
    return made


def _without_bases(fields: Mapping[str, Any]) -> dict[str, Any]:
    bases = fields.get("tarball")
    return {**fields, "tarball": bases[0], "mirrors": tuple(bases[1:])} if isinstance(bases, list) else dict(fields)
