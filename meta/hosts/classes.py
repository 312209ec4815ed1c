"""Desired state, worked out once for all hosts that the same selectors match: a million hosts fall into a few classes.

Pure. What a heartbeat is answered with is rendered once for each class, and kept with it.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from fnmatch import translate
from functools import cache, partial
from itertools import islice
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from meta.records.grounds import grounds
from meta.records.model import RecordSet, resolve_matched, selectors
from meta.records.selectors import Glob, Prefix, Selector
from updater.wire.heartbeat import FAILED, REFUSED, ROLLED_BACK, STARTED, STOPPED, Desired
from updater.wire.names import START, STOP

Test = Callable[[str, Mapping[str, str]], bool]
_NOTHING: frozenset[Selector] = frozenset()
_NO_LABELS: Mapping[str, str] = {}
_Unset = msgspec.UnsetType
COHORTS = 1000  # of one class
LIKELY = 8  # of them that are looked at for a host which has heard of its orders


class Rejection(NamedTuple):
    """A version that a host has rolled back, and does not try again while its order stays; attempt: of that order."""

    version: str
    attempt: int = 0


# An agent as its host saw it: name, version, status, held, trial, waits, rejected.
Look = tuple[str, str, str, str | _Unset, bool | _Unset, str | _Unset, Rejection | _Unset]
NO_LOOK: Look = ("", "", "", *(msgspec.UNSET,) * 4)  # of an agent that a host did not report


class Verdict(NamedTuple):
    """How an agent's last change failed on some hosts. result: `failed`, `refused` or `rolled back`; step: where; attempt: of
    the order that was rolled back, from an updater that knows attempts. A change that went well has none: that is what the
    look says."""

    agent: str
    to: str
    step: str
    result: str
    attempt: int | _Unset = msgspec.UNSET


class Class:
    """The hosts that just these selectors match, or a cohort of them: those whose orders are in force since the same times.
    book: the Classes it belongs to; replies: what its hosts are answered, by the form that they speak, kept here by the room
    that renders it; since: by agent, since when its order is in force for these hosts (Unix seconds), where that was seen:
    whoever was heard of last before then has not heard of it."""

    def __init__(self, book: "Classes", matched: frozenset[Selector], desired: tuple[Desired, ...]):
        self.book = book
        self.matched = matched
        self.desired = desired
        self.orders = {d.name: d for d in desired}
        self.replies: dict[Hashable, Any] = {}
        self.since: dict[str, float] = {}
        self._cohorts: dict[frozenset[tuple[str, float]], Class] = {frozenset(): self}
        self._comers: WeakKeyDictionary[Class, Class] = WeakKeyDictionary()

    def newcomers(self) -> "Class":
        """The cohort of hosts that report for the first time."""
        at = self.book.at
        return self._cohort(dict.fromkeys(self.orders, at)) if at else self

    def comers(self, former: "Class", last_seen: float = 0.0) -> "Class":
        """The cohort of hosts that come from that class: of the orders that stay the same they have heard as before. last_seen:
        of one host; if it has heard of its orders, any cohort of those that have will do, so that cohorts stay few."""
        found = self._comers.get(former)
        if found is None:
            since = {agent: at for agent, order in self.orders.items() if (at := self._since(former, agent, order))}
            found = self._comers[former] = self._cohort(since)
        if not found.since or not last_seen:
            return found
        likely = islice(self._cohorts.values(), LIKELY)
        return next((one for one in likely if one is found or one._serves(found.since, last_seen)), found)

    def _since(self, former: "Class", agent: str, order: Desired) -> float:
        before = former.orders.get(agent)
        is_known = before is not None and not is_renewed(before, order)
        return former.since.get(agent, 0.0) if is_known else self.book.at

    def _serves(self, since: Mapping[str, float], last_seen: float) -> bool:
        """Whether a host of these times has heard of the same orders by the times of this cohort."""
        if since.keys() != self.since.keys():
            return False
        return all(at == self.since[agent] or at <= last_seen >= self.since[agent] for agent, at in since.items())

    def _cohort(self, since: dict[str, float]) -> "Class":
        key = frozenset(since.items())
        found = self._cohorts.get(key)
        if found is None and len(self._cohorts) < COHORTS:
            found = self._cohorts[key] = Class(self.book, self.matched, self.desired)
            found.replies, found.since, found._cohorts = self.replies, since, self._cohorts
        if found is None:  # then the latest time counts for all of the newest cohort
            found = next(reversed(self._cohorts.values()))
            found.since = {agent: max(at, found.since.get(agent, 0.0)) for agent, at in (found.since | since).items()}
        return found

    def move_along(self, by: float, now: float) -> None:
        """The clock was set by so many seconds, and it is `now`: for all cohorts."""
        cohorts = list(self._cohorts.values())
        self._cohorts.clear()
        for one in cohorts:
            one.since = {agent: min(at + by, now) for agent, at in one.since.items()}
            self._cohorts[frozenset(one.since.items())] = one

    def has_heard(self, agent: str, last_seen: float) -> bool:
        """Whether a host of this class that was last heard of at that time is known to have got its order by then."""
        return 0.0 < self.since.get(agent, 0.0) <= last_seen

    def unheard(self, agents: Iterable[str], last_seen: float) -> set[str]:
        """Those of which a host of this class that was last heard of at that time does not know its order yet."""
        since = self.since
        return {agent for agent in agents if last_seen < since.get(agent, 0.0)} if since else set()


class Classes:
    """All classes under one set of records; made as hosts come. at: when they came in force here (Unix seconds); 0.0: nobody
    knows, and hosts may have heard of them before."""

    def __init__(self, records: RecordSet, at: float = 0.0):
        self.records = records
        self.at = at
        self.grounds = cache(partial(grounds, records))  # by agent
        self.selectors = selectors(records)
        self.tests = [(selector, _test(selector)) for selector in self.selectors]
        self._known: dict[frozenset[Selector], Class] = {}
        self._bits = [(1 << position, test) for position, (_, test) in enumerate(self.tests)]
        self._by_bits: dict[int, Class] = {}

    def of(self, hostname: str) -> Class:
        """The class of one host, by its name and its labels."""
        labels, bits = self.records.labels.get(hostname, _NO_LABELS), 0
        for bit, test in self._bits:
            if test(hostname, labels):
                bits |= bit
        found = self._by_bits.get(bits)
        if found is None:
            found = self._by_bits[bits] = self.matching(matches(self.tests, hostname, labels))
        return found

    def matching(self, matched: frozenset[Selector]) -> Class:
        """The class of the hosts that just these selectors match."""
        found = self._known.get(matched)
        if found is None:
            found = self._known.setdefault(matched, Class(self, matched, resolve_matched(self.records, matched)))
        return found

    def move_along(self, by: float, now: float) -> None:
        """The clock was set by so many seconds, and it is `now`."""
        self.at = min(self.at + by, now) if self.at else 0.0
        for klass in list(self._known.values()):
            klass.move_along(by, now)


def matches(tests: Sequence[tuple[Selector, Test]], hostname: str, labels: Mapping[str, str]) -> frozenset[Selector]:
    """Those of the selectors that this host passes."""
    return frozenset([selector for selector, test in tests if test(hostname, labels)]) if tests else _NOTHING


class Step:
    """How hosts come from their class under one set of records to that under another: only what differs is looked at.

    relabelled: the hosts whose labels are not the same, each of which goes its own way.
    """

    def __init__(self, before: Classes, after: Classes):
        self.before = before
        self.after = after
        known = set(before.selectors)
        self._added = [(selector, test) for selector, test in after.tests if selector not in known]
        self._stay = known.intersection(after.selectors)
        self.relabelled = _relabelled(before.records.labels, after.records.labels)
        self._plain: dict[Class, Class] = {}

    def whole(self, klass: Class) -> Class | None:
        """Where all hosts of this class go, but for the relabelled, if they go the same way."""
        return None if self._added or klass.book is not self.before else self._without(klass)

    def tally(self, klass: Class, hostnames: Sequence[str]) -> Counter[Class]:
        """How many of these hosts go where; none is named twice."""
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
        """Where this host goes."""
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
    """The hosts whose labels are not the same."""
    if before is after or before == after:
        return set()
    return {host for host in before.keys() | after.keys() if before.get(host) != after.get(host)}


def _test(selector: Selector) -> Test:
    """The selector's own test, or a quicker one of the same meaning."""
    if isinstance(selector, Glob):
        pattern = re.compile(translate(selector.glob))
        return lambda hostname, _labels: pattern.match(hostname) is not None
    if isinstance(selector, Prefix):
        prefix = selector.prefix
        return lambda hostname, _labels: hostname.startswith(prefix)
    return selector.matches


def drifts(order: Desired | None, version: str, status: str) -> bool:
    """Whether an agent seen like this is not as ordered; status "" and version "": not seen at all."""
    if order is None:
        return False
    if order.cmd == STOP:
        return bool(version) and status not in STOPPED
    return order.cmd == START and (version != order.version or status != STARTED)


def rejects(order: Desired, look: Look) -> bool:
    """Whether these hosts say that they have rolled back what they shall run, and do not try it again by themselves."""
    rejected = look[6]
    if isinstance(rejected, msgspec.UnsetType) or order.cmd != START:
        return False
    return rejected.version == order.version and rejected.attempt >= order.attempt


def is_down_while_held(order: Desired, look: Look) -> bool:
    """Whether the version went down within its watch while a person held it."""
    _, version, status, held, trial, *_ = look
    is_its = order.cmd == START and trial is True and version == order.version
    return is_its and isinstance(held, str) and bool(held) and drifts(order, version, status)


def failed(order: Desired | None, look: Look, verdict: Verdict | None) -> bool:
    """Whether an agent, seen like this and with this verdict, has failed to follow this order: it cannot run the version that
    it shall have now, or the running one did not stop. What went wrong with an earlier version, or at a lower attempt, is none.
    An order that its host refused has failed, whichever version it names; older updaters did not say which.
    One that died in its watch, and was started again as there is none to go back to, has failed until it has come through; one
    that went down in its watch while a person held it, so that it is not taken back, has too.

    Who tells of trials tells what is rejected too, so there a verdict that says `rolled back` counts no more than that."""
    _, version, status, _, trial, _, _ = look
    if order is None:
        return False
    if rejects(order, look) or is_down_while_held(order, look):
        return True
    if verdict is None:
        return False
    if verdict.result == ROLLED_BACK and trial is not msgspec.UNSET:
        return False
    if verdict.attempt is not msgspec.UNSET and verdict.attempt < order.attempt:
        return False
    is_its = order.cmd == START and verdict.to == order.version
    if not drifts(order, version, status):
        return is_its and trial is True and (verdict.step, verdict.result) == ("watch", FAILED)
    is_stuck = verdict.step == STOP and verdict.to in (version, order.version)
    is_refused = (verdict.step, verdict.result) == ("order", REFUSED) and verdict.to in ("", order.version)
    return is_stuck or is_its or is_refused


def is_renewed(before: Desired, after: Desired) -> bool:
    """Whether a host that gets this order after that one tries anew: it is of another artifact or another command."""
    return _artifact(before) != _artifact(after)


def _artifact(order: Desired) -> tuple[object, ...]:
    return order.version, order.tarball, order.mirrors, order.md5, order.sha256, order.cmd


def drifting(orders: Mapping[str, Desired], looks: Sequence[Look]) -> list[Desired]:
    """The orders that a host with these agents does not fulfil."""
    seen = {look[0]: look for look in looks}
    return [order for name, order in orders.items() if drifts(order, *seen.get(name, NO_LOOK)[1:3])]
