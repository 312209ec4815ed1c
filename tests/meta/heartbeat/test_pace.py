"""Wakes cause no more heartbeats a second than they may."""

import pytest

from meta.heartbeat.pace import Pace


def test_hosts_that_are_woken_together_spread_over_the_time_that_the_rate_gives():
    assert Pace(1000).within(9000, now=50.0) == pytest.approx(10.0)


def test_what_comes_during_a_wave_waits_until_it_is_over():
    pace = Pace(1000)
    pace.within(9000, now=50.0)
    assert pace.within(9000, now=55.0) is None
    assert pace.left(now=55.0) == pytest.approx(5.0)
    assert pace.within(9000, now=60.0) == pytest.approx(10.0)


def test_a_few_hosts_need_not_wait_for_a_wave():
    pace = Pace(1000)
    pace.within(90_000, now=50.0)
    assert pace.within(60, now=51.0) == pytest.approx(0.6)
    assert pace.within(60, now=51.0) is None  # only a tenth of the rate is left for such
    assert pace.within(60, now=51.3) == pytest.approx(0.6)


def test_all_of_a_long_time_stays_below_the_rate():
    pace, hosts, now, told = Pace(1000), 0, 0.0, []
    while now < 100:
        for some in (5000, 40):
            if (spread := pace.within(some, now)) is not None:
                hosts += some
                told.append(now + spread)
        now += 0.05
    assert hosts / max(told) <= 1000
