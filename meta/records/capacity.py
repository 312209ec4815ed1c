"""Whether every host can take what the records say: no more agents, and no larger a reply, than an updater reads. Pure.

Exact for the hosts that are known, for one that no override selects, and for one host that each selector could select. For all
other combinations of selectors there is only a bound, the longest of every field: what is beyond that alone is a doubt, told
and not refused, as long as no host is there that it is true of: from then on only what makes it less is taken. Bans count for
nothing here, or taking one back could be too much.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from meta.errors import EditRefused, Problem
from meta.records.model import Record, RecordSet, resolve_matched
from meta.records.model import selectors as selectors_of
from meta.records.selectors import Glob, Hosts, Label, Prefix, Selector
from updater.wire.heartbeat import Desired, render_reply
from updater.wire.limits import MAX_AGENTS, MAX_BODY, ROOM, agents_problem, reply_problem
from updater.wire.names import hostname_problem

Matched = frozenset[Selector]  # what makes a class of hosts
KnownHosts = Callable[
    [RecordSet], Mapping[Matched, int]
]  # how many known hosts fall into which class under these records
_SENT = tuple(key for key in Desired.__struct_fields__ if key != "name")  # which Record and Override have too
_NAMED = 3  # selectors, where they are put in words
_encode = msgspec.json.Encoder().encode
_WITNESS = "x"  # the name of a host that is thought up


class Load(NamedTuple):
    """The most that a host is told. size: bytes of the reply, or a bound where that is small enough; bound: that of all
    combinations; whose: of which hosts."""

    agents: int
    size: int
    bound: int
    whose: str = ""

    def problems(self) -> list[str]:
        """Why a host could not take it, each by how much."""
        size = reply_problem(self.size)
        return [*filter(None, [agents_problem(self.agents), size and f"{size}: to {self.whose}"])]


def no_hosts(_records: RecordSet) -> Mapping[Matched, int]:
    """Where no host is known."""
    return {}


def heaviest(records: RecordSet, known: KnownHosts = no_hosts) -> Load:
    """The most that any host is told which is known, or thought up."""
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
    """The bytes of a reply to hosts that nothing selects, and a quick bound of that to each of these."""
    size, gains = _size(records, frozenset()), _gains(records.records)
    return size, {matched: size + sum(gains.get(selector, 0) for selector in matched) for matched in classes}


def _excess(records: RecordSet, known: KnownHosts) -> tuple[int, int]:
    """By how many agents and bytes it is too much for the known hosts, all of them together."""
    hosts = known(records)
    _, at_most = _at_most(records, hosts)
    large = [matched for matched, most in at_most.items() if reply_problem(most)]
    size = sum(hosts[matched] * max(0, _size(records, matched) - (MAX_BODY - ROOM)) for matched in large)
    return sum(hosts.values()) * max(0, len(records.records) - MAX_AGENTS), size


def _size(records: RecordSet, matched: Matched) -> int:
    return len(render_reply(resolve_matched(RecordSet(records=records.records), matched)))


def _gains(records: Iterable[Record]) -> Counter[Selector]:
    """By how many bytes a reply can become longer at most where this selects the host: looked at for each class, so that few
    are worked out."""
    gains: Counter[Selector] = Counter()
    for record in records:
        for override in record.overrides:
            for key in _SENT:
                if value := getattr(override, key):
                    gains[override.selector] += max(0, _told(key, value) - _told(key, getattr(record, key)))
    return gains


def _told(key: str, value: Any) -> int:
    return len(_encode({key: value})) if value else 0


def require(before: RecordSet, after: RecordSet, known: KnownHosts = no_hosts) -> None:
    """Raises EditRefused where a host could not take what comes after, unless it was no better before; and where hosts are
    there that can not, unless it was worse before."""
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
    """What a host might not be able to take that no one is known to get, or ""."""
    load = heaviest(records, known)
    problem = reply_problem(load.bound)
    if not problem or load.problems():
        return ""
    return f"a host that many of the overrides select together might not take its orders: {problem}"


def bound(records: RecordSet) -> int:
    """Bytes that no host's reply is larger than: each agent with the longest of what its record and its overrides say."""
    return len(render_reply([_longest(record) for record in records.records]))


def _longest(record: Record) -> Desired:
    places = (record, *record.overrides)
    said = {key: [value for one in places if (value := getattr(one, key)) is not None] for key in _SENT}
    return Desired(record.name, **{key: max(values, key=_weight) for key, values in said.items()})


def _weight(value: Any) -> tuple[int, bool]:
    """What is said weighs more than what a reply leaves out: of attempts 0 and 1 the second."""
    return len(_encode(value)), bool(value)


def _thought_up(records: RecordSet) -> Iterator[Matched]:
    """For each selector a host that it selects: its class, exactly. Hosts that are named or labelled are known by that."""
    there = selectors_of(records)
    names: dict[str, Mapping[str, str]] = {}
    for selector in there:
        names |= {name: records.labels.get(name, {}) for name in _hosts_of(selector)}
    names |= records.labels
    selecting = _selecting(there)
    yield from {selecting(name, labels) for name, labels in names.items()}
    for selector in there:
        if isinstance(selector, Label):
            key, _, value = selector.label.partition("=")
            yield selecting(_WITNESS, {key: value})


def _selecting(there: Iterable[Selector]) -> Callable[[str, Mapping[str, str]], Matched]:
    """Which of them select a host, found by its name and labels where that goes: many hosts are named and labelled."""
    lists: dict[str, list[Selector]] = {}
    labelled: dict[str, Selector] = {}
    others: list[Selector] = []
    for selector in there:
        match selector:
            case Hosts(hosts):
                for host in hosts:
                    lists.setdefault(host, []).append(selector)
            case Label(label):
                labelled[label] = selector
            case _:
                others.append(selector)

    def select(name: str, labels: Mapping[str, str]) -> Matched:
        wanted = (label for key, value in labels.items() for label in (key, f"{key}={value}"))
        by_label = [labelled[label] for label in wanted if label in labelled]
        return frozenset([*lists.get(name, ()), *by_label, *(one for one in others if one.matches(name, labels))])

    return select


def _hosts_of(selector: Selector) -> Iterable[str]:
    match selector:
        case Hosts(hosts):
            return hosts
        case Prefix(prefix):
            return (prefix or _WITNESS,)
        case Glob(glob):
            tries = (glob.replace("*", stars).replace("?", "0") for stars in ("", _WITNESS))
            return [one for one in tries if not hostname_problem(one) and selector.matches(one, {})]
    return ()


def _in_words(matched: Matched) -> str:
    if not matched:
        return "every host that no override selects"
    words = sorted(f"[{selector.in_words()}]" for selector in matched)
    more = len(words) - _NAMED
    return f"hosts that {' and '.join(words[:_NAMED])}{f' and {more} more' if more > 0 else ''} select"
