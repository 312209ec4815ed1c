"""Decides when a watch of an agent's change ends, and with which exit code of `meta status --watch`. Pure.

Each answer of meta is judged by itself, since it is for one moment and one revision of the records. Answers of a meta that may
be behind are skipped, since several metas may share one address.
"""

from enum import IntEnum
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from meta.queries.representations import Count, Progress

AT_MOST = 4000  # characters of host names in one query


class End(IntEnum):
    """Exit codes of every watch."""

    DONE = 0
    NOT_YET = 1  # it failed, or the time is up
    WAITS_FOR_A_PERSON = 3  # 2 is wrong use
    TAKEN_BACK = 4


class Wanted(NamedTuple):
    """What is watched, and when it fails."""

    agent: str
    selector: str = ""
    include_lost: bool = False
    max_failed: int | None = None  # hosts that may fail; None: none may, but the watch goes on to the end
    is_share: bool = False  # max_failed is a percentage of the judged hosts

    def is_too_much(self, found: Progress) -> bool:
        """Whether more hosts failed than allowed."""
        most = self.max_failed or 0
        those_who_may_come = found.late + found.lost if found.patience else 0
        return found.failed > (most * (found.judged + those_who_may_come) // 100 if self.is_share else most)


class Status(msgspec.Struct, rename="camel"):
    """The status of one agent."""

    agent: str
    record: dict[str, Any] | None  # None if there is none (any more)
    counts: list[Count]  # of the selected hosts, only shown
    progress: Progress  # of the selected hosts; this is judged


Judged = tuple[Status, End | None]  # an answer, and how the watch ends by it, if it does


class Gate:
    """The state of one watch, which gets one answer after the other.

    A download that was refused before the watch began may work by now without an edit, since hosts keep trying. Such refusals
    do not fail the watch until the hosts had time to try and report again. Nor is a host remembered as failed for one.
    """

    def __init__(self, wanted: Wanted):
        self._wanted = wanted
        self._first: Progress | None = None
        self._last: Progress | None = None
        self._revision = 0
        self.taken = 0  # hosts whose version was withdrawn by the last edit
        self.missing = 0  # failed hosts that lost the selected label, so that their result is unknown
        self.failed_before: list[str] = []  # names of failed hosts, also missing ones, for the next query
        self._old_refusals = 0
        self._refused_before: frozenset[str] = (
            frozenset()
        )  # names of hosts with such a refusal, while it does not count
        self._refused_until: float | None = None
        self._patient_until: float | None = None

    def end(self, found: Progress, now: float) -> End | None:
        """How the watch ends with this answer, None if it goes on. now: seconds of a monotonic clock."""
        if found.behind or found.revision < self._revision:
            return None
        first = self._first or found
        if not _is_edited(first, found):  # the last answer before an edit shows which changes were pending
            first = replace(first, pending=found.pending)
        last, self._last = self._last or found, found
        self._first, self._revision, self.taken = first, found.revision, taken_from(last, found)
        old = self._may_be_mended(found, now)
        if self._wanted.selector.startswith("label:"):
            self.missing = len(found.gone)
            failed = (name for name in found.failed_hosts if name not in self._refused_before)
            self.failed_before = _few([*found.gone, *failed])
        judged = replace(found, failed=found.failed - old + self.missing, todo=found.todo + old)
        end = End.TAKEN_BACK if found.desired and self.taken else end_of(first, judged, self._wanted)
        if not found.patience:
            self._patient_until = None
        elif self._patient_until is None:
            self._patient_until = now + found.patience
        is_edit = not found.desired or self.taken > 0 or is_taken_back(first, found)
        is_sure = (end is End.TAKEN_BACK and is_edit) or (judged.failed > 0 and end is End.NOT_YET)
        return end if is_sure or self._patient_until is None or now >= self._patient_until else None

    def _may_be_mended(self, found: Progress, now: float) -> int:
        """How many hosts may not have tried again since a refusal before the watch."""
        if self._refused_until is None:
            self._old_refusals, self._refused_until = found.refused, now + found.asked_within
            self._refused_before = frozenset(found.refused_hosts)
        if now >= self._refused_until:
            self._refused_before = frozenset()
        self._old_refusals = min(self._old_refusals, found.refused) if now < self._refused_until else 0
        return self._old_refusals


def end_of(first: Progress, found: Progress, wanted: Wanted) -> End | None:
    """How a watch that began with `first` ends now; None: it goes on. Silent hosts are left out already.

    first.pending: from the last answer before an edit of versions.
    """
    if not found.desired:
        return End.TAKEN_BACK if first.desired else End.NOT_YET
    if is_taken_back(first, found):
        return End.TAKEN_BACK
    if wanted.max_failed is not None and wanted.is_too_much(found):
        return End.NOT_YET
    if not found.judged and not found.banned:
        return End.WAITS_FOR_A_PERSON if found.held else End.NOT_YET
    if found.todo or found.trial:
        return None
    if wanted.is_too_much(found):
        return End.NOT_YET
    return End.TAKEN_BACK if found.banned else End.DONE  # a ban from before this watch leaves hosts as they are


def is_taken_back(first: Progress, found: Progress) -> bool:
    """Whether an edit withdrew a version that some hosts were to have: by another version, a removed override, or a ban.

    Hosts that are gone or were retired do not count. A version that an override tried out and that became the record's own was
    not withdrawn. But if hosts were still changing to the record's former version, that one was withdrawn.
    """
    gone = set(first.wanted) - set(found.wanted)
    if not _is_edited(first, found) or not gone:
        return False
    is_promoted = found.desired != first.desired and found.desired in set(first.wanted) & set(found.wanted)
    return not (is_promoted and gone == {first.desired} and first.desired not in first.pending)


def taken_from(before: Progress, found: Progress) -> int:
    """How many hosts got another desired version by an edit between these two answers.

    Hosts of the record's version, none of which were still changing to it, do not count if they get a version that other
    hosts already had.
    """
    if not _is_edited(before, found):
        return 0
    moved = {
        word: found.ordered.get(word, 0) - before.ordered.get(word, 0) for word in {*before.ordered, *found.ordered}
    }
    gained = {word for word, hosts in moved.items() if hosts > 0}
    spared = {before.desired} - set(before.pending) if gained <= set(before.wanted) else set()
    lost = sum(-hosts for word, hosts in moved.items() if hosts < 0 and word not in spared)
    return min(lost, sum(moved[word] for word in gained))


def _few(names: list[str]) -> list[str]:
    """The first names, as many as fit into a query."""
    lengths = accumulate(len(name) + 1 for name in names)
    return [name for name, length in zip(names, lengths, strict=True) if length <= AT_MOST]


def _is_edited(before: Progress, found: Progress) -> bool:
    """Whether the desired versions were edited between two answers; for an older meta without grounds, whether anything was."""
    if before.grounds and found.grounds:
        return found.grounds != before.grounds
    return found.revision != before.revision
