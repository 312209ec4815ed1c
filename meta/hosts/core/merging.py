"""Merges hosts from the database into memory, so that metas that hear of the same hosts come to the same result.

If two metas heard of a host, the later report counts, and the outcomes of both are joined. If the result differs from the
row in the database, the host is written again. Times of other metas that are later than our clock count as now.
"""

import logging
from collections.abc import Container, Iterable
from typing import Any

import msgspec

from meta.hosts.agent_sets import AgentSet, Stamp
from meta.hosts.core.indexes import Indexes
from meta.hosts.last_seen import Tick
from meta.hosts.model import Host, Saved
from meta.hosts.outcomes import read_outcomes, verdicts_of, write_outcomes
from updater.wire.decode_problems import in_words
from updater.wire.limits import MAX_HOSTNAME
from updater.wire.text import one_line

SHARE = 1.0  # seconds; hosts that another meta heard of within these share a tick
Content = tuple[AgentSet, float | tuple[float, ...], Stamp]  # the agents, since when they are so, when observed
_stamps = msgspec.json.Decoder(tuple[float | tuple[float, ...], Stamp])
_encode = msgspec.json.Encoder().encode
log = logging.getLogger(__name__)


class RemoteTicks:
    """Ticks for hosts that another meta heard of. `close` adds them to the index."""

    def __init__(self, index: Indexes, now: float):
        self._index = index
        self._now = now
        self._ticks: dict[int, Tick] = {}

    def hear(self, host: Host, at: float) -> None:
        """Note that another meta heard of the host at this time, which is not earlier than `last_seen`."""
        host.last_seen = min(at, self._now)
        if not host.retired_at:
            number = int(host.last_seen // SHARE)
            tick = self._ticks.get(number)
            if tick is None:
                tick = self._ticks[number] = Tick(min(self._now, (number + 1) * SHARE))
            self._index.seen.hear(host, tick)

    def close(self) -> None:
        """Add the ticks to the index; no more hosts may follow."""
        for tick in self._ticks.values():
            self._index.seen.add(tick, self._now)
        self._ticks.clear()


def saved_of(index: Indexes, host: Host) -> Saved:
    """Return the host as the database is to store it."""
    stamps: Any = (host.since, host.looked)
    unretired = index.unretired.get(host, 0.0) if index.unretired else 0.0
    return Saved(
        id=host.id,
        name=host.name,
        first_seen=host.first_seen,
        last_seen=host.last_seen,
        address=host.address,
        updater_version=host.updater.version,
        agents=host.group.agent_set.text,
        stamps=_encode(stamps).decode(),
        outcomes=host.told,
        retired_at=host.retired_at,
        unretired_at=unretired if unretired > host.last_seen and not host.retired_at else 0.0,
    )


def heard(ticks: Iterable[Tick], apart: Container[Host]) -> list[tuple[float, list[int]]]:
    """Return (when it began, ids of its hosts) for each tick, without the hosts in `apart`."""
    found = ((tick.began, [host.id for host in tick.hosts if host.id and host not in apart]) for tick in ticks)
    return [(began, ids) for began, ids in found if ids]


def load(index: Indexes, some: Iterable[Saved], now: float, ahead: float) -> None:
    """Enter hosts into a new table. The caller must call `loaded` at the end.

    A host may be dated later than now if a clock was set back since. It then counts as heard of now, and it is written again
    if its time is more than `ahead` seconds late.
    """
    for saved in some:
        if (host := _enter(index, saved, now)) and host.last_seen > now:
            if host.last_seen > now + ahead:
                index.dirty.add(host)
            host.last_seen = now


def loaded(index: Indexes, now: float) -> None:
    """Complete the indexes after all hosts of a new table were entered."""
    index.classes.began = now
    index.seen.load((host for host in index.hosts.values() if not host.retired_at), now)
    index.arrive_all()


def merge(index: Indexes, some: Iterable[Saved], now: float) -> None:
    """Merge what another meta wrote about these hosts."""
    ticks = RemoteTicks(index, now)
    for saved in some:
        if host := index.hosts.get(saved.name):
            _merge(index, host, saved, ticks, now)
        elif host := _enter(index, saved, now, is_loaded=False):
            index.arrive(host)
            ticks.hear(host, saved.last_seen)
    ticks.close()


def hear(index: Indexes, at: float, ids: Iterable[int], now: float) -> None:
    """Note that another meta heard of these hosts, and that nothing else of them changed.

    A host that is retired here is back then. That is written here, because the other meta may have ended by now.
    """
    ticks = RemoteTicks(index, now)
    for number in ids:
        host = index.by_id.get(number)
        if host and max(host.last_seen, host.retired_at) < at:
            if host.retired_at:
                index.unretire(host)
                index.dirty.add(host)
            ticks.hear(host, at)
    ticks.close()


def forget(index: Indexes, ids: Iterable[int], written: float) -> None:
    """Forget hosts that were deleted from the database. One that was heard of after `written` gets a row again."""
    for host in filter(None, map(index.by_id.get, ids)):
        if not host.retired_at and index.last_alive(host) < written:
            index.retire(host, written)
        if host.retired_at:
            index.forget(host)
        else:
            index.set_id(host, 0)
            index.dirty.add(host)


def keep_or_forget(index: Indexes, hosts: Iterable[Host], since: float) -> None:
    """Of these hosts, take those without a row: write those again that were heard of since `since`; forget the others."""
    for host in hosts:
        if host.id or index.hosts.get(host.name) is not host:
            continue
        if max(index.last_alive(host), host.retired_at) >= since:
            index.dirty.add(host)
            continue
        if not host.retired_at:
            index.retire(host, since)
        index.forget(host)


def _enter(index: Indexes, saved: Saved, now: float, is_loaded: bool = True) -> Host | None:
    """Add a new host, all but `arrive`. Returns None if its row cannot be read.

    is_loaded: it is from before the start. Another meta may have answered any other one by former records.
    """
    content = _read(index, saved, now)
    if content is None:
        return None
    agent_set, since, looked = content
    klass = index.classes.of(saved.name) if is_loaded else index.classes.of(saved.name).newcomers()
    klass = index.groups.retired_class if saved.retired_at else klass
    host = Host(
        saved.name,
        min(saved.first_seen, now),
        saved.last_seen,
        index.groups.of(agent_set, klass),
        saved.id,
        saved.address,
        index.whereabouts.updater(saved.updater_version),
        since,
        looked,
    )
    index.enter(host)
    index.by_id[saved.id] = host
    if saved.outcomes:
        index.tell(host, saved.outcomes)
    if saved.retired_at:
        host.retired_at = saved.retired_at
        index.retired[host] = None
    elif saved.unretired_at:
        index.unretired[host] = saved.unretired_at
    return host


def _read(index: Indexes, saved: Saved, now: float) -> Content | None:
    """Decode a row. The caller must put the agent set into a group at once. Times later than now count as now.

    Returns None, and logs why, if the row cannot be decoded.
    """
    try:
        since, looked = _stamps.decode(saved.stamps)
        since = tuple(min(one, now) for one in since) if isinstance(since, tuple) else min(since, now)
        verdicts = verdicts_of(read_outcomes(saved.outcomes)) if saved.outcomes else ()
        return index.groups.agent_sets.read(saved.agents, verdicts), since, looked
    except (msgspec.DecodeError, TypeError, ValueError) as e:
        why = in_words(e) if isinstance(e, msgspec.DecodeError) else "not of the form that is kept"
        log.warning("host %s in the database cannot be read: %s", one_line(saved.name, MAX_HOSTNAME), why)
        return None


def _merge(index: Indexes, host: Host, saved: Saved, ticks: RemoteTicks, now: float) -> None:
    index.set_id(host, saved.id)
    is_later = saved.last_seen >= host.last_seen
    if is_later and (content := _read(index, saved, now)):
        agent_set, host.since, host.looked = content
        index.move(host, agent_set)
        host.address = saved.address
        host.updater = index.whereabouts.updater(saved.updater_version, host.updater.mark)
    _join_outcomes(index, host, saved.outcomes)
    index.judge(host)
    _settle_retirement(index, host, saved)
    if is_later:
        ticks.hear(host, saved.last_seen)
    if _differs(saved_of(index, host), saved):
        index.dirty.add(host)
    elif is_later:
        index.dirty.discard(host)


def _join_outcomes(index: Indexes, host: Host, outcomes: str) -> None:
    """Keep the latest outcome of each agent, by the host's own clock. Both metas must come to the same text."""
    if host.told == outcomes or not outcomes:
        return
    ours, theirs = host.outcomes, read_outcomes(outcomes)
    both = sorted(
        [*ours.values(), *theirs.values()], key=lambda outcome: (outcome.at, msgspec.structs.astuple(outcome))
    )
    joined = {outcome.agent: outcome for outcome in both}
    if joined == theirs:
        index.tell(host, outcomes)
    elif joined != ours:
        index.tell(host, write_outcomes(joined, brief=False))


def _settle_retirement(index: Indexes, host: Host, saved: Saved) -> None:
    """Decide by what happened last: the host was retired, was heard of, or was taken back."""
    alive = max(index.last_alive(host), saved.last_seen, saved.unretired_at)
    if max(host.retired_at, saved.retired_at) < alive:
        if host.retired_at:
            index.unretire(host)
            index.seen.quiet(host)
        if saved.unretired_at:
            index.unretired[host] = max(saved.unretired_at, index.unretired.get(host, 0.0))
    elif not host.retired_at:
        index.retire(host, saved.retired_at)
    else:
        host.retired_at = max(host.retired_at, saved.retired_at)


def _differs(ours: Saved, theirs: Saved) -> bool:
    """Whether the row in the database differs from ours in anything but its times."""
    return ours._replace(first_seen=theirs.first_seen, last_seen=theirs.last_seen, stamps=theirs.stamps) != theirs
