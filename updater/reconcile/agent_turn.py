"""One agent's turn in a cycle: plan and perform, and after a failed start the way back.

A turn never raises: whatever goes wrong with one agent is that agent's outcome and nobody else's.
"""

import logging
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from updater.errors import Refused, TryLater, UpdaterError
from updater.host import control_script, operator_requests
from updater.host.context import Host
from updater.model.actions import Action, Plan, Source, Step
from updater.model.memory import WATCH, Memory
from updater.model.observed import Observed
from updater.reconcile.belief import look_at
from updater.reconcile.executor import Hands
from updater.reconcile.plan import keep_alive, plan, recall
from updater.reconcile.stopping import EVIDENCE
from updater.wire.heartbeat import BY_HAND, DONE, FAILED, REFUSED, ROLLED_BACK, Desired, Outcome
from updater.wire.names import START
from updater.wire.text import one_line

log = logging.getLogger("updater")

_DOWN_MEANWHILE = (
    Step.STOP.value,
    Step.SWITCH.value,
    Step.START.value,
)  # when one of these fails, the agent may be down
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of it. waits: why the agent is not as desired, "" when it is; changed: whether the host was changed; is_news:
    whether that, the end of a watch, or that a version is rejected or is not any more is to be reported at once."""

    agent: str
    waits: str = ""
    changed: bool = False
    is_news: bool = False


@dataclass(frozen=True, slots=True)
class _Failed:
    """What ended a plan, for meta and for us."""

    outcome: Outcome
    error: UpdaterError


def converge(host: Host, order: Desired, seen: Observed, source: Source = Source.ANSWER) -> Turn:
    """Bring one agent to its order, as far as it goes now. `seen` is this cycle's look at it; source: of the order."""
    try:
        return _converge(Hands(host, host.config.completed(order), source), seen)
    except UpdaterError as e:
        log.error("%s: %s", order.name, e)
        return Turn(order.name, str(e))
    except Exception:
        log.exception("%s: a defect of the updater stopped this agent's turn", order.name)
        return Turn(order.name, "a defect of the updater, see its log")


def _converge(hands: Hands, seen: Observed) -> Turn:
    host, order = hands.host, hands.order
    before = hands.memory
    todo = _planned(hands, seen)
    has_passed = before.is_on_trial and hands.memory.good == before.current
    done, failed = _perform(hands, todo)
    if failed and failed.outcome.step in _DOWN_MEANWHILE:
        todo, done, failed = _up_again(hands, todo, done, failed)
    hands.see_what_came()
    if outcome := _outcome(hands, seen, todo, done, failed):
        if hands.remarks:
            outcome = replace(outcome, reason=one_line("; ".join([outcome.reason, *hands.remarks]), 1000))
        hands.note(partial(Memory.noting_turn, outcome=outcome, order=order))
    if todo.waits and todo.waits != host.told.get(order.name):  # once, not each cycle
        log.warning("%s: %s", order.name, todo.waits)
    host.told[order.name] = todo.waits
    is_news = bool(done) or has_passed or hands.memory.rejected != before.rejected
    return Turn(order.name, failed.outcome.reason if failed else todo.waits, bool(done), is_news)


def _up_again(
    hands: Hands, todo: Plan, done: list[Action], failed: "_Failed | None"
) -> tuple[Plan, list[Action], "_Failed | None"]:
    """What was stopped must not stay down: after a failed start the way back, after trouble of the host another try, and
    else, or when that fails too, what ran before."""
    for _ in range(_TRIES):
        seen = _look_again(hands)
        if seen.trouble:
            continue
        again = _planned(hands, seen)
        if failed is None or not (again.is_way_back or isinstance(failed.error, TryLater)) or hands.host.stopping:
            break
        todo, (more, failed) = again, _perform(hands, again)
        done = [*done, *more]
    if failed and failed.outcome.step != Step.START.value:
        done += _perform(hands, Plan(keep_alive(_look_again(hands))))[0]
    return todo, done, failed


def _look_again(hands: Hands) -> Observed:
    try:
        return look_at(hands.host, hands.order.name)
    except TryLater as e:
        return Observed(hands.order.name, trouble=str(e), at=hands.host.now())


def _planned(hands: Hands, seen: Observed) -> Plan:
    moment = hands.host.moment(seen.at)
    if not seen.held:
        _heed_a_hand(hands, seen)
    remembered = hands.note(lambda memory: recall(memory, seen, hands.order, moment, hands.source))
    return plan(seen, hands.order, remembered, moment.now, hands.host.config.keep_versions, hands.source)


def _heed_a_hand(hands: Hands, seen: Observed) -> None:
    """What a person on this host has wished since the last turn; a way back counts more than another try."""
    layout = hands.host.layout
    if operator_requests.wishes_rollback(layout, seen.name):
        before = hands.memory
        after = hands.note(lambda memory: memory.by_hand(hands.order, seen.installs))
        if after.rejected != before.rejected:
            hands.note(partial(Memory.noting, outcome=_taken_back(hands, after.good)))
    elif operator_requests.wishes_retry(layout, seen.name):
        hands.note(Memory.retrying)
    else:
        return
    operator_requests.fulfilled(layout, seen.name)


def _taken_back(hands: Hands, back: str) -> Outcome:
    order, now = hands.order, int(hands.host.now())
    return Outcome(order.name, back, order.version, WATCH, ROLLED_BACK, BY_HAND, at=now, attempt=order.attempt)


def _perform(hands: Hands, todo: Plan) -> tuple[list[Action], "_Failed | None"]:
    """Perform a plan; returns what was done to the agent, tidying up aside, and the failure that ended it."""
    done: list[Action] = []
    if all(action.step is not Step.INSTALL for action in todo.actions):
        hands.host.waits.pop(hands.order.name, None)  # what waited for a download waits for none any more
    for action in todo.actions:
        log.info("%s: %s", action.agent, action)
        try:
            _perform_one(hands, action)
        except UpdaterError as e:
            log.error("%s: %s failed: %s", action.agent, action.step.value, e)
            if action.essential:
                return done, _Failed(_outcome_of(e, action, hands), e)
        else:
            if action.step is not Step.PRUNE:
                done.append(action)
    return done, None


def _perform_one(hands: Hands, action: Action) -> None:
    """Do it, or raise an UpdaterError. While a download is under way or is to be tried again, meta is told of it."""
    waits = hands.host.waits
    if action.step is not Step.INSTALL:
        hands.perform(action)
        return
    waits[action.agent] = "download"
    try:
        hands.perform(action)
    except TryLater:
        raise
    except UpdaterError:
        waits.pop(action.agent, None)
        raise
    waits.pop(action.agent, None)


def _outcome(hands: Hands, seen: Observed, todo: Plan, done: list[Action], failed: "_Failed | None") -> Outcome | None:
    """What came of the turn, for meta; None when that is nothing new. `seen` is the look that it began with."""
    if failed:
        return replace(failed.outcome, from_=failed.outcome.from_ or seen.current)
    if todo.failure:
        evidence = control_script.tail(hands.host.layout.output(seen.name), EVIDENCE)
        now, version = int(hands.host.now()), hands.order.version
        from_, attempt = seen.current, hands.order.attempt
        return Outcome(seen.name, from_, version, WATCH, FAILED, todo.failure, evidence, now, attempt)
    return _done(done, hands.host.now()) if done and not todo.waits else None


def _done(actions: list[Action], now: float) -> Outcome:
    last = actions[-1]
    switch = next((a for a in actions if a.step is Step.SWITCH), last)
    from_ = switch.replaces if switch.step in (Step.SWITCH, Step.HAND_OVER) else last.version
    return Outcome(last.agent, from_, last.version, last.step.value, DONE, last.reason, at=int(now))


def _outcome_of(error: UpdaterError, action: Action, hands: Hands) -> Outcome:
    """What a failed action is in the next report."""
    on_the_way = action.step in (Step.STOP, Step.ADOPT) and not action.forced and hands.order.cmd == START
    return Outcome(
        action.agent,
        from_=action.replaces,
        to=hands.order.version if on_the_way else action.version,
        step=action.step.value,
        result=REFUSED if isinstance(error, Refused) else FAILED,
        reason=one_line(str(error), 1000),
        evidence=error.evidence,
        at=int(hands.host.now()),
        attempt=hands.order.attempt,
    )
