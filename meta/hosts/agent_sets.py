"""Agent sets: what hosts report of their agents, and how their last changes failed.

Reports are cleaned, an agent set is kept once for all hosts that report the same, and all sets together have a limit. Pure.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from meta.errors import TooMany
from meta.hosts.classes import UNREPORTED, Class, Rejection, Reported, Seen, Verdict
from updater.wire.heartbeat import WAITS, RealAgent
from updater.wire.limits import MAX_NAME, MAX_STATUS
from updater.wire.names import version_problem
from updater.wire.text import one_line

if TYPE_CHECKING:
    from meta.hosts.model import Host

MANY = 64  # agents; a host with more keeps only the latest of its observation times
LIGHT = 4096  # bytes; an agent set this small is accepted even when memory is full
MAX_WEIGHT = 256 << 20  # bytes of all agent sets; beyond this, new ones must be light
# When a host observed its agents, in Unix seconds by its own clock: one time for all, or one for each.
Stamp = int | tuple[int, ...]


# Stored between the reason for which a person holds an agent and the other words; it cannot occur in a host's text.
_APART = "\x1f"
_ON_TRIAL, _UNTOLD, _REJECTED = "trial", "untold", "rejected="


class _Stored(msgspec.Struct, array_like=True, gc=False):
    """One reported agent as the database stores it.

    The previous release must be able to read it. It knows these four values, with `held` alone as the last one. So `trial`,
    `waits` and `rejected=VERSION@ATTEMPT` follow `held` as words, and that release skips the words it does not know.
    """

    name: str
    version: str
    status: str
    said: str | None  # `held` and the words; "": neither held nor on trial; None: the updater reports none of this

    def reported(self) -> Reported:
        return Reported(self.name, self.version, self.status, *_read(self.said))


_Said = tuple[str | UnsetType, bool | UnsetType, str | UnsetType, Rejection | UnsetType]


def _read(said: str | None) -> _Said:
    """Return held, trial, waits and rejected from the stored text."""
    if said is None:
        return UNSET, UNSET, UNSET, UNSET
    held, apart, rest = said.partition(_APART)
    if held and not apart:
        return held, UNSET, UNSET, UNSET
    words = rest.split()
    trial = UNSET if _UNTOLD in words else _ON_TRIAL in words
    waits = next((word for word in words if word in WAITS), UNSET)
    rejected = next((_rejection(word) for word in words if word.startswith(_REJECTED)), UNSET)
    return held or UNSET, trial, waits, rejected


def _rejection(word: str) -> Rejection | UnsetType:
    version, _, attempt = word.removeprefix(_REJECTED).partition("@")
    is_one = not version_problem(version) and attempt.isascii() and attempt.isdecimal()
    return Rejection(version, int(attempt)) if is_one else UNSET


def _written(
    held: str | UnsetType, trial: bool | UnsetType, waits: str | UnsetType, rejected: Rejection | UnsetType
) -> str | None:
    """The inverse of `_read`."""
    told = _UNTOLD if trial is UNSET else _ON_TRIAL if trial else ""
    given_up = f"{_REJECTED}{rejected.version}@{rejected.attempt}" if isinstance(rejected, Rejection) else ""
    said = " ".join(filter(None, (told, waits or "", given_up)))
    if said == _UNTOLD:
        return held or None
    return f"{held or ''}{_APART}{said}" if held or said else ""


_stored_agents = msgspec.json.Decoder(tuple[_Stored, ...])
_encode = msgspec.json.Encoder().encode


class AgentSet:
    """An agent set: the agents that some hosts report alike, and how their last changes failed there."""

    __slots__ = ("agents", "groups", "kept_text", "verdicts")

    def __init__(self, all_reported: tuple[Reported, ...], verdicts: tuple[Verdict, ...] = ()):
        self.agents = all_reported
        self.verdicts = verdicts
        self.groups = 0  # how many groups use it
        self.kept_text = ""  # `text`, once it was rendered

    @property
    def key(self) -> "Key":
        return self.agents, self.verdicts

    @property
    def text(self) -> str:
        """The reported agents as JSON, for the database."""
        if not self.kept_text:
            self.kept_text = _encode([(*reported.seen, _written(*reported[3:])) for reported in self.agents]).decode()
        return self.kept_text

    @property
    def has_failures(self) -> bool:
        """Whether any of the agents may have failed; if not, none has."""
        return bool(self.verdicts) or any(
            one.rejected is not UNSET or (one.trial is True and one.held) for one in self.agents
        )

    def reported(self, agent: str) -> Reported:
        """Return what is reported of this agent; UNREPORTED if nothing is."""
        return next((reported for reported in self.agents if reported.name == agent), UNREPORTED)

    def tells_turns(self, agent: str) -> bool:
        """Whether the updater would say that a change of this agent is under way. It tells so where it tells of trials."""
        its = [reported for reported in self.agents if reported.name == agent] or self.agents
        return any(reported.trial is not UNSET for reported in its)

    def verdict(self, agent: str) -> Verdict | None:
        return next((one for one in self.verdicts if one.agent == agent), None)


Key = tuple[tuple[Reported, ...], tuple[Verdict, ...]]


class Group:
    """The hosts of one class that report the same agent set."""

    __slots__ = ("agent_set", "hosts", "klass")

    def __init__(self, agent_set: AgentSet, klass: Class):
        self.agent_set = agent_set
        self.klass = klass  # `Groups.retired_class` if the hosts are retired
        self.hosts: set[Host] = set()


class AgentSets:
    """All agent sets in use. Not safe for threads."""

    def __init__(self) -> None:
        self.weight = 0  # bytes that they take, estimated
        self._known: dict[Key, AgentSet] = {}
        self._texts: dict[tuple[str, tuple[Verdict, ...]], AgentSet] = {}

    def __len__(self) -> int:
        return len(self._known)

    def has_room(self, all_reported: tuple[Reported, ...], verdicts: tuple[Verdict, ...] = ()) -> bool:
        """Whether a host may report this: it is known already, or there is memory left, or it is light."""
        is_known = (all_reported, verdicts) in self._known
        return is_known or self.weight < MAX_WEIGHT or _weight(all_reported, verdicts) <= LIGHT

    def admit(self, all_reported: tuple[Reported, ...], verdicts: tuple[Verdict, ...]) -> AgentSet:
        """Like `of`, for a report. Raises TooMany if there is no memory left for it."""
        if not self.has_room(all_reported, verdicts):
            raise TooMany(f"what hosts say of their agents fills {MAX_WEIGHT >> 20} MB: no room for so long a report")
        return self.of(all_reported, verdicts)

    def of(self, all_reported: tuple[Reported, ...], verdicts: tuple[Verdict, ...] = ()) -> AgentSet:
        """Return the agent set, made if new. The caller must put it into a group at once; `release` forgets it."""
        agent_set = self._known.get((all_reported, verdicts))
        if agent_set is None:
            agent_set = AgentSet(all_reported, verdicts)
            self._known[agent_set.key] = agent_set
            self.weight += _weight(all_reported, verdicts)
        return agent_set

    def read(self, text: str, verdicts: tuple[Verdict, ...] = ()) -> AgentSet:
        """Return the agent set of a text from the database, and these verdicts. Raises msgspec.DecodeError."""
        agent_set = self._texts.get((text, verdicts))
        if agent_set is None:
            agent_set = self.of(tuple(one.reported() for one in _stored_agents.decode(text)), verdicts)
            if text == agent_set.text:  # if spelled differently, `release` could not find it again
                self._texts[text, verdicts] = agent_set
        return agent_set

    def release(self, agent_set: AgentSet) -> None:
        """Note that one group fewer uses it; forget it when no group does."""
        agent_set.groups -= 1
        if not agent_set.groups:
            del self._known[agent_set.key]
            self.weight -= _weight(agent_set.agents, agent_set.verdicts)
            self._texts.pop((agent_set.kept_text, agent_set.verdicts), None)


def _weight(all_reported: Iterable[Reported], verdicts: Iterable[Verdict]) -> int:
    """Return the bytes this takes, estimated: the characters, and 300 for the Python objects of each entry."""
    weight = sum(300 + len(one.name) + len(one.version) + len(one.status) + len(one.held or "") for one in all_reported)
    return weight + sum(300 + len(verdict.agent) + len(verdict.to) for verdict in verdicts)


def same_as_reported(agents: Sequence[RealAgent], all_reported: Sequence[Reported]) -> Stamp | None:
    """Return when the host observed its agents if they are exactly these; None if anything differs."""
    if len(agents) != len(all_reported):
        return None
    first = mixed = None
    for agent, (name, version, status, held, trial, waits, rejected) in zip(agents, all_reported, strict=False):
        if agent.version != version or agent.status != status or agent.name != name or agent.trial is not trial:
            return None
        if (agent.held is not held and agent.held != held) or (agent.waits is not waits and agent.waits != waits):
            return None
        if agent.rejected is not rejected and _rejected(agent) != rejected:
            return None
        if agent.timestamp != first:
            mixed, first = first, agent.timestamp
    if mixed is None:
        return first or 0
    return _stamp([agent.timestamp for agent in agents])


def _stamp(stamps: Sequence[int]) -> Stamp:
    if len(set(stamps)) == 1 or len(stamps) > MANY:
        return max(stamps)
    return tuple(stamps)


def clean_agents(agents: Iterable[RealAgent]) -> tuple[tuple[Reported, ...], Stamp]:
    """Return the agents of a report, cleaned, and when they were observed. Of an agent listed twice, the last one counts."""
    seen: dict[str, tuple[Reported, int]] = {}
    for agent in agents:
        name = one_line(agent.name, MAX_NAME)
        held = (one_line(agent.held, MAX_STATUS) if agent.held else "") or UNSET
        waits = agent.waits if agent.waits in WAITS else UNSET
        version, status = one_line(agent.version, MAX_NAME), one_line(agent.status, MAX_STATUS)
        reported = Reported(name, version, status, held, agent.trial, waits, _rejected(agent))
        seen[name] = (reported, agent.timestamp)
    all_reported = tuple(reported for reported, _ in seen.values())
    return all_reported, _stamp([stamp for _, stamp in seen.values()]) if all_reported else 0


def _rejected(agent: RealAgent) -> Rejection | UnsetType:
    if agent.rejected is UNSET or version_problem(agent.rejected):
        return UNSET
    return Rejection(agent.rejected, 0 if agent.attempt is UNSET else agent.attempt)


def since_when(all_reported: Sequence[Reported], before: dict[Seen, float], now: float) -> float | tuple[float, ...]:
    """Return since when each agent has this version and status (Unix seconds); one time if it is the same for all.

    before: these times for the agents that were known until now.
    """
    times = tuple(before.get(reported.seen, now) for reported in all_reported)
    return times if len(set(times)) > 1 else max(times, default=now)
