"""What follows a failed action, as a table."""

from itertools import product

import pytest

from updater.model.actions import Action, Plan, Step
from updater.model.observed import Observed, Status
from updater.reconcile.recovery import TRIES, Failure, Recovery, is_needed, recovery

NOTHING, LOOK_AGAIN, RETRY, WAY_BACK, KEEP_ALIVE = Recovery
LOOK = Observed("agent", "1", Status("stoped"))
NO_LOOK = Observed("agent", trouble="cannot read its directory")
FORWARD = Plan((Action(Step.SWITCH, "agent", "2", "desired"), Action(Step.START, "agent", "2", "desired")))
BACK = Plan((Action(Step.REJECT, "agent", "2", "it failed"), Action(Step.START, "agent", "1", "2 failed")))
LEAST = Plan(waits="cannot tell")

TABLE = [
    ("a start that failed of the version goes back", Failure(Step.START, False), LOOK, BACK, TRIES, WAY_BACK),
    ("so does one that the host's trouble ended", Failure(Step.START, True), LOOK, BACK, TRIES, WAY_BACK),
    ("without a way back it is left to the next cycle", Failure(Step.START, False), LOOK, FORWARD, TRIES, NOTHING),
    ("the host's trouble is worth another try", Failure(Step.START, True), LOOK, FORWARD, 1, RETRY),
    ("also at a stop", Failure(Step.STOP, True), LOOK, FORWARD, TRIES, RETRY),
    ("also at a switch", Failure(Step.SWITCH, True), LOOK, FORWARD, TRIES, RETRY),
    ("a stop that failed leaves what ran running", Failure(Step.STOP, False), LOOK, FORWARD, TRIES, KEEP_ALIVE),
    ("so does a switch", Failure(Step.SWITCH, False), LOOK, FORWARD, TRIES, KEEP_ALIVE),
    ("also where there is nothing to plan", Failure(Step.STOP, False), LOOK, LEAST, TRIES, KEEP_ALIVE),
    ("also after the last try", Failure(Step.SWITCH, True), LOOK, FORWARD, 0, KEEP_ALIVE),
    ("a start is not tried without end", Failure(Step.START, True), LOOK, FORWARD, 0, NOTHING),
    ("nor is a way back", Failure(Step.START, True), LOOK, BACK, 0, NOTHING),
    ("what another try could not even begin is kept alive", Failure(Step.NAME, False), LOOK, FORWARD, 1, KEEP_ALIVE),
    ("what cannot be looked at is looked at again", Failure(Step.START, False), NO_LOOK, LEAST, 1, LOOK_AGAIN),
    ("but not for ever", Failure(Step.START, False), NO_LOOK, LEAST, 0, NOTHING),
    ("and then it is kept alive, if that can be", Failure(Step.STOP, False), NO_LOOK, LEAST, 0, KEEP_ALIVE),
]


@pytest.mark.parametrize(("what", "last", "look", "again", "tries", "then"), TABLE, ids=[row[0] for row in TABLE])
def test_what_follows_a_failure(what, last, look, again, tries, then):
    assert recovery(last, look, again, tries) is then


@pytest.mark.parametrize("step", Step)
def test_only_what_may_have_taken_the_agent_down_is_recovered_from(step):
    assert (
        is_needed(Failure(step, True)) == is_needed(Failure(step, False)) == (step.value in ("stop", "switch", "start"))
    )


EVERY = list(product(Step, (True, False), (LOOK, NO_LOOK), (FORWARD, BACK, LEAST)))


@pytest.mark.parametrize("tries", range(TRIES + 1))
def test_an_updater_that_is_stopping_begins_no_try(tries):
    begun = {recovery(Failure(step, bad), look, again, tries, True) for step, bad, look, again in EVERY}
    assert begun == {NOTHING, KEEP_ALIVE} | ({LOOK_AGAIN} if tries else set())


def test_without_a_try_left_nothing_goes_on():
    last = {recovery(Failure(step, bad), look, again, 0) for step, bad, look, again in EVERY}
    assert last == {NOTHING, KEEP_ALIVE}
