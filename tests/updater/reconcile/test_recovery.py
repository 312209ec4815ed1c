"""What follows a failed action, as a table."""

from dataclasses import replace
from itertools import product

import pytest
from msgspec.structs import replace as replace_fields

from updater.model.actions import Action, Plan, Step
from updater.model.observed import Observed, Status
from updater.reconcile.recovery import TRIES, Failure, Now, Recovery, is_needed, recovery
from updater.wire.heartbeat import Desired

NOTHING, LOOK_AGAIN, DONE, RETRY, WAY_BACK, KEEP_ALIVE = Recovery
DOWN, UP = Observed("agent", "1", Status("stoped")), Observed("agent", "1", Status("started"))
HELD_DOWN, HELD_UP = replace(DOWN, held="mine"), replace(UP, held="mine")
NO_LOOK = Observed("agent", trouble="cannot read its directory")
FORWARD = Plan((Action(Step.SWITCH, "agent", "2", "desired"), Action(Step.START, "agent", "2", "desired")))
BACK = Plan((Action(Step.REJECT, "agent", "2", "it failed"), Action(Step.START, "agent", "1", "2 failed")))
LEAST = Plan(waits="cannot tell")
STOPPING, STOPPED = Plan((Action(Step.STOP, "agent", "1", "desired"),)), Plan()
PRUNED = Plan((Action(Step.PRUNE, "agent", "0", "old", essential=False),))
TWO, OFF, THREE = Desired("agent", "2"), Desired("agent", "2", cmd="stop"), Desired("agent", "3")
START, TRIED, STOP = Failure(Step.START, False), Failure(Step.START, True), Failure(Step.STOP, False)
SWITCH, NO_STOP, NO_SWITCH = Failure(Step.SWITCH, False), Failure(Step.STOP, True), Failure(Step.SWITCH, True)


def now(look, again, order=TWO, newest=None, stopping=False):
    return Now(look, again, order, newest or order, stopping)


TABLE = [
    ("a start that failed of the version goes back", START, now(DOWN, BACK), TRIES, WAY_BACK),
    ("so does one that the host's trouble ended", TRIED, now(DOWN, BACK), TRIES, WAY_BACK),
    ("without a way back it is left to the next cycle", START, now(DOWN, FORWARD), TRIES, NOTHING),
    ("the host's trouble is worth another try", TRIED, now(DOWN, FORWARD), 1, RETRY),
    ("also at a stop", NO_STOP, now(UP, FORWARD), TRIES, RETRY),
    ("also at a switch", NO_SWITCH, now(DOWN, FORWARD), TRIES, RETRY),
    ("a stop that failed leaves what ran running", STOP, now(UP, FORWARD), TRIES, KEEP_ALIVE),
    ("one that has come about all the same goes on", STOP, now(DOWN, FORWARD), TRIES, RETRY),
    ("a switch that failed leaves what ran running", SWITCH, now(DOWN, FORWARD), TRIES, KEEP_ALIVE),
    ("also where there is nothing to plan", STOP, now(UP, LEAST), TRIES, KEEP_ALIVE),
    ("also after the last try", NO_SWITCH, now(DOWN, FORWARD), 0, KEEP_ALIVE),
    ("a start is not tried without end", TRIED, now(DOWN, FORWARD), 0, NOTHING),
    ("nor is a way back", TRIED, now(DOWN, BACK), 0, NOTHING),
    (
        "what another try could not even begin is kept alive",
        Failure(Step.NAME, False),
        now(DOWN, FORWARD),
        1,
        KEEP_ALIVE,
    ),
    ("what cannot be looked at is looked at again", START, now(NO_LOOK, LEAST), 1, LOOK_AGAIN),
    ("but not for ever", START, now(NO_LOOK, LEAST), 0, NOTHING),
    ("and then it is kept alive, if that can be", STOP, now(NO_LOOK, LEAST), 0, KEEP_ALIVE),
    ("a stop as ordered that has come about is done", STOP, now(DOWN, STOPPED, OFF), TRIES, DONE),
    ("also without a try left", STOP, now(DOWN, STOPPED, OFF), 0, DONE),
    ("also where something old is left to remove", STOP, now(DOWN, PRUNED, OFF), TRIES, DONE),
    ("also where a start is ordered since", STOP, now(DOWN, STOPPED, OFF, TWO), TRIES, DONE),
    (
        "one that has not is left to the next cycle, and nothing is started",
        STOP,
        now(UP, STOPPING, OFF),
        TRIES,
        NOTHING,
    ),
    ("one that the host's trouble kept is tried again", NO_STOP, now(UP, STOPPING, OFF), 1, RETRY),
    ("but not without end", NO_STOP, now(UP, STOPPING, OFF), 0, NOTHING),
    ("nor where a start is ordered since", NO_STOP, now(UP, STOPPING, OFF, TWO), 1, NOTHING),
    ("a stop that cannot be looked at is not done", STOP, now(NO_LOOK, LEAST, OFF), 0, NOTHING),
    ("what is ordered to stop since is not kept alive", STOP, now(DOWN, FORWARD, newest=OFF), TRIES, NOTHING),
    ("nor tried again", TRIED, now(DOWN, FORWARD, newest=OFF), TRIES, NOTHING),
    ("nor started on the way back", START, now(DOWN, BACK, newest=OFF), TRIES, NOTHING),
    (
        "where another version is ordered since, this one is not tried again",
        TRIED,
        now(DOWN, FORWARD, newest=THREE),
        1,
        NOTHING,
    ),
    ("what ran is kept alive for it", NO_SWITCH, now(DOWN, FORWARD, newest=THREE), TRIES, KEEP_ALIVE),
    ("and a failed one goes back before it", START, now(DOWN, BACK, newest=THREE), TRIES, WAY_BACK),
    ("one that is held since and runs is left as it is", NO_SWITCH, now(HELD_UP, FORWARD), TRIES, NOTHING),
    ("also where a way back was to come", START, now(HELD_UP, BACK), TRIES, NOTHING),
    ("one that is held since and is down is brought up first", TRIED, now(HELD_DOWN, FORWARD), TRIES, RETRY),
    ("by the way back", START, now(HELD_DOWN, BACK), TRIES, WAY_BACK),
    ("or with what it had", SWITCH, now(HELD_DOWN, FORWARD), TRIES, KEEP_ALIVE),
    ("where there is nothing to try, what has failed has failed", TRIED, now(DOWN, LEAST), TRIES, NOTHING),
    ("a change is ended though nothing is ordered any more", TRIED, replace(now(DOWN, FORWARD), newest=None), 1, RETRY),
    ("a higher attempt is the same order", TRIED, now(DOWN, FORWARD, newest=replace_fields(TWO, attempt=2)), 1, RETRY),
]


@pytest.mark.parametrize(("what", "last", "seen", "tries", "then"), TABLE, ids=[row[0] for row in TABLE])
def test_what_follows_a_failure(what, last, seen, tries, then):
    assert recovery(last, seen, tries) is then


@pytest.mark.parametrize("step", Step)
def test_only_what_may_have_taken_the_agent_down_is_recovered_from(step):
    assert (
        is_needed(Failure(step, True)) == is_needed(Failure(step, False)) == (step.value in ("stop", "switch", "start"))
    )


EVERY = list(product(Step, (True, False), (DOWN, UP, NO_LOOK), (FORWARD, BACK, LEAST), (None, TWO, OFF, THREE)))


@pytest.mark.parametrize("tries", range(TRIES + 1))
def test_an_updater_that_is_stopping_begins_no_try(tries):
    begun = {recovery(Failure(step, bad), Now(*seen, TWO, new, True), tries) for step, bad, *seen, new in EVERY}
    assert begun == {NOTHING, KEEP_ALIVE} | ({LOOK_AGAIN} if tries else set())


def test_without_a_try_left_nothing_goes_on():
    last = {recovery(Failure(step, bad), Now(*seen, TWO, new), 0) for step, bad, *seen, new in EVERY}
    assert last == {NOTHING, KEEP_ALIVE}


@pytest.mark.parametrize("tries", range(TRIES + 1))
def test_what_is_ordered_to_stop_is_never_started(tries):
    """Whatever failed, and whether the turn or only a newer order is to stop it."""
    since = {recovery(Failure(step, bad), Now(*seen, TWO, OFF), tries) for step, bad, *seen, _ in EVERY}
    assert since == {NOTHING} | ({LOOK_AGAIN} if tries else set())
    plans = (STOPPING, STOPPED, LEAST)
    whole = product(Step, (True, False), (DOWN, UP, NO_LOOK), plans)
    assert KEEP_ALIVE not in {recovery(Failure(step, bad), Now(*seen, OFF, OFF), tries) for step, bad, *seen in whole}
