"""Names of hosts that nearly fit one that is known: but for the case of letters, a last dot, or the domain. Pure.

A name stays as it was sent, for labels, tokens and selectors know the host by it; so what nearly fits is told, and never
taken for the same.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from typing import NamedTuple

from meta.hints import neighbours, no_such_hosts
from meta.records import Glob, Hosts, Prefix, RecordSet, Selector

MOST = 100  # doubts that are told
EVERYWHERE = re.compile(r"(ip6-)?localhost[46]?(\..*)?", re.IGNORECASE)  # what any machine calls itself


class NameDoubt(NamedTuple):
    """names: of the hosts that it is about; why: in words."""

    names: list[str]
    why: str


class Doubts(NamedTuple):
    """What is said of the selectors of an edit. warnings: of names that nearly fit; notes: of those that are not known."""

    warnings: list[str]
    notes: list[str]


def folded(name: str) -> str:
    """The same for names that the name service takes for one."""
    return name.rstrip(".").lower()


def nearly_fitting(names: Iterable[str], ordered: Sequence[str]) -> dict[str, str]:
    """By name the known host that it nearly is. ordered: the known ones, sorted; looks at all of them."""
    wanted = {folded(name): name for name in names}
    found = {wanted[fold]: known for known in ordered if (fold := folded(known)) in wanted}
    for fold, name in wanted.items():
        if name not in found:
            near = (one for one in neighbours(name, ordered) if f"{folded(one)}.".startswith(f"{fold}."))
            longer = (one for one in neighbours(name, ordered) if f"{fold}.".startswith(f"{folded(one)}."))
            if known := next(near, "") or next(longer, ""):
                found[name] = known
    return {name: known for name, known in found.items() if name != known}


def no_hosts(names: Sequence[str], ordered: Sequence[str]) -> str:
    """What is said of hosts that never reported; those first of which it is known what was meant. names: at least one."""
    near = nearly_fitting(names, ordered)
    if not near:
        return no_such_hosts(names, ordered)
    name, known = next(iter(near.items()))
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"no host {name} has reported; did you mean {known}?{more}"


def doubts(before: RecordSet, after: RecordSet, ordered: Sequence[str]) -> Doubts:
    """Of the overrides that come new, or are changed. ordered: the hosts that are known, sorted."""
    found = Doubts([], [])
    for selector in dict.fromkeys(_new(before, after)):
        if isinstance(selector, Hosts):
            known = set(ordered) if len(selector.hosts) > 1 else ordered
            unknown = [name for name in sorted(selector.hosts) if name not in known]
            if near := nearly_fitting(unknown, ordered) if unknown else {}:
                found.warnings.extend(
                    f"no host {name} has reported; did you mean {near[name]}?" for name in sorted(near)
                )
            if left := [name for name in unknown if name not in near]:
                found.notes.append(no_such_hosts(left, ordered))
        elif meant := _but_for_case(selector, ordered):
            found.warnings.append(f"{selector.in_words()} fits no host; did you mean {meant}?")
    return found


def _new(before: RecordSet, after: RecordSet) -> Iterable[Selector]:
    for record in after.records:
        former = before.record(record.name)
        there = former.overrides if former else ()
        yield from (override.selector for override in record.overrides if override not in there)


def _but_for_case(selector: Selector, ordered: Sequence[str]) -> str:
    """What a prefix or a glob would have to be to fit some host, where it fits none; else ""."""
    if isinstance(selector, Prefix):
        pattern = re.compile(re.escape(selector.prefix), re.IGNORECASE)
    elif isinstance(selector, Glob):
        pattern = re.compile(translate(selector.glob), re.IGNORECASE)
    else:
        return ""
    meant = ""
    for name in ordered:
        if pattern.match(name):
            if selector.matches(name, {}):
                return ""
            meant = meant or (
                f"prefix {name[: len(selector.prefix)]}" if isinstance(selector, Prefix) else f"host {name}"
            )
    return meant


def doubtful(ordered: Sequence[str]) -> list[NameDoubt]:
    """The hosts whose names cannot be told from another's, or are any machine's. ordered: all, sorted."""
    odd = [name for name in ordered if name[-1] == "." or name != name.lower()]
    folds = set(map(folded, odd))
    same: dict[str, list[str]] = {}
    for name in ordered:
        if (fold := folded(name)) in folds:
            same.setdefault(fold, []).append(name)
    found = [
        NameDoubt(names, "differ only by case or a last dot: is it one machine?")
        for names in same.values()
        if names[1:]
    ]
    found += [NameDoubt([name], "is what any machine calls itself") for name in ordered if EVERYWHERE.fullmatch(name)]
    return found[:MOST]
