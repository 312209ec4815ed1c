"""What an edit was made from must still be there: refuses (Conflict) what somebody else has changed since it was read, and says
what that was. Pure."""

from collections.abc import Iterable

from meta.edits.diff import difference
from meta.errors import Conflict
from meta.records.history import ORDER, RECORD, Change, Revision
from meta.records.model import RecordSet


def require(records: RecordSet, agent: str, expected: int, since: Iterable[Revision] = ()) -> None:
    """Raise Conflict unless the agent's record is still the one of revision `expected` (0: there is none). since: the
    revisions after it, in any order, for the lines of what was changed."""
    actual = records.edited.get(agent, records.revision) if records.record(agent) else 0
    if actual != expected:
        mine = ((one, [c for c in one.changes if (c.kind, c.name) == (RECORD, agent)]) for one in since)
        raise Conflict(agent, expected, actual, _told(mine, expected))


def require_all(records: RecordSet, expected: int, since: Iterable[Revision] = (), agent: str = "") -> None:
    """The same for all records together, or for one that need not be there, since a revision of everything. Bans and labels
    that were changed since are no conflict, where `since` is complete."""
    since = [one for one in since if one.number > expected]
    kinds = (RECORD,) if agent else (RECORD, ORDER)
    told = _told(
        ((one, [c for c in one.changes if c.kind in kinds and (not agent or c.name == agent)]) for one in since),
        expected,
    )
    complete = len(since) == records.revision - expected
    if told or not complete:
        raise Conflict(agent, expected, records.revision, told)


def _told(changed: Iterable[tuple[Revision, list[Change]]], after: int) -> list[str]:
    lines = []
    for revision, its_changes in sorted(changed, key=lambda pair: pair[0].number):
        if its_changes and revision.number > after:
            why = f": {revision.why}" if revision.why else ""
            lines.append(f"revision {revision.number} by {revision.who}{why}")
            lines += [f"  {line}" for line in difference(its_changes)]
    return lines
