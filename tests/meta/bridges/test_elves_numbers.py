"""Lines of the log about trouble that lasts, and counters."""

import logging

import pytest

from lab.fleet import until
from meta.bridges.elves.counters import COUNTERS, Numbers
from meta.bridges.elves.rate_limited_log import REASONS, REMIND_EVERY, Reminder

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
    until("again", lambda: reminder.say("away: %s", "refused") or caplog.messages)
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


def test_each_bridge_counts_for_itself_in_prometheus_text_with_a_line_that_says_what():
    one, other = Numbers(), Numbers()
    one.add("agents_shared", 39)
    one.watch("connections", lambda: 2)
    lines = one.render().splitlines()
    assert "# HELP meta_elves_agents_shared_total Agents written to ZooKeeper." in lines
    assert "# TYPE meta_elves_agents_shared_total counter" in lines
    assert "meta_elves_agents_shared_total 39.0" in lines
    assert "# TYPE meta_elves_connections gauge" in lines and "meta_elves_connections 2.0" in lines
    assert len(lines) == 3 * (len(COUNTERS) + 1), "no series but these"
    assert "meta_elves_agents_shared_total 0.0" in other.render().splitlines(), (
        "from the start, so that a rate sees the first"
    )
