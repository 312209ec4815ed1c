"""One cycle of a host: observe -> report -> reply -> plan and perform, agent by agent -> outcomes for the next report.

No usable reply means no action. Agents take their turns side by side, so one that hangs costs the others nothing.
"""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from updater import memory, meta_client
from updater.control import trim
from updater.converge import Turn, converge
from updater.errors import UpdaterError
from updater.host import Host
from updater.observe import Observed, agent_names, observe
from updater.plan import Plan, plan, recall
from updater.wire import REFUSED, VERSION, Desired, Outcome, Reply, Report

log = logging.getLogger("updater")

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 8  # agents that are looked at or changed at the same time


@dataclass(frozen=True, slots=True)
class Result:
    """One cycle. orders: what meta wants, as far as it could be followed; refused: (entry, why) of what could not."""

    seen: dict[str, Observed]
    orders: tuple[Desired, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    turns: tuple[Turn, ...] = ()

    @property
    def changed(self) -> bool:
        return any(turn.changed for turn in self.turns)

    @property
    def matches(self) -> bool:
        """Whether the host is as desired."""
        return not self.refused and not any(turn.waits for turn in self.turns)


def run(host: Host, refused_before: tuple[Outcome, ...] = ()) -> Result:
    """One cycle; a host that it changed is reported again at once, so that meta need not wait an interval for the news.

    refused_before: orders of the previous reply that could not be followed, for this report. Raises TryLater or Refused
    when meta gives no usable answer; then nothing was changed.
    """
    names = agent_names(host.layout)
    for name in names:
        trim(host.layout.output(name))
    seen = look(host, names)
    reply = report(host, seen.values(), refused_before)
    orders = _orders(host, reply)
    for name, why in reply.refused:
        log.error("%s: refused: %s", name, why)
    seen |= look(host, [order.name for order in orders if order.name not in seen])
    result = Result(seen, orders, reply.refused, turns(host, orders, seen))
    return _told_at_once(host, result) if result.changed else result


def _told_at_once(host: Host, result: Result) -> Result:
    seen = look(host, agent_names(host.layout))
    try:
        report(host, seen.values(), refusals(result, host.now()))
    except UpdaterError as e:
        log.warning("the news will be in the next report: %s", e)
    return replace(result, seen=seen)


def preview(host: Host) -> tuple[tuple[Desired, ...], tuple[tuple[str, str], ...], list[Plan]]:
    """What a cycle would do now: the orders, the refused ones, and the plan of each order. Changes nothing on the host."""
    seen = look(host, agent_names(host.layout))
    reply = meta_client.heartbeat(host, _report(host, seen.values(), []))
    orders = _orders(host, reply)
    seen |= look(host, [order.name for order in orders if order.name not in seen])
    now = host.now()
    plans = []
    for order in orders:
        remembered = memory.load(host.layout.memory(order.name))
        remembered = recall(remembered, seen[order.name], order, now, host.config.watch)
        plans.append(plan(seen[order.name], order, remembered, now))
    return orders, reply.refused, plans


def look(host: Host, names: Iterable[str]) -> dict[str, Observed]:
    """Observe these agents, side by side."""
    names = list(names)
    return dict(zip(names, _side_by_side(lambda name: _look_at(host, name), names), strict=True))


def report(host: Host, seen: Iterable[Observed], refused: tuple[Outcome, ...] = ()) -> Reply:
    """Tell meta what is true and what came of its last orders; what meta has got is then forgotten here."""
    pending = memory.load_all(host.layout.memories)
    outcomes = [*refused, *(o for m in pending.values() for o in m.outcomes)]
    reply = meta_client.heartbeat(host, _report(host, seen, outcomes))
    for path, remembered in pending.items():
        if remembered.outcomes:
            memory.save(path, remembered.reported(remembered.outcomes))
    return reply


def turns(host: Host, orders: Iterable[Desired], seen: dict[str, Observed]) -> tuple[Turn, ...]:
    """Let each ordered agent take its turn, side by side."""
    return tuple(_side_by_side(lambda order: converge(host, order, seen[order.name]), list(orders)))


def refusals(result: Result, now: float) -> tuple[Outcome, ...]:
    """The refused orders of a cycle, as outcomes for the next report."""
    return tuple(Outcome(name, step="order", result=REFUSED, reason=why, at=int(now)) for name, why in result.refused)


def _report(host: Host, seen: Iterable[Observed], outcomes: list[Outcome]) -> Report:
    return Report(
        host.config.reported_hostname,
        [one.real_agent() for one in seen if one.current],
        updater_version=VERSION,
        outcomes=outcomes or msgspec.UNSET,
    )


def _orders(host: Host, reply: Reply) -> tuple[Desired, ...]:
    return tuple(order for order in reply.desired if host.config.desired_agent in ("", order.name))


def _look_at(host: Host, name: str) -> Observed:
    try:
        return observe(host.layout, name, host.config.timeouts.status)
    except UpdaterError as e:
        log.error("%s: %s", name, e)
        return Observed(name, foreign=str(e), at=int(host.now()))


def _side_by_side(do: Callable[[T], R], items: list[T]) -> list[R]:
    if len(items) <= 1:
        return [do(item) for item in items]
    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
        return list(pool.map(do, items))
