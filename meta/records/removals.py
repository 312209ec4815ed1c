"""Detects records files that would remove most agents, or most overrides of an agent. Pure.

A file that was truncated between two agents, or that belongs to another fleet, is valid and would remove much. Such a file is
refused until a person confirms it. A truncated file adds nothing, so new entries count as replacements of removed ones, unless
all agents are gone. A removed override does not count if the record itself now has the same values, or if it only set an
attempt. A changed value of the record is no replacement: its version may have been raised in a truncated file.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from meta.errors import Unconfirmed
from meta.records.model import DIGESTS, Override, Record, RecordSet
from meta.records.selectors import Selector

SHOWN = 5  # names of what would be gone


def mass_removal(before: RecordSet, after: RecordSet) -> list[str]:
    """What a person must confirm, one sentence each; [] if nothing."""
    former = {record.name for record in before.records}
    there = {record.name: record for record in after.records}
    gone = [record.name for record in before.records if record.name not in there]
    most = (
        len(former) - 1
    ) // 2  # new agents never replace all: a file that names none of the old ones is another fleet's
    found = [_problem("agent", gone, len(former), len(there.keys() - former), "", most)]
    for record in before.records:
        new = there.get(record.name)
        if new and new != record:
            found += _lost(record, new)
    return [*filter(None, found)]


def require(before: RecordSet, after: RecordSet, remedy: str) -> None:
    """Raises Unconfirmed if a person must confirm the removal. remedy: the command for that."""
    if found := mass_removal(before, after):
        raise Unconfirmed(found, remedy)


def _lost(before: Record, after: Record) -> Iterator[str]:
    """Removed overrides, and removed hosts of each list of hosts. A list that shares hosts with an old one replaces it."""
    left = Counter(override.selector for override in after.overrides)
    former = Counter(override.selector for override in before.overrides)
    new, missing = left - former, former - left
    listed, still = _named(missing), _named(new)
    gone = []
    for override in before.overrides:
        if missing[override.selector]:
            missing[override.selector] -= 1
            if _is_missed(after, override):
                gone.append(override.selector)
    lists = [one for one in gone if not _named([one]).isdisjoint(still)]
    for one in lists:
        hosts = _named([one])
        yield _problem(
            "host", sorted(hosts - still), len(hosts), len(still - listed), f" of an override of {before.name}"
        )
    words = [f"[{one.in_words()}]" for one in gone if one not in lists]
    instead = [one for one in new.elements() if _named([one]).isdisjoint(listed)]
    yield _problem("override", words, len(before.overrides), len(instead), f" of {before.name}")


def _named(selectors: Collection[Selector]) -> set[str]:
    return {host for one in selectors for host in one.names}


def _is_missed(after: Record, override: Override) -> bool:
    """Whether the record's values differ from those of this removed override."""
    said, there = override.changes(), after.fields()
    said.pop("attempt", None)
    if "version" in said:
        said = {key: value for key, value in said.items() if key not in DIGESTS}
    return any(there[key] != value for key, value in said.items())


def _problem(what: str, names: Sequence[str], of: int, new: int, whose: str, most: int | None = None) -> str:
    """The sentence to confirm, "" unless more than half are gone and not replaced. most: how many new ones may replace."""
    made_up = new if most is None else min(new, most)
    if 2 * (len(names) - made_up) <= of or not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    listed = f"{', '.join(names[:SHOWN])}{more}"
    instead = f", for {new} new" if new else ""
    if of == 1:
        return f"the only {what}{whose} would be gone{instead}: {listed}"
    return f"{len(names)} of {of} {what}s{whose} would be gone{instead}: {listed}"
