"""One agent's turn in a cycle: plan, perform, and after a failure do what `recovery` decides.

A turn never raises: an error with one agent becomes its outcome and does not affect the others.
"""

import logging
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from updater.errors import Interrupted, Refused, TryLater, UpdaterError
from updater.host import control_script, operator_requests
from updater.host.context import Host
from updater.model.actions import Action, Plan, Source, Step
from updater.model.memory import WATCH, Memory
from updater.model.observed import Observed
from updater.model.trials import Dropped
from updater.reconcile.checked_status import look_at
from updater.reconcile.executor import Executor
from updater.reconcile.plan import keep_alive, plan
from updater.reconcile.recovery import TRIES, Failure, Recovery, is_needed, recovery
from updater.wire.heartbeat import BY_HAND, DONE, FAILED, REFUSED, ROLLED_BACK, Desired, Outcome
from updater.wire.limits import MAX_EVIDENCE, MAX_REASON
from updater.wire.names import START
from updater.wire.text import one_line

log = logging.getLogger("updater")


@dataclass(frozen=True, slots=True)
class Turn:
    """The result of a turn."""

    agent: str
    waits: str = ""  # why the agent is not as desired; "" if it is
    changed: bool = False  # whether the host was changed
    is_news: bool = False  # whether to report at once: a change, the end of a watch, a new or lifted rejection


@dataclass(frozen=True, slots=True)
class _Failed:
    """The failure that ended a plan."""

    outcome: Outcome  # for the report
    as_failure: Failure  # for `recovery`


def converge(host: Host, desired: Desired, observed: Observed | None, source: Source = Source.ANSWER) -> Turn:
    """Bring one agent to its desired state, as far as possible now.

    observed: by this cycle; None to look at the agent first. source: of the order.
    """
    try:
        executor = Executor(host, host.config.completed(desired), source)
        return _converge(executor, observed or _look(executor))
    except UpdaterError as e:
        log.error("%s: %s", desired.name, e)
        return Turn(desired.name, str(e))
    except Exception:
        log.exception("%s: a defect of the updater stopped this agent's turn", desired.name)
        return Turn(desired.name, "a defect of the updater: see its log, and report it")
    finally:
        host.changing.discard(desired.name)


def _converge(executor: Executor, observed: Observed) -> Turn:
    host, desired = executor.host, executor.order
    before = executor.memory
    todo = _planned(executor, observed)
    has_passed = before.is_on_trial and executor.memory.good == before.current
    todo, done, failed = _perform(executor, todo)
    if failed and is_needed(failed.as_failure):
        todo, done, failed = _recovered(executor, todo, done, failed)
    executor.note_late_processes()
    if outcome := _outcome(executor, observed, todo, done, failed):
        if executor.remarks:
            outcome = replace(outcome, reason=one_line("; ".join([outcome.reason, *executor.remarks]), MAX_REASON))
        executor.note(partial(Memory.with_turn_outcome, outcome=outcome, order=desired))
    if todo.waits and todo.waits != host.last_logged.get(desired.name):  # once, not each cycle
        log.warning("%s: %s", desired.name, todo.waits)
    host.last_logged[desired.name] = todo.waits
    is_news = bool(done) or has_passed or executor.memory.rejected != before.rejected
    return Turn(desired.name, failed.outcome.reason if failed else todo.waits, bool(done), is_news)


def _recovered(
    executor: Executor, todo: Plan, done: list[Action], failed: "_Failed | None"
) -> tuple[Plan, list[Action], "_Failed | None"]:
    """Do what `recovery` decides; returns the last plan, all actions that were done, and the last failure or None."""
    for tries in reversed(range(TRIES + 1)):
        if failed is None:
            break
        observed = _look(executor)
        again = _planned(executor, observed)
        match recovery(failed.as_failure, observed, again, tries, executor.host.stopping):
            case Recovery.RETRY | Recovery.WAY_BACK:
                todo, more, failed = _perform(executor, again)
                done = [*done, *more]
            case Recovery.KEEP_ALIVE:
                _, more, _ = _perform(executor, Plan(keep_alive(observed)))
                return todo, [*done, *more], failed
            case Recovery.NOTHING:
                break
    return todo, done, failed


def _look(executor: Executor) -> Observed:
    try:
        return look_at(executor.host, executor.order.name)
    except TryLater as e:
        return Observed(executor.order.name, trouble=str(e), at=executor.host.now())


def _planned(executor: Executor, observed: Observed) -> Plan:
    """The plan by this observation; its memory is saved in the same step, so no other change of the memory is lost."""
    if not (observed.held or observed.trouble):
        _follow_operator(executor, observed)
    moment, keep, todo = executor.host.moment(observed.at), executor.host.config.keep_versions, Plan()

    def updated(memory: Memory) -> Memory:
        nonlocal todo
        todo = plan(observed, executor.order, memory, moment, keep, executor.source)
        return todo.memory

    executor.note(updated)
    return todo


def _follow_operator(executor: Executor, observed: Observed) -> None:
    """Take the operator requests since the last turn into the memory. A rollback takes precedence over a retry."""
    layout, desired, rolled_back = executor.host.layout, executor.order.version, False
    rollback, retry = layout.rollback_request(observed.name), layout.retry_request(observed.name)
    if (version := operator_requests.requested(rollback)) is not None:
        problem = _other_order(version, desired)
        if not problem and observed.current != desired:
            problem = f"{desired}, which meta desires, is not the current version"
        if not problem and not executor.memory.way_back(desired, observed.installs):
            problem = "no other version is installed"
        rolled_back = _followed(executor, Dropped("rollback", version, problem, executor.host.now()))
        if rolled_back:
            after = executor.note(lambda memory: memory.rolled_back_by_operator(executor.order, observed.installs))
            executor.note(partial(Memory.with_outcome, outcome=_taken_back(executor, after.back)))
        operator_requests.clear(rollback)
    if (version := operator_requests.requested(retry)) is not None:
        problem = "a rollback was requested too" if rolled_back else _other_order(version, desired)
        if _followed(executor, Dropped("retry", version, problem, executor.host.now())):
            executor.note(Memory.retrying)
        operator_requests.clear(retry)


def _other_order(version: str, desired: str) -> str:
    return f"meta desires {desired} by now" if version not in ("", desired) else ""


def _followed(executor: Executor, request: Dropped) -> bool:
    """Whether a request is followed: if it has no reason against it. Otherwise the reason is remembered and logged."""
    executor.note(lambda memory: replace(memory, dropped=request if request.reason else None))
    if request.reason:
        log.warning("%s: %s", executor.order.name, request)
    return not request.reason


def _taken_back(executor: Executor, back: str) -> Outcome:
    order, now = executor.order, int(executor.host.now())
    return Outcome(order.name, back, order.version, WATCH, ROLLED_BACK, BY_HAND, at=now, attempt=order.attempt)


def _perform(executor: Executor, todo: Plan) -> tuple[Plan, list[Action], "_Failed | None"]:
    """Perform a plan; returns (the plan, the actions that were done except prunes, the failure that ended it or None).

    If it is interrupted, the returned plan only waits.
    """
    done: list[Action] = []
    if all(action.step is not Step.INSTALL for action in todo.actions):
        executor.host.waits.pop(executor.order.name, None)  # no download is needed any more
    if any(action.step is not Step.PRUNE for action in todo.actions):
        executor.host.changing.add(executor.order.name)
    for action in todo.actions:
        log.info("%s: %s", action.agent, action)
        try:
            _perform_one(executor, action)
        except Interrupted as e:
            return Plan(waits=str(e)), done, None
        except UpdaterError as e:
            log.error("%s: %s failed: %s", action.agent, action.step.value, e)
            if action.essential:
                return (
                    todo,
                    done,
                    _Failed(_outcome_of(e, action, executor), Failure(action.step, isinstance(e, TryLater))),
                )
        else:
            if action.step is not Step.PRUNE:
                done.append(action)
    return todo, done, None


def _perform_one(executor: Executor, action: Action) -> None:
    """Perform one action. Raises UpdaterError. Reports say so during a download, and until a failed one succeeds."""
    waits = executor.host.waits
    if action.step is not Step.INSTALL:
        executor.perform(action)
        return
    waits[action.agent] = "download"
    try:
        executor.perform(action)
    except TryLater:
        raise
    except UpdaterError:
        waits.pop(action.agent, None)
        raise
    waits.pop(action.agent, None)


def _outcome(
    executor: Executor, observed: Observed, todo: Plan, done: list[Action], failed: "_Failed | None"
) -> Outcome | None:
    """The outcome of the turn for the report; None if nothing was done or failed. observed: at the turn's beginning."""
    if failed:
        return replace(failed.outcome, from_=failed.outcome.from_ or observed.current)
    if todo.failure:
        evidence = control_script.tail(executor.host.layout.output(observed.name), MAX_EVIDENCE)
        now, version = int(executor.host.now()), executor.order.version
        from_, attempt = observed.current, executor.order.attempt
        return Outcome(observed.name, from_, version, WATCH, FAILED, todo.failure, evidence, now, attempt)
    return _done(done, executor.host.now()) if done and not todo.waits else None


def _done(actions: list[Action], now: float) -> Outcome:
    last = actions[-1]
    switch = next((a for a in actions if a.step is Step.SWITCH), last)
    from_ = switch.replaces if switch.step in (Step.SWITCH, Step.HAND_OVER) else last.version
    return Outcome(last.agent, from_, last.version, last.step.value, DONE, last.reason, at=int(now))


def _outcome_of(error: UpdaterError, action: Action, executor: Executor) -> Outcome:
    """The outcome of a failed action."""
    on_the_way = action.step in (Step.STOP, Step.ADOPT) and not action.forced and executor.order.cmd == START
    return Outcome(
        action.agent,
        from_=action.replaces,
        to=executor.order.version if on_the_way else action.version,
        step=action.step.value,
        result=REFUSED if isinstance(error, Refused) else FAILED,
        reason=one_line(str(error), MAX_REASON),
        evidence=error.evidence,
        at=int(executor.host.now()),
        attempt=executor.order.attempt,
    )
