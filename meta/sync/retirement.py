"""Hosts that people retire or take back.

One transaction decides what is to be done, and writes the history and the rows of the hosts. Memory follows only after that.
So an acknowledged change is never lost, and a change that cannot be written does not happen.
"""

from collections.abc import Sequence

from meta.edits.editor import Done, Editor
from meta.hosts.table import HostTable
from meta.records import history
from meta.store import HostOrder
from meta.sync import rows


def set_aside(
    table: HostTable, editor: Editor, meta: str, edit: history.Edit, hostnames: Sequence[str], retired: bool
) -> Done:
    """Retire these hosts, or take them back: all or none. Raises EditRefused, TryLater, Unknown.

    meta: the id of this process in the database. What another meta did a moment ago counts, even if it is not known here yet.
    """
    found = [row for name in hostnames if (row := rows.known(table, name))]
    done, ordered = editor.order(edit, HostOrder(meta, edit.at, found, retired))
    for row in ordered:
        saved = rows.saved_of(row)
        if retired:
            table.retire(saved.name, saved.retired_at)
        else:
            table.unretire(saved.name, saved.unretired_at)
    return done
