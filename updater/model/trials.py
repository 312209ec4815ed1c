"""A version on trial, the last start of one that is not rolled back, a rejected order, a dropped operator request, and the
moment of judgement. Pure."""

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from updater.wire.heartbeat import Desired

WATCHES = 3  # how many times as long as usual a watch takes at most because what listens is replaced again and again
_PORTS = 64  # ports whose listeners are remembered
_SHOWN = 3  # ports that are named in a message


class Moment(NamedTuple):
    """When a version on trial is judged."""

    now: float  # seconds of `clocks.ran`: setting the wall clock ends no watch
    watch: float  # seconds that a watch takes
    boot: str = ""  # the identity of the host's last boot
    at: float = 0  # Unix seconds, only for what is told


class Trial(msgspec.Struct, frozen=True):
    """A version that was switched to and has not come through its watch yet."""

    version: str
    # The end of its watch, in seconds of `clocks.ran`; 0 before it was first seen started. Earlier versions of the updater have
    # Unix seconds, named `until`: a watch that those began begins again, as does one that they take over.
    until: float = msgspec.field(default=0, name="ends")
    failure: str = ""  # why it failed; "" if it did not
    evidence: str = ""  # the end of its output when it failed
    processes: frozenset[str] = frozenset()  # identities of its processes at the last look
    mains: frozenset[str] = frozenset()  # those of `processes` that only a restart replaces
    by_file: Mapping[str, str] = {}  # the agent's own pid file -> which process it last named
    # TCP port -> identities of those of `processes` that were last seen to listen on it:
    listeners: Mapping[int, frozenset[str]] = {}
    replaced: int = 0  # how often all listeners of a port were replaced, which is no restart of the agent itself
    capped: bool = (
        False  # whether the watch ends less than a whole watch after the last of these, as WATCHES is the most
    )
    restarts: int = 0  # how often its supervisor has restarted it within the watch
    boot: str = ""  # the boot in which the watch began: a version that is down after a reboot has not failed
    began: float = 0  # its last start, on the clock of `until`; 0 if unknown
    doubts: int = 0  # consecutive looks at which it reported `stoped` while its processes lived
    lost: int = 0  # looks at which it reported `started` while no process existed
    # Whether it has died, was started again after a start of it had failed, or was left before it ran and is here again:
    died: bool = False
    told: bool = False  # whether an outcome has told of its failure while another version was ordered
    held_up: str = (
        ""  # which stopped versions may have kept it from running since its last start: its death tells nothing
    )
    served: bool = False  # whether it has listened since its last start on all ports that the versions before it had
    again: bool = False  # whether it had its second start after dying while another version's processes ran

    def after_probe(
        self,
        processes: frozenset[str],
        mains: frozenset[str],
        by_file: Mapping[str, str],
        listeners: Mapping[int, frozenset[str]],
        moment: Moment,
    ) -> "Trial":
        """The trial after a look at an agent that reports `started`. All arguments are as observed.

        If all its processes were replaced, or the one that an own pid file of the agent names, its supervisor has restarted it,
        and the watch begins again. The supervisor may stay, though another own pid file names that. The watch also begins again
        if all listeners of a port were replaced, as of a program below a supervisor that stays. Jobs that come and go do not
        listen on the same port each time. A program may serve one connection by design, so this watch ends at the latest when
        WATCHES watches have passed since the last start.
        """
        until, is_restart = moment.now + moment.watch, bool(self.mains and mains)
        is_restart = is_restart and not (mains & self.mains or processes & self.processes)
        is_restart = is_restart or any(self.by_file.get(file, one) != one for file, one in by_file.items())
        is_replaced = any(port in self.listeners and not now & self.listeners[port] for port, now in listeners.items())
        known = {**listeners, **self.listeners, **listeners}  # those of this look come first
        last = dict(islice(known.items(), _PORTS))
        met = replace(self, processes=processes, mains=mains or self.mains, listeners=last)
        met = replace(met, by_file={**self.by_file, **by_file})
        if is_restart:
            return replace(met, restarts=self.restarts + 1, until=until, began=moment.now, capped=False)
        if is_replaced:
            latest = max(self.until, self.began + WATCHES * moment.watch)
            return replace(met, replaced=self.replaced + 1, until=min(until, latest), capped=until > latest)
        return met

    def replacements(self) -> str:
        """How often what listens was replaced, in words; "" if it never was."""
        if not self.replaced:
            return ""
        ports = ", ".join(map(str, sorted(self.listeners)[:_SHOWN])) + (", ..." if len(self.listeners) > _SHOWN else "")
        times = "once" if self.replaced == 1 else f"{self.replaced} times"
        return f"what listens ({ports}) was replaced {times} within its watch"

    def forgetting(self) -> "Trial":
        """This trial without its processes and ports, for another start."""
        known = replace(self, processes=frozenset(), mains=frozenset(), by_file={}, listeners={})
        return replace(known, capped=False, held_up="", served=False)


class Restart(msgspec.Struct, frozen=True):
    """The last start of a version that is not rolled back if it dies: it is proven, or there is none to go back to.

    It is forgotten when the version has stayed up for as long as a watch.
    """

    version: str
    boot: str = ""  # the boot in which it was started
    began: float = 0.0  # when it was, in seconds of `clocks.ran`
    over: bool = False  # whether it is known that the version has ended since
    deaths: int = 0  # after how many starts in a row it was found down
    since: float = 0.0  # when it was for the first time, in Unix seconds
    reason: str = ""  # how it died then
    told: bool = False  # whether an outcome has told so

    def died(self, reason: str, at: float) -> "Restart":
        """The same once the version was found down. at: Unix seconds."""
        first = replace(self, since=at, reason=reason) if not self.deaths else self
        return replace(first, over=True, deaths=self.deaths + 1)

    def __str__(self) -> str:
        return "after its last start" if self.deaths == 1 else f"after each of its last {self.deaths} starts"


class Rejected(msgspec.Struct, frozen=True):
    """An order whose version failed here. It is tried again when the order changes or has a higher attempt."""

    order: Desired
    reason: str


class Dropped(msgspec.Struct, frozen=True):
    """An operator request that was not followed."""

    request: str  # `rollback` or `retry`
    version: str  # that it was made for; "" if it named none
    reason: str
    at: float = 0  # Unix seconds

    def __str__(self) -> str:
        return f"the {self.request}{f' of {self.version}' if self.version else ''} was not followed: {self.reason}"


def same_artifact(one: Desired, other: Desired) -> bool:
    """Whether two orders name the same artifact: version, tarball and digests are equal."""
    return (one.version, one.tarball, one.md5, one.sha256) == (other.version, other.tarball, other.md5, other.sha256)
