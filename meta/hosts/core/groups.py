"""Hosts grouped by agent set and class, so that counts are sums over few groups. Pure."""

from typing import TYPE_CHECKING

from meta.hosts.agent_sets import AgentSet, AgentSets, Group
from meta.hosts.classes import Class, Classes
from meta.records.model import RecordSet

if TYPE_CHECKING:
    from meta.hosts.model import Host

FEW = 1000  # hosts that may change their group in one step, under the lock


class Groups:
    """All groups. A group without hosts is forgotten. Groups of retired hosts are kept separately. Not safe for threads."""

    def __init__(self) -> None:
        self.agent_sets = AgentSets()
        self.retired_class = Classes(RecordSet()).matching(frozenset())
        self._active: dict[tuple[AgentSet, Class], Group] = {}
        self._retired: dict[tuple[AgentSet, Class], Group] = {}

    def all(self, retired_too: bool = False) -> list[Group]:
        """Return the groups of hosts that are not retired, or all groups."""
        return [*self._active.values(), *(self._retired.values() if retired_too else ())]

    def of(self, agent_set: AgentSet, klass: Class) -> Group:
        """Return the group, made if new. The caller must put a host into it at once."""
        groups = self._groups_of(klass)
        group = groups.get((agent_set, klass))
        if group is None:
            group = groups[agent_set, klass] = Group(agent_set, klass)
            agent_set.groups += 1
        return group

    def move(self, host: "Host", group: Group) -> None:
        """Move the host from its group to this one."""
        former = host.group
        if group is not former:
            group.hosts.add(host)
            host.group = group
            self.leave(former, host)

    def leave(self, group: Group, host: "Host") -> None:
        """Take the host out of the group; forget the group if it is empty then."""
        group.hosts.discard(host)
        if not group.hosts:
            del self._groups_of(group.klass)[group.agent_set, group.klass]
            self.agent_sets.release(group.agent_set)

    def reclassify(self, group: Group, klass: Class) -> bool:
        """Give an active group another class, and merge it with the group that is there already.

        Returns False, and changes nothing, if that other group has more than FEW hosts.
        """
        there = self._active.get((group.agent_set, klass))
        if there is not None:
            if len(there.hosts) > FEW:
                return False
            for host in there.hosts:
                host.group = group
            group.hosts |= there.hosts
            there.hosts = set()
            group.agent_set.groups -= 1
        del self._active[group.agent_set, group.klass]
        group.klass = klass
        self._active[group.agent_set, klass] = group
        return True

    def _groups_of(self, klass: Class) -> dict[tuple[AgentSet, Class], Group]:
        return self._retired if klass is self.retired_class else self._active
