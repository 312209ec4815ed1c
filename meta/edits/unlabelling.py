"""Removes the labels of hosts that are about to be forgotten, in a revision by "meta", at most one per day.

Hosts with labels are forgotten only afterwards, so that their rows still show which labels to remove if meta ends in between.
The first host waits a day for others, so that there is one revision for all, even with several metas or many restarts. Labels
of hosts that never reported are left to people.
"""

import logging
from collections.abc import Sequence

from meta.edits import operations
from meta.edits.editor import Editor
from meta.errors import MetaError
from meta.hosts.model import Host
from meta.records import history
from updater.wire.text import counted

GATHER = 86400.0  # seconds that the first host waits for others
AGAIN = 600.0  # seconds until the next try after a refusal
AT_ONCE = 10_000  # hosts in one revision; if there are more, the next revision follows at once
WHY = "these hosts have been retired for so long that they are deleted"
log = logging.getLogger(__name__)


class Unlabelling:
    """Removes labels. To be called from one thread only."""

    def __init__(self, editor: Editor):
        self._editor = editor
        self._refused_at = -AGAIN

    def __call__(self, due: Sequence[Host], before: float, now: float) -> None:
        """Remove the labels of `due`, hosts retired earlier than `before`, if it is time for that. Times in Unix seconds.

        Returns without an error if they are kept for now; the records in force show whether they are gone.
        """
        labels = self._editor.in_force().labels
        labelled = [host for host in due if host.name in labels]
        is_due = any(host.retired_at < before - GATHER for host in labelled)
        if not is_due or 0 <= now - self._refused_at < AGAIN:
            return
        names = [host.name for host in sorted(labelled, key=lambda host: host.retired_at)[:AT_ONCE]]
        try:
            edit = history.Edit(now, "meta", WHY, "label")
            self._editor.apply(edit, lambda records: operations.unlabel_hosts(records, names))
        except MetaError as e:
            self._refused_at = now
            log.warning("labels of %s to be deleted stay for now: %s", counted(len(labelled), "host"), e)
