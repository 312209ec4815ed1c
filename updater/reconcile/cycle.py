"""One cycle of a host: observe, report, take the reply's orders, then plan and perform them for each agent.

Without a usable reply nothing is changed. Agents take their turns in parallel, so one that hangs does not delay the others.
`updater once` waits for the end of all turns; the daemon makes the same steps, but does not wait.
"""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from updater import durable_files, places
from updater.errors import TryLater, UpdaterError
from updater.host import host_name
from updater.host.context import Host
from updater.host.observe import agent_names
from updater.kernel import clocks
from updater.meta_client import heartbeats, reporting
from updater.meta_client.notify import Asking
from updater.model.actions import Plan, Source, Step
from updater.model.observed import Observed, State
from updater.reconcile import left_behind
from updater.reconcile.agent_turn import Turn
from updater.reconcile.checked_status import look_at
from updater.reconcile.plan import plan
from updater.reconcile.workers import AT_ONCE, Workers
from updater.wire.heartbeat import REFUSED, Desired, Outcome
from updater.wire.reply import RefusedOrder, Reply

log = logging.getLogger("updater")

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Beat:
    """One report and its reply."""

    observed: dict[str, Observed]  # by agent
    orders: tuple[Desired, ...] = ()  # the valid ones
    refused: tuple[RefusedOrder, ...] = ()  # the invalid ones
    look: bool = False  # for a preview: whether meta did not count it as a heartbeat
    parks: Asking | None = None  # how to park until the next one, None for a preview

    def refusals(self, now: float) -> tuple[Outcome, ...]:
        """The refused orders as outcomes for the next report. now: Unix seconds."""
        current = {name: self.observed[name].current for name, _, _ in self.refused if name in self.observed}
        return tuple(
            Outcome(name, current.get(name, ""), version, step="order", result=REFUSED, reason=why, at=int(now))
            for name, why, version in self.refused
        )


@dataclass(frozen=True, slots=True)
class Result(Beat):
    """The result of a whole cycle."""

    turns: tuple[Turn, ...] = ()  # one for each order

    @property
    def matches(self) -> bool:
        """Whether the host is as desired."""
        return not self.refused and not any(turn.waits for turn in self.turns)


def run(host: Host) -> Result:
    """Run one cycle to its end. If it changes the host, a second report is sent at once.

    Raises TryLater or Refused if meta gives no usable answer; then nothing was changed.
    """
    workers = Workers(host)
    heard = begin(host, workers)
    turns = workers.finish()
    news = tell_news(host, turns, heard.refusals(host.now()))
    return Result(heard.observed if news is None else news, heard.orders, heard.refused, turns=tuple(turns))


def begin(host: Host, workers: Workers, refused_before: tuple[Outcome, ...] = ()) -> Beat:
    """Begin a cycle: send a heartbeat and start a turn for each order. Arguments and errors are those of `beat`."""
    heard = beat(host, refused_before)
    workers.start(heard.orders, heard.observed, Source.ANSWER)
    return heard


def tell_news(host: Host, ended: list[Turn], refused: tuple[Outcome, ...]) -> dict[str, Observed] | None:
    """Report at once if one of these turns has news; returns what was observed for that, or None without news."""
    return tell(host, refused) if any(turn.is_news for turn in ended) else None


def beat(host: Host, refused_before: tuple[Outcome, ...] = ()) -> Beat:
    """Observe, report and take the orders. refused_before: outcomes of the previous reply's refused orders.

    Raises TryLater or Refused if meta gives no usable answer, and what `host_name.reported` raises.
    """
    host_name.note(host)
    name, server = host_name.reported(host), host.config.base_url
    observed = look(host, agent_names(host.layout))
    reply = reporting.send(host, name, observed.values(), refused_before)
    for agent, why, _ in reply.refused:
        log.error("%s: refused: %s", agent, why)
    orders = _orders(host, reply)
    host.take(orders, name)
    observed |= look_at_new(host, orders, observed)
    host.forget_waits({order.name for order in orders})
    for name in observed.keys() - {order.name for order in orders}:
        _see_through(host, observed[name])
    try:
        _remove_old_downloads(host, orders, observed)
    except TryLater as e:
        log.warning("old downloads cannot be removed now: %s", e)
    parks = Asking(server, name, reply.known, reply.notify)
    return Beat(observed, orders, reply.refused, parks=parks)


def _see_through(host: Host, unordered: Observed) -> None:
    """Let the watch end well of an agent that has no order any more, and so takes no turns; nothing else is done to it."""
    if unordered.trouble or unordered.changing or unordered.state is not State.STARTED:
        return
    try:
        memory = host.memories.of(unordered.name)
        if memory.is_on_trial or memory.dying:
            moment = host.moment(unordered)
            host.memories.note(unordered.name, lambda memory: memory.seen_started(unordered, moment))
    except TryLater as e:
        log.error("%s: %s", unordered.name, e)


def tell(host: Host, refused: tuple[Outcome, ...] = ()) -> dict[str, Observed]:
    """Observe, report and take the orders without a turn for them; returns what was observed. A failure is logged.

    Meta takes the report as one by which this host has heard of its orders.
    """
    observed: dict[str, Observed] = {}
    try:
        observed, name = look(host, agent_names(host.layout)), host_name.reported(host)
        host.take(_orders(host, reporting.send(host, name, observed.values(), refused)), name)
    except UpdaterError as e:
        log.warning("the changes will be in the next report: %s", e)
    return observed


def preview(host: Host) -> tuple[Beat, list[Plan]]:
    """What a cycle would do now: the reply, and the plan for each order. Changes nothing on the host.

    A meta that supports the key `look` does not count it as a heartbeat. Raises as `beat` does.
    """
    name = host_name.reported(host)
    observed = look(host, agent_names(host.layout))
    report = reporting.rendered(host, name, reporting.agents_of(host, observed.values()), [])
    reply = heartbeats.heartbeat(host, msgspec.structs.replace(report, look=True))
    orders = _orders(host, reply)
    observed |= look_at_new(host, orders, observed)
    return Beat(observed, orders, reply.refused, reply.look), [_planned(host, o, observed[o.name]) for o in orders]


def _planned(host: Host, order: Desired, observed: Observed, source: Source = Source.ANSWER) -> Plan:
    try:
        memory = host.memories.of(order.name)
    except TryLater as e:
        return Plan(waits=str(e))
    keep, moment = host.config.keep_versions, host.moment(observed)
    return plan(observed, host.config.completed(order), memory, moment, keep, source)


def look(host: Host, names: Iterable[str]) -> dict[str, Observed]:
    """Observe these agents in parallel. An error with one is in its `trouble`."""
    names = list(names)
    return dict(zip(names, _side_by_side(lambda name: _look_at(host, name), names), strict=True))


def look_at_new(host: Host, orders: tuple[Desired, ...], observed: dict[str, Observed]) -> dict[str, Observed]:
    """Observe those agents with an order that were not observed yet, such as ones that are not on the host."""
    return look(host, [order.name for order in orders if order.name not in observed])


def _look_at(host: Host, name: str) -> Observed:
    is_changing, turn = (
        name in host.changing,
        host.turns.get(name),
    )  # a turn that ends during the look may have begun before it
    try:
        is_changing |= left_behind.is_being_stopped(host, name)
        observed = look_at(host, name)
        return replace(observed, changing=is_changing or (turn is not None and _will_change(host, *turn, observed)))
    except UpdaterError as e:
        log.error("%s: %s", name, e)
        return Observed(name, trouble=str(e), at=host.now(), ran=clocks.ran())
    except Exception as e:  # not foreseen where it was raised; the other agents must go on
        log.exception("%s: a defect of the updater stopped this look", name)
        return Observed(name, trouble=f"cannot be looked at: {e}", at=host.now(), ran=clocks.ran())


def _will_change(host: Host, order: Desired, source: Source, observed: Observed) -> bool:
    """Whether a turn that follows this order will change the agent, though it may still wait for its slot."""
    todo = _planned(host, order, observed, source)
    return host.is_in_force(order) and any(action.step is not Step.PRUNE for action in todo.actions)


def _orders(host: Host, reply: Reply) -> tuple[Desired, ...]:
    return tuple(order for order in reply.desired if host.config.desired_agent in ("", order.name))


def _remove_old_downloads(host: Host, orders: tuple[Desired, ...], observed: dict[str, Observed]) -> None:
    """Remove all downloads except those of ordered versions that are not installed yet, which can be resumed.

    Files outside of an agent's directory are from older versions of the updater. Raises TryLater if they cannot be listed.
    """
    wanted = {order.name: order.file_name for order in orders if order.version not in observed[order.name].installs}
    for agent in durable_files.names_in(host.layout.downloads):
        try:
            _remove_downloads_of(host, agent, wanted.get(agent))
        except TryLater as e:
            log.warning("%s: old downloads cannot be removed now: %s", agent, e)


def _remove_downloads_of(host: Host, agent: str, wanted: str | None) -> None:
    """wanted: the file name of the tarball whose download is kept; None for none. Raises TryLater."""
    directory = host.layout.downloads_of(agent)
    if wanted is None or places.is_link(directory) or not places.is_directory(directory):
        durable_files.remove_tree(directory)
        return
    part = host.layout.download(agent, wanted).name
    for name in durable_files.names_in(directory):
        if not name.startswith(part):
            durable_files.remove_tree(directory / name)


def _side_by_side(do: Callable[[T], R], items: list[T]) -> list[R]:
    if len(items) <= 1:
        return [do(item) for item in items]
    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
        return list(pool.map(do, items))
