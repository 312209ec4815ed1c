"""Plans the actions that bring an agent from its observed to its desired state, with its memory. Pure.

Invariants, for every state of a host, also after a kill between any two actions:
- nothing is stopped before the version that replaces it is installed;
- a host where the desired version runs gets no action;
- performing the plan, observing and planning again ends in an empty plan, or in one that waits for new orders;
- a version that failed here is not tried again until the order changes or has a higher attempt, and its predecessor runs;
- one that fails here on trial is not kept running while the next one cannot be had: what it replaced runs;
- an order that an earlier run kept downloads, stops and switches nothing, except to roll a version on trial back;
- the current, the desired and the previous version and those to roll back to are never pruned.
"""

from dataclasses import replace

from updater.model import other_bytes
from updater.model.actions import Action, Plan, Source, Step
from updater.model.layout import OWN_NAME
from updater.model.memory import Memory
from updater.model.observed import Observed, State, Status
from updater.model.trials import Moment, same_artifact
from updater.reconcile import judging
from updater.wire.heartbeat import STARTED, Desired
from updater.wire.names import STOP, UPGRADE

EXPIRED = "meta's orders are older than keepOrders"


def plan(
    observed: Observed,
    desired: Desired,
    memory: Memory,
    moment: Moment,
    keep_versions: int = 0,
    source: Source = Source.ANSWER,
) -> Plan:
    """The plan for one agent; its memory includes this observation. `desired` has passed `desired_problem`.

    moment: of the observation; keep_versions: how many old installs are kept, not counting those that are never pruned;
    source: how recent the reply with `desired` is.
    """
    memory = _updated(memory, observed, desired, moment, source)
    todo = _todo(observed, desired, memory, moment.now, keep_versions, source)
    steps, dying = {action.step for action in todo.actions}, memory.dying
    is_left = Step.SWITCH in steps and Step.INSTALL not in steps  # in this turn
    if dying and not (dying.told or is_left):
        todo = replace(todo, failure=todo.failure or dying.reason)
    return replace(todo, memory=memory, refusal=other_bytes.refusal(observed, desired, memory))


def _updated(memory: Memory, observed: Observed, desired: Desired, moment: Moment, source: Source) -> Memory:
    """The memory after this observation and this order. A kept order itself changes nothing in it."""
    is_kept = source in (Source.KEPT, Source.EXPIRED)
    memory = memory if is_kept else memory.with_order(desired)
    if observed.trouble:
        return memory
    memory, is_started = memory.occupied(observed.occupied, observed.crowding), observed.state is State.STARTED
    memory = memory.recognising(observed.running)
    if is_started:
        memory = memory.after_probe(observed, moment)
    memory = memory.after_look(observed.name, observed.current, is_started, observed.installs, moment)
    memory = memory.doubting(observed)
    if reason := judging.end(observed, memory, moment):
        memory = memory.found_down(observed.current, "" if observed.held or desired.cmd == STOP else reason, moment.at)
    if judging.death(observed, memory, moment.now) and not judging.doubt(observed, memory, moment.now):
        memory = memory.having_died(observed.current)
    # A version that is stopped as ordered has not failed its watch.
    return memory.stopping(observed.current) if desired.cmd == STOP and not (is_started or is_kept) else memory


def _todo(observed: Observed, desired: Desired, memory: Memory, now: float, keep_versions: int, source: Source) -> Plan:
    """The plan by the updated memory. now: of the observation, see Moment."""
    if observed.held:
        return Plan(waits=f"held: {observed.held}")
    if observed.trouble:
        return Plan(waits=observed.trouble)
    if source is Source.EXPIRED:
        return Plan(waits=EXPIRED)
    if source is Source.KEPT:
        todo = _by_a_kept_order(observed, desired, memory, now)
        return replace(todo, actions=(*_named(observed), *todo.actions))
    todo = _change(observed, desired, memory, now)
    if source is Source.EARLIER:
        todo = _without_fetching(todo)
    pruned = _prune(observed, desired, memory, keep_versions)
    return replace(todo, actions=(*_named(observed), *todo.actions, *pruned))


def _without_fetching(todo: Plan) -> Plan:
    """The plan while meta is away. If it needs a download, only what comes before that is done."""
    if all(action.step not in (Step.INSTALL, Step.HAND_OVER) for action in todo.actions):
        return todo
    before, install = todo.before_install()
    return Plan(before.actions if install else (), "meta is away, so nothing is downloaded")


def _by_a_kept_order(observed: Observed, desired: Desired, memory: Memory, now: float) -> Plan:
    """The plan by an order that an earlier run kept, before meta has answered in this one (Source.KEPT)."""
    if observed.name == OWN_NAME:
        return Plan()
    if desired.cmd == STOP:
        return Plan(waits=_not_yet(desired) if observed.current and observed.state is not State.STOPPED else "")
    rejected = memory.rejected
    if rejected and observed.current == rejected.order.version != memory.back and memory.back in observed.installs:
        return _rejected(observed, rejected.order, memory)
    if judged := _judged(observed, desired, memory, now):
        return judged
    if observed.current == desired.version and observed.current in observed.installs:
        return _run(observed, desired, memory, now, "desired before this updater started")
    return Plan(for_now(observed, memory, now), _not_yet(desired))


def _not_yet(desired: Desired) -> str:
    return f"{desired.cmd} {desired.version} was desired before this updater started: waits for meta to confirm it"


def _change(observed: Observed, desired: Desired, memory: Memory, now: float) -> Plan:
    """The plan by an order of this run. The first case that applies decides."""
    if observed.name == OWN_NAME:
        return _ourselves(observed, desired, memory)
    if desired.cmd == STOP:
        return _stopped(observed)
    if observed.foreign:
        return Plan(waits=f"{observed.foreign}: move it away")
    if memory.rejected and same_artifact(memory.rejected.order, desired):
        return _rejected(observed, desired, memory)
    if judged := _judged(observed, desired, memory, now):
        return judged
    if problem := other_bytes.problem(observed, desired):
        return Plan(for_now(observed, memory, now), problem)
    return _run(observed, desired, memory, now, "desired")


def _judged(observed: Observed, desired: Desired, memory: Memory, now: float) -> Plan | None:
    """The plan if the desired version is on trial, and has failed or may have; else None."""
    if observed.current != desired.version:
        return None
    if words := judging.doubt(observed, memory, now):
        return Plan(waits=words)
    if reason := judging.once_more(observed, memory, now):
        again = Action(Step.START, observed.name, desired.version, reason, forced=not observed.absent)
        return Plan((again,), failure=reason if observed.taken else "")
    if reason := judging.failure(observed, memory, now):
        return Plan(_give_up(observed, memory, reason), _rolled_back(desired, reason))
    return None


def for_now(observed: Observed, memory: Memory, now: float) -> tuple[Action, ...]:
    """The actions while the order for another version cannot be followed: the current one is kept running.

    If it was on trial and has failed, the way back is taken, as what was ordered next may not be had for long.
    """
    if observed.current not in observed.installs or judging.doubt(observed, memory, now):
        return ()
    if reason := judging.once_more(observed, memory, now):
        again = Action(Step.START, observed.name, observed.current, reason, essential=False, forced=not observed.absent)
        return (again,)
    if reason := judging.failure(observed, memory, now):
        return _give_up(observed, memory, reason)
    return keep_alive(observed)


def _give_up(observed: Observed, memory: Memory, reason: str) -> tuple[Action, ...]:
    """The actions that lead from the current version, which has failed on trial, to the way back."""
    reject = Action(Step.REJECT, observed.name, observed.current, reason, memory.back)
    back = _toward(observed, memory.back, f"{observed.current} failed", forced=True)
    return back.actions if memory.is_given_up else (reject, *back.actions)


def _run(observed: Observed, desired: Desired, memory: Memory, now: float, reason: str) -> Plan:
    """The plan that makes the desired version run."""
    version, first = desired.version, tuple[Action, ...]()
    if version not in observed.installs:  # first of all, since the download may take long or fail
        first = for_now(observed, memory, now)
        if any(action.step is Step.SWITCH for action in first):
            observed = replace(observed, current=memory.back, status=Status(STARTED), marked=True)
    todo = _toward(observed, version, reason, replaceable=desired.unknown_status == UPGRADE)
    return replace(todo, actions=(*first, *todo.actions))


def _ourselves(observed: Observed, desired: Desired, memory: Memory) -> Plan:
    """The plan for the updater itself: it installs its successor and hands over, as it cannot stop itself."""
    if desired.cmd == STOP:
        return Plan(waits="the updater does not stop itself: it could not be started again from meta")
    if not observed.own:
        return Plan(waits=f"this updater does not run from {OWN_NAME}/<version>, so it does not replace itself")
    version, waits = desired.version, other_bytes.problem(observed, desired)
    if memory.rejected and same_artifact(memory.rejected.order, desired):
        waits = _rolled_back(desired, memory.rejected.reason)
        goes_back = observed.current == desired.version and memory.back in observed.installs
        version = memory.back if goes_back else observed.current
    if version == observed.current or (waits and version == desired.version):
        return Plan(waits=waits)
    install = () if version in observed.installs else (Action(Step.INSTALL, observed.name, version, "desired"),)
    hand_over = Action(Step.HAND_OVER, observed.name, version, f"from {observed.current}", observed.current)
    return Plan((*install, hand_over), waits)


def _stopped(observed: Observed) -> Plan:
    if not observed.current or (observed.state is State.STOPPED and not observed.may_be_told_to_stop):
        return Plan()
    if observed.current not in observed.installs:
        return Plan(waits=f"cannot stop {observed.current}: {observed.status.text}")
    reason = f"desired is stop, status is {observed.status.text!r}"
    return Plan((Action(Step.STOP, observed.name, observed.current, reason),))


def _rejected(observed: Observed, desired: Desired, memory: Memory) -> Plan:
    waits = _rolled_back(desired, memory.rejected.reason if memory.rejected else "")
    if memory.back not in observed.installs:
        return Plan(keep_alive(observed), waits)
    forced = observed.current == desired.version
    return Plan(_toward(observed, memory.back, f"{desired.version} was rejected", forced).actions, waits)


def _rolled_back(desired: Desired, reason: str) -> str:
    return f"{desired.version} was rolled back ({reason}); waits for another version or a retry"


def _named(observed: Observed) -> tuple[Action, ...]:
    """The action that writes a damaged `.version` again, with the version of the last switch."""
    if observed.named == observed.current or observed.current not in observed.installs:
        return ()
    return (Action(Step.NAME, observed.name, observed.current, f".version names {observed.named or 'nothing'!r}"),)


def _prune(observed: Observed, desired: Desired, memory: Memory, keep_versions: int) -> tuple[Action, ...]:
    """The actions that remove old installs and the leftovers of a killed updater. Installs of another updater stay."""
    by_hand = memory.way_back(observed.current, observed.installs)
    needed = {observed.current, desired.version, memory.back, memory.good, memory.previous, by_hand, *observed.occupied}
    old = [version for version, marker in observed.installs.items() if version not in needed and marker.at]
    old.sort(key=lambda version: observed.installs[version].at, reverse=True)
    reason = f"keeping {keep_versions} besides the current and the previous one"
    doomed = {**dict.fromkeys(observed.leftovers, "left half done"), **dict.fromkeys(old[keep_versions:], reason)}
    return tuple(Action(Step.PRUNE, observed.name, name, why, essential=False) for name, why in doomed.items())


def keep_alive(observed: Observed) -> tuple[Action, ...]:
    """The action that starts the current version, if it is down, while the order cannot be followed."""
    if observed.current not in observed.installs or observed.state is not State.STOPPED or observed.reaping:
        return ()
    reason = f"to keep it running, status is {observed.status.text!r}"
    return (Action(Step.START, observed.name, observed.current, reason, essential=False),)


def _toward(observed: Observed, version: str, reason: str, forced: bool = False, replaceable: bool = False) -> Plan:
    """The actions that make `version` run, from any state of the agent.

    forced: end the current version's processes even if its control fails; replaceable: replace a version whose status is
    unknown.
    """
    install = () if version in observed.installs else (Action(Step.INSTALL, observed.name, version, reason),)
    start = Action(Step.START, observed.name, version, reason)
    if observed.current not in observed.installs:  # there is no control that could stop it
        gone = Action(Step.STOP, observed.name, observed.current, "its control is gone", forced=True)
        leave = (gone,) if observed.current else ()
        switch = () if observed.current == version else (Action(Step.SWITCH, observed.name, version, reason),)
        return Plan((*install, *leave, *switch, start))
    if observed.current == version and (observed.state is State.STARTED or observed.reaping):
        return Plan(waits=f"{observed.status.text}: looking again" if observed.reaping else "")
    if observed.state is State.UNKNOWN and not forced and (not replaceable or observed.current == version):
        waits = (
            f"cannot tell whether {observed.current} runs, so it is left alone: its status is {observed.status.text!r}"
        )
        return Plan(waits=waits)
    if observed.current == version:
        return Plan((Action(Step.START, observed.name, version, f"{reason}, status is {observed.status.text!r}"),))
    return Plan((*_prepare(observed, install), *_leave(observed, version, forced, bool(install)), start))


def _prepare(observed: Observed, install: tuple[Action, ...]) -> tuple[Action, ...]:
    """The actions before the current version is stopped."""
    adopt = (
        ()
        if observed.marked
        else (Action(Step.ADOPT, observed.name, observed.current, "installed by another updater"),)
    )
    return (*install, *adopt)


def _leave(observed: Observed, version: str, forced: bool, after_install: bool) -> tuple[Action, ...]:
    """The actions that stop the current version, unless it is down, and switch to `version`."""
    down = observed.state is State.STOPPED and not (after_install or forced or observed.may_be_told_to_stop)
    unheard = observed.state is State.UNKNOWN and not forced
    stop = Action(
        Step.STOP, observed.name, observed.current, f"makes way for {version}", forced=forced, unheard=unheard
    )
    stop = replace(stop, doubtful=(observed.absent or observed.unreaped) and not after_install)
    switch = Action(Step.SWITCH, observed.name, version, f"from {observed.current}", observed.current)
    return (switch,) if down else (stop, switch)
