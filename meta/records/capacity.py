"""Checks that no host gets more agents, or a larger reply, than an updater accepts. Pure.

The check is exact for known hosts, for a host that no override selects, and for one possible host of each selector. For all
other combinations of selectors there is an upper bound, from the longest value of every field. Exceeding only that bound is a
warning. Once a known host exceeds the limit, only edits that reduce the excess are accepted. Bans are ignored, since lifting
one must not exceed the limit.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from meta.errors import EditRefused, Problem
from meta.records.model import CHANGEABLE, RUN_AS, Record, RecordSet, attribute, resolve_matched
from meta.records.model import selectors as selectors_of
from meta.records.selectors import Selector
from updater.wire.heartbeat import Desired, render_reply
from updater.wire.limits import MAX_AGENTS, MAX_BODY, ROOM, agents_problem, reply_problem

Matched = frozenset[Selector]  # the selectors that define a class of hosts
KnownHosts = Callable[[RecordSet], Mapping[Matched, int]]  # how many known hosts each class has under these records
_SENT = tuple(key for key in (*CHANGEABLE, "mirrors") if key not in RUN_AS)  # the fields in a reply
_NAMED = 3  # selectors that are listed in a message
_encode = msgspec.json.Encoder().encode


class Load(NamedTuple):
    """The largest reply."""

    agents: int
    size: int  # bytes; an upper bound if that is within the limit
    bound: int  # bytes; an upper bound for all combinations of selectors
    whose: str = ""  # the hosts that get it, in words

    def problems(self) -> list[str]:
        """Why a host could not take it, with the excess; [] if it can."""
        size = reply_problem(self.size)
        return [*filter(None, [agents_problem(self.agents), size and f"{size}: to {self.whose}"])]


def no_hosts(_records: RecordSet) -> Mapping[Matched, int]:
    """KnownHosts for an empty fleet."""
    return {}


def heaviest(records: RecordSet, known: KnownHosts = no_hosts) -> Load:
    """The largest reply to any known or hypothetical host."""
    agents, most = len(records.records), bound(records)
    if not reply_problem(most):
        return Load(agents, most, most)
    whose: Matched = frozenset()
    size, at_most = _at_most(records, (*_thought_up(records), *known(records)))
    for matched in sorted(at_most, key=at_most.__getitem__, reverse=True):
        if at_most[matched] <= size or not reply_problem(at_most[matched]):
            size = max(size, at_most[matched])
            break
        if (its := _size(records, matched)) > size:
            size, whose = its, matched
    return Load(agents, size, most, _in_words(whose))


def _at_most(records: RecordSet, classes: Iterable[Matched]) -> tuple[int, dict[Matched, int]]:
    """(bytes of a reply to hosts that nothing selects, a cheap upper bound for each of these classes)."""
    size, gains = _size(records, frozenset()), _gains(records.records)
    return size, {matched: size + sum(gains.get(selector, 0) for selector in matched) for matched in classes}


def _excess(records: RecordSet, known: KnownHosts) -> tuple[int, int]:
    """(agents, bytes) beyond the limits, summed over all known hosts."""
    hosts = known(records)
    _, at_most = _at_most(records, hosts)
    large = [matched for matched, most in at_most.items() if reply_problem(most)]
    size = sum(hosts[matched] * max(0, _size(records, matched) - (MAX_BODY - ROOM)) for matched in large)
    return sum(hosts.values()) * max(0, len(records.records) - MAX_AGENTS), size


def _size(records: RecordSet, matched: Matched) -> int:
    return len(render_reply(resolve_matched(RecordSet(records=records.records), matched)))


def _gains(records: Iterable[Record]) -> Counter[Selector]:
    """By how many bytes each selector can lengthen a reply at most. With it, few classes need an exact size."""
    gains: Counter[Selector] = Counter()
    for record in records:
        said = record.fields()
        for override in record.overrides:
            for key, value in override.changes().items():
                if value and value != said[key] and key in _SENT:
                    gains[override.selector] += max(0, _told(key, value) - _told(key, said[key]))
    return gains


def _told(key: str, value: Any) -> int:
    return len(_encode({key: value})) if value else 0


def require(before: RecordSet, after: RecordSet, known: KnownHosts = no_hosts) -> None:
    """Raises EditRefused if a host could not take its orders after the edit, and the edit does not reduce the excess.

    For hypothetical hosts an edit that does not increase the excess is enough.
    """
    if after.records is before.records and after.labels is before.labels:
        return
    load = heaviest(after, known)
    if not (texts := load.problems()):
        return
    former = heaviest(before, known)
    if load.agents > former.agents or load.size > former.size:
        raise EditRefused([Problem("", 0, text) for text in texts])
    now, was = _excess(after, known), _excess(before, known)
    is_no_more = all(one <= other for one, other in zip(now, was, strict=True))
    if any(now) and not (is_no_more and (now != was or after.records is before.records)):
        stays = "; hosts get no orders for that, so first make this less"
        raise EditRefused([Problem("", 0, text + stays) for text in texts])


def doubt(records: RecordSet, known: KnownHosts = no_hosts) -> str:
    """A warning if some combination of overrides, of no known host, might exceed the limit; or ""."""
    load = heaviest(records, known)
    problem = reply_problem(load.bound)
    if not problem or load.problems():
        return ""
    return f"a host that many of the overrides select together might not take its orders: {problem}"


def bound(records: RecordSet) -> int:
    """An upper bound of every reply in bytes: each agent with the longest values of its record and its overrides."""
    return len(render_reply([_longest(record) for record in records.records]))


def _longest(record: Record) -> Desired:
    places = (record.fields(), *(override.changes() for override in record.overrides))
    said = {key: [place[key] for place in places if key in place] for key in _SENT}
    return Desired(record.name, **{attribute(key): max(values, key=_weight) for key, values in said.items()})


def _weight(value: Any) -> tuple[int, bool]:
    """Values that a reply leaves out, such as attempt 0, weigh less than others of the same length."""
    return len(_encode(value)), bool(value)


def _thought_up(records: RecordSet) -> Iterator[Matched]:
    """The class of one possible host of each selector, and of every host that is named or labelled."""
    there = selectors_of(records)
    hosts = {host for selector in there for host in selector.possible()} | {(name, ()) for name in records.labels}
    selecting = _selecting(there)
    yield from {selecting(name, dict(labels) or records.labels.get(name, {})) for name, labels in hosts}


def _selecting(there: Iterable[Selector]) -> Callable[[str, Mapping[str, str]], Matched]:
    """A function that returns which selectors select a host; those that name hosts or labels are indexed, as there may be
    many."""
    indexed: dict[str, list[Selector]] = {}
    others: list[Selector] = []
    for selector in there:
        for one in selector.found_by:
            indexed.setdefault(one, []).append(selector)
        if not selector.found_by:
            others.append(selector)

    def select(name: str, labels: Mapping[str, str]) -> Matched:
        keys = (name, *labels, *(f"{key}={value}" for key, value in labels.items()))
        tried = chain(others, *(indexed.get(key, ()) for key in keys))
        return frozenset([one for one in tried if one.matches(name, labels)])

    return select


def _in_words(matched: Matched) -> str:
    if not matched:
        return "every host that no override selects"
    words = sorted(f"[{selector.in_words()}]" for selector in matched)
    more = len(words) - _NAMED
    return f"hosts that {' and '.join(words[:_NAMED])}{f' and {more} more' if more > 0 else ''} select"
