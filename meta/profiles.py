"""What hosts say of their agents and of their orders: cleaned, kept once however many hosts say the same, and bounded however
much they say. Pure.
"""

from collections.abc import Iterable, Sequence

import msgspec

from meta.classes import Look
from updater.wire import Outcome, RealAgent, one_line

MAX_NAME = 64
MAX_STATUS = 300  # characters, like every other foreign sentence here
MAX_EVIDENCE = 2000
MAX_OUTCOMES = 100  # kept per host: one per agent, the latest
MAX_TOLD = 20_000  # characters of these
MANY = 64  # agents of one host, beyond which it has one time for all
LIGHT = 4096  # bytes of a profile that are nobody's trouble
MAX_WEIGHT = 256 << 20  # bytes of all profiles, beyond which only light ones are new
Stamp = int | tuple[int, ...]
_looks = msgspec.json.Decoder(tuple[tuple[str, str, str, str | None], ...])
_outcomes = msgspec.json.Decoder(dict[str, Outcome])
_encode = msgspec.json.Encoder().encode


class Profile:
    """The agents as some hosts see them. groups: how many groups use it."""

    __slots__ = ("groups", "kept_text", "looks")

    def __init__(self, looks: tuple[Look, ...]):
        self.looks = looks
        self.groups = 0
        self.kept_text = ""

    @property
    def text(self) -> str:
        """For the database."""
        if not self.kept_text:
            held = ((*look[:3], None if look[3] is msgspec.UNSET else look[3]) for look in self.looks)
            self.kept_text = _encode(tuple(held)).decode()
        return self.kept_text


class Profiles:
    """All profiles in use. Not safe for threads. weight: bytes that they take, more or less."""

    def __init__(self) -> None:
        self.weight = 0
        self._known: dict[tuple[Look, ...], Profile] = {}
        self._texts: dict[str, Profile] = {}

    def __len__(self) -> int:
        return len(self._known)

    def has_room(self, looks: tuple[Look, ...]) -> bool:
        """Whether another host may say this: whatever others have said fills the memory for what is heavy, and no more."""
        return looks in self._known or self.weight < MAX_WEIGHT or _weight(looks) <= LIGHT

    def of(self, looks: tuple[Look, ...]) -> Profile:
        """To be used by a group at once: `release` forgets it."""
        profile = self._known.get(looks)
        if profile is None:
            profile = self._known[looks] = Profile(looks)
            self.weight += _weight(looks)
        return profile

    def read(self, text: str) -> Profile:
        """From the database. Raises msgspec.DecodeError."""
        profile = self._texts.get(text)
        if profile is None:
            looks = tuple((*look[:3], msgspec.UNSET if look[3] is None else look[3]) for look in _looks.decode(text))
            profile = self.of(looks)
            if text == profile.text:  # else it is spelled in another way, and nobody could release it
                self._texts[text] = profile
        return profile

    def release(self, profile: Profile) -> None:
        """One group less uses it."""
        profile.groups -= 1
        if not profile.groups:
            del self._known[profile.looks]
            self.weight -= _weight(profile.looks)
            self._texts.pop(profile.kept_text, None)


def _weight(looks: Iterable[Look]) -> int:
    """Bytes, more or less: beside the characters what Python needs for the objects."""
    return sum(300 + len(name) + len(version) + len(status) + len(held or "") for name, version, status, held in looks)


def same_looks(agents: Sequence[RealAgent], looks: Sequence[Look]) -> Stamp | None:
    """When the host looked, if it saw just this; else None."""
    if len(agents) != len(looks):
        return None
    first = mixed = None
    for agent, (name, version, status, held) in zip(agents, looks, strict=False):
        if agent.version != version or agent.status != status or agent.name != name:
            return None
        if agent.held is not held and agent.held != held:
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
        held = agent.held if agent.held is msgspec.UNSET else one_line(agent.held, MAX_STATUS)
        look = (name, one_line(agent.version, MAX_NAME), one_line(agent.status, MAX_STATUS), held)
        seen[name] = (look, agent.timestamp)
    looks = tuple(look for look, _ in seen.values())
    return looks, _stamp([stamp for _, stamp in seen.values()]) if looks else 0


def since_when(looks: Sequence[Look], before: dict[Look, float], now: float) -> float | tuple[float, ...]:
    """Since when each of them is so; one time, where that is the same for all or they are many. before: what was known."""
    times = tuple(before.get(look, now) for look in looks)
    return times if len(set(times)) > 1 and len(times) <= MANY else max(times, default=now)


def clean_outcomes(told: Iterable[Outcome]) -> dict[str, Outcome]:
    """What a report says became of its orders: the last of each agent."""
    return {outcome.agent: outcome for outcome in map(_clean_outcome, told)}


def _clean_outcome(outcome: Outcome) -> Outcome:
    evidence = "\n".join(one_line(line, MAX_STATUS) for line in outcome.evidence[:MAX_EVIDENCE].splitlines())
    return Outcome(
        agent=one_line(outcome.agent, MAX_NAME),
        from_=one_line(outcome.from_, MAX_NAME),
        to=one_line(outcome.to, MAX_NAME),
        step=one_line(outcome.step, MAX_NAME),
        result=one_line(outcome.result, MAX_NAME),
        reason=one_line(outcome.reason, MAX_STATUS),
        evidence=evidence,
        at=outcome.at,
        attempt=outcome.attempt,
    )


def read_outcomes(text: str) -> dict[str, Outcome]:
    """The inverse of write_outcomes. Raises msgspec.DecodeError."""
    return _outcomes.decode(text) if text else {}


def write_outcomes(outcomes: dict[str, Outcome], brief: bool) -> str:
    """As they are kept, the last ones told if they are too many. brief: without the evidence, where memory is short."""
    kept = list(outcomes.items())[-MAX_OUTCOMES:]
    if brief:
        kept = [(agent, msgspec.structs.replace(outcome, evidence="")) for agent, outcome in kept]
    while len(text := _encode(dict(kept)).decode()) > MAX_TOLD:
        kept = kept[(len(kept) + 1) // 2 :]
    return text if kept else ""
