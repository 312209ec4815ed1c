"""Outcomes that hosts report: cleaned, limited in size, and reduced to verdicts on the changes that failed. Pure."""

from collections.abc import Iterable, Mapping

import msgspec

from meta.hosts.classes import Verdict
from updater.wire.heartbeat import DONE, FAILED, FORMER, REFUSED, ROLLED_BACK, Outcome
from updater.wire.limits import MAX_EVIDENCE, MAX_NAME, MAX_STATUS
from updater.wire.text import one_line

MAX_OUTCOMES = 100  # kept for one host: the latest of each agent
MAX_TOLD = 20_000  # characters of all outcomes of one host, as JSON
_STEPS = ("order", "install", "adopt", "stop", "switch", "start", "watch", "hand over")
_outcomes = msgspec.json.Decoder(dict[str, Outcome])
_encode = msgspec.json.Encoder().encode


def clean_outcomes(told: Iterable[Outcome]) -> dict[str, Outcome]:
    """Return the last outcome of each agent in a report, cleaned, by agent."""
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


def is_failure(outcome: Outcome) -> bool:
    """Whether it says that the present order failed, not a former one."""
    return outcome.result != DONE and not outcome.result.endswith(FORMER)


def verdicts_of(outcomes: Mapping[str, Outcome]) -> tuple[Verdict, ...]:
    """Return a verdict for each change that failed. Verdicts have so few values that many hosts share them."""
    return tuple(_verdict(one) for _, one in sorted(outcomes.items()) if is_failure(one))


def marked_former(outcomes: Mapping[str, Outcome], agents: Iterable[str]) -> dict[str, Outcome]:
    """Return the outcomes, with the failures of these agents marked as being about a former order.

    A marked outcome sorts after the same one without the mark, so metas that join outcomes keep it. The previous release
    counts a marked outcome as a failure.
    """
    former = {agent: outcomes[agent] for agent in agents if agent in outcomes}
    return {**outcomes} | {
        agent: msgspec.structs.replace(one, result=f"{one.result}{FORMER}")
        for agent, one in former.items()
        if is_failure(one)
    }


def _verdict(outcome: Outcome) -> Verdict:
    result = outcome.result if outcome.result in (REFUSED, ROLLED_BACK) else FAILED
    step = outcome.step if outcome.step in _STEPS else ""
    return Verdict(outcome.agent, outcome.to, step, result, outcome.attempt)


def read_outcomes(text: str) -> dict[str, Outcome]:
    """The inverse of write_outcomes. Raises msgspec.DecodeError."""
    return _outcomes.decode(text) if text else {}


def write_outcomes(outcomes: dict[str, Outcome], brief: bool) -> str:
    """Return the latest outcomes as JSON, at most MAX_TOLD characters; "" if there are none.

    brief: leave out all evidence, because memory is short. A text that is too long loses the evidence of its older half, then
    of half of the rest, and so on. If that is not enough, it loses outcomes, those of successful changes first.
    """
    kept = list(outcomes.items())[-MAX_OUTCOMES:]
    bare = len(kept) if brief else 0  # how many of the oldest are without evidence
    while True:
        some = [(agent, msgspec.structs.replace(outcome, evidence="")) for agent, outcome in kept[:bare]]
        text = _encode(dict(some + kept[bare:])).decode()
        if len(text) <= MAX_TOLD or bare == len(kept):
            break
        bare = (bare + len(kept) + 1) // 2
    left = sorted(some, key=lambda pair: pair[1].result != DONE)
    while len(text) > MAX_TOLD:
        left = left[(len(left) + 1) // 2 :]
        text = _encode(dict(left)).decode()
    return text if kept else ""
