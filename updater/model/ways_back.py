"""Which versions a failed one may be rolled back to. Pure; a part of `memory.Memory`.

A version is proven when it has come through its watch here, or was there before the updater. One look at it is no proof:
what crashes in a loop is `started` now and then. So a version that was replaced within its watch is unproven. It is gone back
to only while none is proven, and then it is on trial.
"""

from collections.abc import Container, Iterable
from typing import NamedTuple

import msgspec

_KEPT = 16  # proven versions that are remembered


def no_way_back(version: str, installs: Iterable[str]) -> str:
    """Why an operator request cannot roll `version` back, in words."""
    others = sorted(one for one in installs if one != version)
    if not others:
        return "no other version is installed"
    return f"no other version has come through its watch here, or ran when it was left ({', '.join(others)} installed)"


class WaysBack(msgspec.Struct, frozen=True):
    """The ways back besides `Memory.good`."""

    earlier: tuple[str, ...] = ()  # proven before `good` was, oldest first
    restless: bool = False  # whether what listens was still being replaced when the watch of `good` ended
    unproven: str = ""  # the last version that was left within its watch, alive, while none was proven


class Ways(NamedTuple):
    """`Memory.good` with the other ways back."""

    good: str  # the last proven version; "" for none
    others: WaysBack

    @property
    def best(self) -> str:
        """The version that a failed one is rolled back to; "" for none."""
        earlier = self.others.earlier
        return earlier[-1] if self.others.restless and earlier else self.good or self.others.unproven

    def proven(self, version: str, restless: bool) -> "Ways":
        """The ways once `version` has come through its watch. restless: of this watch.

        If the version before was as restless, that is how the agent works, so both count.
        """
        others = self.others
        before = others.earlier if others.restless and not restless else self._proven
        return _ways([*_but(before, version), version], restless and not others.restless)

    def without(self, version: str) -> "Ways":
        """The ways once `version` was rejected: the best one of the rest, and what was proven before it."""
        left = self._but(version)
        return _ways(left.others.earlier, False, left.others.unproven) if left.best != left.good != "" else left

    def left_dead(self, version: str) -> "Ways":
        """The ways once `version` has failed or died on trial: left alive before, it is a way back no more."""
        return self._but(version) if self.others.unproven == version else self

    def tried_again(self, version: str) -> "Ways":
        """The ways once `version` is on trial: if it was proven before, it has to come through a watch again."""
        others = self.others
        return Ways(self.good, WaysBack(tuple(_but(others.earlier, version)), others.restless, others.unproven))

    def installed(self, installs: Container[str]) -> "Ways":
        """The ways that are installed."""
        left = self
        for version in (*self._proven, self.others.unproven):
            left = left if version in installs else left._but(version)
        return left

    @property
    def _proven(self) -> tuple[str, ...]:
        return (*self.others.earlier, self.good) if self.good else ()

    def _but(self, version: str) -> "Ways":
        others = self.others
        unproven = "" if others.unproven == version else others.unproven
        return _ways(_but(self._proven, version), others.restless and self.good != version, unproven)


def _ways(proven: Iterable[str], restless: bool, unproven: str = "") -> Ways:
    *earlier, good = list(proven)[-_KEPT:] or [""]
    return Ways(good, WaysBack(tuple(earlier), restless, unproven))


def _but(versions: Iterable[str], version: str) -> list[str]:
    return [one for one in versions if one != version]
