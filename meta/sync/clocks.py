"""How far our clock is from the database's and from other metas', and whether somebody has set it. Readings are arguments.

A wall clock that leaves the monotonic one was set, or the machine slept; then the times of what was heard before are moved
along, as nobody was silent meanwhile. A clock that is only wrong is told, and nothing else: whose it is, people find out.
"""

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

APART = 5.0  # seconds from which on it is told
SET = 2.0  # seconds between wall and monotonic clock: no clock that is only slewed gets so far between two rounds
SLACK = 1.0  # seconds that are no change of how far two clocks are apart
TOGETHER = 0.5  # seconds in which both must be read, or the reading tells nothing
FORGOTTEN = 60.0  # seconds after which what another meta wrote tells nothing of its clock
log = logging.getLogger(__name__)


class Reading(NamedTuple):
    """Both clocks of this machine at one moment, in seconds."""

    wall: float
    monotonic: float


def read(wall: Callable[[], float], monotonic: Callable[[], float]) -> Reading | None:
    """None where too much time passed in between."""
    before, now = monotonic(), wall()
    after = monotonic()
    return Reading(now, before) if after - before < TOGETHER else None


def was_set_by(before: Reading | None, after: Reading | None) -> float:
    """Seconds by which the wall clock was set between the two, 0.0 when it was not, or nobody can tell."""
    if before is None or after is None:
        return 0.0
    by = (after.wall - before.wall) - (after.monotonic - before.monotonic)
    return by if abs(by) > SET else 0.0


class Clocks:
    """What is known of other clocks. database: seconds by which ours is ahead of its clock, None where that is not known, as
    with a file; ahead: the same in whole seconds, 0.0 where it is not known or too little to matter."""

    def __init__(self) -> None:
        self.database: float | None = None
        self.ahead = 0.0
        self._metas: dict[str, tuple[float, float]] = {}  # by meta: how far it is ahead of us, and since when we know
        self._doubt = 0.0
        self._told: list[str] = []

    def asked(self, before: float, theirs: float | None, after: float) -> None:
        """The database's clock said this between these two moments of ours."""
        self.database = None if theirs is None else (before + after) / 2 - theirs
        self._doubt = abs(after - before) / 2
        self._round()

    def was_set(self, by: float) -> None:
        """Our clock was, by so many seconds."""
        if self.database is not None:
            self.database += by
            self._round()

    def _round(self) -> None:
        found = self.database or 0.0
        if abs(found - self.ahead) > SLACK + self._doubt:
            self.ahead = float(round(found)) if abs(found) - self._doubt > APART else 0.0

    def wrote(self, dates: Mapping[str, float], now: float) -> None:
        """Each of these metas has written something by now that it dates so; what it wrote before tells nothing any more."""
        known = {meta: found for meta, found in self._metas.items() if abs(now - found[1]) < FORGOTTEN}
        self._metas = known | {meta: (latest - now, now) for meta, latest in dates.items()}

    def metas(self, now: float) -> float:
        """Seconds by which the clock of the meta that is most ahead is ahead of ours, 0.0 when none is."""
        return max(
            (ahead for ahead, at in self._metas.values() if abs(now - at) < FORGOTTEN and ahead > 0), default=0.0
        )

    def warnings(self, now: float) -> list[str]:
        """What a person should see to."""
        found = []
        if self.database is not None and abs(self.database) - self._doubt > APART:
            ahead = "ahead of" if self.database > 0 else "behind"
            found.append(f"this machine's clock is {abs(self.database):.0f} s {ahead} the database's")
        if (ahead_of_us := self.metas(now)) > APART:
            found.append(f"another meta's clock is {ahead_of_us:.0f} s ahead of this machine's")
        return found

    def tell(self, now: float) -> None:
        """In the log, once, and when it is over."""
        found = self.warnings(now)
        if found and not self._told:
            for line in found:
                log.warning("%s: times of hosts and revisions are wrong somewhere, and tokens expire by them", line)
        elif self._told and not found:
            log.warning("the clocks agree again")
        self._told = found
