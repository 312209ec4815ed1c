"""What hosts say of their agents, and how their last changes failed: cleaned, kept once however many hosts say the same, and
bounded however much they say. Pure.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from meta.errors import TooMany
from meta.hosts.classes import NO_LOOK, Class, Look, Rejection, Verdict
from updater.wire.heartbeat import WAITS, RealAgent
from updater.wire.names import version_problem
from updater.wire.text import one_line

if TYPE_CHECKING:
    from meta.hosts.model import Host

MAX_NAME = 64
MAX_STATUS = 300  # characters, like every other foreign sentence here
MANY = 64  # agents of one host, beyond which it has one time for all at which it looked
LIGHT = 4096  # bytes of a profile that are nobody's trouble
MAX_WEIGHT = 256 << 20  # bytes of all profiles, beyond which only light ones are new
Stamp = int | tuple[int, ...]


_APART = (
    "\x1f"  # in the database, between why a person holds an agent and what else there is to say; in no text of a host
)
_ON_TRIAL, _UNTOLD, _REJECTED = "trial", "untold", "rejected="


class _Stored(msgspec.Struct, array_like=True, gc=False):
    """A look in the database. The release before knows these four values, the last as `held` alone, and must be able to read
    what we write: so `trial`, `waits` and `rejected=VERSION@ATTEMPT` are words behind it, of which it skips those that it does
    not know, and "" says that it is neither held nor on trial."""

    name: str
    version: str
    status: str
    said: str | None

    def look(self) -> Look:
        return (self.name, self.version, self.status, *_read(self.said))


_Said = tuple[str | UnsetType, bool | UnsetType, str | UnsetType, Rejection | UnsetType]


def _read(said: str | None) -> _Said:
    """held, trial, waits and rejected."""
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
    """The inverse."""
    told = _UNTOLD if trial is UNSET else _ON_TRIAL if trial else ""
    given_up = f"{_REJECTED}{rejected.version}@{rejected.attempt}" if isinstance(rejected, Rejection) else ""
    said = " ".join(filter(None, (told, waits or "", given_up)))
    if said == _UNTOLD:
        return held or None
    return f"{held or ''}{_APART}{said}" if held or said else ""


_looks = msgspec.json.Decoder(tuple[_Stored, ...])
_encode = msgspec.json.Encoder().encode


class Profile:
    """The agents as some hosts see them, and how their last changes failed there. groups: how many groups use it."""

    __slots__ = ("groups", "kept_text", "looks", "verdicts")

    def __init__(self, looks: tuple[Look, ...], verdicts: tuple[Verdict, ...] = ()):
        self.looks = looks
        self.verdicts = verdicts
        self.groups = 0
        self.kept_text = ""

    @property
    def key(self) -> "Key":
        return self.looks, self.verdicts

    @property
    def text(self) -> str:
        """Its looks, for the database."""
        if not self.kept_text:
            self.kept_text = _encode([(*look[:3], _written(*look[3:])) for look in self.looks]).decode()
        return self.kept_text

    @property
    def has_failures(self) -> bool:
        """Whether any of its agents may have failed."""
        return bool(self.verdicts) or any(look[6] is not UNSET or (look[4] is True and look[3]) for look in self.looks)

    def look(self, agent: str) -> Look:
        """At this agent."""
        return next((look for look in self.looks if look[0] == agent), NO_LOOK)

    def verdict(self, agent: str) -> Verdict | None:
        return next((one for one in self.verdicts if one.agent == agent), None)


Key = tuple[tuple[Look, ...], tuple[Verdict, ...]]


class Group:
    """The hosts of one class that say the same of their agents; klass is `Groups.retired_class` for those that are retired."""

    __slots__ = ("hosts", "klass", "profile")

    def __init__(self, profile: Profile, klass: Class):
        self.profile = profile
        self.klass = klass
        self.hosts: set[Host] = set()


class Profiles:
    """All profiles in use. Not safe for threads. weight: bytes that they take, more or less."""

    def __init__(self) -> None:
        self.weight = 0
        self._known: dict[Key, Profile] = {}
        self._texts: dict[tuple[str, tuple[Verdict, ...]], Profile] = {}

    def __len__(self) -> int:
        return len(self._known)

    def has_room(self, looks: tuple[Look, ...], verdicts: tuple[Verdict, ...] = ()) -> bool:
        """Whether another host may say this: whatever others have said fills the memory for what is heavy, and no more."""
        is_known = (looks, verdicts) in self._known
        return is_known or self.weight < MAX_WEIGHT or _weight(looks, verdicts) <= LIGHT

    def admit(self, looks: tuple[Look, ...], verdicts: tuple[Verdict, ...]) -> Profile:
        """As `of`, for what a report says. Raises TooMany."""
        if not self.has_room(looks, verdicts):
            raise TooMany(f"what hosts say of their agents fills {MAX_WEIGHT >> 20} MB: no room for so long a report")
        return self.of(looks, verdicts)

    def of(self, looks: tuple[Look, ...], verdicts: tuple[Verdict, ...] = ()) -> Profile:
        """To be used by a group at once: `release` forgets it."""
        profile = self._known.get((looks, verdicts))
        if profile is None:
            profile = Profile(looks, verdicts)
            self._known[profile.key] = profile
            self.weight += _weight(looks, verdicts)
        return profile

    def read(self, text: str, verdicts: tuple[Verdict, ...] = ()) -> Profile:
        """Of the looks in the database. Raises msgspec.DecodeError."""
        profile = self._texts.get((text, verdicts))
        if profile is None:
            profile = self.of(tuple(one.look() for one in _looks.decode(text)), verdicts)
            if text == profile.text:  # else it is spelled in another way, and nobody could release it
                self._texts[text, verdicts] = profile
        return profile

    def release(self, profile: Profile) -> None:
        """One group less uses it."""
        profile.groups -= 1
        if not profile.groups:
            del self._known[profile.key]
            self.weight -= _weight(profile.looks, profile.verdicts)
            self._texts.pop((profile.kept_text, profile.verdicts), None)


def _weight(looks: Iterable[Look], verdicts: Iterable[Verdict]) -> int:
    """Bytes, more or less: beside the characters what Python needs for the objects."""
    weight = sum(300 + len(look[0]) + len(look[1]) + len(look[2]) + len(look[3] or "") for look in looks)
    return weight + sum(300 + len(verdict.agent) + len(verdict.to) for verdict in verdicts)


def same_looks(agents: Sequence[RealAgent], looks: Sequence[Look]) -> Stamp | None:
    """When the host looked, if it saw just this; else None."""
    if len(agents) != len(looks):
        return None
    first = mixed = None
    for agent, (name, version, status, held, trial, waits, rejected) in zip(agents, looks, strict=False):
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


def clean_looks(agents: Iterable[RealAgent]) -> tuple[tuple[Look, ...], Stamp]:
    """What a report says of its agents, and when they were looked at; of an agent that is listed twice the last."""
    seen: dict[str, tuple[Look, int]] = {}
    for agent in agents:
        name = one_line(agent.name, MAX_NAME)
        held = (one_line(agent.held, MAX_STATUS) if agent.held else "") or UNSET
        waits = agent.waits if agent.waits in WAITS else UNSET
        version, status = one_line(agent.version, MAX_NAME), one_line(agent.status, MAX_STATUS)
        look: Look = (name, version, status, held, agent.trial, waits, _rejected(agent))
        seen[name] = (look, agent.timestamp)
    looks = tuple(look for look, _ in seen.values())
    return looks, _stamp([stamp for _, stamp in seen.values()]) if looks else 0


def _rejected(agent: RealAgent) -> Rejection | UnsetType:
    if agent.rejected is UNSET or version_problem(agent.rejected):
        return UNSET
    return Rejection(agent.rejected, 0 if agent.attempt is UNSET else agent.attempt)


State = tuple[str, str, str]  # an agent, its version and its status


def since_when(looks: Sequence[Look], before: dict[State, float], now: float) -> float | tuple[float, ...]:
    """Since when each of them has this version and status; one time, where that is the same for all. before: what was known."""
    times = tuple(before.get(look[:3], now) for look in looks)
    return times if len(set(times)) > 1 else max(times, default=now)
