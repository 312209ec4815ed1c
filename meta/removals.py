"""Records that take away much of what was there: most of the agents, or most of one agent's overrides. Pure.

A file that was cut off between two agents reads well, and says just that. So what comes from a file is refused then until a
person confirms it. An override that is gone because the record now says the same is not missed.
"""

from collections import Counter
from collections.abc import Sequence

from meta.errors import Unconfirmed
from meta.records import Hosts, Override, Record, RecordSet, attribute

SHOWN = 5  # names of what would be gone


def mass_removal(before: RecordSet, after: RecordSet) -> list[str]:
    """In words, what must be confirmed; empty when nothing must."""
    there = {record.name: record for record in after.records}
    gone = [record.name for record in before.records if record.name not in there]
    found = [_gone("agent", gone, len(before.records), "")] if 2 * len(gone) > len(before.records) else []
    for record in before.records:
        new = there.get(record.name)
        lost = _lost(record, new) if new and new != record else []
        if 2 * len(lost) > len(record.overrides):
            words = [f"[{override.selector.in_words()}]" for override in lost]
            found.append(_gone("override", words, len(record.overrides), f" of {record.name}"))
    return found


def require(before: RecordSet, after: RecordSet, remedy: str) -> None:
    """Raises Unconfirmed where a person must confirm it; remedy: how."""
    if found := mass_removal(before, after):
        raise Unconfirmed(found, remedy)


def _lost(before: Record, after: Record) -> list[Override]:
    """The overrides that nothing takes the place of. A list of hosts that some are taken from or added to is the same one."""
    left = Counter(override.selector for override in after.overrides)
    gone = []
    for override in before.overrides:
        if left[override.selector]:
            left[override.selector] -= 1
        elif any(getattr(after, attribute(key)) != value for key, value in override.changes().items()):
            gone.append(override)
    named = [selector.hosts for selector, count in left.items() if count and isinstance(selector, Hosts)]
    return [
        one
        for one in gone
        if not (isinstance(one.selector, Hosts) and any(map(one.selector.hosts.intersection, named)))
    ]


def _gone(what: str, names: Sequence[str], of: int, whose: str) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    listed = f"{', '.join(names[:SHOWN])}{more}"
    if of == 1:
        return f"the only {what}{whose} would be gone: {listed}"
    return f"{len(names)} of {of} {what}s{whose} would be gone: {listed}"
