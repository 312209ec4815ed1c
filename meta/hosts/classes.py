"""Desired state, resolved once for all hosts that the same selectors match: a million hosts form a few classes.

The reply to a heartbeat is rendered once for each class and kept with it. Pure.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cache, partial
from itertools import islice
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from meta.records.fingerprint import version_fingerprint
from meta.records.model import RecordSet, resolve_matched, selectors
from meta.records.selectors import Selector, Test
from updater.wire.heartbeat import STARTED, STOPPED, Desired, is_renewed
from updater.wire.names import START, STOP

_NOTHING: frozenset[Selector] = frozenset()
_NO_LABELS: Mapping[str, str] = {}
_Unset = msgspec.UnsetType
COHORTS = 1000  # the most that one class has
LIKELY = 8  # cohorts that are tried for a host that has already received its orders


class Rejection(NamedTuple):
    """A version that a host rolled back, and does not try again while its order stays the same."""

    version: str
    attempt: int = 0  # of the order that was rolled back


Seen = tuple[str, str, str]  # an agent, its version and its status


class Reported(NamedTuple):
    """An agent as its host reported it. What is UNSET, its updater did not say."""

    name: str = ""
    version: str = ""
    status: str = ""
    held: str | _Unset = msgspec.UNSET  # why a person on the host keeps it as it is
    trial: bool | _Unset = msgspec.UNSET
    waits: str | _Unset = msgspec.UNSET  # what its turn waits for
    rejected: Rejection | _Unset = msgspec.UNSET

    @property
    def seen(self) -> Seen:
        return self[:3]


UNREPORTED = Reported()  # for an agent that its host did not report


class Verdict(NamedTuple):
    """How the last change of an agent failed on some hosts. A successful change leaves no verdict."""

    agent: str
    to: str  # the version that the change was to install
    step: str  # where it failed, as `watch`
    result: str  # `failed`, `refused` or `rolled back`
    attempt: int | _Unset = msgspec.UNSET  # of the order that was rolled back; UNSET from updaters without attempts


class Class:
    """The hosts that exactly these selectors match, or a cohort of them.

    A cohort is the part of a class for which each order came in force at the same time. A host that was last heard of before
    that time has not received the order yet.
    """

    def __init__(self, book: "Classes", matched: frozenset[Selector], desired: tuple[Desired, ...]):
        self.book = book  # the Classes it belongs to, and so the records
        self.matched = matched
        self.desired = desired
        self.orders = {d.name: d for d in desired}  # by agent
        self.replies: dict[Hashable, Any] = {}  # rendered replies by dialect; meta/heartbeat fills this in
        self.since: dict[str, float] = {}  # by agent: when its order came in force here (Unix seconds), if known
        self.republished: set[str] = set()  # agents whose order names other bytes of the same version since that time
        self._cohorts: dict[frozenset[tuple[str, float]], Class] = {frozenset(): self}  # by `since`
        self._comers: WeakKeyDictionary[Class, Class] = WeakKeyDictionary()  # the cohort, by the class hosts come from

    @property
    def withheld(self) -> frozenset[str]:
        """The agents that have a record but no order here, because their version is banned."""
        return frozenset(record.name for record in self.book.records.records) - self.orders.keys()

    def newcomers(self) -> "Class":
        """Return the cohort for hosts that report for the first time, or were retired until now."""
        at = self.book.at
        return self._cohort(dict.fromkeys(self.orders, at)) if at else self

    def comers(self, former: "Class", settled: float = 0.0) -> "Class":
        """Return the cohort for hosts that move here from `former`.

        An order that is the same in both classes keeps its time, unless there were other records in between. Any other one gets
        the present time; so does one that is gone, because the hosts do not know it yet.

        settled: for one host that moves, the time (Unix seconds) by which its orders have settled on it if they were in force;
        0.0 for many hosts. If all its orders have settled, the host joins any cohort where they have too: so cohorts stay few.
        """
        found = self._comers.get(former)
        if found is None:
            since = {agent: at for agent, order in self.orders.items() if (at := self._since(former, agent, order))}
            since |= dict.fromkeys(former.orders.keys() - self.orders.keys(), self.book.at) if self.book.at else {}
            found = self._comers[former] = self._cohort(since)
            found.republished |= {agent for agent in since if self._is_republished(former, agent)}
        if not found.since or not settled:
            return found
        likely = islice(self._cohorts.values(), LIKELY)
        return next((one for one in likely if one is found or one._serves(found.since, settled)), found)

    def _since(self, former: "Class", agent: str, order: Desired) -> float:
        before = former.orders.get(agent)
        is_next = former.book.number + 1 >= self.book.number
        is_known = before is not None and is_next and not is_renewed(before, order)
        return former.since.get(agent, 0.0) if is_known else self.book.at

    def _is_republished(self, former: "Class", agent: str) -> bool:
        before, order = former.orders.get(agent), self.orders.get(agent)
        if before is None or order is None or before.version != order.version:
            return False
        return (before.md5, before.sha256) != (order.md5, order.sha256) or agent in former.republished

    def _serves(self, since: Mapping[str, float], settled: float) -> bool:
        """Whether the same orders have settled on a host with the times `since` if it joins this cohort."""
        if since.keys() != self.since.keys():
            return False
        return all(at == self.since[agent] or at <= settled >= self.since[agent] for agent, at in since.items())

    def _cohort(self, since: dict[str, float]) -> "Class":
        key = frozenset(since.items())
        found = self._cohorts.get(key)
        if found is None and len(self._cohorts) < COHORTS:
            found = self._cohorts[key] = Class(self.book, self.matched, self.desired)
            found.replies, found.since, found._cohorts = self.replies, since, self._cohorts
        if found is None:  # there are too many cohorts: use the newest one, and the later of both times
            found = next(reversed(self._cohorts.values()))
            found.since = {agent: max(at, found.since.get(agent, 0.0)) for agent, at in (found.since | since).items()}
        return found

    def move_along(self, by: float, now: float) -> None:
        """Move the times of all cohorts by the seconds that the clock was set by. now: the new time."""
        cohorts = list(self._cohorts.values())
        self._cohorts.clear()
        for one in cohorts:
            one.since = {agent: min(at + by, now) for agent, at in one.since.items()}
            self._cohorts[frozenset(one.since.items())] = one

    def has_heard(self, agent: str, last_seen: float) -> bool:
        """Whether a host of this class, last heard of at `last_seen`, is known to have received the agent's order."""
        return 0.0 < self.since.get(agent, 0.0) <= last_seen

    def unheard(self, agents: Iterable[str], last_seen: float) -> set[str]:
        """Return those agents whose order a host of this class, last heard of at `last_seen`, has not received yet."""
        since = self.since
        return {agent for agent in agents if last_seen < since.get(agent, 0.0)} if since else set()


class Classes:
    """All classes under one set of records. Each is made when its first host comes."""

    def __init__(self, records: RecordSet, at: float = 0.0):
        self.records = records
        self.number = 0  # of those that were in force here; two more than the former's, if some between were not
        self.at = at  # when these records came in force here (Unix seconds); 0.0: unknown, hosts may know them
        # When hosts were loaded, or the clock was set (Unix seconds). A report before it may follow an order that is not known.
        self.began = 0.0
        self.version_fingerprint = cache(partial(version_fingerprint, records))  # by agent
        self.selectors = selectors(records)
        self.tests = [(selector, selector.test()) for selector in self.selectors]
        self._known: dict[frozenset[Selector], Class] = {}
        self._bits = [(1 << position, test) for position, (_, test) in enumerate(self.tests)]
        self._by_bits: dict[int, Class] = {}

    def of(self, hostname: str) -> Class:
        """Return the class of one host, by its name and its labels."""
        labels, bits = self.records.labels.get(hostname, _NO_LABELS), 0
        for bit, test in self._bits:
            if test(hostname, labels):
                bits |= bit
        found = self._by_bits.get(bits)
        if found is None:
            found = self._by_bits[bits] = self.matching(matches(self.tests, hostname, labels))
        return found

    def matching(self, matched: frozenset[Selector]) -> Class:
        """Return the class of the hosts that exactly these selectors match."""
        found = self._known.get(matched)
        if found is None:
            found = self._known.setdefault(matched, Class(self, matched, resolve_matched(self.records, matched)))
        return found

    def move_along(self, by: float, now: float) -> None:
        """Move all times by the seconds that the clock was set by. now: the new time."""
        self.at = min(self.at + by, now) if self.at else 0.0
        for klass in list(self._known.values()):
            klass.move_along(by, now)


def matches(tests: Sequence[tuple[Selector, Test]], hostname: str, labels: Mapping[str, str]) -> frozenset[Selector]:
    """Return those of the selectors that match this host."""
    return frozenset([selector for selector, test in tests if test(hostname, labels)]) if tests else _NOTHING


class Step:
    """A transition between two sets of records: which class hosts move to. Only selectors and labels that differ are tested."""

    def __init__(self, before: Classes, after: Classes):
        self.before = before
        self.after = after
        known = set(before.selectors)
        self._added = [(selector, test) for selector, test in after.tests if selector not in known]
        self._stay = known.intersection(after.selectors)
        self.relabelled = _relabelled(before.records.labels, after.records.labels)  # each of these moves on its own
        self._plain: dict[Class, Class] = {}

    def whole(self, klass: Class) -> Class | None:
        """Return the class that all hosts of `klass` move to, except relabelled ones; None if they may part."""
        return None if self._added or klass.book is not self.before else self._without(klass)

    def tally(self, klass: Class, hostnames: Sequence[str]) -> Counter[Class]:
        """Count how many of these hosts of `klass` move to which class. No name may be given twice."""
        if klass.book is not self.before:
            return Counter(self.of(klass, hostname) for hostname in hostnames)
        labels = self.after.records.labels
        apart = set(self.relabelled.intersection(hostnames))
        for _, test in self._added:
            apart.update([hostname for hostname in hostnames if test(hostname, labels.get(hostname, _NO_LABELS))])
        found = Counter(self.of(klass, hostname) for hostname in apart)
        found[self._without(klass)] += len(hostnames) - len(apart)
        return found

    def of(self, klass: Class, hostname: str) -> Class:
        """Return the class that this host of `klass` moves to."""
        if klass.book is not self.before or hostname in self.relabelled:
            return self.after.of(hostname)
        new = matches(self._added, hostname, self.after.records.labels.get(hostname, _NO_LABELS))
        return self.after.matching(klass.matched.intersection(self._stay) | new) if new else self._without(klass)

    def _without(self, klass: Class) -> Class:
        found = self._plain.get(klass)
        if found is None:
            found = self._plain[klass] = self.after.matching(klass.matched.intersection(self._stay))
        return found


def _relabelled(before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Return the hosts whose labels differ between the two."""
    if before is after or before == after:
        return set()
    return {host for host in before.keys() | after.keys() if before.get(host) != after.get(host)}


def drifts(order: Desired | None, version: str, status: str) -> bool:
    """Whether an agent with this version and status differs from its order; both are "" if it was not reported."""
    if order is None:
        return False
    if order.cmd == STOP:
        return bool(version) and status not in STOPPED
    return order.cmd == START and (version != order.version or status != STARTED)


def drifting(orders: Mapping[str, Desired], all_reported: Sequence[Reported]) -> list[Desired]:
    """Return the orders that a host with these agents does not fulfil."""
    seen = {reported.name: reported for reported in all_reported}
    found = ((order, seen.get(name, UNREPORTED)) for name, order in orders.items())
    return [order for order, reported in found if drifts(order, reported.version, reported.status)]
