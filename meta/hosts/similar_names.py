"""Names that differ from a known host's only in case, in a final dot, or in the domain.

Labels, tokens and selectors use a host's name exactly as it was sent. So a similar name is suggested to people, and never
taken for the same host.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate
from itertools import chain, islice
from typing import NamedTuple

from meta.hosts.sorted_names import Folded, folded, starting
from meta.records.model import RecordSet
from meta.records.selectors import Selector
from meta.suggestions import no_such_hosts
from updater.wire.names import is_any_machine_s

MOST = 100  # doubts that are returned
TOLD = 20  # lines about the selectors of an edit
LOOKS = 1_000_000  # names that are compared with globs for one edit, which takes a fraction of a second
_WILD = re.compile(r"[*?[]")


class NameDoubt(NamedTuple):
    """Hosts whose names are probably a mistake."""

    names: list[str]
    why: str  # in words


class Doubts(NamedTuple):
    """Lines for people about the selectors of an edit."""

    warnings: list[str]  # of names that are similar to known ones
    notes: list[str]  # of names that are simply not known


def nearly_fitting(names: Iterable[str], known: Folded) -> dict[str, str]:
    """Return a similar known host for each name that has one."""
    found = {name: _nearest(name, known) for name in names}
    return {name: host for name, host in found.items() if host and host != name}


def _nearest(name: str, known: Folded) -> str:
    """Return a known host that differs only in case or a final dot, else one with a domain added, else one without it."""
    fold, dotted = folded(name), name.endswith(".")
    if same := _plainest(fold, dotted, known):
        return same
    if longer := next(known.alike(f"{fold}."), ""):
        return longer
    parts = fold.split(".")
    shorter = (_plainest(".".join(parts[:length]), dotted, known) for length in range(len(parts) - 1, 0, -1))
    return next(filter(None, shorter), "")


def _plainest(fold: str, dotted: bool, known: Folded) -> str:
    """Return the known host with this folded form; of several one with a final dot only if `dotted`, then in small letters."""
    alike = known.same(fold)
    return min(alike, key=lambda host: (host.endswith(".") != dotted, host.rstrip(".") != fold, host), default="")


def no_hosts(names: Sequence[str], known: Folded) -> str:
    """Return a sentence about hosts that never reported, with a suggestion if there is one. names: at least one."""
    near = nearly_fitting(names, known)
    if not near:
        return no_such_hosts(names, known.ordered)
    name, host = next(iter(near.items()))
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"no host {name} has reported; did you mean {host}?{more}"


def doubts(before: RecordSet, after: RecordSet, known: Folded) -> Doubts:
    """Return the doubts about overrides that `after` adds or changes."""
    warnings, strangers = [], []
    looks = iter(range(LOOKS))
    for selector in dict.fromkeys(_new(before, after)):
        if selector.is_list:
            unknown = [name for name in sorted(selector.names) if name not in known]
            near = nearly_fitting(unknown, known)
            warnings += [f"no host {name} has reported; did you mean {near[name]}?" for name in near]
            strangers += [left] if (left := [name for name in unknown if name not in near]) else []
        else:
            warnings += nearly_selecting(selector, known, looks)
    notes = [no_such_hosts(names, known.ordered) for names in strangers[:TOLD]]
    return Doubts(_first(warnings, len(warnings)), _first(notes, len(strangers)))


def nearly_selecting(selector: Selector, known: Folded, looks: Iterator[int] | None = None) -> list[str]:
    """Return a line that suggests what a selector that fits no host was meant to be; [] if there is none.

    looks: yields one item for each name that may be compared.
    """
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
    """Return what a selector that fits no host would have to be to fit one; "" if there is nothing."""
    glob = selector.glob_form
    if not glob:
        return ""
    start = _WILD.split(glob, maxsplit=1)[0]
    matches = re.compile(translate(glob), re.IGNORECASE).match
    small = glob == glob.lower()  # then names in small letters that it fits without case, it fits anyway
    meant = next((name for name, _ in zip(known.alike(folded(start), small), looks, strict=False) if matches(name)), "")
    if not meant:
        return ""
    exact = (known.ordered[at] for at in starting(known.ordered, start))
    fits = any(selector.matches(name, {}) for name, _ in zip(exact, looks, strict=False))
    return "" if fits or next(looks, None) is None else selector.meant(meant)


def doubtful(known: Folded) -> list[NameDoubt]:
    """Return the hosts whose names are nearly equal to another's, or are names that any machine has for itself."""
    groups = (known.same(fold) for fold in known.odd)
    twice = (NameDoubt(names, "differ only by case or a last dot: is it one machine?") for names in groups if names[1:])
    alike = {name for start in ("localhost", "ip6-localhost") for name in known.alike(start)}
    everywhere = (
        NameDoubt([name], "is what any machine calls itself") for name in sorted(filter(is_any_machine_s, alike))
    )
    return list(islice(chain(twice, everywhere), MOST))
