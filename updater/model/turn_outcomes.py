"""The outcome of a turn for the report. Pure: `now` is in Unix seconds."""

from typing import NamedTuple

from msgspec.structs import replace

from updater.errors import Refused, UpdaterError
from updater.model.actions import Action, Plan, Step
from updater.model.memory import Memory
from updater.model.observed import Observed
from updater.wire.heartbeat import DONE, FAILED, REFUSED, Desired, Outcome
from updater.wire.limits import MAX_REASON
from updater.wire.names import START, STOP
from updater.wire.text import one_line

ORDER = "order"  # the step of an outcome: the order itself is refused


class Ended(NamedTuple):
    """What a turn has come to."""

    observed: Observed  # at the turn's beginning
    todo: Plan  # the last one
    done: list[Action]
    failed: Outcome | None  # of the action that ended the turn: `of_failure`
    evidence: str  # the end of what the version has printed, where the plan has found that it failed


def of_failure(error: UpdaterError, action: Action, order: Desired, now: int) -> Outcome:
    """The outcome of an action that has failed."""
    on_the_way = action.step in (Step.STOP, Step.ADOPT) and not action.forced and order.cmd == START
    to, result = order.version if on_the_way else action.version, REFUSED if isinstance(error, Refused) else FAILED
    reason = one_line(str(error), MAX_REASON)
    what = action.agent, action.replaces, to, action.step.value, result, reason, error.evidence
    return Outcome(*what, now, order.attempt)


def of_turn(ended: Ended, order: Desired, memory: Memory, now: int) -> Outcome | None:
    """The outcome of the turn; None if nothing was done or failed."""
    observed, todo, done, failed, evidence = ended
    if failed:
        begun = memory.taking_back
        words = f"{begun.reason}, and the way back to {begun.from_} failed: {failed.reason}" if begun else failed.reason
        return replace(failed, from_=failed.from_ or observed.current, reason=one_line(words, MAX_REASON))
    change = observed.name, observed.current, order.version
    if todo.failure:
        told = memory.told_of(observed.name, observed.current, FAILED, todo.failure, now)
        return replace(told, evidence=evidence, attempt=order.attempt)
    if todo.refusal:
        return Outcome(*change, ORDER, REFUSED, one_line(todo.refusal, MAX_REASON), "", now, order.attempt)
    if todo.waits:
        return None
    return _done(done, now) if done else _mended(ended, order, memory, now)


def _mended(ended: Ended, order: Desired, memory: Memory, now: int) -> Outcome | None:
    """The outcome once a version has stopped as ordered after its stop was said to have failed, or has the bytes that were
    refused; else None."""
    last, version = memory.last, ended.observed.current
    if last is None or memory.failed_order != order:
        return None
    if (last.step, last.result) == (ORDER, REFUSED):
        return Outcome(ended.observed.name, version, version, ORDER, DONE, "it has the ordered bytes since", at=now)
    had_failed = (last.step, last.result) == (Step.STOP.value, FAILED)
    if not had_failed or order.cmd != STOP or any(action.step is Step.STOP for action in ended.todo.actions):
        return None
    return Outcome(ended.observed.name, version, version, Step.STOP.value, DONE, "it has stopped since", at=now)


def _done(actions: list[Action], now: int) -> Outcome:
    last = actions[-1]
    switch = next((a for a in actions if a.step is Step.SWITCH), last)
    from_ = switch.replaces if switch.step in (Step.SWITCH, Step.HAND_OVER) else last.version
    return Outcome(last.agent, from_, last.version, last.step.value, DONE, last.reason, at=now)
