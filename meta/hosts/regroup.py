"""Puts other records in force: heartbeats are answered by them at once, and the hosts then move to their new groups.

They move a few at a time, so that no heartbeat waits for a million hosts. Until all have moved, counts are right, and the
drift of a host is that of the former records or of the new ones.
"""

import threading
from collections.abc import Callable

from meta.hosts.agent_sets import Group
from meta.hosts.classes import Class, Classes, Step
from meta.hosts.core.batches import batches
from meta.hosts.core.indexes import Indexes
from meta.hosts.core.outdated import outdated
from meta.records.model import RecordSet

AT_ONCE = 20_000  # hosts that are moved before the call returns; if there are more, a thread moves them
STEP = 1000  # hosts that are moved before another thread gets the lock


class Regrouping:
    """Changes the records in force, one change at a time."""

    def __init__(self, index: Indexes, lock: threading.Lock):
        self._index = index
        self._lock = lock  # guards the index
        self._changing = threading.Lock()

    def activate(self, records: RecordSet, instead_of: RecordSet | None, clock: Callable[[], float] | None) -> None:
        """Put these records in force, unless they are older than those that are.

        instead_of: records that older ones may replace, if they are in force; or None. With it, or if revisions in between are
        missing, every order counts as changed. clock: dates heartbeats; None if hosts may have these records already.
        """
        with self._changing:
            in_force = self._index.classes.records
            if records.revision < in_force.revision and in_force is not instead_of:
                return
            is_next = instead_of is None and records.revision <= in_force.revision + 1
            step = Step(self._index.classes, Classes(records))
            with self._lock:
                # With the lock held, so later than any heartbeat that was answered by the former records.
                step.after.at, step.after.began = clock() if clock else 0.0, self._index.classes.began
                step.after.number = self._index.classes.number + (1 if is_next else 2)
                self._index.classes = step.after
                groups = self._index.groups.all()
                few = len(self._index.hosts) <= AT_ONCE
            if few or (len(step.relabelled) <= AT_ONCE and all(step.whole(group.klass) for group in groups)):
                self._move_all(step, groups)
            else:
                threading.Thread(target=self._move_all, args=(step, groups), name="regroup", daemon=True).start()

    def _move_all(self, step: Step, groups: list[Group]) -> None:
        """Move the hosts of these groups. Stop if other records come in force before the end."""
        self._relabel(step)
        for group in groups:
            with self._lock:
                if self._index.classes is not step.after:
                    return
                there = step.whole(group.klass)
                if not group.hosts or group.klass.book is step.after or (there and self._reclassify(group, there)):
                    continue
                hosts = list(group.hosts)
            for some in batches(hosts, STEP):
                classes = [there or step.of(group.klass, host.name) for host in some]
                with self._lock:
                    if self._index.classes is not step.after:
                        return
                    for host, klass in zip(some, classes, strict=True):
                        if host.group is group:
                            self._index.move(host, group.agent_set, klass)

    def _relabel(self, step: Step) -> None:
        for names in batches(step.relabelled, STEP):
            with self._lock:
                if self._index.classes is not step.after:
                    return
                for name in names:
                    host = self._index.hosts.get(name)
                    if host and not host.retired_at:
                        self._index.move(host, host.group.agent_set, step.of(host.group.klass, name))

    def _reclassify(self, group: Group, klass: Class) -> bool:
        """Give the whole group another class. Returns False if its hosts must move one by one instead.

        That is so if reports about former orders must be marked, if the hosts may have received their orders by now, or if
        many hosts are in that class already.
        """
        agent_set = group.agent_set
        if agent_set.has_failures and any(
            outdated(agent_set.agents, agent_set.verdicts, group.klass.orders, klass.orders)
        ):
            return False
        if group.klass.since and len(group.hosts) <= STEP:
            return False
        return self._index.groups.reclassify(group, klass.comers(group.klass))
