"""How far an agent's change has come: which hosts have it for good, which are on trial, to do, failed, or left out.

A sum over groups. One by one are looked at: silent hosts; those of a selector that no record has; and hosts of the Go updater,
which does not tell that a version is in its watch: there it is good when the host has said `started` twice, an interval apart.
Hosts whose orders are still being worked out after an edit are to do.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from meta import failures
from meta.classes import NO_LOOK, Look, Verdict, drifts, failed
from meta.hosts import Host, HostTable
from meta.profiles import Group
from meta.query import Ages, counts, judge
from meta.records import Selector
from meta.views import Progress, Standing
from updater.wire import FAILED, START, Desired

GOOD, TRIAL, TODO, BROKEN, HELD = "good", "on trial", "to do", "failed", "held"
LATE, LOST = "late", "lost"
LEFT_OUT = (LATE, LOST, HELD)
NAMED = 10  # hosts of each kind that are named


class Asked(NamedTuple):
    """Of which agent, on which hosts (None: all), and whether late and lost ones count by what they last said."""

    agent: str
    selector: Selector | None = None
    include_lost: bool = False


class _Sums:
    """How many hosts are in which state, and the names of some."""

    def __init__(self) -> None:
        self.hosts: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.names: dict[str, list[str]] = {}

    def add(self, state: str, hosts: int, some: Iterable[Host], waits: str = "") -> None:
        """some: of these hosts as many as there are, or NAMED."""
        self.hosts[state] += hosts
        if waits and state == TODO:
            self.waits[waits] += hosts
        if state != GOOD:
            names = [*self.names.get(state, ()), *(host.name for host in some)]
            self.names[state] = sorted(names)[:NAMED]

    def named(self, *states: str) -> list[Standing]:
        return [Standing(name, state) for state in states for name in self.names.get(state, ())][:NAMED]


def progress(table: HostTable, asked: Asked, now: float, ages: Ages) -> Progress:
    """now: Unix seconds."""
    with table.locked():
        groups = list(table.groups.values())
        silent = [(host, host.group, judge(host, now, ages)) for host in table.seen.silent]
    away: dict[Group, dict[Host, str]] = {}
    for host, group, state in silent:
        if state in (LATE, LOST) and not asked.include_lost:
            away.setdefault(group, {})[host] = state
    is_chosen, sums = _choice(table, asked.selector), _Sums()
    for group in groups:
        order, state = _state(table, group, asked.agent)
        if state:
            look = _look(group, asked.agent)
            waits = look[5] if isinstance(look[5], str) else ""
            is_unsure = state == GOOD and not group.profile.tells_trial and order is not None and order.cmd == START
            if is_chosen or is_unsure:
                _add_each(sums, table, group, state, waits, away.get(group, {}), is_chosen, asked.agent, is_unsure)
            else:
                _add_all(sums, table, group, state, waits, away.get(group, {}))
    found = failures.failures(
        table, asked.agent, lambda host: host not in away.get(host.group, ()) and (not is_chosen or is_chosen(host))
    )
    return Progress(
        agent=asked.agent,
        todo=sums.hosts[TODO],
        trial=sums.hosts[TRIAL],
        good=sums.hosts[GOOD],
        failed=sums.hosts[BROKEN],
        late=sums.hosts[LATE],
        lost=sums.hosts[LOST],
        held=sums.hosts[HELD],
        waits=dict(sums.waits),
        last=sums.named(TODO, TRIAL),
        left_out=sums.named(*LEFT_OUT),
        failures=found.failures,
        failures_are_whole=found.is_whole,
    )


def stand(order: Desired, look: Look, verdict: Verdict | None) -> str:
    """The state of the hosts of a group. Pure. A download that failed is tried again by the host, so it is to do."""
    _, version, status, held, trial, _ = look
    if not drifts(order, version, status):
        return TRIAL if trial is True and order.cmd == START else GOOD
    if isinstance(held, str) and held:
        return HELD
    if verdict is None or not failed(order, version, status, verdict):
        return TODO
    return TODO if (verdict.step, verdict.result) == ("install", FAILED) else BROKEN


def trials(table: HostTable) -> Counter[tuple[str, str]]:
    """How many hosts have a version in its watch, by agent and version."""
    found: Counter[tuple[str, str]] = Counter()
    for one in counts(table):
        if one.trial:
            found[one.agent, one.version] += one.trial
    return found


def _look(group: Group, agent: str) -> Look:
    return next((look for look in group.profile.looks if look[0] == agent), NO_LOOK)


def _state(table: HostTable, group: Group, agent: str) -> tuple[Desired | None, str]:
    """The order of these hosts and how they stand to it; "" where they have none."""
    order = group.klass.orders.get(agent)
    if group.klass.book is not table.classes:  # by former records
        record = table.classes.records.record(agent)
        return order, TODO if record else ""
    return (order, stand(order, _look(group, agent), group.profile.verdict(agent))) if order else (None, "")


def _choice(table: HostTable, selector: Selector | None) -> Callable[[Host], bool] | None:
    labels = table.classes.records.labels
    return None if selector is None else lambda host: selector.matches(host.name, labels.get(host.name, {}))


def _add_all(sums: _Sums, table: HostTable, group: Group, state: str, waits: str, away: Mapping[Host, str]) -> None:
    with table.locked():
        hosts = len(group.hosts) - sum(host in group.hosts for host in away)
        some = [] if state == GOOD else list(islice((host for host in group.hosts if host not in away), NAMED))
    sums.add(state, hosts, some, waits)
    for its in (LATE, LOST):
        gone = [host for host, one in away.items() if one == its]
        sums.add(its, len(gone), gone)


def _add_each(
    sums: _Sums,
    table: HostTable,
    group: Group,
    state: str,
    waits: str,
    away: Mapping[Host, str],
    is_chosen: Callable[[Host], bool] | None,
    agent: str,
    is_unsure: bool,
) -> None:
    with table.locked():
        hosts = list(group.hosts)
    found: dict[str, list[Host]] = {}
    for host in hosts:
        if is_chosen is None or is_chosen(host):
            its = away.get(host) or (TRIAL if is_unsure and not _said_so_twice(host, agent) else state)
            found.setdefault(its, []).append(host)
    for its, some in found.items():
        sums.add(its, len(some), some, waits)


def _said_so_twice(host: Host, agent: str) -> bool:
    """Whether the host has reported again since it was first seen with this version and status."""
    return any(look[0] == agent and since < host.last_seen for look, since, _ in host.looks())
