"""Hosts that people put aside, or take back: in the history and in their rows by one transaction, which also judges what is to
be done, and only then in memory. So what was acknowledged survives whatever happens, and what cannot be written is not done."""

from collections.abc import Sequence

from meta.edits.editor import Done, Editor
from meta.hosts.table import HostTable
from meta.records import history
from meta.store import HostOrder
from meta.sync import rows


def set_aside(
    table: HostTable, editor: Editor, meta: str, edit: history.Edit, hostnames: Sequence[str], retired: bool
) -> Done:
    """All of these known hosts or none. meta: who we are. What another meta ordered a moment ago counts, also where it is not
    known here yet. Raises EditRefused, TryLater, Unknown."""
    found = [row for name in hostnames if (row := rows.known(table, name))]
    done, ordered = editor.order(edit, HostOrder(meta, edit.at, found, retired))
    for row in ordered:
        saved = rows.saved_of(row)
        if retired:
            table.retire(saved.name, saved.retired_at)
        else:
            table.unretire(saved.name, saved.unretired_at)
    return done
