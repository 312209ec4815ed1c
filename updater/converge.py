"""One agent's turn in a cycle: plan, perform, and plan again where an action changed what is remembered.

A turn never raises: whatever goes wrong with one agent is that agent's outcome and nobody else's.
"""

import logging
from dataclasses import dataclass

from updater.errors import UpdaterError
from updater.host import Host
from updater.observe import Observed, observe
from updater.perform import Hands, outcome_of
from updater.plan import Action, Plan, Step, plan, recall
from updater.wire import DONE, Desired, Outcome

log = logging.getLogger("updater")

_ROUNDS = 3  # upgrade, rejection and way back; a further one would only repeat


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of it. waits: why the agent is not as desired, "" when it is; changed: whether the host was changed."""

    agent: str
    waits: str = ""
    changed: bool = False


def converge(host: Host, order: Desired, seen: Observed) -> Turn:
    """Bring one agent to its order, as far as it goes now. `seen` is this cycle's look at it."""
    try:
        return _converge(host, order, seen)
    except UpdaterError as e:
        log.error("%s: %s", order.name, e)
        return Turn(order.name, str(e))
    except Exception:
        log.exception("%s: a defect of the updater stopped this agent's turn", order.name)
        return Turn(order.name, "a defect of the updater, see its log")


def _converge(host: Host, order: Desired, seen: Observed) -> Turn:
    hands = Hands(host, order)
    changed = False
    for _ in range(_ROUNDS):
        now = host.now()
        hands.remember(recall(hands.memory, seen, order, now, host.config.watch))
        todo = plan(seen, order, hands.memory, now)
        failed = _perform(host, hands, todo)
        changed = changed or bool(todo.actions)
        if failed is None:
            return _ended(hands, todo, changed)
        if not _on_trial(hands):
            hands.remember(hands.memory.noting(failed))
            return Turn(order.name, failed.reason, changed)
        seen = observe(host.layout, order.name, host.config.timeouts.status)
    return Turn(order.name, f"{order.version} and the way back from it failed", changed)


def _perform(host: Host, hands: Hands, todo: Plan) -> Outcome | None:
    """Perform a plan; returns the failure that ended it."""
    for action in todo.actions:
        log.info("%s: %s", action.agent, action)
        try:
            hands.perform(action)
        except UpdaterError as e:
            log.error("%s: %s failed: %s", action.agent, action.step.value, e)
            if action.essential:
                return outcome_of(e, action, host.now())
    return None


def _on_trial(hands: Hands) -> bool:
    """Whether what failed is the start of the ordered version, so that the next plan is the way back."""
    trial = hands.memory.trial
    return trial is not None and bool(trial.failure) and trial.version == hands.order.version


def _ended(hands: Hands, todo: Plan, changed: bool) -> Turn:
    if todo.waits:
        log.warning("%s: %s", hands.order.name, todo.waits)
    elif todo.actions:
        hands.remember(hands.memory.noting(_done(todo.actions, hands.host.now())))
    return Turn(hands.order.name, todo.waits, changed)


def _done(actions: tuple[Action, ...], now: float) -> Outcome:
    last = actions[-1]
    switch = next((a for a in actions if a.step is Step.SWITCH), None)
    from_ = switch.replaces if switch else last.version
    return Outcome(last.agent, from_, last.version, last.step.value, DONE, last.reason, at=int(now))
