"""What hosts told of orders that are others by now: found, marked, or left out. Pure."""

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET

from meta.hosts.classes import Look, Rejection, Verdict, is_renewed
from meta.hosts.outcomes import marked_former
from updater.wire.heartbeat import ROLLED_BACK, Desired

if TYPE_CHECKING:
    from meta.hosts.model import Host
    from updater.wire.heartbeat import Outcome


def looks_as_heard(host: "Host", looks: tuple[Look, ...]) -> tuple[Look, ...]:
    """What a report says, without what it rejects of an order that is another by now: this host has yet to hear of that. If it
    still rejects it then, its next report says so."""
    klass = host.group.klass
    unheard = klass.unheard([look[0] for look in looks], host.last_seen) if klass.since else None
    return without_rejections(looks, unheard) if unheard else looks


def told_as_heard(host: "Host", told: "dict[str, Outcome]") -> "dict[str, Outcome]":
    """Outcomes of a report, those marked that are of orders before the one that this host has yet to hear of."""
    return marked_former(told, host.group.klass.unheard(told, host.last_seen))


def outdated(
    looks: Sequence[Look], verdicts: Sequence[Verdict], before: Mapping[str, Desired], after: Mapping[str, Desired]
) -> tuple[set[str], set[str]]:
    """The agents whose verdict, and those whose rejection, says nothing of what their hosts are to have now: another artifact
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
