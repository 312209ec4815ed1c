"""How far our clock differs from the database's and from other metas', and whether it was set. Readings are arguments.

If the wall clock jumps against the monotonic clock, it was set or the machine slept. The caller then moves the times of
earlier reports along, so that no host counts as silent for that. A clock that is merely wrong is logged: a person must find
out which one it is.
"""

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

APART = 5.0  # seconds of difference from which on a warning is given
SET = 2.0  # seconds between wall and monotonic clock; slewing does not move a clock so far between two rounds
SLACK = 1.0  # seconds; a smaller change of the difference between two clocks is ignored
TOGETHER = 0.5  # seconds within which both clocks must be read, or the reading is not used
FORGOTTEN = 60.0  # seconds for which a date that another meta wrote says something about its clock
log = logging.getLogger(__name__)


class Reading(NamedTuple):
    """Both clocks of this machine at one moment, in seconds."""

    wall: float
    monotonic: float


def read(wall: Callable[[], float], monotonic: Callable[[], float]) -> Reading | None:
    """Read both clocks. Returns None if too much time passed between the two."""
    before, now = monotonic(), wall()
    after = monotonic()
    return Reading(now, before) if after - before < TOGETHER else None


def was_set_by(before: Reading | None, after: Reading | None) -> float:
    """Return the seconds that the wall clock was set by between two readings; 0.0 if it was not, or a reading is missing."""
    if before is None or after is None:
        return 0.0
    by = (after.wall - before.wall) - (after.monotonic - before.monotonic)
    return by if abs(by) > SET else 0.0


class Clocks:
    """What is known of other clocks."""

    def __init__(self) -> None:
        self.database: float | None = None  # seconds that ours is ahead of the database's; None: unknown, as for a file
        self.ahead = 0.0  # the same in whole seconds; 0.0 if unknown or small
        self._metas: dict[
            str, tuple[float, float]
        ] = {}  # seconds that a meta is ahead of the database, and when that was seen
        self._doubt = 0.0  # seconds by which `database` may be wrong
        self._told: list[str] = []  # warnings that are in the log

    def asked(self, before: float, theirs: float | None, after: float) -> None:
        """Note the database's time, which was read between two times of our clock; None: it has no clock of its own."""
        self.database = None if theirs is None else (before + after) / 2 - theirs
        self._doubt = abs(after - before) / 2
        self._round()

    def was_set(self, by: float) -> None:
        """Note that our clock was set by so many seconds."""
        if self.database is not None:
            self.database += by
            self._round()

    def _round(self) -> None:
        found = self.database or 0.0
        if abs(found - self.ahead) > SLACK + self._doubt:
            self.ahead = float(round(found)) if abs(found) - self._doubt > APART else 0.0

    def wrote(self, dates: Mapping[str, float], now: float, said: Mapping[str, float] = MappingProxyType({})) -> None:
        """Note what other metas wrote of their clocks, in place of what each wrote before; what is not renewed expires.

        dates: the latest date of each, converted to our time; an old one says nothing. now: our time; said: of metas that know
        it, by how many seconds their clocks are ahead of the database's.
        """
        known = {meta: found for meta, found in self._metas.items() if abs(now - found[1]) < FORGOTTEN}
        found = {meta: max(0.0, latest - now) for meta, latest in dates.items()} | dict(said)
        self._metas = known | {meta: (ahead, now) for meta, ahead in found.items()}

    def metas(self, now: float) -> float:
        """Return by how many seconds another meta's clock is ahead of this one (below zero: behind), of the one that differs
        most; 0.0 if none does."""
        fresh = (ahead for ahead, at in self._metas.values() if abs(now - at) < FORGOTTEN)
        return max((ahead - self.ahead for ahead in fresh), key=abs, default=0.0)

    def warnings(self, now: float) -> list[str]:
        """Return warnings for a person: clocks that differ."""
        found = []
        if self.database is not None and abs(self.database) - self._doubt > APART:
            found.append(f"this machine's clock is {_apart(self.database)} the database's")
        if abs(others := self.metas(now)) > APART:
            found.append(f"another meta's clock is {_apart(others)} this machine's")
        return found

    def tell(self, now: float) -> None:
        """Log the warnings once, and once when they are over."""
        found = self.warnings(now)
        if found and not self._told:
            for line in found:
                log.warning(
                    "%s: check the time service (NTP) of both; times of hosts are wrong on one of them, and tokens expire "
                    "at the wrong time there",
                    line,
                )
        elif self._told and not found:
            log.warning("the clocks agree again")
        self._told = found


def _apart(seconds: float) -> str:
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'}"
