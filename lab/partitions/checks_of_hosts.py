"""Promises about hosts: heartbeats, reports, and what people ordered of them. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from lab.partitions.history import IN_DOUBT, History
from lab.partitions.judging import AFTER, had_time, is_good, overlaps


def retirements(history: History) -> Iterator[str]:
    """What was ordered of a host stays so until it reports, or something else is ordered."""
    last_beat: dict[str, float] = defaultdict(float)
    for beat in history.beats:
        last_beat[beat.host] = max(last_beat[beat.host], beat.asked.end)
    by_host = defaultdict(list)
    for order in history.retirements:
        by_host[order.host].append(order)
    for host, orders in by_host.items():
        done = [one for one in orders if is_good(one.asked)]
        if not done or last_beat[host] >= done[-1].asked.begin:
            continue
        last = max(done, key=lambda one: one.asked.end)
        doubt = any(one.asked.status in IN_DOUBT and one.asked.end > last.asked.begin for one in orders)
        if doubt or overlaps(history.losses, last.asked.begin, last.asked.end):
            continue
        is_retired = history.end.kept_hosts.get(host, ("", False))[1]
        if is_retired != last.retired:
            verb = {True: "retired", False: "taken back"}
            yield f"host {host} was {verb[last.retired]} at meta {last.asked.meta}, and is {verb[is_retired]} in the end"


def beats(history: History) -> Iterator[str]:
    """No heartbeat is answered with a fault of the server's."""
    for status, count in Counter(one.asked.status for one in history.beats if one.asked.status >= 500).items():
        yield f"{count} heartbeats were answered {status}"


def reports(history: History) -> Iterator[str]:
    """The last report of a host is what is known of it, if its meta lived on until it was written."""
    by_host = defaultdict(list)
    for beat in history.beats:
        by_host[beat.host].append(beat)
    for host, its_beats in by_host.items():
        ordered = sorted(its_beats, key=lambda one: one.asked.begin)
        answered = [number for number, beat in enumerate(ordered) if is_good(beat.asked)]
        if not answered:
            continue
        last = ordered[answered[-1]]
        killed = any(
            meta == last.asked.meta and at > last.asked.begin and not had_time(history, meta, last.asked.end, at)
            for meta, at in history.kills
        )
        if killed or overlaps(history.losses, last.asked.begin, last.asked.end, AFTER):
            continue
        possible = {beat.version for beat in ordered[answered[-1] :]}
        found = history.end.kept_hosts.get(host, ("", False))[0]
        if found not in possible:
            yield f"host {host} reported {last.version} to meta {last.asked.meta}, and {found or 'nothing'} is kept"
