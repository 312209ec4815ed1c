"""Puts other records in force: beats are answered by them at once, and the hosts move to their new groups behind that.

Some at a time, so that no beat waits for a million of them; until then counts are right, and drift is that of before or after.
"""

import threading
from collections.abc import Callable

from meta.hosts.agent_sets import Group
from meta.hosts.classes import Class, Classes, Step
from meta.hosts.core.batches import batches
from meta.hosts.core.indexes import Indexes
from meta.hosts.core.outdated import outdated
from meta.records.model import RecordSet

AT_ONCE = 20_000  # hosts that are moved before the call returns; of more each is looked at later
STEP = 1000  # hosts that are moved before another thread gets the lock


class Regrouping:
    """For the indexes that this lock guards."""

    def __init__(self, index: Indexes, lock: threading.Lock):
        self._index = index
        self._lock = lock
        self._changing = threading.Lock()

    def activate(self, records: RecordSet, instead_of: RecordSet | None, clock: Callable[[], float] | None) -> None:
        """Older records than those in force change nothing, unless those are `instead_of`. clock: the one that dates beats."""
        with self._changing:
            in_force = self._index.classes.records
            if records.revision < in_force.revision and in_force is not instead_of:
                return
            step = Step(self._index.classes, Classes(records))
            with self._lock:
                step.after.at = clock() if clock else 0.0  # not before any beat that was answered by the former records
                self._index.classes = step.after
                groups = self._index.groups.all()
                few = len(self._index.hosts) <= AT_ONCE
            if few or (len(step.relabelled) <= AT_ONCE and all(step.whole(group.klass) for group in groups)):
                self._move_all(step, groups)
            else:
                threading.Thread(target=self._move_all, args=(step, groups), name="regroup", daemon=True).start()

    def _move_all(self, step: Step, groups: list[Group]) -> None:
        """Move the hosts of these groups, and stop when other records are put in force meanwhile."""
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
                            self._index.move(host, group.profile, klass)

    def _relabel(self, step: Step) -> None:
        for names in batches(step.relabelled, STEP):
            with self._lock:
                if self._index.classes is not step.after:
                    return
                for name in names:
                    host = self._index.hosts.get(name)
                    if host and not host.retired_at:
                        self._index.move(host, host.group.profile, step.of(host.group.klass, name))

    def _reclassify(self, group: Group, klass: Class) -> bool:
        """The group gets another class, and the few hosts that are in that already. False: they are many, or to be looked at
        one by one: what they told is to be marked, or they may have heard of their orders by now."""
        profile = group.profile
        if profile.has_failures and any(outdated(profile.looks, profile.verdicts, group.klass.orders, klass.orders)):
            return False
        if group.klass.since and len(group.hosts) <= STEP:
            return False
        return self._index.groups.reclassify(group, klass.comers(group.klass))
