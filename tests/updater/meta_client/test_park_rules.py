"""When a host parks and for how long, over hours of made-up time, behind every kind of path to meta."""

from itertools import pairwise

import pytest

from updater.meta_client.park_rules import SPANS, Answer, Kind, ParkRules

LONGEST, INTERVAL = 270, 100_000
NOTHING = Answer(Kind.NOTHING)
HOUR, DAY = 3600, 86400


def failed(why="cut"):
    return Answer(Kind.FAILED, why)


class Path:
    """A meta behind a path; `cuts` says after how many seconds a wait is cut, None for not. A park as (begin, wait, end)."""

    def __init__(self, cuts, chance=0.5, first=0.0):
        self.cuts, self.chance, self.now = cuts, chance, 0.0
        self.rules = ParkRules(first)
        self.parks = []

    def run(self, until):
        while (begin := max(self.rules.not_before, self.now)) < until:
            self.now = begin
            wait = self.rules.wait(LONGEST, INTERVAL, begin)
            after = self.cuts(begin)
            is_cut = after is not None and after < wait
            lasted = after if is_cut else wait
            self.now += lasted + 0.01
            self.parks.append((begin, wait, self.now))
            self.rules.hear(failed() if is_cut else NOTHING, wait, lasted, self.now, self.chance)
        self.now = until
        return self

    @property
    def waits(self):
        return [wait for _, wait, _ in self.parks]

    def parked(self, since=0.0):
        """The part of the time since then in which a park stood."""
        stood = sum(end - max(begin, since) for begin, _, end in self.parks if end > since)
        return stood / (self.now - since)


def test_a_path_that_cuts_nothing_is_parked_at_all_the_time_by_the_longest_waits():
    path = Path(lambda _: None).run(DAY)
    assert set(path.waits) == {LONGEST}
    assert path.parked() > 0.99


@pytest.mark.parametrize("limit", [60, 100, 240])
def test_the_idle_limit_of_a_path_is_learnt_by_one_cut_and_tried_again_ever_more_seldom(limit):
    path = Path(lambda _: limit).run(3 * DAY)
    assert set(path.waits) == {LONGEST, int(0.8 * limit)}
    cuts = [begin for begin, wait, _ in path.parks if wait == LONGEST]
    assert len(cuts) <= 8
    assert all(later - earlier >= HOUR for earlier, later in pairwise(cuts))
    assert path.parked() > 0.99


@pytest.mark.parametrize("limit", [5, 20, 29])
def test_a_path_that_allows_no_useful_wait_is_left_alone_for_an_hour_then_longer(limit):
    path = Path(lambda _: limit).run(DAY)
    assert path.waits[:2] == [LONGEST, SPANS.shortest]
    assert path.parks[2][0] - path.parks[1][2] >= HOUR
    assert len(path.parks) <= 12


def test_a_meta_that_dies_once_teaches_nothing_that_lasts():
    """Its end cuts each connection after another time; none of them is a limit of the path."""
    for after in range(2, 270, 7):
        path = Path(lambda now, after=after: after if now == 0 else None).run(2 * HOUR + 600)
        assert path.waits[-1] == LONGEST, after
        assert path.parked(since=after + 120) > 0.99, after
        assert min(path.waits) >= SPANS.shortest


def test_a_path_that_was_mended_has_the_longest_waits_again_within_an_hour():
    path = Path(lambda now: 60 if now < HOUR / 2 else None).run(2 * HOUR)
    assert path.waits[-1] == LONGEST


def test_a_path_that_gets_narrower_is_followed():
    path = Path(lambda now: 200 if now < HOUR / 2 else 60).run(HOUR)
    assert path.waits[0] == LONGEST
    assert path.waits[-1] == 48


def test_failures_at_once_teach_nothing_and_are_repeated_ever_more_seldom():
    path = Path(lambda _: 0.0).run(DAY)
    assert path.rules.limit(path.now) > LONGEST
    assert len(path.parks) < 40


def test_hosts_that_were_cut_off_together_come_back_over_a_minute():
    pauses = []
    for chance in (0.0, 0.25, 0.5, 0.75, 1.0):
        rules = ParkRules(0)
        rules.hear(failed(), 270, 100, 1000, chance)
        pauses.append(rules.not_before - 1000)
    assert pauses == [SPANS.least, 15, 30, 45, 60]


@pytest.mark.parametrize(
    ("answer", "least", "most"),
    [
        (Answer(Kind.MISSING, "404"), DAY, DAY),
        (Answer(Kind.FORBIDDEN, "401"), HOUR, HOUR),
        (Answer(Kind.BUSY, "503", 10), 10, 20),
        (Answer(Kind.BUSY, "429", 600), 600, 660),
        (Answer(Kind.BUSY, "503", DAY), HOUR, HOUR + 60),
        (Answer(Kind.BUSY, "503"), SPANS.least, 60),
    ],
)
@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_what_meta_refuses_is_not_asked_for_a_while(answer, least, most, chance):
    rules = ParkRules(0)
    rules.hear(answer, 270, 0.01, 1000, chance)
    assert least <= rules.not_before - 1000 <= most
    assert rules.why == answer.why


def test_a_meta_that_is_busy_for_long_is_asked_ever_more_seldom():
    rules, now, count = ParkRules(0), 0.0, 0
    while (now := max(rules.not_before, now)) < DAY:
        rules.hear(Answer(Kind.BUSY, "503"), 270, 30, now, 0.5)
        count += 1
    assert count < 60


def test_answers_without_a_wait_or_news_make_no_busy_loop():
    rules, now, times = ParkRules(0), 0.0, []
    while now < DAY:
        times.append(now)
        rules.hear(NOTHING, 270, 0.001, now, 0.5)
        now = rules.not_before
    assert len(times) < 40
    assert times[1] - times[0] >= SPANS.least
    assert rules.why == "meta answers at once, without a wait"
    rules.hear(NOTHING, 270, 270, now, 0.5)
    assert (rules.why, rules.not_before) == ("", now)


def test_wakes_with_news_are_two_seconds_apart_and_those_without_ever_longer():
    rules = ParkRules(0)
    for now in (10, 12, 14):
        rules.hear(Answer(Kind.WAKE), 270, 0.01, now, 0.5)
        rules.note_wake(True, now)
        assert rules.not_before == now + 2
    now, pauses = 20.0, []
    for _ in range(14):
        rules.hear(Answer(Kind.WAKE), 270, 0.01, now, 0.5)
        rules.note_wake(False, now)
        pauses.append(rules.not_before - now)
        now = rules.not_before
    assert pauses == [*(2.0**n for n in range(2, 12)), 3600, 3600, 3600, 3600]
    assert rules.why == "meta wakes this host again and again without news"
    rules.note_wake(True, now)
    assert (rules.why, rules.not_before) == ("", now + 2)


def test_a_wait_ends_before_the_next_beat_and_is_in_whole_seconds():
    rules = ParkRules(0)
    assert rules.wait(270, 100.9, 0) == 100
    assert rules.wait(270, 0.9, 0) == 0
    assert rules.wait(0, 100, 0) == 0
    assert rules.wait(270, -5, 0) == 0


def test_an_interval_below_the_shortest_wait_is_parked_through_and_a_dead_meta_forgiven():
    rules = ParkRules(0)
    rules.hear(failed(), 10, 5, 100, 0.5)
    assert rules.wait(270, 10, rules.not_before) == 10
    rules.hear(NOTHING, 10, 10, 200, 0.5)
    rules.hear(failed(), 10, 5, 100_000, 0.5)
    assert rules.not_before < 100_100, "the wait between them came through"
