"""One agent's turn in a cycle: plan and perform, and after a failed start the way back.

A turn never raises: whatever goes wrong with one agent is that agent's outcome and nobody else's.
"""

import logging
from dataclasses import dataclass
from functools import partial

from updater import hand
from updater.errors import UpdaterError
from updater.host import Host
from updater.memory import Memory
from updater.observe import Observed, observe
from updater.perform import Hands, outcome_of
from updater.plan import Action, Plan, Step, kept_running, plan, recall
from updater.wire import DONE, Desired, Outcome

log = logging.getLogger("updater")


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of it. waits: why the agent is not as desired, "" when it is; changed: whether the host was changed."""

    agent: str
    waits: str = ""
    changed: bool = False


def converge(host: Host, order: Desired, seen: Observed, offline: bool = False) -> Turn:
    """Bring one agent to its order, as far as it goes now. `seen` is this cycle's look at it.

    offline: meta is away and this is an order of its last reply, so nothing is fetched, and what runs is kept running.
    """
    try:
        return _converge(host, order, seen, offline)
    except UpdaterError as e:
        log.error("%s: %s", order.name, e)
        return Turn(order.name, str(e))
    except Exception:
        log.exception("%s: a defect of the updater stopped this agent's turn", order.name)
        return Turn(order.name, "a defect of the updater, see its log")


def _converge(host: Host, order: Desired, seen: Observed, offline: bool) -> Turn:
    hands = Hands(host, order)
    todo = _planned(hands, seen)
    if offline:
        todo = kept_running(todo, seen)
    done, failed = _perform(hands, todo)
    if failed and failed.step == Step.START.value:
        again = _planned(hands, observe(host.layout, order.name, host.config.timeouts.status, hands.memory.current))
        if again.is_way_back:
            todo, (done, failed) = again, _perform(hands, again)
    if failed:
        hands.remember(partial(Memory.noting, outcome=failed))
    elif done and not todo.waits:
        hands.remember(partial(Memory.noting, outcome=_done(done, host.now())))
    if todo.waits:
        log.warning("%s: %s", order.name, todo.waits)
    return Turn(order.name, failed.reason if failed else todo.waits, bool(done))


def _planned(hands: Hands, seen: Observed) -> Plan:
    now, settings, layout = hands.host.now(), hands.host.config, hands.host.layout
    if hand.wishes_rollback(layout, seen.name) and not seen.held:
        hands.remember(lambda memory: memory.by_hand(hands.order, seen.installs))
        hand.fulfilled(layout, seen.name)
    remembered = hands.remember(lambda memory: recall(memory, seen, hands.order, now, settings.watch))
    return plan(seen, hands.order, remembered, now, settings.keep_versions)


def _perform(hands: Hands, todo: Plan) -> tuple[list[Action], Outcome | None]:
    """Perform a plan; returns what was done to the agent, tidying up aside, and the failure that ended it."""
    done: list[Action] = []
    for action in todo.actions:
        log.info("%s: %s", action.agent, action)
        try:
            hands.perform(action)
        except UpdaterError as e:
            log.error("%s: %s failed: %s", action.agent, action.step.value, e)
            if action.essential:
                return done, outcome_of(e, action, hands.host.now())
        else:
            if action.step is not Step.PRUNE:
                done.append(action)
    return done, None


def _done(actions: list[Action], now: float) -> Outcome:
    last = actions[-1]
    switch = next((a for a in actions if a.step is Step.SWITCH), None)
    from_ = switch.replaces if switch else last.version
    return Outcome(last.agent, from_, last.version, last.step.value, DONE, last.reason, at=int(now))
