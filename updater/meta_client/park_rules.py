"""When a host parks at meta, for how long, and what follows each answer. Pure: the caller passes times and chance.

Times are monotonic seconds, and `chance` is a random number from 0 to 1. A proxy or firewall may cut a connection that is
silent for too long. So after a cut, shorter waits are asked for, until a longer one comes through or the lesson is old. A cut
that comes at once says nothing about the path, and neither does one alone: meta may have died.
"""

from enum import Enum, auto
from math import inf
from typing import NamedTuple


class Spans(NamedTuple):
    """Seconds."""

    least: float = 2.0  # between two wakes, and between two answers without use; doubled while they bring no news
    shortest: float = 30.0  # a path that allows no longer wait is not used
    immediate: float = 1.0  # a failure that comes sooner says nothing about the path
    apart: float = 60.0  # hosts that were cut off together come back within so long
    grace: float = 10.0  # an answer may take so much longer than its wait
    rest: float = (
        3600.0  # for which a refusal holds, and what was learnt of the path, which doubles when it is learnt again
    )
    long_rest: float = 86400.0  # for which it holds that meta has no parking


SPANS = Spans()
_SHORTER = 0.8  # of the wait that was cut
_IN_VAIN = 3  # wakes or answers without use in a row, from which on they are told


class Kind(Enum):
    """What an answer means."""

    WAKE = auto()  # beat soon
    NOTHING = auto()  # ask again
    MISSING = auto()  # this meta has no parking
    BUSY = auto()
    FORBIDDEN = auto()
    FAILED = auto()  # anything else: cut, too late, or no answer of a meta


class Answer(NamedTuple):
    """The answer to one `GET /notify`."""

    kind: Kind
    why: str = ""  # what went wrong, in words
    seconds: float = 0.0  # of a wake: within how many to beat; of BUSY: Retry-After, 0 for none


class ParkRules:
    """What is known of parking at one meta. first: the time of the first park."""

    def __init__(self, first: float, spans: Spans = SPANS) -> None:
        self.not_before = first
        self.why = "the updater has just begun"  # why meta cannot wake this host, as far as known; "" if it can
        self._spans = spans
        self._limit, self._limit_until = inf, 0.0  # the longest wait that the path allows, and until when this holds
        self._cut_after = inf  # seconds after which the last wait was cut
        self._lessons = 0  # limits learnt since the last one was disproved
        self._early = 0  # cuts in a row that leave no wait that is long enough
        self._failures = 0  # in a row
        self._in_vain = 0  # wakes and answers in a row that brought no news

    def limit(self, now: float) -> float:
        """The longest wait that the path is known to allow, infinite if none was cut."""
        return self._limit if now < self._limit_until else inf

    def wait(self, longest: float, left: float, now: float) -> int:
        """Whole seconds to ask for, 0 for none. longest: as meta allows; left: until the next beat."""
        return max(int(min(longest, left, self.limit(now))), 0)

    def hear(self, answer: Answer, asked: float, lasted: float, now: float, chance: float) -> None:
        """Take an answer. asked: the wait; lasted: seconds from the connection to the answer, 0 if there was no connection."""
        if answer.kind is Kind.NOTHING and lasted < min(asked / 2, self._spans.shortest):
            self._note_use(False, now, "meta answers at once, without a wait")
        elif answer.kind in (Kind.WAKE, Kind.NOTHING):
            self._note_success(asked, now, is_whole=answer.kind is Kind.NOTHING)
        else:
            self.why = answer.why
            self._failures += 1
            self.not_before = now + self._pause(answer, chance)
            if answer.kind is Kind.FAILED and lasted >= self._spans.immediate:
                self._learn(min(lasted, asked), now)

    def note_wake(self, has_news: bool, now: float) -> None:
        """Take the beat that followed a wake. has_news: whether its reply was another one than before."""
        self._note_use(has_news, now, "meta wakes this host again and again without news")

    def _note_use(self, has_news: bool, now: float, why: str) -> None:
        self._in_vain = 0 if has_news else self._in_vain + 1
        self.why = why if self._in_vain >= _IN_VAIN else ""
        self.not_before = now + min(self._spans.least * 2.0 ** min(self._in_vain, 20), self._spans.rest)

    def _note_success(self, asked: float, now: float, is_whole: bool) -> None:
        """is_whole: the wait went to its end."""
        self.not_before, self._failures = now, 0
        if is_whole:
            self._in_vain = 0
            if asked > self._cut_after:  # another reason had cut that one
                self._lessons = self._early = 0
                self._limit = self._cut_after = inf
        if self._in_vain < _IN_VAIN:
            self.why = ""

    def _pause(self, answer: Answer, chance: float) -> float:
        spans = self._spans
        if answer.kind is Kind.MISSING:
            return spans.long_rest
        if answer.kind is Kind.FORBIDDEN:
            return spans.rest
        if answer.seconds:
            asked = min(answer.seconds, spans.rest)
            return asked + chance * min(asked, spans.apart)
        return max(spans.least, min(chance * spans.apart * 2.0 ** min(self._failures - 1, 20), spans.rest))

    def _learn(self, cut_after: float, now: float) -> None:
        """The path has cut a wait after so many seconds."""
        spans = self._spans
        held = min(spans.rest * 2.0 ** min(self._lessons, 20), spans.long_rest)
        self._cut_after, self._lessons = cut_after, self._lessons + 1
        self._limit, self._limit_until = max(_SHORTER * cut_after, spans.shortest), now + held
        self._early = self._early + 1 if _SHORTER * cut_after < spans.shortest else 0
        if self._early > 1:
            self.not_before, self._limit, self._early = now + held, inf, 0
