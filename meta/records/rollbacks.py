"""Finds the former state of one agent's record to which a rollback leads. Pure.

A rollback undoes the newest change that was not itself a rollback, and only once; a second one finds out who did it already.
Retries do not count as changes: the rollback undoes the change that brought the version. Whether the former state is allowed
now (it may be banned) is checked by the edit.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from msgspec.structs import replace

from meta.errors import NotThere
from meta.records.history import RECORD, Revision
from meta.records.model import Record, from_fields

ROLLBACK = "rollback"  # the verb of these edits in the history


class Way(NamedTuple):
    """The result of a search."""

    record: Record | None  # the former record, None for no record
    done_by: Revision | None = None  # the revision that rolled the change back already


def last_change(present: Record | None, agent: str, history: Iterable[Revision]) -> Way:
    """The record before its newest change that was not a rollback. Raises NotThere for an agent that never had a record.

    present: the record now; history: the revisions that changed anything of this agent, the newest first.
    """
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
    """The record after revision `number`; the history may end there."""
    record = present
    for revision, before, _ in _changes(agent, history):
        if revision.number <= number:
            break
        record = before
    return Way(record)


def _changes(agent: str, history: Iterable[Revision]) -> Iterable[tuple[Revision, Record | None, Record | None]]:
    """(revision, record before, record after) for each change of the agent's record."""
    for revision in history:
        for change in revision.changes:
            if (change.kind, change.name) == (RECORD, agent):
                yield revision, _record(change.before), _record(change.after)


def _without_attempts(record: Record | None) -> Record | None:
    """The record without its retries."""
    if record is None:
        return None
    overrides = (replace(one, attempt=None) for one in record.overrides)
    return replace(record, attempt=0, overrides=tuple(one for one in overrides if one.changes()))


def _record(data: Any) -> Record | None:
    return from_fields(data) if data else None
