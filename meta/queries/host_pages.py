"""Questions about all hosts: pages of the hosts that fit a filter, counts and drift.

One page reads at most SCAN hosts. If few hosts fit, they are found through groups, silent hosts or labels. Otherwise all names
are walked, and a page may have fewer hosts than wanted, or none, and still name a next page.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate
from functools import cache, partial
from typing import NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from meta.choices import State
from meta.hosts.agent_sets import AgentSet
from meta.hosts.classes import Class, Classes, Rejection, Reported, Verdict, drifting, drifts
from meta.hosts.model import Host, Snapshot
from meta.hosts.standing import HEARTBEAT, failed, is_down_while_held, settled_since
from meta.hosts.table import HostTable
from meta.queries.failures import failed_orders, fell_silent_hosts, outcome_of, silent_of
from meta.queries.representations import AgentView, HostView, LabelView, Page
from meta.records.model import RecordSet
from meta.records.selectors import Label
from updater.wire.heartbeat import Desired, Outcome

SCAN = 50_000  # hosts that one page may read
VALUES = 50  # values of one label that are returned
FEW = 20_000  # with fewer hosts than this, they are collected and sorted instead of walking all names


class Ages(NamedTuple):
    """Times that decide the state of a host, in seconds."""

    new_for: float = 3600  # since its first report
    late_after: float = 900  # without a report
    lost_after: float = 3600  # without a report
    lag: float = 0.0  # for which another meta may have answered by former records after an edit


class HostFilter(NamedTuple):
    """Which hosts are wanted. "" and None fit every host."""

    state: str = ""  # "": all but retired hosts
    agent: str = ""
    version: str = ""
    status: str = ""
    label: str = ""  # `env=staging`, or `env` for any value
    name: str = ""  # a glob
    drift: bool | None = None  # whether `agent`, or without one any agent, differs from what is desired
    failed: bool = False  # only hosts on which the change of `agent`, or of any agent, failed
    doubled: bool = False  # only hosts under whose name two machines report
    parked: bool = False  # only hosts that an edit reaches at once


def judge(host: Host, now: float, ages: Ages) -> State:
    """Return the host's state. now: Unix seconds."""
    silence = now - host.last_seen
    if host.retired_at:
        return "retired"
    if silence > ages.lost_after:
        return "lost"
    if silence > ages.late_after:
        return "late"
    return "new" if now - host.first_seen < ages.new_for else "ok"


def view(found: Snapshot, now: float, ages: Ages) -> HostView:
    """Return one host as it is shown: first the agents that it reported, then those that are desired and not reported."""
    host, book = found.host, found.silence.book
    orders, outcomes, agents = book.of(host.name).orders, host.outcomes, []
    silent = {one.order.name: told for one in silent_of(found.silence, now) if (told := one.how(host, one.order))}
    there = {one[0].name: one for one in host.agents()}
    others = {name: (Reported(name), 0.0, 0) for name in orders if name not in there}
    for reported, since, looked in (there | others).values():
        order, verdict = orders.get(reported.name), host.group.agent_set.verdict(reported.name)
        is_down = order is not None and is_down_while_held(order, reported)
        outcome = outcome_of(host, order) if order and is_down else (outcomes | silent).get(reported.name)
        shown = _agent_view(reported, order, verdict, outcome, since, looked)
        if order and not shown.drift and _is_unsettled(host, order, book, ages):
            shown = replace(shown, waits=HEARTBEAT)
        agents.append(replace(shown, failed=True) if reported.name in silent else shown)
    return HostView(
        name=host.name,
        first_seen=host.first_seen,
        last_seen=host.last_seen,
        address=host.address,
        updater_version=host.updater.version,
        state=judge(host, now, ages),
        doubled=found.addresses,
        labels=dict(book.records.labels.get(host.name, {})),
        agents=agents,
    )


def _is_unsettled(host: Host, order: Desired, book: Classes, ages: Ages) -> bool:
    """Whether a host that looks as desired may be following a former order, as it has not reported since this one."""
    klass, tells_turns = host.group.klass, host.group.agent_set.tells_turns(order.name)
    return klass.book is book and host.last_seen < settled_since(order, tells_turns, klass, ages.late_after, ages.lag)


def _agent_view(
    reported: Reported,
    order: Desired | None,
    verdict: Verdict | None,
    outcome: Outcome | None,
    since: float,
    looked: int,
) -> AgentView:
    name, version, status, held, trial, waits, rejected = reported
    return AgentView(
        name=name,
        version=version,
        status=status,
        held=held if isinstance(held, str) else "",
        trial=None if trial is UNSET else bool(trial),
        waits=waits if isinstance(waits, str) else "",
        since=since,
        looked=looked,
        desired=order.version if order else "",
        desired_cmd=order.cmd if order else "",
        drift=drifts(order, version, status),
        failed=failed(order, reported, verdict),
        rejected=rejected.version if isinstance(rejected, Rejection) else "",
        outcome=outcome,
    )


def find(table: HostTable, name: str, now: float, ages: Ages, parked: Mapping[str, float] = {}) -> HostView | None:
    """Return one host as it is shown; None if the name is unknown. parked: see `page`."""
    found = table.snapshot(name, now)
    return replace(view(found, now, ages), parked=parked.get(name, 0.0)) if found else None


def page(
    table: HostTable,
    wanted: HostFilter,
    now: float,
    ages: Ages,
    cursor: str = "",
    limit: int = 100,
    parked: Mapping[str, float] = {},
) -> Page:
    """Return the next `limit` hosts by name that fit, after the name `cursor`. Retired hosts must be asked for.

    parked: the hosts that are parked here, and since when (Unix seconds).
    """
    silent = {one.host for one in fell_silent_hosts(table, now, wanted.agent)} if wanted.failed else set()
    names = sorted(parked) if wanted.parked else _few_names(table, wanted, now, silent)
    if names is None:
        names = table.names()
    start, end = bisect_right(names, cursor) if cursor else 0, len(names)
    literal = re.split(r"[*?\[]", wanted.name, maxsplit=1)[0]
    if literal:
        start, end = max(start, bisect_left(names, literal)), bisect_right(names, literal + "\U0010ffff")
    fits, is_named = _predicate(table, wanted, now, ages, silent), _glob(wanted.name)
    found: list[HostView] = []
    for name in names[start : min(end, start + SCAN)]:
        if is_named and not is_named(name):
            continue
        if (host := table.get(name)) and fits(host) and (shown := find(table, name, now, ages, parked)):
            found.append(shown)
            if len(found) == limit:
                return Page(found, name)
    return Page(found, names[start + SCAN - 1] if end > start + SCAN else "")


def _glob(pattern: str) -> Callable[[str], object] | None:
    return re.compile(translate(pattern)).match if pattern else None


def _few_names(table: HostTable, wanted: HostFilter, now: float, silent: set[Host]) -> list[str] | None:
    """Return the sorted names of all hosts that may fit, if they are few and quickly found; else None.

    silent: the hosts that count as failed because they fell silent.
    """
    labels = table.classes.records.labels
    few: Iterable[Host] | None = None
    if wanted.doubled:
        few = table.doubled(now)
    elif wanted.state == "retired" and len(retired := table.retired()) < FEW:
        few = retired
    elif wanted.state in ("late", "lost") and len(quiet := table.silent()) < FEW:
        few = quiet
    elif wanted.label and len(labels) < FEW:
        few = [host for name in labels if (host := table.get(name))]
    if few is None and (wanted.agent or wanted.version or wanted.status or wanted.failed or wanted.drift is not None):
        parts = table.parts(retired_too=wanted.state == "retired")
        fitting = [part for part in parts if _group_fits(part.klass, part.agent_set, wanted)]
        if sum(part.number for part in fitting) + len(silent) < FEW:
            few = silent.union(table.members([part.group for part in fitting]))
    return None if few is None else sorted(host.name for host in few)


def _predicate(
    table: HostTable, wanted: HostFilter, now: float, ages: Ages, silent: set[Host]
) -> Callable[[Host], bool]:
    """Return a function that tests a host for everything but its name."""
    labels = table.classes.records.labels
    label = Label(wanted.label) if wanted.label else None
    group_fits = cache(partial(_group_fits, wanted=wanted))
    doubled = set(table.doubled(now)) if wanted.doubled else set()

    def fits(host: Host) -> bool:
        group = host.group
        if not group_fits(group.klass, group.agent_set, is_silent=host in silent) or (
            label and not label.matches(host.name, labels.get(host.name, {}))
        ):
            return False
        if wanted.doubled and host not in doubled:
            return False
        state = judge(host, now, ages)
        return state == wanted.state if wanted.state else state != "retired"

    return fits


def _group_fits(klass: Class, agent_set: AgentSet, wanted: HostFilter, is_silent: bool = False) -> bool:
    all_reported = agent_set.agents
    if wanted.agent or wanted.version or wanted.status:
        all_reported = tuple(
            reported
            for reported in all_reported
            if (not wanted.agent or reported.name == wanted.agent)
            and (not wanted.version or reported.version == wanted.version)
            and (not wanted.status or reported.status == wanted.status)
        )
        missing = wanted.agent in klass.orders and not (wanted.version or wanted.status)
        if not all_reported and not (missing and (wanted.drift or wanted.failed)):
            return False
    failing = failed_orders(klass, agent_set) if wanted.failed and not is_silent else ()
    if wanted.failed and not is_silent and not any(not wanted.agent or o.name == wanted.agent for o in failing):
        return False
    if wanted.drift is None:
        return True
    late = any(not wanted.agent or o.name == wanted.agent for o in drifting(klass.orders, agent_set.agents))
    return late == wanted.drift


def labels(records: RecordSet) -> list[LabelView]:
    """Return the labels of hosts, by key."""
    found: dict[str, Counter[str]] = {}
    for of_host in records.labels.values():
        for key, value in of_host.items():
            found.setdefault(key, Counter())[value] += 1
    return [
        LabelView(key, values.total(), [value for value, _ in values.most_common(VALUES)], len(values) > VALUES)
        for key, values in sorted(found.items())
    ]
