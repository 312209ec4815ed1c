"""Revisions: what an edit changed, as JSON data, and how to undo it. Pure.

The changes of a revision, applied to the records before it, give exactly the records after it. `undo` goes the other way, to
the former records in their former order. Only where the other changes do not tell the order of the records, a change of kind
`order` follows them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import asdict

from meta.records.model import Ban, Record, RecordSet, as_fields, from_fields

RECORD, ORDER, BAN, LABELS, TARBALL, HOST = "record", "order", "ban", "labels", "tarball", "host"  # kinds of a change


class Edit(msgspec.Struct, frozen=True):
    """Who makes an edit, when and why."""

    at: float  # Unix seconds
    who: str
    why: str
    action: str  # set, unset, apply, import, rollback, ban, unban, label, publish, prune, retire or unretire


class Change(msgspec.Struct, frozen=True):
    """One thing that an edit changed. `before` and `after` are JSON data in the form of a records file, None for nothing."""

    kind: str  # one of the kinds above
    name: str  # the agent, `AGENT/VERSION` of a ban, the file of a tarball, the host name; "" for the order of records
    before: Any = None
    after: Any = None  # for the order: the names; for a host: true if it was retired


class Revision(msgspec.Struct, frozen=True):
    """One committed edit."""

    number: int  # from 1, without gaps
    at: float  # Unix seconds
    who: str
    why: str
    action: str
    changes: tuple[Change, ...] = ()
    identity: str = ""  # unique, even if a database that lost revisions assigns their numbers a second time


def changes(before: RecordSet, after: RecordSet) -> tuple[Change, ...]:
    """The differences, in this order: records (existing ones first), their order, bans, labels, tarballs."""
    found = (*_record_changes(before, after), *_ban_changes(before, after), *_label_changes(before, after))
    return (*found, *_tarball_changes(before, after))


def committed(after: RecordSet, made: Revision) -> RecordSet:
    """The set `after`, numbered as the result of the revision `made`."""
    touched = {change.name: made.number for change in made.changes if change.kind == RECORD}
    names = [record.name for record in after.records]
    edited = {name: touched.get(name) or after.edited.get(name, made.number) for name in names}
    return msgspec.structs.replace(after, revision=made.number, identity=made.identity, edited=edited)


def undo(records: tuple[Record, ...], revision: Revision) -> tuple[Record, ...]:
    """The records before this revision; `records` are those after it."""
    return _moved(records, revision.changes, forth=False)


def before(after: RecordSet, made: Revision, identity: str) -> RecordSet:
    """The set before the revision `made`, which gave `after`. Published tarballs, and which revision changed which record last,
    stay as they are in `after`. identity: of the revision before."""
    bans, labels = _bans_by_name(after.bans), after.labels
    for change in made.changes:
        if change.kind == BAN:
            bans.pop(change.name, None)
            bans |= {change.name: Ban(**change.before)} if change.before else {}
        elif change.kind == LABELS:
            others = {name: those for name, those in labels.items() if name != change.name}
            labels = others | ({change.name: change.before} if change.before else {})
    return msgspec.structs.replace(
        after,
        revision=made.number - 1,
        records=undo(after.records, made),
        bans=tuple(bans.values()),
        labels=labels,
        identity=identity,
    )


def _record_changes(before: RecordSet, after: RecordSet) -> tuple[Change, ...]:
    old = {record.name: record for record in before.records}
    new = {record.name: record for record in after.records}
    found = tuple(
        Change(RECORD, name, _record_data(old.get(name)), _record_data(new.get(name)))
        for name in old | new
        if old.get(name) != new.get(name)
    )
    there, back = _moved(before.records, found, forth=True), _moved(after.records, found, forth=False)
    if list(there) == list(after.records) and list(back) == list(before.records):
        return found
    return (*found, Change(ORDER, "", list(old), list(new)))


def _record_data(record: Record | None) -> Any:
    return as_fields([record])[0] if record else None


def _moved(records: tuple[Record, ...], changes: Iterable[Change], forth: bool) -> tuple[Record, ...]:
    """The records with these changes made or undone; new records come last, unless the order is given."""
    found = {record.name: record for record in records}
    for change in changes:
        data = change.after if forth else change.before
        if change.kind == ORDER:
            found = {name: found[name] for name in data if name in found} | found
        elif change.kind == RECORD and data is None:
            found.pop(change.name, None)
        elif change.kind == RECORD:
            found[change.name] = from_fields(data)
    return tuple(found.values())


def _ban_changes(before: RecordSet, after: RecordSet) -> tuple[Change, ...]:
    old, new = _bans_by_name(before.bans), _bans_by_name(after.bans)
    return _differing(BAN, _as_data(old), _as_data(new))


def _bans_by_name(bans: Iterable[Ban]) -> dict[str, Ban]:
    return {f"{ban.agent}/{ban.version}": ban for ban in bans}


def _as_data(bans: Mapping[str, Ban]) -> dict[str, Any]:
    return {name: asdict(ban) for name, ban in bans.items()}


def _label_changes(before: RecordSet, after: RecordSet) -> tuple[Change, ...]:
    return () if before.labels is after.labels else _differing(LABELS, before.labels, after.labels)


def _tarball_changes(before: RecordSet, after: RecordSet) -> tuple[Change, ...]:
    if before.published is after.published:
        return ()
    old, new = ({file: asdict(one) for file, one in some.published.items()} for some in (before, after))
    return _differing(TARBALL, old, new)


def _differing(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return tuple(Change(kind, name, old.get(name), new.get(name)) for name in names)
