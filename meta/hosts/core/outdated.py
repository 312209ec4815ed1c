"""Reports about orders that have changed since: found, marked, or left out. Pure."""

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET

from meta.hosts.classes import Rejection, Reported, Verdict
from meta.hosts.outcomes import marked_former
from updater.wire.heartbeat import ROLLED_BACK, Desired, is_renewed

if TYPE_CHECKING:
    from meta.hosts.model import Host
    from updater.wire.heartbeat import Outcome


def reported_as_heard(host: "Host", all_reported: tuple[Reported, ...]) -> tuple[Reported, ...]:
    """Return the reported agents, without rejections of orders that have changed since.

    The host receives the new order with the reply to this report. If it rejects that too, its next report says so.
    """
    klass = host.group.klass
    unheard = klass.unheard([reported.name for reported in all_reported], host.last_seen) if klass.since else None
    return without_rejections(all_reported, unheard) if unheard else all_reported


def told_as_heard(host: "Host", told: "dict[str, Outcome]") -> "dict[str, Outcome]":
    """Return the outcomes of a report. Those of an order that has changed since, without the host knowing, are marked."""
    return marked_former(told, host.group.klass.unheard(told, host.last_seen))


def outdated(
    all_reported: Sequence[Reported],
    verdicts: Sequence[Verdict],
    before: Mapping[str, Desired],
    after: Mapping[str, Desired],
) -> tuple[set[str], set[str]]:
    """Return the agents whose verdict, and those whose rejection, is about a former order.

    That is so if the order is gone, if the new one has another artifact, or if it starts again what was stopped. The host
    reports again what it rejects, and tries anything else. So a rejection is also forgotten if there was no order before it.
    A verdict that names the new order's version alone is about the new order: the host received it from another meta. A host
    that reports rejections needs no verdict for a rollback.
    """
    gone = before.keys() - after.keys()
    renewed = {agent for agent, order in after.items() if agent in before and is_renewed(before[agent], order)}

    def is_former(agent: str, version: str) -> bool:
        return agent in gone or (agent in renewed and not before[agent].version != after[agent].version == version)

    telling = {reported.name for reported in all_reported if reported.trial is not UNSET}
    told = {one for one in verdicts if one.result != ROLLED_BACK or one.agent not in telling}
    rejecting = [(one.name, one.rejected.version) for one in all_reported if isinstance(one.rejected, Rejection)]
    added = after.keys() - before.keys()
    rejected = {agent for agent, version in rejecting if agent in added or is_former(agent, version)}
    return {one.agent for one in told if is_former(one.agent, one.to)}, rejected


def without_rejections(all_reported: Sequence[Reported], agents: Container[str]) -> tuple[Reported, ...]:
    """Return the same, without the rejections of these agents."""
    return tuple(
        reported._replace(rejected=UNSET) if reported.name in agents else reported for reported in all_reported
    )
