"""When to try again, as a table."""

import pytest

from updater.net.backoff import until_first_beat, until_next_beat, until_next_enrolment, until_retry


@pytest.mark.parametrize(
    ("failures", "asked", "chance", "seconds"),
    [
        (1, 0, 0.5, 300),
        (1, 0, 0.0, 225),
        (1, 0, 1.0, 375),
        (2, 0, 0.5, 600),
        (3, 0, 0.5, 1200),
        (4, 0, 0.5, 2400),
        (4, 0, 1.0, 2400),
        (1000, 0, 0.5, 2400),
        (1, 1000, 0.5, 1000),
        (1, 86400, 0.5, 2400),
    ],
)
def test_heartbeats_grow_rare_and_never_rarer_than_eight_intervals(failures, asked, chance, seconds):
    assert until_next_beat(failures, 300, asked, chance) == seconds


@pytest.mark.parametrize(("attempt", "asked", "seconds"), [(0, 0, 0.5), (1, 0, 1), (3, 0, 4), (50, 0, 30), (0, 60, 60)])
def test_a_download_is_gone_on_with_soon_and_then_less_soon(attempt, asked, seconds):
    assert until_retry(attempt, asked, 0.5) == seconds


def test_a_host_that_meta_has_answered_begins_somewhere_in_its_interval():
    assert [until_first_beat(300, chance, "h1", True) for chance in (0, 0.5, 1)] == [0, 150, 300]


def test_new_hosts_of_a_rack_spread_over_ten_seconds_or_the_interval():
    sleeps = [until_first_beat(300, 0, f"rack7-{number}", False) for number in range(1000)]
    per_second = [sum(second <= sleep < second + 1 for sleep in sleeps) for second in range(10)]
    assert sum(per_second) == 1000
    assert max(per_second) < 200
    assert max(until_first_beat(5, 0, f"rack7-{number}", False) for number in range(1000)) < 5


@pytest.mark.parametrize(
    ("attempt", "asked", "chance", "seconds"),
    [(0, 0, 0, 0.5), (0, 7, 0, 7), (0, 7, 1, 8), (3, 7, 1, 15), (99, 7, 1, 67)],
)
def test_a_rack_that_enrols_asks_again_never_too_early_and_over_a_longer_time_each_time(
    attempt, asked, chance, seconds
):
    assert until_next_enrolment(attempt, asked, chance) == seconds
