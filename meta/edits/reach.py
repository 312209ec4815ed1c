"""The effect of an edit on the known hosts: how many get other orders, which versions are new to some, and which classes there
would be. Also finds hosts that cannot take their current orders."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from meta.hosts.classes import Class, Classes, Step
from meta.hosts.table import HostTable
from meta.records.model import RecordSet
from meta.records.selectors import Selector
from updater.wire.heartbeat import Desired, render_reply
from updater.wire.limits import agents_problem, reply_problem
from updater.wire.names import STOP


class Reached(NamedTuple):
    """The effect of an edit."""

    affected: dict[str, int]  # agent -> how many hosts would get another order for it
    brought: frozenset[tuple[str, str]]  # (agent, version) that are new to some hosts


def affected(table: HostTable, after: RecordSet) -> dict[str, int]:
    """agent -> how many hosts would get another order for it."""
    return reached(table, after).affected


def reached(table: HostTable, after: RecordSet) -> Reached:
    """The effect of replacing the records in force by these."""
    found: Counter[str] = Counter()
    brought: set[tuple[str, str]] = set()
    for (here, there), hosts in _moves(table, Step(table.classes, Classes(after))).items():
        for name in here.orders.keys() | there.orders.keys():
            before, then = here.orders.get(name), there.orders.get(name)
            if before == then:
                continue
            found[name] += hosts
            if hosts and then and _to_run(then) not in ("", _to_run(before)):
                brought.add((name, then.version))
    return Reached({name: hosts for name, hosts in found.items() if hosts}, frozenset(brought))


def _to_run(order: Desired | None) -> str:
    return order.version if order and order.cmd != STOP else ""


def classes_under(table: HostTable, records: RecordSet) -> Counter[frozenset[Selector]]:
    """How many hosts each combination of selectors would match under these records."""
    found: Counter[frozenset[Selector]] = Counter()
    for (_, there), hosts in _moves(table, Step(table.classes, Classes(records))).items():
        if hosts:
            found[there.matched] += hosts
    return found


def classes_of(hostnames: Iterable[str], records: RecordSet) -> Counter[frozenset[Selector]]:
    """How many of these hosts each combination of selectors matches under these records."""
    classes = Classes(records)
    return Counter(classes.of(name).matched for name in hostnames)


def overloaded(table: HostTable) -> list[str]:
    """Why hosts cannot take the orders in force, which may be due to an older meta or to new hosts; [] if they can."""
    classes = {part.klass for part in table.parts()}
    sizes = {one: (len(one.desired), len(render_reply(one.desired))) for one in classes}
    agents = agents_problem(max((agents for agents, _ in sizes.values()), default=0))
    size = reply_problem(max((size for _, size in sizes.values()), default=0))
    return [f"hosts cannot take their orders: {text}" for text in (agents, size) if text]


def _moves(table: HostTable, step: Step) -> Counter[tuple[Class, Class]]:
    """How many hosts would move from which class to which."""
    found: Counter[tuple[Class, Class]] = Counter()
    counted = {(part.klass, part.agent_set) for part in table.parts() if step.whole(part.klass)}
    roll = table.roll(counted, step.relabelled)
    for host, here in roll.named:
        if there := step.whole(here):
            found[here, there] -= 1
            found[here, step.of(here, host.name)] += 1
    for _, here, _, number, hosts in roll.parts:
        if there := step.whole(here):
            found[here, there] += number
            continue
        names = [host.name for host in hosts or ()]
        if here.book is step.before:
            found.update({(here, there): number for there, number in step.tally(here, names).items()})
        else:  # these hosts have not been regrouped by the records in force yet
            found.update((step.before.of(name), step.after.of(name)) for name in names)
    return found
