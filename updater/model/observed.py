"""What is true of an agent on its host, as values: what it says of itself, what is installed, what runs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from updater.model.recognised import Recognised
from updater.model.trials import Rejected
from updater.wire.heartbeat import STARTED, STOPPED, RealAgent


class State(Enum):
    """What a status says. UNKNOWN: the script did not answer, or said neither of the two words."""

    STARTED = "started"
    STOPPED = "stoped"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Status:
    """text: the word, or what was said instead of one, or the peers' words for a script that failed."""

    text: str

    @property
    def state(self) -> State:
        if self.text == STARTED:
            return State.STARTED
        return State.STOPPED if self.text in STOPPED else State.UNKNOWN


class Marker(msgspec.Struct, frozen=True):
    """What `.installed` holds. Digests are lower-case hex, blank for an install that was adopted; at: Unix seconds."""

    md5: str = ""
    sha256: str = ""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """One agent at one look. What it said may have changed since: `at` is when it was asked."""

    name: str
    current: str = ""  # the version in `.version`, or the last one known where that file is damaged; "" for none
    status: Status = field(default=Status(""))
    installs: Mapping[str, Marker] = field(default_factory=dict)  # the complete ones, by version
    marked: bool = False  # whether `current` is one of `installs`
    foreign: str = ""  # why the directory cannot be an agent's, "" when it can
    leftovers: tuple[str, ...] = ()  # what a killed updater left half done
    named: str = ""  # what `.version` names, "" for nothing
    trouble: str = ""  # why the agent cannot be looked at now, "" when it can
    held: str = ""  # why a person holds it, "" when nobody does
    processes: frozenset[str] = frozenset()  # of the current version, while that is in its watch
    mains: frozenset[str] = frozenset()  # those of `processes` that only another start replaces
    mains_alone: bool = False  # whether `mains` alone tell that it was started again
    running: Recognised | None = None  # what was recognised of its processes at this look
    absent: bool = False  # said to be started, and not believed: no process of it exists
    strange: bool = False  # its own stop might end a stranger, whose pid its pid file names
    occupied: frozenset[str] = frozenset()  # the versions that have left processes
    crowding: frozenset[str] = frozenset()  # those of `occupied` whose processes are the agent's own
    own: bool = False  # the updater that looks, which knows by itself that it runs
    at: float = 0  # Unix seconds

    @property
    def deciding(self) -> frozenset[str]:
        """The processes of which one that stays shows that it was not started again."""
        return self.mains if self.mains_alone else self.processes

    @property
    def state(self) -> State:
        return State.STOPPED if self.absent else self.status.state

    @property
    def may_be_told_to_stop(self) -> bool:
        """Whether its own control is asked to stop it though it is not believed to run."""
        return self.absent and not self.strange

    def real_agent(
        self, trial: bool | msgspec.UnsetType = msgspec.UNSET, waits: str = "", rejected: Rejected | None = None
    ) -> RealAgent:
        """As it is reported."""
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
