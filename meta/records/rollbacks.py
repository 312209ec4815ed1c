"""The way back of one agent's record, found in its history. Pure.

Promises: what is taken back is the newest change that was itself no rollback, once; who asks again learns who took it back.
That a version shall be tried again is no such change: what is taken back then is what brought the version.
Refuses nothing: whether the record may be what it was (it may be banned by now) is for the edit to say.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from msgspec.structs import replace

from meta.errors import NotThere
from meta.records.history import RECORD, Revision
from meta.records.model import Record, from_fields

ROLLBACK = "rollback"  # the verb of these edits in the history


class Way(NamedTuple):
    """record: what the agent's record was, None for none; done_by: the revision that took it back already, None where nobody
    did."""

    record: Record | None
    done_by: Revision | None = None


def last_change(present: Record | None, agent: str, history: Iterable[Revision]) -> Way:
    """To before the newest change of the record that was no rollback. present: the record now; history: the revisions that
    changed anything of this agent, the newest first. Raises NotThere for an agent that never had a record."""
    newest: Revision | None = None
    for revision, before, after in _changes(agent, history):
        if _without_attempts(before) == _without_attempts(after):
            continue
        newest = newest or revision
        if revision.action != ROLLBACK:
            is_in_force = _without_attempts(after) == _without_attempts(present)
            return Way(before) if is_in_force else Way(present, newest)
    raise NotThere(f"nothing of {agent} was changed yet")


def after_revision(present: Record | None, agent: str, number: int, history: Iterable[Revision]) -> Way:
    """To after revision `number`; the history may end there."""
    record = present
    for revision, before, _ in _changes(agent, history):
        if revision.number <= number:
            break
        record = before
    return Way(record)


def _changes(agent: str, history: Iterable[Revision]) -> Iterable[tuple[Revision, Record | None, Record | None]]:
    """The revisions that changed its record, with the record before and after."""
    for revision in history:
        for change in revision.changes:
            if (change.kind, change.name) == (RECORD, agent):
                yield revision, _record(change.before), _record(change.after)


def _without_attempts(record: Record | None) -> Record | None:
    """The record as if nobody had asked to try a version again."""
    if record is None:
        return None
    overrides = (replace(one, attempt=None) for one in record.overrides)
    return replace(record, attempt=0, overrides=tuple(one for one in overrides if one.changes()))


def _record(data: Any) -> Record | None:
    return from_fields(data) if data else None
