"""A version on trial, a rejected order, and the moment at which either is judged. Values only."""

from typing import NamedTuple

import msgspec

from updater.wire.heartbeat import Desired


class Moment(NamedTuple):
    """When something is judged. now: Unix seconds; watch: seconds; boot: which start of the machine this is."""

    now: float
    watch: float
    boot: str = ""


class Trial(msgspec.Struct, frozen=True):
    """The last version that was switched to, until it has proven itself."""

    version: str
    until: float = (
        0  # Unix seconds: it has come through when it is seen started then or later; 0 before it was seen started
    )
    failure: str = ""  # why it was given up
    evidence: str = ""
    processes: frozenset[str] = frozenset()  # that it was last seen with
    mains: frozenset[str] = frozenset()  # those of `processes` that only another start replaces
    restarts: int = 0  # how often all of them were replaced
    boot: str = ""  # in which the watch began: what is down after another one has not failed
    began: float = 0  # Unix seconds of its last start, 0 when that is not known
    doubts: int = 0  # looks in a row at which it said `stoped` while its processes lived
    lost: int = 0  # looks at which it said `started` while none existed
    again: bool = False  # started once more, for it had died while another version lived


class Rejected(msgspec.Struct, frozen=True):
    """An order whose version failed here; it is not tried again until the order changes, or has a higher attempt."""

    order: Desired
    reason: str


def same_artifact(one: Desired, other: Desired) -> bool:
    """Whether two orders mean the same bytes, as far as the orders themselves tell."""
    return (one.version, one.tarball, one.md5, one.sha256) == (other.version, other.tarball, other.md5, other.sha256)
