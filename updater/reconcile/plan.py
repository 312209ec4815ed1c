"""From what is (Observed), what shall be (Desired) and what was (Memory) to the actions that close the gap. Pure.

Invariants, for every state a host can be in, also after a kill between any two actions:
- nothing is stopped before the version that replaces it is installed;
- a host where the desired version runs gets no action;
- performing the plan, observing and planning again ends in an empty plan, or in a plan that waits for new orders;
- a version that failed here is not tried again until the order changes, and its predecessor runs meanwhile;
- an order that was kept from an earlier run fetches, stops and switches nothing, but for taking back our own trial;
- what runs, what is ordered, what ran before and the version to go back to are never pruned.
"""

from dataclasses import replace

from updater.model.actions import Action, Plan, Source, Step
from updater.model.layout import OWN_NAME
from updater.model.memory import Memory
from updater.model.observed import Marker, Observed, State
from updater.model.trials import Moment, same_artifact
from updater.reconcile import trial
from updater.wire.heartbeat import Desired
from updater.wire.names import STOP, UPGRADE, is_digest


def recall(memory: Memory, seen: Observed, order: Desired, moment: Moment, source: Source = Source.ANSWER) -> Memory:
    """The memory brought up to this look and this order, as `plan` wants it. A kept order changes nothing in it."""
    memory = memory if source is Source.KEPT else memory.heed(order)
    if seen.trouble:
        return memory
    # It shall be down: that says nothing of it when it is to be started again.
    if order.cmd == STOP and seen.state is not State.STARTED and source is not Source.KEPT:
        memory = memory.stopping(seen.current)
    memory, is_started = memory.occupied(seen.occupied, seen.crowding), seen.state is State.STARTED
    memory = memory.recognising(seen.running)
    met = memory.meeting(seen.current, seen.deciding, seen.mains, moment) if is_started else memory
    taught = met.seeing(seen.name, seen.current, is_started, seen.installs, moment)
    return taught.doubting(seen.current, seen.state is State.STOPPED, seen.processes, seen.absent)


def plan(
    seen: Observed, order: Desired, memory: Memory, now: float, keep_versions: int = 0, source: Source = Source.ANSWER
) -> Plan:
    """The plan for one agent. The order has passed `desired_problem`, the memory `recall` with the same source.

    now: Unix seconds; keep_versions: how many installs are kept beside the current, the ordered and the one to go back to;
    source: where the order is from.
    """
    if seen.held:
        return Plan(waits=f"held: {seen.held}")
    if seen.trouble:
        return Plan(waits=seen.trouble)
    if source is Source.KEPT:
        todo = _by_a_kept_order(seen, order, memory, now)
        return replace(todo, actions=(*_named(seen), *todo.actions))
    todo = _change(seen, order, memory, now)
    if source is Source.EARLIER:
        todo = _without_fetching(todo, seen)
    return replace(todo, actions=(*_named(seen), *todo.actions, *_prune(seen, order, memory, keep_versions)))


def _without_fetching(todo: Plan, seen: Observed) -> Plan:
    """The plan as far as it goes while meta is away: nothing is fetched, what is down comes up as it was."""
    if all(action.step not in (Step.INSTALL, Step.HAND_OVER) for action in todo.actions):
        return todo
    return Plan(keep_alive(seen), "meta is away, so nothing is fetched")


def _by_a_kept_order(seen: Observed, order: Desired, memory: Memory, now: float) -> Plan:
    """What is done by an order of an earlier run, before meta has answered in this one."""
    if seen.name == OWN_NAME:
        return Plan()
    if order.cmd == STOP:
        return Plan(waits=_not_yet(order) if seen.current and seen.state is not State.STOPPED else "")
    rejected = memory.rejected
    if rejected and seen.current == rejected.order.version != memory.good and memory.good in seen.installs:
        return _rejected(seen, rejected.order, memory)
    if doubted := _doubted(seen, order, memory, now):
        return doubted
    if reason := trial.failure(seen, order, memory, now):
        return _reject(seen, order, memory, reason)
    if seen.current == order.version and seen.current in seen.installs:
        return _run(seen, order, memory, now, "desired before this updater started")
    return Plan(keep_alive(seen), _not_yet(order))


def _not_yet(order: Desired) -> str:
    return f"{order.cmd} {order.version} was desired before this updater started: waits for meta to say it again"


def _change(seen: Observed, order: Desired, memory: Memory, now: float) -> Plan:
    if seen.name == OWN_NAME:
        return _ourselves(seen, order, memory)
    if order.cmd == STOP:
        return _stopped(seen)
    if seen.foreign:
        return Plan(waits=f"{seen.foreign}: move it away")
    if memory.rejected and same_artifact(memory.rejected.order, order):
        return _rejected(seen, order, memory)
    if doubted := _doubted(seen, order, memory, now):
        return doubted
    if reason := trial.failure(seen, order, memory, now):
        return _reject(seen, order, memory, reason)
    if problem := _republished(seen, order):
        return Plan(keep_alive(seen), problem)
    return _run(seen, order, memory, now, "desired")


def _doubted(seen: Observed, order: Desired, memory: Memory, now: float) -> Plan | None:
    """What is done instead of a verdict while there is doubt about a version on trial."""
    if words := trial.doubt(seen, order, memory, now):
        return Plan(waits=words)
    if reason := trial.once_more(seen, order, memory, now):
        return Plan((Action(Step.START, seen.name, order.version, reason, forced=not seen.absent),))
    return None


def _run(seen: Observed, order: Desired, memory: Memory, now: float, reason: str) -> Plan:
    """The way to the ordered version, which has no other to go back to where it has died already."""
    todo = _toward(seen, order.version, reason, replaceable=order.unknown_status == UPGRADE)
    died = trial.death(seen, order, memory, now)
    return replace(todo, failure=f"{died}; there is no version to go back to") if died else todo


def _ourselves(seen: Observed, order: Desired, memory: Memory) -> Plan:
    """The updater cannot stop itself and start another: it installs its successor and hands over to it."""
    if order.cmd == STOP:
        return Plan(waits="the updater does not stop itself: nobody could start it again from afar")
    if not seen.own:
        return Plan(waits=f"this updater does not run from {OWN_NAME}/<version>, so it does not replace itself")
    version, waits = order.version, _republished(seen, order)
    if memory.rejected and same_artifact(memory.rejected.order, order):
        waits = _rolled_back(order, memory.rejected.reason)
        version = memory.good if seen.current == order.version and memory.good in seen.installs else seen.current
    if version == seen.current or (waits and version == order.version):
        return Plan(waits=waits)
    install = () if version in seen.installs else (Action(Step.INSTALL, seen.name, version, "desired"),)
    return Plan((*install, Action(Step.HAND_OVER, seen.name, version, f"from {seen.current}", seen.current)), waits)


def _stopped(seen: Observed) -> Plan:
    if not seen.current or (seen.state is State.STOPPED and not seen.may_be_told_to_stop):
        return Plan()
    if seen.current not in seen.installs:
        return Plan(waits=f"nothing to stop {seen.current} with: {seen.status.text}")
    return Plan((Action(Step.STOP, seen.name, seen.current, f"desired is stop, status is {seen.status.text!r}"),))


def _reject(seen: Observed, order: Desired, memory: Memory, reason: str) -> Plan:
    reject = Action(Step.REJECT, seen.name, order.version, reason, memory.good)
    back = _toward(seen, memory.good, f"{order.version} failed", forced=True)
    return Plan((reject, *back.actions), _rolled_back(order, reason))


def _rejected(seen: Observed, order: Desired, memory: Memory) -> Plan:
    waits = _rolled_back(order, memory.rejected.reason if memory.rejected else "")
    if memory.good not in seen.installs:
        return Plan(keep_alive(seen), waits)
    forced = seen.current == order.version
    return Plan(_toward(seen, memory.good, f"{order.version} was rejected", forced).actions, waits)


def _rolled_back(order: Desired, reason: str) -> str:
    return f"{order.version} was rolled back ({reason}); waits for another version"


def _republished(seen: Observed, order: Desired) -> str:
    installed = seen.installs.get(order.version, Marker())
    for kind, ours, theirs in (
        ("sha256", installed.sha256, order.sha256),
        ("md5", installed.md5, order.md5 if is_digest(order.md5) and not order.sha256 else ""),
    ):
        if ours and theirs and ours != theirs.lower():
            return (
                f"{order.version} is installed with {kind} {ours}, desired says {theirs.lower()}: "
                "publish changed bytes as a new version"
            )
    return ""


def _named(seen: Observed) -> tuple[Action, ...]:
    """A damaged `.version` is written again: it names what was switched to last."""
    if seen.named == seen.current or seen.current not in seen.installs:
        return ()
    return (Action(Step.NAME, seen.name, seen.current, f".version names {seen.named or 'nothing'!r}"),)


def _prune(seen: Observed, order: Desired, memory: Memory, keep_versions: int) -> tuple[Action, ...]:
    """Remove our old installs and what a killed updater left; what another updater left is not ours."""
    needed = {seen.current, order.version, memory.good, memory.previous, *seen.occupied}
    old = [version for version, marker in seen.installs.items() if version not in needed and marker.at]
    old.sort(key=lambda version: seen.installs[version].at, reverse=True)
    reason = f"keeping {keep_versions} beside the current and the previous one"
    doomed = {**dict.fromkeys(seen.leftovers, "left half done"), **dict.fromkeys(old[keep_versions:], reason)}
    return tuple(Action(Step.PRUNE, seen.name, name, why, essential=False) for name, why in doomed.items())


def keep_alive(seen: Observed) -> tuple[Action, ...]:
    """What runs goes on running while the order cannot be followed."""
    if seen.current not in seen.installs or seen.state is not State.STOPPED:
        return ()
    return (Action(Step.START, seen.name, seen.current, f"meanwhile, status is {seen.status.text!r}", essential=False),)


def _toward(seen: Observed, version: str, reason: str, forced: bool = False, replaceable: bool = False) -> Plan:
    """The actions that make `version` the running one, from wherever the agent is. replaceable: also what says neither word."""
    install = () if version in seen.installs else (Action(Step.INSTALL, seen.name, version, reason),)
    start = Action(Step.START, seen.name, version, reason)
    if seen.current not in seen.installs:  # nothing that could run or be stopped
        gone = (Action(Step.STOP, seen.name, seen.current, "its control is gone", forced=True),) if seen.current else ()
        switch = () if seen.current == version else (Action(Step.SWITCH, seen.name, version, reason),)
        return Plan((*install, *gone, *switch, start))
    if seen.current == version and seen.state is State.STARTED:
        return Plan()
    if seen.state is State.UNKNOWN and not forced and (not replaceable or seen.current == version):
        waits = f"cannot tell whether {seen.current} runs, so it is left alone: its status is {seen.status.text!r}"
        return Plan(waits=waits)
    if seen.current == version:
        return Plan((Action(Step.START, seen.name, version, f"{reason}, status is {seen.status.text!r}"),))
    return Plan((*_prepare(seen, install), *_leave(seen, version, forced, bool(install)), start))


def _prepare(seen: Observed, install: tuple[Action, ...]) -> tuple[Action, ...]:
    alive = keep_alive(seen) if install else ()  # in the old version first: a download may take long or fail
    adopt = () if seen.marked else (Action(Step.ADOPT, seen.name, seen.current, "installed by another updater"),)
    return (*alive, *install, *adopt)


def _leave(seen: Observed, version: str, forced: bool, after_install: bool) -> tuple[Action, ...]:
    down = seen.state is State.STOPPED and not (after_install or forced or seen.may_be_told_to_stop)
    unheard = seen.state is State.UNKNOWN and not forced
    stop = Action(Step.STOP, seen.name, seen.current, f"makes way for {version}", forced=forced, unheard=unheard)
    stop = replace(stop, doubtful=seen.absent and not after_install)
    switch = Action(Step.SWITCH, seen.name, version, f"from {seen.current}", seen.current)
    return (switch,) if down else (stop, switch)
