"""A history -> what in it breaks a promise, each as one line. Pure.

What was committed within a Loss may be gone; until AFTER seconds later a meta may not have noticed it yet, so what memory shows
is not judged then. What metas know of each other is judged where nothing was broken for CALM seconds.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

from lab.partitions.history import (
    CONFLICT,
    CREATED,
    IN_DOUBT,
    OK,
    Asked,
    Edit,
    History,
    Loss,
    Probe,
    Read,
    Revision,
    TokenOrder,
)

AFTER = 30.0  # seconds after a loss: a silent server is given up after 15, and tried again after 5
CALM = 25.0
STALE = 4.0  # seconds; it is 0.4 on a machine that is not busy
SETTLED = 60.0  # seconds after the last fault until all metas are equal


def violations(history: History) -> list[str]:
    """All of them; none where every promise was kept."""
    checks = (
        *(kept, in_order, conditions, unchanged, in_force, monotonic, same_content, stale),
        *(tokens, retirements, beats, reports, equal_at_the_end),
    )
    return [f"{check.__name__}: {line}" for check in checks for line in check(history)]


def is_good(asked: Asked) -> bool:
    return asked.status in (OK, CREATED)


def overlaps(losses: Iterable[Loss], begin: float, end: float, after: float = 0.0) -> bool:
    return any(loss.begin <= end and begin <= loss.end + after for loss in losses)


def made(history: History) -> list[Edit]:
    """The edits of which a good answer says that they made a revision, and that no failover may have lost."""
    good = [one for one in history.edits if is_good(one.asked) and one.changed]
    return [one for one in good if not overlaps(history.losses, one.asked.begin, one.asked.end)]


class _Highest:
    """The highest revision that had been acknowledged at some moment."""

    def __init__(self, edits: Iterable[Edit] = ()):
        by_end = sorted(edits, key=lambda edit: edit.asked.end)
        self._ends = [edit.asked.end for edit in by_end]
        self._highest = [0, *accumulate((edit.revision for edit in by_end), max)]

    def before(self, moment: float) -> int:
        return self._highest[bisect_left(self._ends, moment)]


def _grouped(edits: Iterable[Edit], key: Callable[[Edit], Any]) -> dict[Any, _Highest]:
    groups = defaultdict(list)
    for edit in edits:
        groups[key(edit)].append(edit)
    return defaultdict(_Highest, {value: _Highest(group) for value, group in groups.items()})


def kept(history: History) -> Iterator[str]:
    """Every acknowledged edit is in the history once, under its number, and a refused one never."""
    numbers = defaultdict(list)
    for revision in history.end.revisions:
        numbers[revision.mark].append(revision.number)
    for edit in made(history):
        if numbers[edit.mark] != [edit.revision]:
            yield f"edit {edit.mark} was acknowledged as revision {edit.revision}, and is there as {numbers[edit.mark]}"
    for edit in history.edits:
        refused = edit.asked.status not in (OK, CREATED, *IN_DOUBT)
        if refused and numbers[edit.mark]:
            yield f"edit {edit.mark} was refused ({edit.asked.status}), and is there as {numbers[edit.mark]}"
        if len(numbers[edit.mark]) > 1:
            yield f"edit {edit.mark} is there {len(numbers[edit.mark])} times"


def in_order(history: History) -> Iterator[str]:
    """What was answered before another was asked has the lower number."""
    acknowledged = made(history)
    highest = _Highest(acknowledged)
    for edit in acknowledged:
        if (before := highest.before(edit.asked.begin)) > edit.revision:
            yield f"edit {edit.mark} is revision {edit.revision}, though {before} had been answered before it was asked"


def _of_agent(revisions: Sequence[Revision]) -> dict[str, list[Revision]]:
    found: dict[str, list[Revision]] = defaultdict(list)
    for revision in sorted(revisions, key=lambda one: one.number):
        if revision.agent:
            found[revision.agent].append(revision)
    return found


def conditions(history: History) -> Iterator[str]:
    """Whoever named a revision and won came right after it; a conflict is told only where somebody else came between. And each
    revision begins with what the one before it left."""
    by_agent = _of_agent(history.end.revisions)
    for agent, changes in by_agent.items():
        for former, later in pairwise(changes):
            if later.before != former.after:
                yield f"revision {later.number} of {agent} was made on {later.before}, but {former.number} left {former.after}"
    begun = {edit.mark: edit.asked.begin for edit in history.edits}
    for edit in history.edits:
        if not edit.expected or overlaps(history.losses, edit.asked.begin, edit.asked.end, AFTER):
            continue
        numbers = [one.number for one in by_agent[edit.agent]] if edit.agent in by_agent else []
        if is_good(edit.asked) and edit.changed:
            before = [number for number in numbers if number < edit.revision]
            if before and before[-1] != edit.expected:
                yield f"edit {edit.mark} expected revision {edit.expected} and won, but came after {before[-1]}"
        elif edit.asked.status == CONFLICT and edit.expected in numbers:
            following = [one for one in by_agent[edit.agent] if one.number > edit.expected]
            if not following or begun.get(following[0].mark, 0.0) > edit.asked.end:
                yield f"edit {edit.mark} was told a conflict, but revision {edit.expected} was the last of {edit.agent}"


def unchanged(history: History) -> Iterator[str]:
    """Whoever was told that nothing changes was told of the last revision, in which it is so."""
    by_agent, highest = _of_agent(history.end.revisions), _Highest(made(history))
    for edit in history.edits:
        if not is_good(edit.asked) or edit.changed or overlaps(history.losses, edit.asked.begin, edit.asked.end, AFTER):
            continue
        there = [one.after for one in by_agent.get(edit.agent, ()) if one.number <= edit.revision]
        if not there or there[-1] != edit.version:
            yield f"edit {edit.mark} was told that {edit.version} is so already, but at {edit.revision} it is {there[-1:]}"
        if (before := highest.before(edit.asked.begin)) > edit.revision:
            yield f"edit {edit.mark} was told that nothing changes at {edit.revision}, after {before} was answered"


def _judged(history: History, reads: Iterable[Read]) -> list[Read]:
    good = [one for one in reads if is_good(one.asked)]
    return [one for one in good if not overlaps(history.losses, one.asked.begin, one.asked.end, AFTER)]


def _epoch(history: History, at: float) -> float:
    """The end of the last loss before this moment."""
    return max([loss.end for loss in history.losses if loss.end < at], default=0.0)


def in_force(history: History) -> Iterator[str]:
    """What a meta acknowledged is what it shows from then on."""
    answered = _grouped(made(history), lambda edit: (edit.asked.meta, _epoch(history, edit.asked.begin)))
    for read in _judged(history, history.reads):
        before = answered[read.asked.meta, _epoch(history, read.asked.begin)].before(read.asked.begin)
        if before > read.revision:
            yield f"meta {read.asked.meta} shows revision {read.revision} after it answered {before}"


def monotonic(history: History) -> Iterator[str]:
    """No meta goes back."""
    by_meta = defaultdict(list)
    for read in _judged(history, history.reads):
        by_meta[read.asked.meta, _epoch(history, read.asked.begin)].append(read)
    for (meta, _), reads in by_meta.items():
        highest, ended = 0, sorted(reads, key=lambda one: one.asked.end)
        waiting = iter(ended)
        former = next(waiting, None)
        for read in sorted(reads, key=lambda one: one.asked.begin):
            while former and former.asked.end < read.asked.begin:
                highest, former = max(highest, former.revision), next(waiting, None)
            if read.revision < highest:
                yield f"meta {meta} shows revision {read.revision} after {highest}"


def same_content(history: History) -> Iterator[str]:
    """One revision is the same at all metas."""
    contents: dict[tuple[float, int], set[str]] = defaultdict(set)
    for read in _judged(history, history.reads):
        contents[_epoch(history, read.asked.begin), read.revision].add(read.content)
    for (_, revision), found in contents.items():
        if len(found) > 1:
            yield f"revision {revision} has {len(found)} contents"


def _is_calm(history: History, begin: float, end: float) -> bool:
    broken = any(fault.begin <= end and begin - CALM <= fault.end for fault in history.faults)
    return not broken and not overlaps(history.losses, begin, end, AFTER)


def stale(history: History) -> Iterator[str]:
    """Where nothing is broken an edit is in force everywhere soon."""
    answered = _grouped(made(history), lambda edit: _epoch(history, edit.asked.begin))
    for read in _judged(history, history.reads):
        since = read.asked.begin - STALE
        before = answered[_epoch(history, since)].before(since)
        if before > read.revision and _is_calm(history, since, read.asked.end):
            yield f"meta {read.asked.meta} shows revision {read.revision} {STALE:g} s after {before} was answered"


def tokens(history: History) -> Iterator[str]:
    """A revoked token opens nothing: at once where it was revoked, soon elsewhere, and nowhere in the end; a good one opens.
    And there is always an admin."""
    orders = defaultdict(list)
    for order in history.orders:
        orders[order.token].append(order)
    for probe in history.probes:
        if is_good(probe.asked) and not overlaps(history.losses, 0.0, probe.asked.end):
            yield from _opened(history, probe, orders[probe.token])
    for token, its_orders in orders.items():
        yield from _token_in_the_end(history, token, [one for one in its_orders if one.what == "revoked"])
    yield from _duels(history)
    for meta, opened in enumerate(history.end.tokens):
        for token, is_open in opened.items():
            if is_open != history.end.kept_tokens.get(token, False):
                yield f"token {token} is {'good' if is_open else 'refused'} at meta {meta} in the end, unlike in the database"
    if history.end.admins < 1:
        yield "no admin is left"


def _duels(history: History) -> Iterator[str]:
    done = [one for one in history.orders if one.what == "revoked" and is_good(one.asked)]
    done = [one for one in done if not overlaps(history.losses, one.asked.begin, one.asked.end)]
    pairs = {(one.by, one.token) for one in done}
    yield from (
        f"admins {by} and {token} revoked each other" for by, token in pairs if by < token and (token, by) in pairs
    )


def _opened(history: History, probe: Probe, orders: Iterable[TokenOrder]) -> Iterator[str]:
    """It was accepted; by whom should it have been refused?"""
    since = probe.asked.begin - STALE
    for order in orders:
        if is_good(order.asked) and order.what == "revoked":
            here = order.asked.meta == probe.asked.meta and order.asked.end < probe.asked.begin
            if here or (order.asked.end < since and _is_calm(history, since, probe.asked.end)):
                yield f"token {probe.token} opens meta {probe.asked.meta} after it was revoked at {order.asked.meta}"


def _token_in_the_end(history: History, token: str, revoking: Sequence[object]) -> Iterator[str]:
    orders = [one for one in history.orders if one.token == token]
    if token not in history.end.kept_tokens or any(
        overlaps(history.losses, one.asked.begin, one.asked.end) for one in orders
    ):
        return
    is_revoked = any(one.what == "revoked" and is_good(one.asked) for one in orders)
    if is_revoked and history.end.kept_tokens[token]:
        yield f"token {token} was revoked, and is good in the end"
    if not revoking and not history.end.kept_tokens[token]:
        yield f"token {token} was never revoked, and is not good in the end"


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
    """The last report of a host is what is known of it, if its meta lived on."""
    by_host = defaultdict(list)
    for beat in history.beats:
        by_host[beat.host].append(beat)
    for host, its_beats in by_host.items():
        ordered = sorted(its_beats, key=lambda one: one.asked.begin)
        answered = [number for number, beat in enumerate(ordered) if is_good(beat.asked)]
        if not answered:
            continue
        last = ordered[answered[-1]]
        killed = any(meta == last.asked.meta and at > last.asked.begin for meta, at in history.kills)
        if killed or overlaps(history.losses, last.asked.begin, last.asked.end, AFTER):
            continue
        possible = {beat.version for beat in ordered[answered[-1] :]}
        found = history.end.kept_hosts.get(host, ("", False))[0]
        if found not in possible:
            yield f"host {host} reported {last.version} to meta {last.asked.meta}, and {found or 'nothing'} is kept"


def equal_at_the_end(history: History) -> Iterator[str]:
    """All metas and the database."""
    end = history.end
    number = max((one.number for one in end.revisions), default=0)
    if len(set(end.records)) > 1:
        yield f"the metas have different records: {end.records}"
    elif end.records and end.records[0][0] != number:
        yield f"the metas are at revision {end.records[0][0]}, the database at {number}"
    for meta, known in enumerate(end.hosts):
        differing = sorted(
            name for name in known.keys() | end.kept_hosts.keys() if known.get(name) != end.kept_hosts.get(name)
        )
        if differing:
            name = differing[0]
            yield (
                f"meta {meta} knows {len(differing)} hosts otherwise than the database, as {name}: "
                f"{known.get(name)} and {end.kept_hosts.get(name)}"
            )
    if end.settled > SETTLED:
        yield f"{end.settled:.0f} s until all were equal"
