"""Desired state, worked out once for all hosts that the same selectors match: a million hosts fall into a few classes.

Pure: a class is a frozen value with its reply already rendered in both dialects, so that a heartbeat only has to look it up.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import translate
from functools import cached_property

import msgspec

from meta.records import Glob, Prefix, RecordSet, Selector, resolve_matched, selectors
from updater.wire import START, STARTED, STOP, STOPPED, Desired, desired_fields, render_reply

Test = Callable[[str, Mapping[str, str]], bool]
Look = tuple[str, str, str, str | msgspec.UnsetType]  # an agent as its host saw it: name, version, status, held


class Class:
    """The hosts that just these selectors match. book: the Classes it belongs to."""

    def __init__(self, book: "Classes", matched: frozenset[Selector], desired: tuple[Desired, ...]):
        self.book = book
        self.matched = matched
        self.desired = desired
        self.orders = {d.name: d for d in desired}
        self.reply = render_reply(desired)

    @cached_property
    def coraldane_reply(self) -> bytes:
        return render_coraldane_reply(self.desired)


class Classes:
    """All classes under one set of records; made as hosts come."""

    def __init__(self, records: RecordSet):
        self.records = records
        self.selectors = selectors(records)
        self._tests = [(selector, _test(selector)) for selector in self.selectors]
        self._known: dict[frozenset[Selector], Class] = {}

    def of(self, hostname: str) -> Class:
        """The class of one host, by its name and its labels."""
        if not self._tests:
            return self.matching(frozenset())
        labels = self.records.labels.get(hostname, {})
        return self.matching(frozenset([selector for selector, test in self._tests if test(hostname, labels)]))

    def matching(self, matched: frozenset[Selector]) -> Class:
        """The class of the hosts that just these selectors match."""
        found = self._known.get(matched)
        if found is None:
            found = self._known.setdefault(matched, Class(self, matched, resolve_matched(self.records, matched)))
        return found

    def matches_as(self, other: "Classes") -> bool:
        """Whether every host's matches are the same under both, whatever the records make of them."""
        return self.selectors == other.selectors and self.records.labels == other.records.labels


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


def drifting(orders: Mapping[str, Desired], looks: Sequence[Look]) -> list[Desired]:
    """The orders that a host with these agents does not fulfil."""
    seen = {look[0]: look for look in looks}
    nothing = ("", "", "", msgspec.UNSET)
    return [order for name, order in orders.items() if drifts(order, *seen.get(name, nothing)[1:3])]


def render_coraldane_reply(desired: Sequence[Desired]) -> bytes:
    """The reply in the dialect of coraldane's fork: more fields per agent, which its updater expects and may be blank."""
    extra = {"runUser": "", "workDir": "", "configFileName": "", "configRemoteUrl": ""}
    agents = [desired_fields(d) | extra for d in desired]
    return msgspec.json.encode({"errorMessage": "", "desiredAgents": agents})
