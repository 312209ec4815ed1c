"""Puts other records in force: beats are answered by them at once, and the hosts move to their new groups behind that.

Some at a time, so that nobody waits for a million of them; until then counts are right, and drift is that of before or after.
"""

import threading
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET

from meta.hosts.agent_sets import MAX_WEIGHT
from meta.hosts.classes import Class, Classes, Look, Rejection, Step, Verdict, is_renewed
from meta.hosts.outcomes import marked_former, verdicts_of, write_outcomes
from meta.records.model import RecordSet
from updater.wire.heartbeat import ROLLED_BACK, Desired

if TYPE_CHECKING:
    from meta.hosts.agent_sets import Group, Profile
    from meta.hosts.model import Host
    from meta.hosts.table import HostTable
    from updater.wire.heartbeat import Outcome

AT_ONCE = 20_000  # hosts that are moved before the call returns; of more each is looked at later
STEP = 1000  # hosts that are moved before somebody else gets the lock


def put_in_force(
    table: "HostTable", records: RecordSet, instead_of: RecordSet | None, clock: Callable[[], float] | None
) -> None:
    """Not twice at once. Older records than those in force change nothing, unless those are `instead_of`. clock: the one that
    dates beats."""
    in_force = table.classes.records
    if records.revision < in_force.revision and in_force is not instead_of:
        return
    step = Step(table.classes, Classes(records))
    with table.locked() as hosts:
        step.after.at = clock() if clock else 0.0  # not before any beat that was answered by the former records
        table.classes = step.after
        groups = list(table.groups.values())
        few = len(hosts) <= AT_ONCE
    if few or (len(step.relabelled) <= AT_ONCE and all(step.whole(group.klass) for group in groups)):
        regroup(table, step, groups)
    else:
        threading.Thread(target=regroup, args=(table, step, groups), name="regroup", daemon=True).start()


def regroup(table: "HostTable", step: Step, groups: "list[Group]") -> None:
    """Move the hosts of these groups, and stop when other records are put in force meanwhile."""
    _relabel(table, step)
    for group in groups:
        with table.locked():
            if table.classes is not step.after:
                return
            there = step.whole(group.klass)
            if not group.hosts or group.klass.book is step.after or (there and _rekey(table, group, there)):
                continue
            hosts = list(group.hosts)
        for start in range(0, len(hosts), STEP):
            some = hosts[start : start + STEP]
            classes = [there or step.of(group.klass, host.name) for host in some]
            with table.locked():
                if table.classes is not step.after:
                    return
                for host, klass in zip(some, classes, strict=True):
                    if host.group is group:
                        table.move(host, group.profile, klass)


def without_outdated(table: "HostTable", host: "Host", profile: "Profile", klass: Class) -> "Profile":
    """The profile of a host whose orders become those of this class. What it told of former ones is kept, and marked as such
    for other metas and the next start. With the lock held."""
    agents, rejected = outdated(profile.looks, profile.verdicts, host.group.klass.orders, klass.orders)
    if not agents and not rejected:
        return profile
    if agents:
        table.tell(host, write_outcomes(marked_former(host.outcomes, agents), table.told > MAX_WEIGHT))
    table.dirty.add(host)
    looks = without_rejections(profile.looks, rejected) if rejected else profile.looks
    found = table.profiles.of(looks, verdicts_of(host.outcomes))
    if not profile.groups:  # it is new, and gets no group now
        profile.groups = 1
        table.profiles.release(profile)
    return found


def looks_as_heard(host: "Host", looks: tuple[Look, ...]) -> tuple[Look, ...]:
    """What a report says, without what it rejects of an order that is another by now: this host has yet to hear of that. If it
    still rejects it then, its next report says so. With the lock held."""
    klass = host.group.klass
    unheard = klass.unheard([look[0] for look in looks], host.last_seen) if klass.since else None
    return without_rejections(looks, unheard) if unheard else looks


def told_as_heard(host: "Host", told: "dict[str, Outcome]") -> "dict[str, Outcome]":
    """Outcomes of a report, those marked that are of orders before the one that this host has yet to hear of."""
    return marked_former(told, host.group.klass.unheard(told, host.last_seen))


def _relabel(table: "HostTable", step: Step) -> None:
    names = list(step.relabelled)
    for start in range(0, len(names), STEP):
        with table.locked() as hosts:
            if table.classes is not step.after:
                return
            for name in names[start : start + STEP]:
                host = hosts.get(name)
                if host and not host.retired_at:
                    table.move(host, host.group.profile, step.of(host.group.klass, name))


def _rekey(table: "HostTable", group: "Group", klass: Class) -> bool:
    """The group gets another class, and the few hosts that are in that already. False: they are many, or to
    be looked at one by one: what they told is to be marked, or they may have heard of their orders by now."""
    profile = group.profile
    if profile.has_failures and any(outdated(profile.looks, profile.verdicts, group.klass.orders, klass.orders)):
        return False
    if group.klass.since and len(group.hosts) <= STEP:
        return False
    klass = klass.comers(group.klass)
    there = table.groups.get((group.profile, klass))
    if there is not None:
        if len(there.hosts) > STEP:
            return False
        for host in there.hosts:
            host.group = group
        group.hosts |= there.hosts
        there.hosts = set()
        group.profile.groups -= 1
    del table.groups[group.profile, group.klass]
    group.klass = klass
    table.groups[group.profile, klass] = group
    return True


def outdated(
    looks: Sequence[Look], verdicts: Sequence[Verdict], before: Mapping[str, Desired], after: Mapping[str, Desired]
) -> tuple[set[str], set[str]]:
    """The agents whose verdict, and those whose rejection, says nothing of what their hosts shall have now: another artifact
    than when they failed, or the same again after a stop. What they go on to reject they say again; anything else they try, and
    tell what comes of it. What names the version of the new order, and not that of the former, is of the new one: the host has
    heard of it from another meta. Who tells of rejections says by them alone what was rolled back."""
    renewed = {agent for agent, order in after.items() if agent in before and is_renewed(before[agent], order)}

    def is_former(agent: str, version: str) -> bool:
        return agent in renewed and not before[agent].version != after[agent].version == version

    telling = {look[0] for look in looks if look[4] is not UNSET}
    told = {one for one in verdicts if one.result != ROLLED_BACK or one.agent not in telling}
    rejected = {look[0] for look in looks if isinstance(look[6], Rejection) and is_former(look[0], look[6].version)}
    return {one.agent for one in told if is_former(one.agent, one.to)}, rejected


def without_rejections(looks: Sequence[Look], agents: Container[str]) -> tuple[Look, ...]:
    """The same, but that these agents reject nothing."""
    return tuple((*look[:6], UNSET) if look[0] in agents else look for look in looks)
