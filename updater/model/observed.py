"""An agent as observed on its host: its status, its installs and its processes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from updater.model.recognised import Recognised
from updater.model.trials import Rejected
from updater.wire.heartbeat import STARTED, STOPPED, RealAgent


class State(Enum):
    """The meaning of a status."""

    STARTED = "started"
    STOPPED = "stoped"  # the Go updater's spelling
    UNKNOWN = "unknown"  # the script printed neither word, failed, or did not answer in time


@dataclass(frozen=True, slots=True)
class Status:
    """The result of `./control status`."""

    text: str  # its last line, or the Go updater's words for a script that failed

    @property
    def state(self) -> State:
        if self.text == STARTED:
            return State.STARTED
        return State.STOPPED if self.text in STOPPED else State.UNKNOWN


class Marker(msgspec.Struct, frozen=True):
    """The content of `.installed`."""

    md5: str = ""  # of the tarball, lower-case hex; "" for an install of another updater
    sha256: str = ""  # likewise
    at: int = 0  # when it was installed, Unix seconds; 0 without a marker


@dataclass(frozen=True, slots=True)
class Observed:
    """One agent as observed at one time."""

    name: str
    current: str = ""  # the version in `.version`; if that is damaged, the last one remembered; "" for none
    status: Status = field(default=Status(""))
    installs: Mapping[str, Marker] = field(default_factory=dict)  # version -> marker, of complete installs
    marked: bool = False  # whether the install of `current` has a marker
    foreign: str = ""  # why the directory cannot be an agent's; "" if it can
    leftovers: tuple[str, ...] = ()  # names of directories that a killed updater left half done
    named: str = ""  # the content of `.version`; "" if it names no version
    trouble: str = ""  # why the agent cannot be observed now; "" if it can
    held: str = ""  # the reason of the operator request that holds it; "" if it is not held
    processes: frozenset[str] = frozenset()  # identities of the current version's processes; only within its watch
    mains: frozenset[str] = frozenset()  # those of `processes` that only a restart replaces
    # The agent's own pid file -> which of `mains` it names. If any does, `mains` are enough to recognise a restart:
    by_file: Mapping[str, str] = field(default_factory=dict)
    # TCP port -> identities of those of `processes` that listen on it; empty if pid files name `mains`:
    listeners: Mapping[int, frozenset[str]] = field(default_factory=dict)
    running: Recognised | None = None  # the recognised processes
    absent: bool = False  # it reports `started`, but none of its processes exists
    # It reports `started`, and processes of it live, but the one that its own pid file names has ended and was not reaped:
    unreaped: bool = False
    reaping: bool = False  # `unreaped`, but not for long: its supervisor may reap it yet, and start another one
    strange: bool = False  # its pid file names another program's process, which `./control stop` might end
    cut_off: bool = False  # it reports `stoped`, but the end of its last start was not seen
    occupied: frozenset[str] = frozenset()  # versions with processes left in their directories
    crowding: frozenset[str] = frozenset()  # those of `occupied` whose processes belong to the agent
    held_up: str = ""  # what may keep it, and a way back too, from running, in words; only within its watch
    taken: str = ""  # which of its ports others hold, in words; only if it is down within its watch
    serves: bool = False  # it listens on all ports that the versions before it had; only within its watch
    own: bool = False  # this is the updater itself
    changing: bool = False  # whether a turn was changing the agent when it was observed, or will when its slot comes
    at: float = 0  # when the status was asked, Unix seconds
    ran: float = 0  # the same by `clocks.ran`

    @property
    def deciding(self) -> frozenset[str]:
        """The processes that tell whether the agent was restarted: if one of them stays, it was not."""
        return self.mains if self.by_file else self.processes

    @property
    def state(self) -> State:
        return State.STOPPED if self.absent or self.unreaped else self.status.state

    @property
    def may_be_told_to_stop(self) -> bool:
        """Whether `./control stop` is run although no process exists (yet): it cannot end another program's process."""
        return (self.absent or self.unreaped or self.cut_off) and not self.strange

    def real_agent(
        self, trial: bool | msgspec.UnsetType = msgspec.UNSET, waits: str = "", rejected: Rejected | None = None
    ) -> RealAgent:
        """The agent's entry in a report. trial, waits: the keys of the same names; rejected: of its memory."""
        return RealAgent(
            self.name,
            self.current,
            self.status.text,
            int(self.at),
            held=self.held or msgspec.UNSET,
            trial=trial,
            waits=waits or msgspec.UNSET,
            rejected=rejected.order.version if rejected else msgspec.UNSET,
            attempt=(rejected.order.attempt if rejected else 0) or msgspec.UNSET,
        )
