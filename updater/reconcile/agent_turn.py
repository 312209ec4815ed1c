"""One agent's turn in a cycle: plan, perform, and after a failure do what `recovery` decides.

What takes long is no part of a turn: if the plan needs a version on the disk, the turn does what comes before that, and ends.
`install` gets the version, and another turn goes on, by a plan of its own.
A turn never raises: an error with one agent becomes its outcome and does not affect the others.
"""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from updater.errors import Interrupted, TryLater, UpdaterError
from updater.host import control_script, operator_requests
from updater.host.context import Host
from updater.kernel import clocks
from updater.model import turn_outcomes
from updater.model.actions import Action, Plan, Source, Step
from updater.model.memory import Memory
from updater.model.observed import Observed
from updater.reconcile.checked_status import look_at
from updater.reconcile.executor import Executor
from updater.reconcile.plan import for_now, keep_alive, plan
from updater.reconcile.recovery import TRIES, Failure, Now, Recovery, is_needed, recovery
from updater.wire.heartbeat import FAILED, Desired, Outcome
from updater.wire.limits import MAX_EVIDENCE, MAX_REASON
from updater.wire.text import one_line

log = logging.getLogger("updater")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version that an agent needs on its disk before its turn can go on."""

    order: Desired
    source: Source
    install: Action
    current: str  # the version that the agent has, for the outcome


@dataclass(frozen=True, slots=True)
class Turn:
    """The result of a turn, or of the installation that one wanted."""

    agent: str
    waits: str = ""  # why the agent is not as desired; "" if it is
    changed: bool = False  # whether the host was changed
    is_news: bool = False  # whether to report at once: a change, the end of a watch, a new or lifted rejection
    wanted: Wanted | None = None  # what is to be installed before the next turn


@dataclass(frozen=True, slots=True)
class _Failed:
    """The failure that ended a plan."""

    action: Action
    outcome: Outcome  # for the report
    as_failure: Failure  # for `recovery`


def converge(
    host: Host,
    desired: Desired,
    observed: Observed | None,
    source: Source = Source.ANSWER,
    installing: bool = False,
) -> Turn:
    """Bring one agent to its desired state, as far as possible now. A version that is needed for that is only `wanted`.

    observed: by this cycle; None to look at the agent first. source: of the order. installing: whether `install` may run for
    this agent at the same time; then its directories stay.
    """

    def work() -> Turn:
        executor = Executor(host, host.config.completed(desired), source)
        if observed:
            return _converge(executor, observed, installing)
        host.check_order(executor.order)
        return _converge(executor, _look(executor), installing)

    try:
        return _guarded(desired.name, work)
    finally:
        host.changing.discard(desired.name)


def install(host: Host, wanted: Wanted) -> Turn:
    """Download and unpack a version; `changed` says whether it is there now. Touches nothing else of the agent."""

    def work() -> Turn:
        executor = Executor(host, host.config.completed(wanted.order), wanted.source)

        def remember(outcome: Outcome) -> None:
            outcome = replace(outcome, from_=outcome.from_ or wanted.current)
            host.note_outcome(outcome, executor.order)

        def put_off(error: UpdaterError) -> None:
            most = host.config.timeouts.download
            log.warning("%s: %s goes on for %g s at most: %s", wanted.order.name, wanted.install, most, error)
            remember(replace(_outcome_of(executor, error, wanted.install), result=FAILED))

        executor.put_off = put_off
        todo, done, failed = _perform(executor, Plan((wanted.install,)))
        if failed:
            remember(failed.outcome)
            if not failed.as_failure.is_trouble:
                host.waits.pop(wanted.order.name, None)
            return Turn(wanted.order.name, failed.outcome.reason)
        host.waits_log.note(wanted.order.name, todo.waits, host.now())
        return Turn(wanted.order.name, todo.waits, bool(done))

    return _guarded(wanted.order.name, work)


def _guarded(name: str, work: Callable[[], Turn]) -> Turn:
    try:
        return work()
    except Interrupted as e:
        log.info("%s: %s", name, e)
        return Turn(name, str(e))
    except UpdaterError as e:
        log.error("%s: %s", name, e)
        return Turn(name, str(e))
    except Exception:
        log.exception("%s: a defect of the updater stopped this agent's turn", name)
        return Turn(name, "a defect of the updater: see its log, and report it")


def _converge(executor: Executor, observed: Observed, installing: bool) -> Turn:
    host, desired = executor.host, executor.order
    before = executor.memory
    todo, needed = _planned(executor, observed).before_install()
    wanted = Wanted(desired, executor.source, needed, observed.current) if needed else None
    has_passed = before.is_on_trial and executor.memory.good == before.current
    todo = todo.without_prunes() if installing else todo
    _announce(host, desired.name, todo, wanted)
    todo, done, failed = _perform(executor, todo)
    if failed and is_needed(failed.as_failure):
        todo, done, failed = _recovered(executor, todo, done, failed)
    executor.note_late_processes()
    evidence = control_script.tail(host.layout.output(desired.name), MAX_EVIDENCE) if todo.failure else ""
    ended = turn_outcomes.Ended(observed, todo, done, failed.outcome if failed else None, evidence)
    if outcome := turn_outcomes.of_turn(ended, desired, executor.memory, int(host.now())):
        words = "; ".join(filter(None, [outcome.reason, *executor.remarks, executor.taken]))
        outcome = replace(outcome, reason=one_line(words, MAX_REASON))
        if todo.failure and not failed:  # a failed action is logged as such
            log.warning("%s: %s %s", desired.name, outcome.to, outcome.reason)
        host.note_outcome(outcome, desired)
    if not wanted:
        host.waits_log.note(desired.name, todo.waits, host.now(), observed.status.text)
    is_refused = outcome is not None and outcome.step == turn_outcomes.ORDER and executor.memory.last != before.last
    is_again = before.dying is not None and executor.memory.dying is not None and _are_starts(done)
    has_passed |= before.dying is not None and executor.memory.dying is None
    is_news = (bool(done) and not is_again) or has_passed or is_refused or executor.memory.rejected != before.rejected
    waits = failed.outcome.reason if failed else todo.waits
    return Turn(desired.name, waits, bool(done), is_news, None if failed else wanted)


def _are_starts(done: list[Action]) -> bool:
    """Whether nothing but starts was done, which is no news of a version that dies again and again."""
    return all(action.step is Step.START for action in done)


def _announce(host: Host, name: str, todo: Plan, wanted: Wanted | None) -> None:
    """Have reports say what the agent waits for: its download until a turn needs none, and a change during the turn."""
    if any(action.step is not Step.PRUNE for action in todo.actions):
        host.changing.add(name)
    if wanted:
        host.waits[name] = "download"
    else:
        host.waits.pop(name, None)


def _recovered(
    executor: Executor, todo: Plan, done: list[Action], failed: "_Failed | None"
) -> tuple[Plan, list[Action], "_Failed | None"]:
    """Do what `recovery` decides; returns the last plan, all actions that were done, and the last failure or None."""
    for tries in reversed(range(TRIES + 1)):
        if failed is None:
            break
        observed = _look(executor)
        again, _ = _planned(executor, observed).before_install()  # the next turn wants it, if it still is needed
        host, order = executor.host, executor.order
        match recovery(failed.as_failure, Now(observed, again, order, host.newest(order.name), host.stopping), tries):
            case Recovery.DONE:
                return again, [*done, failed.action], None
            case Recovery.RETRY | Recovery.WAY_BACK:
                todo, more, worse = _perform(executor, again)
                done = [*done, *more]
                if worse is None and todo.waits and not todo.actions:  # interrupted: what has failed has failed
                    break
                failed = worse
            case Recovery.KEEP_ALIVE:
                return todo, [*done, *_kept_alive(executor, observed)], failed
            case Recovery.NOTHING:
                break
    return todo, done, failed


def _kept_alive(executor: Executor, observed: Observed) -> list[Action]:
    """Start what was running: the proven version, where the current one has failed on trial; returns what was done.

    If that cannot be had, as no file can be written, the current one is started all the same.
    """
    now = executor.host.moment(observed).now
    _, done, failed = _perform(executor, Plan(for_now(observed, executor.memory, now)))
    if failed is None:
        return done
    _, more, _ = _perform(executor, Plan(keep_alive(_look(executor))))
    return [*done, *more]


def _look(executor: Executor) -> Observed:
    try:
        return look_at(executor.host, executor.order.name)
    except TryLater as e:
        return Observed(executor.order.name, trouble=str(e), at=executor.host.now(), ran=clocks.ran())


def _planned(executor: Executor, observed: Observed) -> Plan:
    """The plan by this observation; its memory is saved in the same step, so no other change of the memory is lost.

    An agent that is held only since the turn has taken it down is planned as if it were not.
    """
    if not (observed.held or observed.trouble):
        operator_requests.follow(executor.host.layout, executor.order, observed, executor.note, executor.host.now())
    seen = dataclasses.replace(observed, held="") if executor.has_begun else observed
    moment, keep, todo = executor.host.moment(observed), executor.host.config.keep_versions, Plan()

    def updated(memory: Memory) -> Memory:
        nonlocal todo
        todo = plan(seen, executor.order, memory, moment, keep, executor.source)
        return todo.memory

    executor.note(updated)
    return todo


def _perform(executor: Executor, todo: Plan) -> tuple[Plan, list[Action], "_Failed | None"]:
    """Perform a plan; returns (the plan, the actions that were done except prunes, the failure that ended it or None).

    If it is interrupted, the returned plan only waits.
    """
    done: list[Action] = []
    for action in todo.actions:
        log.info("%s: %s", action.agent, action)
        try:
            executor.perform(action)
        except Interrupted as e:
            return Plan(waits=str(e)), done, None
        except UpdaterError as e:
            log.error("%s: %s failed: %s", action.agent, action.step.value, e)
            if action.essential:
                failure = Failure(action.step, isinstance(e, TryLater))
                return todo, done, _Failed(action, _outcome_of(executor, e, action), failure)
        else:
            if action.step is not Step.PRUNE:
                done.append(action)
    return todo, done, None


def _outcome_of(executor: Executor, error: UpdaterError, action: Action) -> Outcome:
    return turn_outcomes.of_failure(error, action, executor.order, int(executor.host.now()))
