"""What a revision's changes make of the set before it: the proof that they are all that an edit has changed."""

from msgspec.structs import replace

from meta.records.history import BAN, LABELS, TARBALL, Change, Revision, committed, undo
from meta.records.model import Ban, RecordSet
from meta.records.publications import Publication


def replay(before: RecordSet, revision: Revision) -> RecordSet:
    """The set after this revision, which is the next one."""
    assert revision.number == before.revision + 1
    turned = tuple(Change(one.kind, one.name, one.after, one.before) for one in revision.changes)
    bans = _changed({f"{ban.agent}/{ban.version}": ban for ban in before.bans}, revision, BAN, lambda data: Ban(**data))
    after = replace(
        before,
        records=undo(before.records, replace(revision, changes=turned)),
        bans=tuple(sorted(bans.values(), key=lambda ban: (ban.agent, ban.version))),
        labels=_changed(before.labels, revision, LABELS, dict),
        published=_changed(before.published, revision, TARBALL, lambda data: Publication(**data)),
    )
    return committed(after, revision)


def _changed(former, revision, kind, value):
    of_kind = {one.name: one.after for one in revision.changes if one.kind == kind}
    kept = {name: one for name, one in former.items() if name not in of_kind}
    return kept | {name: value(data) for name, data in of_kind.items() if data is not None}
