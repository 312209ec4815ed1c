"""Retries of versions that hosts have rolled back or refused: the edit that orders one, and a forecast of its effect.

A host tries such a version again when its order has a higher attempt than the one at which it failed. A new attempt is the
number of its own revision, and thus higher than all attempts before.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from meta.edits import operations
from meta.errors import NotThere
from meta.hosts.classes import Classes, Rejection
from meta.hosts.model import Host
from meta.hosts.similar_names import nearly_selecting, no_hosts
from meta.hosts.standing import rejects
from meta.hosts.table import HostTable
from meta.records.model import Override, Record, RecordSet
from meta.records.selectors import Selector
from updater.wire.heartbeat import REFUSED, ROLLED_BACK, Desired
from updater.wire.text import counted

_NAMED = 3  # hosts that are named in a message


class Outlook(NamedTuple):
    """The expected effect of a new attempt."""

    trying: int = 0  # hosts that rolled the version back and will try it again
    refused: int = 0  # hosts that refused it and will try it again
    unable: int = 0  # hosts of both kinds whose updater does not know attempts
    some: tuple[str, ...] = ()  # names of some of the latter

    @property
    def acts(self) -> bool:
        """Whether any host tries its version again."""
        return self.trying > 0 or self.refused > 0

    def in_words(self) -> str:
        """One sentence for people."""
        if not self.acts and not self.unable:
            return "no host is known to have rolled this version back or refused it: nothing is tried again"
        if not self.unable:
            return self._tried()
        more = self.unable - len(self.some)
        names = ", ".join(self.some) + (f" and {more} more" if more else "")
        unable = f"{counted(self.unable, 'host')}, whose updater does not know attempts: {names}"
        return f"{self._tried()}; it cannot act on {unable}"

    def _tried(self) -> str:
        if self.trying and self.refused:
            rolled, refused = counted(self.trying, "host"), counted(self.refused, "host")
            return f"{rolled} rolled this version back and {refused} refused it: they will try it again"
        if self.refused:
            return f"{counted(self.refused, 'host')} refused this version and will try it again"
        return (
            f"{counted(self.trying, 'host')} rolled this version back and will try it again"
            if self.trying
            else "nothing is tried again"
        )


def retry(records: RecordSet, agent: str, selectors: Sequence[Selector] = ()) -> RecordSet:
    """The records with a new attempt for the agent, which must have a record.

    The attempt is for the hosts of these selectors, or for all hosts without any.
    """
    record = next(one for one in records.records if one.name == agent)
    known = (record.attempt, *(one.attempt or 0 for one in record.overrides))
    attempt = max(records.revision, *known) + 1
    for selector in selectors:
        record = _with_override(record, selector, attempt)
    return operations.put_record(records, record if selectors else _for_all(record, attempt))


def _for_all(record: Record, attempt: int) -> Record:
    """The record with this attempt, and without the lower attempts of its overrides."""
    overrides = [replace(one, attempt=None) if one.attempt is not None else one for one in record.overrides]
    return replace(record, attempt=attempt, overrides=tuple(one for one in overrides if one.changes()))


def _with_override(record: Record, selector: Selector, attempt: int) -> Record:
    """The record with this attempt in its last override that sets one, since later overrides win."""
    overrides = list(record.overrides)
    places = [i for i, one in enumerate(overrides) if one.selector == selector]
    later = [i for i, one in enumerate(overrides) if one.attempt is not None and one.selector != selector]
    if places and (not later or later[-1] < places[-1]):
        overrides[places[-1]] = replace(overrides[places[-1]], attempt=attempt)
    else:
        overrides.append(Override(selector, attempt=attempt))
    return replace(record, overrides=tuple(overrides))


def require_hosts(table: HostTable, records: RecordSet, selectors: Iterable[Selector]) -> None:
    """Raises NotThere for a selector that no known host matches, or that names an unknown host."""
    for selector in selectors:
        if new := [name for name in sorted(selector.names) if table.get(name) is None]:
            raise NotThere(no_hosts(new, table.folded_names()))
        if not selector.names and not any(
            selector.matches(name, records.labels.get(name, {})) for name in table.names()
        ):
            nearly = nearly_selecting(selector, table.folded_names())
            raise NotThere(*nearly or [f"no host that has reported matches {selector.in_words()}"])


def outlook(table: HostTable, records: RecordSet, agent: str) -> Outlook:
    """The effect of the agent's newest attempt in these records, by the last report of each host."""
    record = records.record(agent)
    if record is None:
        return Outlook()
    newest = max(record.attempt, *(one.attempt or 0 for one in record.overrides), 0)
    found: Counter[str] = Counter()
    unable, classes = [], Classes(records)
    for host in _failed_some(table, agent):
        order = classes.of(host.name).orders.get(agent)
        if order is None or order.attempt != newest:
            continue
        result, can = _can_try(host, order)
        found[result] += can is True
        unable += [host.name] if can is False else []
    return Outlook(found[ROLLED_BACK], found[REFUSED], len(unable), tuple(unable[:_NAMED]))


def _failed_some(table: HostTable, agent: str) -> Iterator[Host]:
    """The hosts on which the agent may have failed. Cheap for a million hosts: outcomes are searched as text, and hosts share
    few agent sets."""
    found = (table.get(name) for name in table.names())
    rejected = cache(lambda agent_set: isinstance(agent_set.reported(agent).rejected, Rejection))
    words = (f'"{ROLLED_BACK}"', f'"{REFUSED}"')
    return (
        host
        for host in found
        if host and not host.retired_at and (any(word in host.told for word in words) or rejected(host.group.agent_set))
    )


def _can_try(host: Host, order: Desired) -> tuple[str, bool | None]:
    """(how this order's version failed on a host, whether the host can try it again: None if it did not fail).

    An updater that reports trials reports rejections, too, and knows attempts. A faulty order is not helped by a new attempt.
    """
    reported, outcome = host.group.agent_set.reported(order.name), host.outcomes.get(order.name)
    trial, rejected = reported.trial, reported.rejected
    if isinstance(rejected, Rejection):
        can = True if rejected.version == order.version and not rejects(order, reported) else None
        return ROLLED_BACK, can
    result = outcome.result if outcome and outcome.to == order.version and outcome.step != "order" else ""
    if outcome is None or result not in (ROLLED_BACK, REFUSED) or (result == ROLLED_BACK and trial is not UNSET):
        return "", None
    if outcome.attempt is UNSET:
        return result, trial is not UNSET
    return result, True if outcome.attempt < order.attempt else None
