"""Names of hosts that nearly fit one that is known: but for the case of letters, a last dot, or the domain. Pure.

A name stays as it was sent, for labels, tokens and selectors know the host by it; so what nearly fits is told, and never
taken for the same.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate
from itertools import chain, islice
from typing import NamedTuple

from meta.hosts.sorted_names import Folded, folded, starting
from meta.records.model import RecordSet
from meta.records.selectors import Glob, Hosts, Prefix, Selector
from meta.suggestions import no_such_hosts

MOST = 100  # doubts that are told
TOLD = 20  # lines about the selectors of an edit
LOOKS = 1_000_000  # names that are compared with globs, for one edit: a fraction of a second
_WILD = re.compile(r"[*?[]")
EVERYWHERE = re.compile(r"(ip6-)?localhost[46]?(\..*)?", re.IGNORECASE)  # what any machine calls itself


class NameDoubt(NamedTuple):
    """names: of the hosts that it is about; why: in words."""

    names: list[str]
    why: str


class Doubts(NamedTuple):
    """What is said of the selectors of an edit. warnings: of names that nearly fit; notes: of those that are not known."""

    warnings: list[str]
    notes: list[str]


def nearly_fitting(names: Iterable[str], known: Folded) -> dict[str, str]:
    """By name the known host that it nearly is."""
    found = {name: _nearest(folded(name), known) for name in names}
    return {name: host for name, host in found.items() if host and host != name}


def _nearest(fold: str, known: Folded) -> str:
    """But for case or a last dot; with a domain; without one."""
    if same := known.same(fold):
        return same[-1]
    if longer := next(known.alike(f"{fold}."), ""):
        return longer
    parts = fold.split(".")
    shorter = (known.same(".".join(parts[:length])) for length in range(len(parts) - 1, 0, -1))
    return next((names[-1] for names in shorter if names), "")


def no_hosts(names: Sequence[str], known: Folded) -> str:
    """What is said of hosts that never reported; those first of which it is known what was meant. names: at least one."""
    near = nearly_fitting(names, known)
    if not near:
        return no_such_hosts(names, known.ordered)
    name, host = next(iter(near.items()))
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"no host {name} has reported; did you mean {host}?{more}"


def doubts(before: RecordSet, after: RecordSet, known: Folded) -> Doubts:
    """Of the overrides that come new, or are changed."""
    warnings, strangers = [], []
    looks = iter(range(LOOKS))
    for selector in dict.fromkeys(_new(before, after)):
        if isinstance(selector, Hosts):
            unknown = [name for name in sorted(selector.hosts) if name not in known]
            near = nearly_fitting(unknown, known)
            warnings += [f"no host {name} has reported; did you mean {near[name]}?" for name in near]
            strangers += [left] if (left := [name for name in unknown if name not in near]) else []
        else:
            warnings += nearly_selecting(selector, known, looks)
    notes = [no_such_hosts(names, known.ordered) for names in strangers[:TOLD]]
    return Doubts(_first(warnings, len(warnings)), _first(notes, len(strangers)))


def nearly_selecting(selector: Selector, known: Folded, looks: Iterator[int] | None = None) -> list[str]:
    """In one line what was probably meant by a prefix or a glob that fits no host. looks: so many names may be compared."""
    meant = _but_for_case(selector, known, iter(range(LOOKS)) if looks is None else looks)
    return [f"{selector.in_words()} fits no host; did you mean {meant}?"] if meant else []


def _first(lines: list[str], of: int) -> list[str]:
    return lines[:TOLD] + ([f"and {of - TOLD} more like these"] if of > TOLD else [])


def _new(before: RecordSet, after: RecordSet) -> Iterable[Selector]:
    for record in after.records:
        former = before.record(record.name)
        there = former.overrides if former else ()
        yield from (override.selector for override in record.overrides if override not in there)


def _but_for_case(selector: Selector, known: Folded, looks: Iterator[int]) -> str:
    """What a prefix or a glob would have to be to fit some host, where it fits none; else "". looks: so many names may be
    compared."""
    if isinstance(selector, Prefix):
        prefix = selector.prefix
        small = prefix.lower()
        alike = (name for name in known.alike(folded(prefix)) if name.lower().startswith(small))
        host = (
            "" if starting(known.ordered, prefix) else next((name for name, _ in zip(alike, looks, strict=False)), "")
        )
        return f"prefix {host[: len(prefix)]}" if host else ""
    return _glob_but_for_case(selector, known, looks) if isinstance(selector, Glob) else ""


def _glob_but_for_case(selector: Glob, known: Folded, looks: Iterator[int]) -> str:
    glob = selector.glob
    start = _WILD.split(glob, maxsplit=1)[0]
    matches = re.compile(translate(glob), re.IGNORECASE).match
    small = glob == glob.lower()  # and then fits every name in small letters that it fits but for case
    meant = next((name for name, _ in zip(known.alike(folded(start), small), looks, strict=False) if matches(name)), "")
    if not meant:
        return ""
    exact = (known.ordered[at] for at in starting(known.ordered, start))
    fits = any(selector.matches(name, {}) for name, _ in zip(exact, looks, strict=False))
    return "" if fits or next(looks, None) is None else f"host {meant}"


def doubtful(known: Folded) -> list[NameDoubt]:
    """The hosts whose names cannot be told from another's, or are any machine's."""
    groups = (known.same(fold) for fold in known.odd)
    twice = (NameDoubt(names, "differ only by case or a last dot: is it one machine?") for names in groups if names[1:])
    alike = {name for start in ("localhost", "ip6-localhost") for name in known.alike(start)}
    everywhere = (
        NameDoubt([name], "is what any machine calls itself") for name in sorted(filter(EVERYWHERE.fullmatch, alike))
    )
    return list(islice(chain(twice, everywhere), MOST))
