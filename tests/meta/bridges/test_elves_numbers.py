"""Lines of the log about trouble that lasts, and counters."""

import logging

import pytest

from helpers.meta_server import until
from meta.bridges.elves.counters import REASONS, REMIND_EVERY, Reminder

log = logging.getLogger(__name__)


@pytest.fixture
def reminder():
    return Reminder(log, again=0.2)


def test_each_reason_is_said_once_and_again_after_a_while(reminder, caplog):
    for _ in range(5):
        reminder.say("away: %s", "refused")
        reminder.say("away: %s", "no answer")
    assert caplog.messages == ["away: refused", "away: no answer"]
    caplog.clear()
    until(lambda: reminder.say("away: %s", "refused") or caplog.messages, "again")
    assert caplog.messages == ["away: refused"]
    assert REMIND_EVERY == 60


def test_what_comes_after_its_end_is_said_at_once(reminder, caplog):
    reminder.say("away")
    assert reminder.is_on
    reminder.over()
    assert not reminder.is_on
    reminder.say("away")
    assert caplog.messages == ["away", "away"]


def test_reasons_that_are_always_new_do_not_fill_the_log(caplog):
    reminder = Reminder(log)
    for number in range(1_000):
        reminder.say("away: %d", number)
    assert len(caplog.messages) == REASONS
