"""Hosts that people put aside, or take back: in the history and in their rows by one transaction, and only then in memory. So
what was acknowledged survives whatever happens, and what cannot be written is not done."""

from collections.abc import Sequence

from meta import edits, hostrows
from meta.editing import Editor
from meta.hosts import HostTable
from meta.store import HostWrite, Store


def set_aside(
    table: HostTable,
    store: Store,
    editor: Editor,
    meta: str,
    edit: edits.Edit,
    hostnames: Sequence[str],
    retired: bool,
) -> tuple[list[edits.Change], int]:
    """All of these known hosts or none; returns what changed, and the revision that says so (that in force, where nothing did).
    meta: who we are. What another meta ordered a moment ago counts, also where it is not known here yet. Raises EditRefused,
    TryLater, Unknown."""
    there = store.retired(hostnames)
    rows, changes = [], []
    for name in hostnames:
        row = hostrows.ordered(table, name, edit.at if retired else -edit.at)
        host = table.get(name)
        is_so = host is not None and bool(host.retired_at) == retired and there.get(name) == retired
        if row and not is_so:
            rows.append(row)
            changes.append(edits.Change(edits.HOST, name, not retired, retired))
    if not changes:
        return [], table.classes.records.revision
    revision = editor.note(edit, changes, HostWrite(meta, edit.at, rows))
    for row in rows:
        (table.retire if retired else table.unretire)(row.hostname, edit.at)
    return changes, revision
