"""From what is (Observed), what is to be (Desired) and what was (Memory) to the actions that close the gap. Pure.

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


def plan(
    observed: Observed,
    desired: Desired,
    memory: Memory,
    moment: Moment,
    keep_versions: int = 0,
    source: Source = Source.ANSWER,
) -> Plan:
    """The plan for one agent, with its memory brought up to this look. `desired` has passed `desired_problem`.

    moment: of the look; keep_versions: how many installs stay, apart from the current, the desired and the one to go back to;
    source: where `desired` is from.
    """
    memory = _brought_up(memory, observed, desired, moment, source)
    return replace(_todo(observed, desired, memory, moment.now, keep_versions, source), memory=memory)


def _brought_up(memory: Memory, observed: Observed, desired: Desired, moment: Moment, source: Source) -> Memory:
    """What this look and this order teach. A kept order changes nothing in the memory."""
    memory = memory if source is Source.KEPT else memory.with_order(desired)
    if observed.trouble:
        return memory
    # It is to be down: that says nothing of it when it is to be started again.
    if desired.cmd == STOP and observed.state is not State.STARTED and source is not Source.KEPT:
        memory = memory.stopping(observed.current)
    memory, is_started = memory.occupied(observed.occupied, observed.crowding), observed.state is State.STARTED
    memory = memory.recognising(observed.running)
    if is_started:
        memory = memory.after_probe(observed.current, observed.deciding, observed.mains, moment)
    memory = memory.after_look(observed.name, observed.current, is_started, observed.installs, moment)
    is_stopped = observed.state is State.STOPPED
    return memory.doubting(observed.current, is_stopped, observed.processes, observed.absent)


def _todo(observed: Observed, desired: Desired, memory: Memory, now: float, keep_versions: int, source: Source) -> Plan:
    """The plan by a memory that knows this look. now: of the look, Unix seconds."""
    if observed.held:
        return Plan(waits=f"held: {observed.held}")
    if observed.trouble:
        return Plan(waits=observed.trouble)
    if source is Source.KEPT:
        todo = _by_a_kept_order(observed, desired, memory, now)
        return replace(todo, actions=(*_named(observed), *todo.actions))
    todo = _change(observed, desired, memory, now)
    if source is Source.EARLIER:
        todo = _without_fetching(todo, observed)
    pruned = _prune(observed, desired, memory, keep_versions)
    return replace(todo, actions=(*_named(observed), *todo.actions, *pruned))


def _without_fetching(todo: Plan, observed: Observed) -> Plan:
    """The plan as far as it goes while meta is away: nothing is fetched, what is down comes up as it was."""
    if all(action.step not in (Step.INSTALL, Step.HAND_OVER) for action in todo.actions):
        return todo
    return Plan(keep_alive(observed), "meta is away, so nothing is fetched")


def _by_a_kept_order(observed: Observed, desired: Desired, memory: Memory, now: float) -> Plan:
    """What is done by an order of an earlier run, before meta has answered in this one."""
    if observed.name == OWN_NAME:
        return Plan()
    if desired.cmd == STOP:
        return Plan(waits=_not_yet(desired) if observed.current and observed.state is not State.STOPPED else "")
    rejected = memory.rejected
    if rejected and observed.current == rejected.order.version != memory.good and memory.good in observed.installs:
        return _rejected(observed, rejected.order, memory)
    if doubted := _doubted(observed, desired, memory, now):
        return doubted
    if reason := trial.failure(observed, desired, memory, now):
        return _reject(observed, desired, memory, reason)
    if observed.current == desired.version and observed.current in observed.installs:
        return _run(observed, desired, memory, now, "desired before this updater started")
    return Plan(keep_alive(observed), _not_yet(desired))


def _not_yet(desired: Desired) -> str:
    return f"{desired.cmd} {desired.version} was desired before this updater started: waits for meta to say it again"


def _change(observed: Observed, desired: Desired, memory: Memory, now: float) -> Plan:
    if observed.name == OWN_NAME:
        return _ourselves(observed, desired, memory)
    if desired.cmd == STOP:
        return _stopped(observed)
    if observed.foreign:
        return Plan(waits=f"{observed.foreign}: move it away")
    if memory.rejected and same_artifact(memory.rejected.order, desired):
        return _rejected(observed, desired, memory)
    if doubted := _doubted(observed, desired, memory, now):
        return doubted
    if reason := trial.failure(observed, desired, memory, now):
        return _reject(observed, desired, memory, reason)
    if problem := _republished(observed, desired):
        return Plan(keep_alive(observed), problem)
    return _run(observed, desired, memory, now, "desired")


def _doubted(observed: Observed, desired: Desired, memory: Memory, now: float) -> Plan | None:
    """What is done instead of a verdict while there is doubt about a version on trial."""
    if words := trial.doubt(observed, desired, memory, now):
        return Plan(waits=words)
    if reason := trial.once_more(observed, desired, memory, now):
        return Plan((Action(Step.START, observed.name, desired.version, reason, forced=not observed.absent),))
    return None


def _run(observed: Observed, desired: Desired, memory: Memory, now: float, reason: str) -> Plan:
    """The way to the ordered version, which has no other to go back to where it has died already."""
    todo = _toward(observed, desired.version, reason, replaceable=desired.unknown_status == UPGRADE)
    died = trial.death(observed, desired, memory, now)
    return replace(todo, failure=f"{died}; there is no version to go back to") if died else todo


def _ourselves(observed: Observed, desired: Desired, memory: Memory) -> Plan:
    """The updater cannot stop itself and start another: it installs its successor and hands over to it."""
    if desired.cmd == STOP:
        return Plan(waits="the updater does not stop itself: nobody could start it again from afar")
    if not observed.own:
        return Plan(waits=f"this updater does not run from {OWN_NAME}/<version>, so it does not replace itself")
    version, waits = desired.version, _republished(observed, desired)
    if memory.rejected and same_artifact(memory.rejected.order, desired):
        waits = _rolled_back(desired, memory.rejected.reason)
        goes_back = observed.current == desired.version and memory.good in observed.installs
        version = memory.good if goes_back else observed.current
    if version == observed.current or (waits and version == desired.version):
        return Plan(waits=waits)
    install = () if version in observed.installs else (Action(Step.INSTALL, observed.name, version, "desired"),)
    hand_over = Action(Step.HAND_OVER, observed.name, version, f"from {observed.current}", observed.current)
    return Plan((*install, hand_over), waits)


def _stopped(observed: Observed) -> Plan:
    if not observed.current or (observed.state is State.STOPPED and not observed.may_be_told_to_stop):
        return Plan()
    if observed.current not in observed.installs:
        return Plan(waits=f"nothing to stop {observed.current} with: {observed.status.text}")
    reason = f"desired is stop, status is {observed.status.text!r}"
    return Plan((Action(Step.STOP, observed.name, observed.current, reason),))


def _reject(observed: Observed, desired: Desired, memory: Memory, reason: str) -> Plan:
    reject = Action(Step.REJECT, observed.name, desired.version, reason, memory.good)
    back = _toward(observed, memory.good, f"{desired.version} failed", forced=True)
    return Plan((reject, *back.actions), _rolled_back(desired, reason))


def _rejected(observed: Observed, desired: Desired, memory: Memory) -> Plan:
    waits = _rolled_back(desired, memory.rejected.reason if memory.rejected else "")
    if memory.good not in observed.installs:
        return Plan(keep_alive(observed), waits)
    forced = observed.current == desired.version
    return Plan(_toward(observed, memory.good, f"{desired.version} was rejected", forced).actions, waits)


def _rolled_back(desired: Desired, reason: str) -> str:
    return f"{desired.version} was rolled back ({reason}); waits for another version"


def _republished(observed: Observed, desired: Desired) -> str:
    installed = observed.installs.get(desired.version, Marker())
    for kind, ours, theirs in (
        ("sha256", installed.sha256, desired.sha256),
        ("md5", installed.md5, desired.md5 if is_digest(desired.md5) and not desired.sha256 else ""),
    ):
        if ours and theirs and ours != theirs.lower():
            return (
                f"{desired.version} is installed with {kind} {ours}, desired says {theirs.lower()}: "
                "publish changed bytes as a new version"
            )
    return ""


def _named(observed: Observed) -> tuple[Action, ...]:
    """A damaged `.version` is written again: it names what was switched to last."""
    if observed.named == observed.current or observed.current not in observed.installs:
        return ()
    return (Action(Step.NAME, observed.name, observed.current, f".version names {observed.named or 'nothing'!r}"),)


def _prune(observed: Observed, desired: Desired, memory: Memory, keep_versions: int) -> tuple[Action, ...]:
    """Remove our old installs and what a killed updater left; what another updater left is not ours."""
    needed = {observed.current, desired.version, memory.good, memory.previous, *observed.occupied}
    old = [version for version, marker in observed.installs.items() if version not in needed and marker.at]
    old.sort(key=lambda version: observed.installs[version].at, reverse=True)
    reason = f"keeping {keep_versions} beside the current and the previous one"
    doomed = {**dict.fromkeys(observed.leftovers, "left half done"), **dict.fromkeys(old[keep_versions:], reason)}
    return tuple(Action(Step.PRUNE, observed.name, name, why, essential=False) for name, why in doomed.items())


def keep_alive(observed: Observed) -> tuple[Action, ...]:
    """What runs goes on running while the order cannot be followed."""
    if observed.current not in observed.installs or observed.state is not State.STOPPED:
        return ()
    reason = f"meanwhile, status is {observed.status.text!r}"
    return (Action(Step.START, observed.name, observed.current, reason, essential=False),)


def _toward(observed: Observed, version: str, reason: str, forced: bool = False, replaceable: bool = False) -> Plan:
    """The actions that make `version` the running one, from wherever the agent is. replaceable: also what says neither word."""
    install = () if version in observed.installs else (Action(Step.INSTALL, observed.name, version, reason),)
    start = Action(Step.START, observed.name, version, reason)
    if observed.current not in observed.installs:  # nothing that could run or be stopped
        gone = Action(Step.STOP, observed.name, observed.current, "its control is gone", forced=True)
        leave = (gone,) if observed.current else ()
        switch = () if observed.current == version else (Action(Step.SWITCH, observed.name, version, reason),)
        return Plan((*install, *leave, *switch, start))
    if observed.current == version and observed.state is State.STARTED:
        return Plan()
    if observed.state is State.UNKNOWN and not forced and (not replaceable or observed.current == version):
        waits = (
            f"cannot tell whether {observed.current} runs, so it is left alone: its status is {observed.status.text!r}"
        )
        return Plan(waits=waits)
    if observed.current == version:
        return Plan((Action(Step.START, observed.name, version, f"{reason}, status is {observed.status.text!r}"),))
    return Plan((*_prepare(observed, install), *_leave(observed, version, forced, bool(install)), start))


def _prepare(observed: Observed, install: tuple[Action, ...]) -> tuple[Action, ...]:
    alive = keep_alive(observed) if install else ()  # in the old version first: a download may take long or fail
    adopt = (
        ()
        if observed.marked
        else (Action(Step.ADOPT, observed.name, observed.current, "installed by another updater"),)
    )
    return (*alive, *install, *adopt)


def _leave(observed: Observed, version: str, forced: bool, after_install: bool) -> tuple[Action, ...]:
    down = observed.state is State.STOPPED and not (after_install or forced or observed.may_be_told_to_stop)
    unheard = observed.state is State.UNKNOWN and not forced
    stop = Action(
        Step.STOP, observed.name, observed.current, f"makes way for {version}", forced=forced, unheard=unheard
    )
    stop = replace(stop, doubtful=observed.absent and not after_install)
    switch = Action(Step.SWITCH, observed.name, version, f"from {observed.current}", observed.current)
    return (switch,) if down else (stop, switch)
