"""When a watch of an agent's change ends, and how: the judgement behind the exit codes of `meta status --watch`. Pure.

Each answer of meta is judged by itself, for it is of one moment and one revision of the records. None is judged that may not be
by the newest: behind one address there may be several metas, one of which lags.
"""

from enum import IntEnum
from itertools import accumulate
from typing import NamedTuple

from msgspec.structs import replace

from meta.queries.representations import Progress

AT_MOST = 4000  # characters of names of hosts that failed


class End(IntEnum):
    """Exit codes of every watch."""

    DONE = 0
    NOT_YET = 1  # time is over, or it failed
    WAITS_FOR_A_PERSON = 3  # 2 is wrong use
    TAKEN_BACK = 4


class Wanted(NamedTuple):
    """What is looked at. max_failed: hosts that may fail, or (is_share) per cent of those that are not left out; None: none,
    but the watch goes on to the end."""

    agent: str
    selector: str = ""
    include_lost: bool = False
    max_failed: int | None = None
    is_share: bool = False

    def is_too_much(self, found: Progress) -> bool:
        """Whether more hosts failed than may."""
        most = self.max_failed or 0
        those_who_may_come = found.late + found.lost if found.patience else 0
        return found.failed > (most * (found.judged + those_who_may_come) // 100 if self.is_share else most)


class Gate:
    """One watch, which is fed with look after look. taken: from how many hosts the last edit took what they had to have;
    missing: hosts that failed and are chosen by their label no more, so that nobody knows what became of them;
    failed_before: by name, those and the ones that failed, of which meta is to say so.

    What was refused before the watch began may be mended by now, without an edit: the hosts go on to ask. So long as they may
    not have asked and told since, that fails no watch."""

    def __init__(self, wanted: Wanted):
        self._wanted = wanted
        self._first: Progress | None = None
        self._last: Progress | None = None
        self._revision = 0
        self.taken = self.missing = 0
        self.failed_before: list[str] = []
        self._old_refusals = 0
        self._refused_until: float | None = None
        self._patient_until: float | None = None

    def end(self, found: Progress, now: float) -> End | None:
        """Whether the watch ends with this look; now: seconds of any clock that only goes on."""
        if found.behind or found.revision < self._revision:
            return None
        first = self._first or found
        if not _is_edited(first, found):  # the last look before an edit says what was on its way
            first = replace(first, pending=found.pending)
        last, self._last = self._last or found, found
        self._first, self._revision, self.taken = first, found.revision, taken_from(last, found)
        if self._wanted.selector.startswith("label:"):
            self.missing = len(found.gone)
            self.failed_before = _few([*found.gone, *found.failed_hosts])
        old = self._may_be_mended(found, now)
        judged = replace(found, failed=found.failed - old + self.missing, todo=found.todo + old)
        end = End.TAKEN_BACK if found.desired and self.taken else end_of(first, judged, self._wanted)
        if not found.patience:
            self._patient_until = None
        elif self._patient_until is None:
            self._patient_until = now + found.patience
        is_sure = end is End.TAKEN_BACK or (judged.failed > 0 and end is End.NOT_YET)
        return end if is_sure or self._patient_until is None or now >= self._patient_until else None

    def _may_be_mended(self, found: Progress, now: float) -> int:
        """On how many hosts a refusal of before the watch may still be the last that was told."""
        if self._refused_until is None:
            self._old_refusals, self._refused_until = found.refused, now + found.asked_within
        self._old_refusals = min(self._old_refusals, found.refused) if now < self._refused_until else 0
        return self._old_refusals


def end_of(first: Progress, found: Progress, wanted: Wanted) -> End | None:
    """How a watch ends that began with `first`, if it does now; None: not yet. Silent hosts are left out already.
    first.pending: of the last look before what hosts shall have was edited."""
    if not found.desired:
        return End.TAKEN_BACK if first.desired else End.NOT_YET
    if is_taken_back(first, found):
        return End.TAKEN_BACK
    if wanted.max_failed is not None and wanted.is_too_much(found):
        return End.NOT_YET
    if not found.judged:
        return End.WAITS_FOR_A_PERSON if found.held else End.NOT_YET
    if found.todo or found.trial:
        return None
    return End.NOT_YET if wanted.is_too_much(found) else End.DONE


def is_taken_back(first: Progress, found: Progress) -> bool:
    """Whether no host shall have any more what some had to have because somebody edited it: another version was set, an
    override removed, a version banned. It is not when those hosts are gone, or were put aside. What an override tried out, and
    has become the record's own, goes on; but where hosts were yet to come to what the record said, it is that which was taken
    back, and what an override spared from it is none that was tried out."""
    gone = set(first.wanted) - set(found.wanted)
    if not _is_edited(first, found) or not gone:
        return False
    is_promoted = found.desired != first.desired and found.desired in set(first.wanted) & set(found.wanted)
    return not (is_promoted and gone == {first.desired} and first.desired not in first.pending)


def taken_from(before: Progress, found: Progress) -> int:
    """From how many hosts an edit between these two looks has taken the version that they had to have, and gave them another.
    Not so where hosts of the record's own version, none of which were on their way to it, get one that others had already."""
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
    """As many as fit into a question."""
    lengths = accumulate(len(name) + 1 for name in names)
    return [name for name, length in zip(names, lengths, strict=True) if length <= AT_MOST]


def _is_edited(before: Progress, found: Progress) -> bool:
    """Whether somebody edited which hosts shall have which version; an older meta tells of no grounds."""
    if before.grounds and found.grounds:
        return found.grounds != before.grounds
    return found.revision != before.revision
