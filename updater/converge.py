"""One agent's turn in a cycle: plan and perform, and after a failed start the way back.

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
    todo = _planned(hands, seen)
    failed = _perform(hands, todo)
    if failed and failed.step == Step.START.value:
        again = _planned(hands, observe(host.layout, order.name, host.config.timeouts.status))
        if again.is_way_back:
            todo, failed = again, _perform(hands, again)
    if failed:
        hands.remember(hands.memory.noting(failed))
    elif todo.actions and not todo.waits:
        hands.remember(hands.memory.noting(_done(todo.actions, host.now())))
    if todo.waits:
        log.warning("%s: %s", order.name, todo.waits)
    return Turn(order.name, failed.reason if failed else todo.waits, bool(todo.actions))


def _planned(hands: Hands, seen: Observed) -> Plan:
    now = hands.host.now()
    hands.remember(recall(hands.memory, seen, hands.order, now, hands.host.config.watch))
    return plan(seen, hands.order, hands.memory, now)


def _perform(hands: Hands, todo: Plan) -> Outcome | None:
    """Perform a plan; returns the failure that ended it."""
    for action in todo.actions:
        log.info("%s: %s", action.agent, action)
        try:
            hands.perform(action)
        except UpdaterError as e:
            log.error("%s: %s failed: %s", action.agent, action.step.value, e)
            if action.essential:
                return outcome_of(e, action, hands.host.now())
    return None


def _done(actions: tuple[Action, ...], now: float) -> Outcome:
    last = actions[-1]
    switch = next((a for a in actions if a.step is Step.SWITCH), None)
    from_ = switch.replaces if switch else last.version
    return Outcome(last.agent, from_, last.version, last.step.value, DONE, last.reason, at=int(now))
