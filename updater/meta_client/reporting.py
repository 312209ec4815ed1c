"""Sends a host's report: what was observed, and the outcomes that meta has not received yet."""

import logging
from collections.abc import Iterable
from functools import partial

import msgspec

from updater.errors import TryLater
from updater.host import host_name
from updater.host.context import Host
from updater.meta_client import heartbeats
from updater.model.memory import Memory
from updater.model.observed import Observed, State
from updater.wire.fitting import agents_that_fit, fewer, outcomes_that_fit
from updater.wire.heartbeat import CHANGE, VERSION, Outcome, RealAgent, Report
from updater.wire.reply import Reply

log = logging.getLogger("updater")


def send(host: Host, name: str, observed: Iterable[Observed], refused: tuple[Outcome, ...]) -> Reply:
    """Send a report with the pending outcomes; those that meta has received are then removed from the memories.

    If one agent's memory cannot be read or written, that is logged: the reply is for all agents.
    """
    agents = agents_of(host, observed)
    sent = outcomes_that_fit([*_pending(host), *(("", outcome) for outcome in refused)], agents)
    while True:
        try:
            reply = heartbeats.heartbeat(host, rendered(host, name, agents, [outcome for _, outcome in sent]))
            break
        except heartbeats.TooLarge as e:
            if not sent:
                raise
            sent = fewer(sent)
            log.warning("%s; it is sent again with fewer outcomes (%d), the others later", e, len(sent))
    for agent in sorted({one for one, _ in sent if one}):
        reported = tuple(outcome for one, outcome in sent if one == agent)
        host.memories.note(agent, partial(Memory.reported, outcomes=reported))
    return reply


def _pending(host: Host) -> list[tuple[str, Outcome]]:
    """The outcomes that meta has not received yet, by agent."""
    pending: list[tuple[str, Outcome]] = []
    try:
        names = host.memories.names()
    except TryLater as e:
        log.error("no outcomes are reported: %s", e)
        return pending
    for agent in names:
        try:
            pending += [(agent, outcome) for outcome in host.memories.of(agent).outcomes]
        except TryLater as e:
            log.error("%s: its outcomes are not reported: %s", agent, e)
    return pending


def agents_of(host: Host, observed: Iterable[Observed]) -> list[RealAgent]:
    """The agents of a report. If they are too many for one, those with orders come first."""
    there = [_real_agent(host, one) for one in observed if one.current]
    agents = agents_that_fit(there, {order.name for order in host.orders.last.orders})
    if len(agents) < len(there):
        log.error("%d agents are more than meta takes from one host: %d are reported", len(there), len(agents))
    return agents


def rendered(host: Host, name: str, agents: list[RealAgent], outcomes: list[Outcome]) -> Report:
    """The report with these agents and outcomes."""
    return Report(
        name,
        agents,
        updater_version=VERSION,
        outcomes=outcomes or msgspec.UNSET,
        machine=host_name.machine() or msgspec.UNSET,
        boot=host_name.hashed("boot", host.machine_boot) or msgspec.UNSET,
    )


def _real_agent(host: Host, observed: Observed) -> RealAgent:
    is_changing = observed.changing or observed.name in host.changing
    waits = host.waits.get(observed.name) or (CHANGE if is_changing else "")
    try:
        memory = host.memories.of(observed.name)
    except TryLater:
        return observed.real_agent(True, waits)  # it may be on trial
    rejected = memory.rejected_under(host.newest(observed.name))
    return observed.real_agent(memory.may_be_taken_back(observed.state is State.STARTED), waits, rejected)
