"""Changes that failed: those of the version that is ordered now, grouped by reason, and those of one version on all hosts.

Failures of a former order are not counted. Failed hosts are found through the verdicts of their groups, and among the silent
hosts (`fell_silent_hosts`). One answer reads the reasons of at most SCAN failed hosts, and says whether there were more.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from itertools import chain
from typing import NamedTuple

from msgspec.structs import replace

from meta.hosts import standing
from meta.hosts.agent_sets import AgentSet
from meta.hosts.classes import UNREPORTED, Class, Rejection, Reported
from meta.hosts.model import Host, Silence
from meta.hosts.outcomes import is_failure
from meta.hosts.standing import TODO, TRIAL, failed, is_down_while_held, rejects
from meta.hosts.table import HostTable
from meta.queries.choice import Choice
from meta.queries.representations import Failure, untold
from meta.records.selectors import Selector
from updater.wire.heartbeat import DONE, FAILED, FORMER, ROLLED_BACK, Desired, Outcome

SCAN = 50_000  # failed hosts whose reasons one answer reads
MOST = 100  # failures in one answer, those of most hosts first
DOWN = "down on trial, held"
SILENT_ON_TRIAL, SILENT = "fell silent on trial", "fell silent after it got the order"
How = Callable[[Host, Desired], Outcome | None]  # returns how this order failed on this host; None: it no longer has
Failed = tuple[Host, Desired, How]
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)*")


class Found(NamedTuple):
    """Failures, grouped by reason."""

    failures: list[Failure]
    is_whole: bool  # whether these are all failures of all hosts


class _Sum:
    """How many hosts failed for the same reason, and the one that failed last."""

    def __init__(self) -> None:
        self.hosts = 0
        self.newest: tuple[int, str, Outcome] | None = None  # when it failed, the host, the outcome

    def add(self, host: str, outcome: Outcome) -> None:
        self.hosts += 1
        if self.newest is None or (outcome.at, host) > self.newest[:2]:
            self.newest = (outcome.at, host, outcome)


def failures(table: HostTable, now: float, agent: str = "") -> Found:
    """Return the failures by agent, desired version, result and reason, for all agents or one. now: Unix seconds.

    Reasons that differ only in numbers (a process id, seconds) count as one, and the newest of them is shown.
    """
    silent = ((one.host, one.order, one.how) for one in fell_silent_hosts(table, now, agent))
    return by_reason(chain(_failed(table, agent), silent))


def by_reason(failed: Iterable[Failed]) -> Found:
    """Return the failures of these hosts in the same form."""
    sums: dict[tuple[str, str, str, str], _Sum] = {}
    examined = 0
    for host, order, how in failed:
        if examined == SCAN:
            break
        examined += 1
        outcome = how(host, order)
        if outcome is None:  # the host has reported something else since
            continue
        key = (order.name, order.version, outcome.result, _NUMBER.sub("#", outcome.reason))
        sums.setdefault(key, _Sum()).add(host.name, outcome)
    found = [_view(key, one) for key, one in sums.items()]
    found.sort(key=lambda one: (-one.hosts, one.agent, one.version, one.reason))
    return Found(found[:MOST], examined < SCAN and len(found) <= MOST)


def sums(table: HostTable, now: float, selector: Selector | None = None) -> Counter[tuple[str, str, str]]:
    """Count the failed hosts by agent, desired version and result: a sum over groups and over hosts that fell silent.

    selector: count only its hosts; None: all.
    """
    found: Counter[tuple[str, str, str]] = Counter()
    choice = Choice(table.classes, selector)
    for part in table.parts():
        klass, agent_set = part.klass, part.agent_set
        orders = failed_orders(klass, agent_set)
        hosts = choice.number(table, part) if orders else 0
        for order in orders:
            verdict = agent_set.verdict(order.name)
            if rejects(order, agent_set.reported(order.name)):
                found[order.name, order.version, ROLLED_BACK] += hosts
            else:
                is_told = verdict and not is_down_while_held(order, agent_set.reported(order.name))
                found[order.name, order.version, verdict.result if verdict and is_told else FAILED] += hosts
    for one in fell_silent_hosts(table, now):
        found[one.order.name, one.order.version, FAILED] += choice.has(one.host)
    return +found


def by_agent(table: HostTable, now: float, agent: str = "", selector: Selector | None = None) -> dict[str, int]:
    """Count the hosts on which the change of each agent failed, for all agents or one."""
    found: Counter[str] = Counter()
    for (name, _, _), hosts in sums(table, now, selector).items():
        if not agent or name == agent:
            found[name] += hosts
    return dict(sorted(found.items()))


def outcome_of(host: Host, order: Desired) -> Outcome | None:
    """Return the outcome that gives the reason for a failure; None if the host has none.

    A host that rejects the version has rolled it back, even if it reported another outcome since or that outcome was lost.
    """
    outcome, reported = host.outcomes.get(order.name), host.group.agent_set.reported(order.name)
    if rejects(order, reported):
        return rejection(reported, outcome)
    if is_down_while_held(order, reported) and not (outcome and outcome.to == order.version and is_failure(outcome)):
        return down_while_held(host, order)
    return outcome


def rejection(reported: Reported, outcome: Outcome | None) -> Outcome:
    """Return the outcome for the version that a host reports to reject.

    outcome: the last one that the host reported for the agent. It is used if it is a failure of that version, which may be a
    rollback or a failed hand-over of the updater itself. While the way back is under way, the host has not reported it yet.
    """
    version = reported.rejected.version if isinstance(reported.rejected, Rejection) else ""
    if outcome and outcome.to == version and is_failure(outcome):
        return outcome
    return Outcome(reported.name, to=version, step="watch", result=ROLLED_BACK, reason=untold(reported.waits))


def last_failures(agent: str, hosts: Iterable[Host]) -> list[Failure]:
    """Return how the last change of the agent failed on these hosts, by reason.

    Failures of a former order count, too. Hosts whose last change did not fail are left out.
    """
    asked = Desired(agent)
    told = [(host, outcome.to) for host in hosts if (outcome := _last_failure(host, asked))]
    return by_reason((host, replace(asked, version=version), _last_failure) for host, version in told).failures


def _last_failure(host: Host, order: Desired) -> Outcome | None:
    outcome, reported = host.outcomes.get(order.name), host.group.agent_set.reported(order.name)
    if outcome and outcome.result != DONE:
        return replace(outcome, result=outcome.result.removesuffix(FORMER))
    return rejection(reported, None) if isinstance(reported.rejected, Rejection) else None


def _view(key: tuple[str, str, str, str], one: _Sum) -> Failure:
    assert one.newest  # noqa: S101 (a sum begins with its first host)
    at, host, outcome = one.newest
    return Failure(key[0], key[1], outcome.result, outcome.reason, one.hosts, host, at)


class Silent(NamedTuple):
    """A host that counts as failed because it fell silent, until it reports again."""

    host: Host
    agent_set: AgentSet
    order: Desired
    how: How
    was_on_trial: bool  # it reported the version on trial, and sums over groups count it as that


def fell_silent_hosts(table: HostTable, now: float, agent: str = "") -> Iterator[Silent]:
    """Yield the late and lost hosts that count as failed because they fell silent, for all agents or one."""
    return silent_of(table.silence(now), now, agent)


def silent_of(silence: Silence, now: float, agent: str = "") -> Iterator[Silent]:
    """Yield those of these silent hosts that count as failed."""
    orders = cache(partial(_may_be_down, agent))
    for host, klass, agent_set in silence.hosts:
        if klass.book is silence.book and host.last_seen < now - silence.horizon:
            yield from _silent(host, klass, agent_set, orders(klass, agent_set), silence)


def _may_be_down(agent: str, klass: Class, agent_set: AgentSet) -> list[tuple[Desired, str, int]]:
    """Return the orders that may have silenced hosts of this group.

    Each comes with the state of the group for it (see `stand`), and the position of its agent among the reported ones.
    """
    found = []
    places = {reported.name: place for place, reported in enumerate(agent_set.agents)}
    for order in klass.desired:
        if not agent or order.name == agent:
            reported = agent_set.reported(order.name)
            state = standing.stand(order, reported, agent_set.verdict(order.name))
            if state in (TODO, TRIAL) or standing.is_unsure(order, reported, state):
                found.append((order, state, places.get(order.name, 0)))
    return found


def _silent(
    host: Host, klass: Class, agent_set: AgentSet, orders: list[tuple[Desired, str, int]], silence: Silence
) -> Iterator[Silent]:
    for order, told, place in orders:
        state = TRIAL if told == standing.GOOD and standing.is_on_trial(host, place, silence.horizon) else told
        if standing.is_down(state, klass, order.name, host.last_seen, silence.excused):
            was_on_trial = standing.on_trial(order, agent_set.reported(order.name), agent_set.verdict(order.name))
            yield Silent(host, agent_set, order, silent_how(state), was_on_trial)


def silent_how(state: str) -> How:
    """Return the function that says how silent hosts in this state have failed."""
    return fell_silent if state == TODO else fell_silent_on_trial


def fell_silent_on_trial(host: Host, order: Desired) -> Outcome:
    """Return the outcome for a host that fell silent while the version was on trial."""
    at = int(host.last_seen)
    return Outcome(order.name, to=order.version, step="watch", result=FAILED, reason=SILENT_ON_TRIAL, at=at)


def fell_silent(host: Host, order: Desired) -> Outcome:
    """Return the outcome for a host that fell silent after it received its order, without reporting an outcome."""
    return Outcome(order.name, to=order.version, step="order", result=FAILED, reason=SILENT, at=int(host.last_seen))


def down_while_held(host: Host, order: Desired) -> Outcome:
    """Return the outcome for a host whose version stopped in its watch while a person held the agent."""
    return Outcome(order.name, to=order.version, step="watch", result=FAILED, reason=DOWN, at=int(host.last_seen))


def _failed(table: HostTable, agent: str) -> Iterator[Failed]:
    for group, klass, agent_set, *_ in table.parts():
        orders = [order for order in failed_orders(klass, agent_set) if not agent or order.name == agent]
        for host in table.members([group]) if orders else ():
            yield from ((host, order, outcome_of) for order in orders)


def failed_orders(klass: Class, agent_set: AgentSet) -> list[Desired]:
    """Return the orders that failed on the hosts of this class and agent set."""
    if not agent_set.has_failures:
        return []
    all_reported = {reported.name: reported for reported in agent_set.agents}
    return [o for o in klass.desired if failed(o, all_reported.get(o.name, UNREPORTED), agent_set.verdict(o.name))]


def rolled_back(table: HostTable, agent: str, version: str) -> str:
    """Return a sentence on which hosts rolled this version back, and why; "" if none did.

    Hosts count if a rollback of it was their last change of the agent, or if they report that they reject it. What a host did
    before its last change is not stored.
    """
    needle, found = f'"to":"{version}"', _Sum()
    for group, _, agent_set, *_ in table.parts():
        reported = agent_set.reported(agent)
        is_its = isinstance(reported.rejected, Rejection) and reported.rejected.version == version
        for host in table.members([group]):
            outcome = host.outcomes.get(agent) if needle in host.told else None
            if is_its:
                found.add(host.name, rejection(reported, outcome))
            elif outcome and (outcome.to, outcome.result) == (version, ROLLED_BACK):
                found.add(host.name, outcome)
    if not found.newest:
        return ""
    _, example, outcome = found.newest
    who = f"{found.hosts:,} hosts, {example} among them," if found.hosts > 1 else f"host {example}"
    last = "their" if found.hosts > 1 else "its"
    return f"{who} rolled {agent} {version} back as {last} last change of it: {outcome.reason or 'no reason given'}"
