"""Detects conflicts: an edit whose base others have changed is refused (Conflict), with a list of their changes. Pure."""

from collections.abc import Iterable

from meta.edits.diff import difference
from meta.errors import Conflict
from meta.records.history import ORDER, RECORD, Change, Revision
from meta.records.model import RecordSet


def require(records: RecordSet, agent: str, expected: int, since: Iterable[Revision] = ()) -> None:
    """Raise Conflict unless the agent's record is still the one of revision `expected` (0: there is none).

    since: the revisions after it, in any order, for the list of changes.
    """
    actual = records.edited.get(agent, records.revision) if records.record(agent) else 0
    if actual != expected:
        mine = ((one, [c for c in one.changes if (c.kind, c.name) == (RECORD, agent)]) for one in since)
        raise Conflict(agent, expected, actual, _told(mine, expected))


def require_all(records: RecordSet, expected: int, since: Iterable[Revision] = (), agent: str = "") -> None:
    """Like `require`, for all records, or for one record that need not exist, since revision `expected` of the whole set.

    Changes of bans and labels are no conflict, provided that `since` is complete.
    """
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
