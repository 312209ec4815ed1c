"""How many hosts: by what they run, not as desired, and in each state. Retired ones are left out."""

from collections import Counter

from meta.hosts.classes import drifting
from meta.hosts.standing import on_trial
from meta.hosts.table import HostTable
from meta.queries.choice import Choice
from meta.queries.failures import failed_orders, fell_silent_hosts
from meta.queries.host_pages import Ages
from meta.queries.representations import Count, Drift
from meta.records.selectors import Selector
from updater.wire.names import START


def counts(table: HostTable, now: float, agent: str = "", selector: Selector | None = None) -> list[Count]:
    """Count the hosts by agent, version and status, without retired ones. now: Unix seconds; selector: None for all hosts."""
    choice = Choice(table.classes, selector)
    found: Counter[tuple[str, str, str]] = Counter()
    trials: Counter[tuple[str, str, str]] = Counter()
    failures: Counter[tuple[str, str, str]] = Counter()
    for part in table.parts():
        klass, agent_set, number = part.klass, part.agent_set, choice.number(table, part)
        if not number:
            continue
        failed = {order.name for order in failed_orders(klass, agent_set)}
        for reported in agent_set.agents:
            name, version, status, *_ = reported
            if not agent or name == agent:
                found[name, version, status] += number
                is_on_trial = on_trial(klass.orders.get(name), reported, agent_set.verdict(name))
                trials[name, version, status] += number if is_on_trial else 0
                failures[name, version, status] += number if name in failed else 0
    for one in fell_silent_hosts(table, now, agent):
        if (key := one.agent_set.reported(one.order.name).seen) in found and choice.has(one.host):
            trials[key] -= one.was_on_trial
            failures[key] += 1
    return [Count(*key, hosts, trials[key], failures[key]) for key, hosts in sorted(found.items())]


def trials(table: HostTable, now: float) -> Counter[tuple[str, str]]:
    """Count the hosts on which a version is on trial, by agent and version."""
    found: Counter[tuple[str, str]] = Counter()
    for one in counts(table, now):
        if one.trial:
            found[one.agent, one.version] += one.trial
    return found


def drift(table: HostTable, agent: str = "") -> list[Drift]:
    """Count the hosts that are not as desired, by agent and desired version."""
    found: Counter[tuple[str, str]] = Counter()
    for _, klass, agent_set, number, _ in table.parts():
        for order in drifting(klass.orders, agent_set.agents):
            if not agent or order.name == agent:
                found[order.name, order.version if order.cmd == START else "stop"] += number
    return [Drift(*key, hosts) for key, hosts in sorted(found.items())]


def states(table: HostTable, now: float, ages: Ages) -> dict[str, int]:
    """Count the hosts in each state: new, ok, late, lost, retired."""
    newest = now - ages.new_for
    total, new, retired, silent = table.census(newest)
    late = lost = 0
    for host in silent:
        silence = now - host.last_seen
        if silence > ages.lost_after:
            lost += 1
        elif silence > ages.late_after:
            late += 1
        else:
            continue
        new -= host.first_seen > newest
    new -= sum(host.first_seen > newest for host in retired)
    ok = total - len(retired) - late - lost - new
    return {"new": new, "ok": ok, "late": late, "lost": lost, "retired": len(retired)}
