"""What hosts say of their agents, cleaned, and kept once however many hosts say the same."""

from collections.abc import Iterable, Sequence
from functools import cached_property

import msgspec

from meta.classes import Look
from updater.wire import Outcome, RealAgent, one_line

MAX_NAME = 64
MAX_STATUS = 300  # characters, like every other foreign sentence here
MAX_EVIDENCE = 2000
MAX_OUTCOMES = 100  # kept per host: one per agent, the latest
_looks = msgspec.json.Decoder(tuple[tuple[str, str, str, str | None], ...])


class Profile:
    """The agents as some hosts see them. groups: how many groups use it."""

    def __init__(self, looks: tuple[Look, ...]):
        self.looks = looks
        self.groups = 0

    @cached_property
    def text(self) -> str:
        """For the database."""
        held = ((*look[:3], None if look[3] is msgspec.UNSET else look[3]) for look in self.looks)
        return msgspec.json.encode(tuple(held)).decode()


class Profiles:
    """All profiles in use. Not safe for threads."""

    def __init__(self) -> None:
        self._known: dict[tuple[Look, ...], Profile] = {}
        self._texts: dict[str, Profile] = {}

    def of(self, looks: tuple[Look, ...]) -> Profile:
        profile = self._known.get(looks)
        if profile is None:
            profile = self._known[looks] = Profile(looks)
        return profile

    def read(self, text: str) -> Profile:
        """From the database. Raises msgspec.DecodeError."""
        profile = self._texts.get(text)
        if profile is None:
            looks = tuple((*look[:3], msgspec.UNSET if look[3] is None else look[3]) for look in _looks.decode(text))
            profile = self._texts[text] = self.of(looks)
        return profile

    def release(self, profile: Profile) -> None:
        """One group less uses it."""
        profile.groups -= 1
        if not profile.groups:
            self._known.pop(profile.looks, None)
            self._texts.pop(profile.text, None)


def same_looks(agents: Sequence[RealAgent], looks: Sequence[Look]) -> int | tuple[int, ...] | None:
    """When the host looked, if it saw just this; else None."""
    if len(agents) != len(looks):
        return None
    if not agents:
        return 0
    first, mixed = agents[0].timestamp, False
    for agent, (name, version, status, held) in zip(agents, looks, strict=True):
        if agent.version != version or agent.status != status or agent.name != name or agent.held != held:
            return None
        if agent.timestamp != first:
            mixed = True
    return tuple([agent.timestamp for agent in agents]) if mixed else first


def clean_looks(agents: Iterable[RealAgent]) -> tuple[tuple[Look, ...], int | tuple[int, ...]]:
    """What a report says of its agents, and when they were looked at; of an agent that is listed twice the last."""
    seen: dict[str, tuple[Look, int]] = {}
    for agent in agents:
        name = one_line(agent.name, MAX_NAME)
        held = agent.held if agent.held is msgspec.UNSET else one_line(agent.held, MAX_STATUS)
        look = (name, one_line(agent.version, MAX_NAME), one_line(agent.status, MAX_STATUS), held)
        seen[name] = (look, agent.timestamp)
    stamps = tuple(stamp for _, stamp in seen.values())
    return tuple(look for look, _ in seen.values()), stamps[0] if len(set(stamps)) == 1 else stamps or 0


def clean_outcomes(before: dict[str, Outcome], told: Iterable[Outcome]) -> dict[str, Outcome]:
    """The latest outcome of each agent; an outcome stays until the same agent has another."""
    latest = {outcome.agent: outcome for outcome in map(_clean_outcome, told)}
    kept = {agent: outcome for agent, outcome in before.items() if agent not in latest}
    return dict(list((kept | latest).items())[-MAX_OUTCOMES:])


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
    )
