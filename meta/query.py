"""Questions about all hosts: one page of those that fit, counts, drift, and how many an edit would touch.

A page never looks at more than SCAN hosts: where few fit, they are found through their groups, the silent or the labels, and
else by walking the names, page by page (a page may then hold fewer hosts than asked for, or none, and still name a next one).
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from fnmatch import translate
from typing import NamedTuple

import msgspec

from meta.classes import Class, Classes, drifting, drifts
from meta.hosts import Group, Host, HostTable
from meta.records import Label, RecordSet, Selector, resolve_matched
from meta.views import AgentView, Count, Drift, HostView, Page
from updater.wire import START, Desired

SCAN = 50_000  # hosts that one page may look at
FEW = 20_000  # hosts that are gathered and sorted instead
STATES = ("new", "ok", "late", "lost", "retired")


class Ages(NamedTuple):
    """Seconds. A host is new after its first beat, late and lost without one."""

    new_for: float = 3600
    late_after: float = 900
    lost_after: float = 3600


class HostFilter(NamedTuple):
    """What a host must be; "" and None: whatever. name: a glob; label: `env=staging` or `env`; drift: of the agent, if one is
    given, else of any."""

    state: str = ""
    agent: str = ""
    version: str = ""
    status: str = ""
    label: str = ""
    name: str = ""
    drift: bool | None = None


def judge(host: Host, now: float, ages: Ages) -> str:
    """The host's state."""
    silence = now - host.last_seen
    if host.retired_at:
        return "retired"
    if silence > ages.lost_after:
        return "lost"
    if silence > ages.late_after:
        return "late"
    return "new" if now - host.first_seen < ages.new_for else "ok"


def view(table: HostTable, host: Host, now: float, ages: Ages) -> HostView:
    """One host as it is shown: what it reported, then what it shall have and did not report."""
    orders = dict(table.classes.of(host.name).orders)
    agents = []
    for (name, version, status, held), since, looked in host.looks():
        order = orders.pop(name, None)
        agents.append(
            AgentView(
                name=name,
                version=version,
                status=status,
                held=held if isinstance(held, str) else "",
                since=since,
                looked=looked,
                desired=order.version if order else "",
                desired_cmd=order.cmd if order else "",
                drift=drifts(order, version, status),
                outcome=host.outcomes.get(name),
            )
        )
    for order in orders.values():
        missing = AgentView(order.name, desired=order.version, desired_cmd=order.cmd, drift=drifts(order, "", ""))
        agents.append(msgspec.structs.replace(missing, outcome=host.outcomes.get(order.name)))
    return HostView(
        name=host.name,
        first_seen=host.first_seen,
        last_seen=host.last_seen,
        address=host.address,
        updater_version=host.updater_version,
        state=judge(host, now, ages),
        labels=dict(table.classes.records.labels.get(host.name, {})),
        agents=agents,
    )


def find(table: HostTable, name: str, now: float, ages: Ages) -> HostView | None:
    """One host by its name."""
    with table.locked() as hosts:
        host = hosts.get(name)
        return view(table, host, now, ages) if host else None


def page(table: HostTable, wanted: HostFilter, now: float, ages: Ages, cursor: str = "", limit: int = 100) -> Page:
    """Hosts by name, from after `cursor` on; retired ones only where they are asked for."""
    names = _few_names(table, wanted)
    if names is None:
        names = table.names()
    start, end = bisect_right(names, cursor) if cursor else 0, len(names)
    literal = re.split(r"[*?\[]", wanted.name, maxsplit=1)[0]
    if literal:
        start, end = max(start, bisect_left(names, literal)), bisect_right(names, literal + "\U0010ffff")
    fits = _predicate(table, wanted, now, ages)
    found: list[HostView] = []
    for position in range(start, min(end, start + SCAN)):
        if len(found) == limit:
            return Page(found, found[-1].name)
        with table.locked() as hosts:
            host = hosts.get(names[position])
            if host and fits(host):
                found.append(view(table, host, now, ages))
    return Page(found, names[start + SCAN - 1] if end > start + SCAN else "")


def _few_names(table: HostTable, wanted: HostFilter) -> list[str] | None:
    """The sorted names of hosts that may fit, where they are few and there is a short way to them."""
    with table.locked() as hosts:
        if wanted.state == "retired":
            return sorted(host.name for host in table.retired)
        if wanted.state in ("late", "lost") and len(table.seen.silent) < FEW:
            return sorted(host.name for host in table.seen.silent)
        labels = table.classes.records.labels
        if wanted.label and len(labels) < FEW:
            return sorted(name for name in labels if name in hosts)
        if wanted.agent or wanted.version or wanted.status or wanted.drift is not None:
            fitting = [group for group in table.groups.values() if _group_fits(group, wanted)]
            if sum(len(group.hosts) for group in fitting) < FEW:
                return sorted(host.name for group in fitting for host in group.hosts)
    return None


def _predicate(table: HostTable, wanted: HostFilter, now: float, ages: Ages) -> Callable[[Host], bool]:
    labels = table.classes.records.labels
    known: dict[Group, bool] = {}
    name = re.compile(translate(wanted.name)).match if wanted.name else None
    label = Label(wanted.label) if wanted.label else None

    def fits(host: Host) -> bool:
        fitting = known.get(host.group)
        if fitting is None:
            fitting = known[host.group] = _group_fits(host.group, wanted)
        if not fitting or (name and not name(host.name)):
            return False
        if label and not label.matches(host.name, labels.get(host.name, {})):
            return False
        state = judge(host, now, ages)
        return state == wanted.state if wanted.state else state != "retired"

    return fits


def _group_fits(group: Group, wanted: HostFilter) -> bool:
    looks = group.profile.looks
    if wanted.agent or wanted.version or wanted.status:
        looks = tuple(
            look
            for look in looks
            if (not wanted.agent or look[0] == wanted.agent)
            and (not wanted.version or look[1] == wanted.version)
            and (not wanted.status or look[2] == wanted.status)
        )
        missing = wanted.agent in group.klass.orders and not (wanted.version or wanted.status)
        if not looks and not (missing and wanted.drift):
            return False
    if wanted.drift is None:
        return True
    late = drifting(group.klass.orders, group.profile.looks)
    return any(not wanted.agent or order.name == wanted.agent for order in late) == wanted.drift


def counts(table: HostTable, agent: str = "") -> list[Count]:
    """How many hosts have which version of which agent in which status, without the retired ones."""
    found: Counter[tuple[str, str, str]] = Counter()
    for group in _groups(table):
        for name, version, status, _ in group.profile.looks:
            if not agent or name == agent:
                found[name, version, status] += len(group.hosts)
    return [Count(*key, hosts) for key, hosts in sorted(found.items())]


def drift(table: HostTable, agent: str = "") -> list[Drift]:
    """How many hosts are not as desired, by agent and desired version."""
    found: Counter[tuple[str, str]] = Counter()
    for group in _groups(table):
        for order in drifting(group.klass.orders, group.profile.looks):
            if not agent or order.name == agent:
                found[order.name, order.version if order.cmd == START else "stop"] += len(group.hosts)
    return [Drift(*key, hosts) for key, hosts in sorted(found.items())]


def _groups(table: HostTable) -> list[Group]:
    with table.locked():
        return list(table.groups.values())


def states(table: HostTable, now: float, ages: Ages) -> dict[str, int]:
    """How many hosts are in each state."""
    with table.locked() as hosts:
        total, retired, silent = len(hosts), len(table.retired), list(table.seen.silent)
        newcomers = table.newcomers(now - ages.new_for)
    lost = sum(now - host.last_seen > ages.lost_after for host in silent)
    late = sum(now - host.last_seen > ages.late_after for host in silent) - lost
    new = sum(judge(host, now, ages) == "new" for host in newcomers)
    return {"new": new, "ok": total - retired - late - lost - new, "late": late, "lost": lost, "retired": retired}


def affected(table: HostTable, after: RecordSet) -> dict[str, int]:
    """agent -> how many hosts would be told something else about it."""
    found: Counter[str] = Counter()
    for before, matched, hosts in _moves(table, after):
        orders = {d.name: d for d in resolve_matched(after, matched)}
        for name in orders.keys() | before.keys():
            if orders.get(name) != before.get(name):
                found[name] += hosts
    return dict(found)


def _moves(table: HostTable, after: RecordSet) -> Iterator[tuple[dict[str, Desired], frozenset[Selector], int]]:
    """Hosts that change alike: their orders now, the selectors that would match them, and how many they are."""
    there = Classes(after)
    if there.matches_as(table.classes):
        for group in _groups(table):
            yield group.klass.orders, group.klass.matched, len(group.hosts)
        return
    found: Counter[tuple[Class, Class]] = Counter()
    for group in _groups(table):
        with table.locked():
            names = [host.name for host in group.hosts]
        for name in names:
            found[group.klass, there.of(name)] += 1
    for (here, then), hosts in found.items():
        yield here.orders, then.matched, hosts
