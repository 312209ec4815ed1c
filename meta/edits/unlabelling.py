"""Takes the labels of hosts that are about to be forgotten out of the records, as a revision by "meta", one a day at most.

So nothing is left of a host that is gone for good. Hosts with labels are forgotten after that only: whatever ends in between,
their rows tell which labels are still to go. The first of them waits a day for others, so that however many metas there are,
and however often they start, there is one revision for all. Labels of hosts that never reported are left to people.
"""

import logging
from collections.abc import Sequence

from meta.edits import operations
from meta.edits.editor import Editor
from meta.errors import MetaError
from meta.hosts.model import Host
from meta.records import history

GATHER = 86400.0  # seconds
AGAIN = 600.0  # seconds, where it was refused
AT_ONCE = 10_000  # hosts of one revision; where there are more, the next follows at once
WHY = "these hosts are retired for so long that they are forgotten"
log = logging.getLogger(__name__)


class Unlabelling:
    """For one thread."""

    def __init__(self, editor: Editor):
        self._editor = editor
        self._refused_at = -AGAIN

    def __call__(self, due: Sequence[Host], before: float, now: float) -> None:
        """The labels of these hosts, which were retired before that, are to go; returns also while they stay. Whether they are
        gone is to be seen in the records in force."""
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
            log.warning("labels of %d hosts that are to be forgotten stay for now: %s", len(labelled), e)
