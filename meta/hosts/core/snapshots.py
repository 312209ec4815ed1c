"""Snapshots of the table at one moment: copies and lists that do not change later."""

from collections.abc import Container, Iterable
from copy import copy
from operator import attrgetter

from meta.hosts.agent_sets import AgentSet
from meta.hosts.classes import Class
from meta.hosts.core.indexes import Indexes
from meta.hosts.model import Census, Host, Moment, Part, Roll, Silence, Snapshot

_group_of = attrgetter("group")


def parts(index: Indexes, retired_too: bool = False) -> list[Part]:
    """Return all groups, and how many hosts are in each."""
    groups = index.groups.all(retired_too)
    return [Part(group, group.klass, group.agent_set, len(group.hosts)) for group in groups]


def roll(index: Indexes, counted: Container[tuple[Class, AgentSet]], names: Iterable[str]) -> Roll:
    """Return all groups with their hosts. counted: the groups (class, agent set) for which the number of hosts is enough.

    names: of hosts that are returned one by one as well.
    """
    found = []
    for part in parts(index):
        listed = (part.klass, part.agent_set) not in counted
        found.append(part._replace(hosts=list(part.group.hosts)) if listed else part)
    named = [host for name in names if (host := index.hosts.get(name)) and not host.retired_at]
    return Roll(index.classes, found, [(host, host.group.klass) for host in named])


def moment(index: Indexes, now: float, whole: Roll) -> Moment:
    """Return this roll, which must be of now, with the silent and the doubled hosts."""
    silent = list(index.seen.silent)
    doubled = [(host, host.group) for host in index.whereabouts.doubled(now)]
    return Moment(whole, silent, list(map(_group_of, silent)), doubled, *index.seen.excuse(now))


def census(index: Indexes, since: float) -> Census:
    """Count hosts. Those first heard of after `since` (Unix seconds) are new."""
    return Census(len(index.hosts), index.arrivals.after(since), list(index.retired), list(index.seen.silent))


def silence(index: Indexes, now: float) -> Silence:
    """Return all silent hosts, except doubled ones."""
    doubled = set(index.whereabouts.doubled(now))
    return _silence(index, now, [host for host in index.seen.silent if host not in doubled])


def _silence(index: Indexes, now: float, hosts: list[Host]) -> Silence:
    excused, _ = index.seen.excuse(now)
    whole = [(host, host.group.klass, host.group.agent_set) for host in hosts]
    return Silence(index.classes, index.seen.horizon, excused, whole)


def snapshot(index: Indexes, host: Host, now: float) -> Snapshot:
    """Return a copy of one host, and what else is known of it."""
    addresses = index.whereabouts.addresses(host, now)
    is_silent, kept = host in index.seen.silent, copy(host)
    return Snapshot(kept, addresses, _silence(index, now, [kept] if is_silent and not addresses else []))
