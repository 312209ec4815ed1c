"""What the table tells of its hosts at one moment: copies and lists that nothing changes any more."""

from collections.abc import Container, Iterable
from copy import copy
from operator import attrgetter

from meta.hosts.agent_sets import Profile
from meta.hosts.classes import Class
from meta.hosts.core.indexes import Indexes
from meta.hosts.model import Census, Host, Moment, Part, Roll, Silence, Snapshot

_group_of = attrgetter("group")


def parts(index: Indexes, retired_too: bool = False) -> list[Part]:
    """All groups, and how many hosts are in each."""
    groups = index.groups.all(retired_too)
    return [Part(group, group.klass, group.profile, len(group.hosts)) for group in groups]


def roll(index: Indexes, counted: Container[tuple[Class, Profile]], names: Iterable[str]) -> Roll:
    """counted: the groups of which the number of hosts is enough."""
    found = []
    for part in parts(index):
        listed = (part.klass, part.profile) not in counted
        found.append(part._replace(hosts=list(part.group.hosts)) if listed else part)
    named = [host for name in names if (host := index.hosts.get(name)) and not host.retired_at]
    return Roll(index.classes, found, [(host, host.group.klass) for host in named])


def moment(index: Indexes, now: float, whole: Roll) -> Moment:
    """With this roll, which is of now."""
    silent = list(index.seen.silent)
    doubled = [(host, host.group) for host in index.whereabouts.doubled(now)]
    return Moment(whole, silent, list(map(_group_of, silent)), doubled, *index.seen.excuse(now))


def census(index: Indexes, since: float) -> Census:
    """New are those that came after that."""
    return Census(len(index.hosts), index.arrivals.after(since), list(index.retired), list(index.seen.silent))


def silence(index: Indexes, now: float) -> Silence:
    """Of all hosts."""
    doubled = set(index.whereabouts.doubled(now))
    return _silence(index, now, [host for host in index.seen.silent if host not in doubled])


def _silence(index: Indexes, now: float, hosts: list[Host]) -> Silence:
    excused, _ = index.seen.excuse(now)
    whole = [(host, host.group.klass, host.group.profile) for host in hosts]
    return Silence(index.classes, index.seen.horizon, excused, whole)


def snapshot(index: Indexes, host: Host, now: float) -> Snapshot:
    """Of one host."""
    addresses = index.whereabouts.addresses(host, now)
    is_silent, kept = host in index.seen.silent, copy(host)
    return Snapshot(kept, addresses, _silence(index, now, [kept] if is_silent and not addresses else []))
