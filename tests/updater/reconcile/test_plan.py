"""The plan as a table: what is, what is to be, what was -> the steps, in order."""

from dataclasses import replace
from itertools import pairwise

import pytest
from msgspec.structs import replace as replace_fields

from updater.model.actions import Plan, Source, Step
from updater.model.memory import Memory
from updater.model.observed import Marker, Observed, Status
from updater.model.trials import Moment, Rejected, Restart, Trial
from updater.reconcile.plan import plan
from updater.wire.heartbeat import Desired, Outcome

NOW, WATCH = 1_000_000.0, 60.0
MOMENT = Moment(NOW, WATCH, at=NOW)
UP, DOWN = "started", "stoped"
HUNG = "exec `./control status` fail: timed out after 10 s"

REJECT, INSTALL, ADOPT, STOP, SWITCH, START, PRUNE, HAND_OVER, NAME = Step


def order(version="2", cmd="start", **fields):
    return Desired("agent", version, "http://meta/tarball", cmd=cmd, **fields)


def seen(current="", status="", installs=(), marked=True, foreign=""):
    markers = {version: Marker(at=1) for version in (*installs, *([current] if current else []))}
    return Observed("agent", current, Status(status), markers, marked, foreign, named=current)


def broken(current, installs=()):
    markers = {version: Marker(at=1) for version in installs}
    return Observed("agent", current, Status("exec `./control status` fail: no such directory"), markers, named=current)


def damaged(current, status):
    return replace(seen(current, status), named="")


def remembered(memory, host, desired, moment=MOMENT, source=Source.ANSWER):
    """The memory as planning leaves it."""
    return plan(host, desired, memory, moment, source=source).memory


TRIED = Memory("2", "1", "1", Trial("2", failure="did not start"), rejected=Rejected(order("2"), "did not start"))
ON_TRIAL = Memory("2", "1", "1", Trial("2"))
WATCHED = Memory("2", "1", "1", Trial("2", until=NOW + 30))
OVER = Memory("2", "1", "1", Trial("2", until=NOW - 1))
PROVEN = Memory("2", "2", "1", Trial("2", until=NOW - 1))
FAILED = Memory("2", "1", "1", Trial("2", failure="not started within 60 s"))

TABLE = [
    ("a host without the agent gets it", seen(), order(), Memory(), [INSTALL, SWITCH, START]),
    ("an install that a kill left unswitched is used", seen(installs="2"), order(), Memory(), [SWITCH, START]),
    ("a converged host gets nothing", seen("2", UP), order(), Memory(), []),
    ("an agent that died is started", seen("2", DOWN), order(), Memory(), [START]),
    ("an upgrade installs before it stops", seen("1", UP), order(), Memory(), [INSTALL, STOP, SWITCH, START]),
    ("an installed version is not downloaded again", seen("1", UP, "2"), order(), Memory(), [STOP, SWITCH, START]),
    ("an upgrade cut off after the stop goes on", seen("1", DOWN, "2"), order(), Memory(), [SWITCH, START]),
    ("an upgrade cut off after the switch goes on", seen("2", DOWN, "1"), order(), ON_TRIAL, [START]),
    (
        "an agent that is down comes up in the old version while the new one is fetched",
        seen("1", DOWN),
        order(),
        Memory(),
        [START, INSTALL, STOP, SWITCH, START],
    ),
    (
        "an install of another updater is adopted before it is left",
        seen("1", UP, marked=False),
        order(),
        Memory(),
        [INSTALL, ADOPT, STOP, SWITCH, START],
    ),
    (
        "a current version without its directory is installed again",
        broken("2"),
        order(),
        Memory(),
        [INSTALL, STOP, START],
    ),
    (
        "what is left of an old version without its directory is ended",
        broken("1"),
        order(),
        Memory(),
        [INSTALL, STOP, SWITCH, START],
    ),
    ("a failed start goes back", seen("2", DOWN, "1"), order(), FAILED, [REJECT, STOP, SWITCH, START]),
    (
        "a started version that dies in its watch goes back",
        seen("2", DOWN, "1"),
        order(),
        WATCHED,
        [REJECT, STOP, SWITCH, START],
    ),
    (
        "a hung version whose start failed is stopped by force",
        seen("2", HUNG, "1"),
        order(),
        FAILED,
        [REJECT, STOP, SWITCH, START],
    ),
    ("a version that dies after its watch is started again", seen("2", DOWN, "1"), order(), PROVEN, [START]),
    ("one that was down at its end goes back", seen("2", DOWN, "1"), order(), OVER, [REJECT, STOP, SWITCH, START]),
    ("one that is not known to be down at its end is left alone", seen("2", HUNG, "1"), order(), OVER, []),
    ("a failure without a way back is tried again", seen("2", DOWN), order(), FAILED, [START]),
    ("a rejected version is not tried again", seen("1", UP, "2"), order(), TRIED, []),
    ("the predecessor of a rejected version is kept running", seen("1", DOWN, "2"), order(), TRIED, [START]),
    ("a way back that was cut off goes on", seen("2", UP, "1"), order(), TRIED, [STOP, SWITCH, START]),
    ("another order lifts the rejection", seen("1", UP), order("3"), TRIED, [INSTALL, STOP, SWITCH, START]),
    ("an old version is removed", seen("2", UP, "01"), order(), Memory("2", "1"), [PRUNE]),
    ("the version to go back to is kept", seen("2", UP, "1"), order(), Memory("2", "1"), []),
    (
        "a hung version is replaced where its record says so",
        seen("1", HUNG),
        order(unknown_status="upgrade"),
        Memory(),
        [INSTALL, STOP, SWITCH, START],
    ),
    ("but not by itself", seen("2", HUNG), order(unknown_status="upgrade"), Memory(), []),
    ("a damaged .version is written again", damaged("2", UP), order(), Memory("2"), [NAME]),
    ("and then the rest is done", damaged("1", UP), order(), Memory("1"), [NAME, INSTALL, STOP, SWITCH, START]),
    ("the version before is kept", seen("2", UP, "1"), order(), Memory("2", "2", "1"), []),
    ("what is removed is removed last", seen("1", UP, "0"), order(), Memory(), [INSTALL, STOP, SWITCH, START, PRUNE]),
    (
        "the same version from elsewhere is another order",
        seen("1", UP, "2"),
        order(md5="f" * 32),
        TRIED,
        [STOP, SWITCH, START],
    ),
    ("stop stops whatever version runs", seen("1", UP), order("2", "stop"), Memory(), [STOP]),
    ("stop of a stopped agent does nothing", seen("1", DOWN), order("2", "stop"), Memory(), []),
    ("stop of an agent that is not here does nothing", seen(), order("2", "stop"), Memory(), []),
    ("stop of an agent that cannot tell is tried", seen("1", HUNG), order("2", "stop"), Memory(), [STOP]),
    ("an agent that cannot tell is left alone", seen("1", HUNG), order(), Memory(), []),
    ("a directory of other things is left alone", seen(foreign="var holds app.log"), order(), Memory(), []),
]


@pytest.mark.parametrize(("what", "host", "desired", "memory", "steps"), TABLE, ids=[row[0] for row in TABLE])
def test_the_plan(what, host, desired, memory, steps):
    planned = plan(host, desired, memory, MOMENT)
    assert [action.step for action in planned.actions] == steps
    assert all(action.reason for action in planned.actions)


def installed(*versions):
    """Installs of which the first is the newest, none of them running."""
    markers = {version: Marker(at=100 - age) for age, version in enumerate(versions)}
    return Observed("agent", versions[0], Status(UP), markers, True, named=versions[0])


@pytest.mark.parametrize(("keep", "pruned"), [(0, ["3", "2", "1"]), (1, ["2", "1"]), (2, ["1"]), (5, [])])
def test_the_newest_of_the_old_versions_are_kept(keep, pruned):
    planned = plan(installed("5", "4", "3", "2", "1"), order("5"), Memory("5", "4"), MOMENT, keep)
    assert [(a.step, a.version) for a in planned.actions] == [(PRUNE, version) for version in pruned]


def test_what_is_down_after_another_boot_has_not_failed():
    host, rebooted = seen("2", DOWN, "1"), Moment(NOW, WATCH, "another boot")
    assert [a.step for a in plan(host, order(), WATCHED, rebooted).actions] == [START]


def test_a_clock_that_jumps_back_makes_no_watch_of_years():
    host, then = seen("2", DOWN, "1"), NOW - 10 * 365 * 86400
    assert [a.step for a in plan(host, order(), WATCHED, Moment(then, WATCH)).actions] == [START]


def test_a_version_that_another_updater_left_is_not_ours_to_remove():
    host = Observed("agent", "2", Status(UP), {"2": Marker(at=1), "1": Marker()}, True, named="2")
    assert plan(host, order(), Memory(), MOMENT).actions == ()


def test_what_a_killed_updater_left_half_done_is_removed():
    host = replace(seen("2", UP), leftovers=(".3.new", ".1.old"))
    assert [(a.step, a.version) for a in plan(host, order(), Memory(), MOMENT).actions] == [
        (PRUNE, ".3.new"),
        (PRUNE, ".1.old"),
    ]


EARLIER = [
    ("nothing is fetched", seen("1", UP), order(), []),
    ("what is down comes up as it was", seen("1", DOWN), order(), [START]),
    ("the ordered version that is down comes up", seen("2", DOWN), order(), [START]),
    ("what is installed already may be switched to", seen("1", UP, "2"), order(), [STOP, SWITCH, START]),
    ("a stop is a stop", seen("1", UP), order(cmd="stop"), [STOP]),
]


@pytest.mark.parametrize(("what", "host", "desired", "steps"), EARLIER, ids=[row[0] for row in EARLIER])
def test_while_meta_is_away_its_answer_of_this_run_stays_in_force_but_nothing_is_fetched(what, host, desired, steps):
    planned = plan(host, desired, Memory(), MOMENT, source=Source.EARLIER)
    assert [action.step for action in planned.actions] == steps


NO_WAY_BACK = Memory("2", "", "", Trial("2", failure="not started within 60 s"))
BACK, ON = [REJECT, STOP, SWITCH, START], [INSTALL, STOP, SWITCH, START]
DEAD, CUT_OFF = seen("2", DOWN, "1"), WATCHED.given_up("2", "died")
FOR_NOW = [
    ("one that died goes back first", DEAD, WATCHED, Source.ANSWER, [*BACK, *ON]),
    ("so does one that did not start", DEAD, FAILED, Source.ANSWER, [*BACK, *ON]),
    ("it goes back while meta is away", DEAD, WATCHED, Source.EARLIER, BACK),
    ("it goes back before meta has answered", DEAD, WATCHED, Source.KEPT, BACK),
    ("a way back that was cut off goes on", DEAD, CUT_OFF, Source.ANSWER, [*BACK[1:], *ON]),
    ("what is installed is switched to at once", seen("2", DOWN, "13"), WATCHED, Source.ANSWER, [SWITCH, START]),
    ("without a way back it is kept running", seen("2", DOWN), NO_WAY_BACK, Source.ANSWER, [START, *ON]),
    ("one that is good is kept running", DEAD, PROVEN, Source.ANSWER, [START, *ON]),
    ("it is looked at again in doubt", replace(DEAD, processes=frozenset("p")), WATCHED, Source.ANSWER, ON),
]


@pytest.mark.parametrize(("what", "host", "memory", "source", "steps"), FOR_NOW, ids=[row[0] for row in FOR_NOW])
def test_what_becomes_of_a_version_on_trial_until_the_next_one_can_be_had(what, host, memory, source, steps):
    assert [action.step for action in plan(host, order("3"), memory, MOMENT, source=source).actions] == steps


def test_a_version_that_was_given_up_for_another_one_is_not_rejected():
    memory = CUT_OFF.switching("2", "1")
    assert (memory.rejected, memory.switching("1", "2").trial) == (None, Trial("2"))


@pytest.mark.parametrize(
    ("host", "memory"), [(seen("2", DOWN), Memory()), (seen("1", UP, "2"), Memory()), (DEAD, WATCHED), (DEAD, FAILED)]
)
def test_by_orders_that_are_too_old_nothing_is_done(host, memory):
    todo = plan(host, order(), memory, MOMENT, source=Source.EXPIRED)
    assert (todo.actions, todo.waits) == ((), "meta's orders are older than keepOrders")


REJECTED_3 = Memory("3", "1", "1", Trial("3", failure="by hand"), rejected=Rejected(order("3"), "by hand"))
KEPT = [
    ("what runs as ordered stays", seen("2", UP), order(), Memory(), []),
    ("nothing is fetched", seen("1", UP), order(), Memory(), []),
    ("nothing is installed on an empty host", seen(), order(), Memory(), []),
    ("what is installed already is not switched to", seen("1", UP, "2"), order(), Memory(), []),
    ("a switch that was cut off waits, and the old version comes up", seen("1", DOWN, "2"), order(), Memory(), [START]),
    ("nothing is stopped", seen("1", UP), order(cmd="stop"), Memory(), []),
    ("what was to stop is not started", seen("2", DOWN), order(cmd="stop"), Memory(), []),
    ("what .version names comes up", seen("2", DOWN), order(), Memory(), [START]),
    ("also where another version was desired", seen("1", DOWN), order(), Memory(), [START]),
    ("what cannot tell is left alone", seen("2", HUNG), order(), Memory(), []),
    ("what has no control is left alone", broken("2"), order(), Memory(), []),
    ("what is held is left alone", replace(seen("2", DOWN), held="mine"), order(), Memory(), []),
    ("nothing is removed", replace(seen("2", UP, "0"), leftovers=(".3.new",)), order(), Memory("2", "1"), []),
    ("a damaged .version is written again", damaged("2", DOWN), order(), Memory("2"), [NAME, START]),
    ("our own trial that a kill left unstarted is started", seen("2", DOWN, "1"), order(), ON_TRIAL, [START]),
    ("a trial whose start failed goes back", seen("2", DOWN, "1"), order(), FAILED, [REJECT, STOP, SWITCH, START]),
    ("so does one that dies in its watch", seen("2", DOWN, "1"), order(), WATCHED, [REJECT, STOP, SWITCH, START]),
    ("a way back that was cut off goes on", seen("2", UP, "1"), order(), TRIED, [STOP, SWITCH, START]),
    ("also where meta desired another one since", seen("3", UP, "1"), order(), REJECTED_3, [STOP, SWITCH, START]),
    ("a failure without a way back is tried again", seen("2", DOWN), order(), NO_WAY_BACK, [START]),
    ("a rejected version is not tried again", seen("1", UP, "2"), order(), TRIED, []),
    ("its predecessor is kept running", seen("1", DOWN, "2"), order(), TRIED, [START]),
    ("a person's own switch is no way back of ours", seen("0", UP, "12"), order(), TRIED, []),
]


@pytest.mark.parametrize(("what", "host", "desired", "memory", "steps"), KEPT, ids=[row[0] for row in KEPT])
def test_before_meta_has_answered_in_this_run_what_ran_runs_and_nothing_else_is_done(
    what, host, desired, memory, steps
):
    planned = plan(host, desired, memory, MOMENT, source=Source.KEPT)
    assert [action.step for action in planned.actions] == steps
    assert all(action.version in (host.current, memory.good) for action in planned.actions)


@pytest.mark.parametrize("desired", [order("2"), order("1", cmd="stop")])
def test_what_an_order_of_an_earlier_run_would_change_is_said_to_wait(desired):
    waits = plan(seen("1", UP, "2"), desired, Memory(), MOMENT, source=Source.KEPT).waits
    assert f"{desired.cmd} {desired.version} was desired before this updater started" in waits


def test_an_order_of_an_earlier_run_lifts_no_rejection_and_ends_no_watch():
    host = seen("1", UP, "2")
    assert remembered(TRIED, host, order("3"), MOMENT, Source.KEPT).rejected == TRIED.rejected
    assert remembered(WATCHED, seen("2", UP, "1"), order("3"), MOMENT, Source.KEPT).good == "1"


def ourselves(current="1", *installs, own=True):
    markers = {version: Marker(at=1) for version in (current, *installs)}
    return Observed("ops-updater", current, Status(UP), markers, True, own=own, named=current)


GOING_BACK = Memory("2", "1", "1", Trial("2", failure="by hand"), rejected=Rejected(order("2"), "by hand"))
OWN = [
    ("as desired, it does nothing", ourselves("2"), order(), Memory(), []),
    ("it installs its successor and hands over", ourselves(), order(), Memory(), [INSTALL, HAND_OVER]),
    ("a successor that is here already is handed over to", ourselves("1", "2"), order(), Memory(), [HAND_OVER]),
    ("it is never stopped", ourselves(), order(cmd="stop"), Memory(), []),
    ("it does not replace itself from outside", ourselves(own=False), order(), Memory(), []),
    ("a rejected successor is not tried again", ourselves("1", "2"), order(), TRIED, []),
    ("a hand on the host may send it back", ourselves("2", "1"), order(), GOING_BACK, [HAND_OVER]),
    ("old versions of it are removed", ourselves("2", "1", "0"), order(), Memory("2", "1", "1"), [PRUNE]),
]


@pytest.mark.parametrize(("what", "host", "desired", "memory", "steps"), OWN, ids=[row[0] for row in OWN])
def test_before_meta_has_answered_in_this_run_the_updater_does_not_replace_itself(what, host, desired, memory, steps):
    assert plan(host, desired, memory, MOMENT, source=Source.KEPT).actions == ()


@pytest.mark.parametrize(("what", "host", "desired", "memory", "steps"), OWN, ids=[row[0] for row in OWN])
def test_the_plan_about_ourselves(what, host, desired, memory, steps):
    planned = plan(host, desired, memory, MOMENT)
    assert [action.step for action in planned.actions] == steps


WAITS = [
    (
        "a rejected version",
        seen("1", UP, "2"),
        order(),
        TRIED,
        "2 was rolled back (did not start); waits for another version or a retry",
    ),
    ("a way back", seen("2", DOWN, "1"), order(), FAILED, "waits for another version"),
    ("an agent that cannot tell", seen("1", HUNG), order(), Memory(), "cannot tell whether 1 runs"),
    ("a foreign directory", seen(foreign="var holds app.log"), order(), Memory(), "move it away"),
    ("a stop without a control", broken("1"), order("1", "stop"), Memory(), "cannot stop 1: "),
]


@pytest.mark.parametrize(("what", "host", "desired", "memory", "why"), WAITS, ids=[row[0] for row in WAITS])
def test_a_plan_that_does_not_reach_the_desired_state_says_why(what, host, desired, memory, why):
    assert why in plan(host, desired, memory, MOMENT).waits


def installed_with(version, **digests):
    return Observed("agent", version, Status(UP), {version: Marker(at=1, **digests)}, True, named=version)


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_version_published_again_with_other_bytes_is_refused_and_said(kind):
    ours, theirs = ("a" * 32, "B" * 32) if kind == "md5" else ("a" * 64, "B" * 64)
    planned = plan(installed_with("2", **{kind: ours}), order(**{kind: theirs}), Memory(), MOMENT)
    assert planned.actions == ()
    assert f"{kind} {ours}, desired says {theirs.lower()}" in planned.waits


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_the_same_digest_in_capitals_is_the_same_version(kind):
    digest = "a" * (32 if kind == "md5" else 64)
    planned = plan(installed_with("2", **{kind: digest}), order(**{kind: digest.upper()}), Memory(), MOMENT)
    assert planned == plan(installed_with("2"), order(), Memory(), MOMENT)


def test_the_same_failure_is_told_again_when_it_comes_after_a_stop():
    failure = Outcome("agent", "", "2", "start", "failed", "not started within 60 s", at=1)
    memory = Memory("2", "2").with_order(order()).with_outcome(failure, order())
    assert memory.with_order(order()).with_outcome(failure, order()).outcomes == (failure,)
    after = (
        memory.with_order(order(cmd="stop")).with_order(order()).with_outcome(replace_fields(failure, at=9), order())
    )
    assert [outcome.at for outcome in after.outcomes] == [1, 9]


@pytest.mark.parametrize("now", [8058.567347345, 8051.401568898, 0.1, 3.3, 1e6 + 0.7, 123456.789012345])
@pytest.mark.parametrize("watch", [3600, 0.3, 7.7])
def test_a_watch_that_has_just_begun_again_is_never_taken_for_one_that_is_longer_than_ordered(now, watch):
    """(now + watch) - now may be a little more than watch."""
    moment = Moment(now, watch)
    begun = FIRST.started_again("1", moment)
    assert begun.after_look("agent", "1", True, {"1": 0.0}, moment).trial == begun.trial


def test_the_watch_of_an_earlier_start_proves_nothing_once_the_version_is_started_again():
    """An updater that is killed within that start does not see its end."""
    again = Memory("2", trial=Trial("2", until=NOW + 30)).beginning("2", "a boot", "a token", 1)
    after = remembered(again, seen("2", UP), order(), Moment(NOW + 31, WATCH))
    assert (after.good, after.is_on_trial, after.trial.until, after.trial.died) == ("", True, NOW + 31 + WATCH, True)


def test_a_stop_by_order_is_no_failure_of_the_watched_version():
    again = plan(seen("2", DOWN, "1"), order(), WATCHED.stopping("2"), Moment(NOW + 1, WATCH))
    assert [a.step for a in again.actions] == [START]


def test_the_way_back_from_a_third_version_leads_past_a_failed_second_one():
    assert remembered(FAILED, seen("2", DOWN, "1"), order("3"), MOMENT).switching("2", "3").good == "1"


def test_a_version_that_came_through_its_watch_is_the_way_back():
    assert remembered(OVER, seen("2", UP, "1"), order("3"), MOMENT).switching("2", "3").good == "2"


def test_a_version_that_was_replaced_within_its_watch_is_nothing_to_go_back_to_however_well_it_was():
    left = WATCHED.stopping("2").switching("2", "3")
    assert (left.good, left.back) == ("1", "1")
    again = left.stopping("3").switching("3", "2")
    assert (again.back, again.is_on_trial, again.trial) == ("1", True, Trial("2")), (
        "ordered again, it is on trial again"
    )


def test_what_was_ordered_to_and_fro_within_watches_goes_back_to_the_last_proven_version():
    memory, now = Memory("1", "1"), NOW
    for before, version in pairwise("19298298"):
        memory = memory.stopping(before).switching(before, version)
        memory = memory.started_again(version, Moment(now, WATCH))
        now += WATCH / 10
        memory = remembered(memory, seen(version, UP, "1289"), order(version), Moment(now, WATCH))
    planned = plan(seen("8", DOWN, "1289"), order("8"), memory, Moment(now, WATCH))
    assert [(a.step, a.version) for a in planned.actions[:4]] == [
        (REJECT, "8"),
        (STOP, "8"),
        (SWITCH, "1"),
        (START, "1"),
    ]


def test_a_version_that_is_taken_back_within_its_watch_leaves_the_proven_one_that_needs_no_trial():
    back = WATCHED.stopping("2").switching("2", "1")
    assert (back.current, back.good, back.is_on_trial, back.may_be_taken_back(started=True)) == ("1", "1", False, False)
    assert not plan(seen("1", DOWN, "2"), order("1"), back, MOMENT).is_way_back


FIRST = Memory().switching("", "1").started_again("1", MOMENT)  # the first install, in its watch


def left_for_2(first=FIRST):
    return first.stopping("1").switching("1", "2").started_again("2", MOMENT)


def test_while_no_version_is_proven_the_one_that_had_not_died_when_it_was_left_is_gone_back_to_on_trial():
    memory = remembered(left_for_2(), seen("2", UP, "1"), order(), MOMENT)
    assert (memory.good, memory.back) == ("", "1")
    planned = plan(seen("2", DOWN, "1"), order(), memory, MOMENT)
    assert [(a.step, a.version) for a in planned.actions] == [(REJECT, "2"), (STOP, "2"), (SWITCH, "1"), (START, "1")]
    back = planned.memory.rejecting(order(), "died").switching("2", "1").started_again("1", MOMENT)
    assert (back.is_on_trial, back.may_be_taken_back(started=True)) == (True, True)
    after = remembered(back, seen("1", UP, "2"), order(), Moment(NOW + WATCH, WATCH))
    assert (after.good, after.rejected.order) == ("1", order())


def test_two_bad_versions_of_which_none_is_proven_do_not_take_turns():
    memory = remembered(left_for_2(), seen("2", DOWN, "1"), order(), MOMENT).rejecting(order(), "died")
    memory = memory.switching("2", "1")
    for number in range(20):
        moment = Moment(NOW + 2 * number, WATCH)
        memory = memory.started_again("1", moment) if number % 3 else memory.failed("1", "not started", "")
        planned = plan(seen("1", DOWN, "2"), order(), memory, moment)
        memory = planned.memory
        assert [(a.step, a.version) for a in planned.actions] == [(START, "1")]
        assert (memory.good, memory.rejected.order) == ("", order())


def test_a_way_back_to_an_unproven_version_that_was_cut_off_goes_on():
    memory = remembered(left_for_2(), seen("2", DOWN, "1"), order(), MOMENT).rejecting(order(), "died")
    for cut_off in (memory, memory.switching("2", "1")):
        for source in (Source.ANSWER, Source.KEPT):
            planned = plan(seen("2", DOWN, "1"), order(), cut_off, MOMENT, source=source)
            assert [(a.step, a.version) for a in planned.actions][1:] == [(SWITCH, "1"), (START, "1")]


@pytest.mark.parametrize(
    "first", [FIRST.failed("1", "not started", ""), FIRST.started_again("1", MOMENT), FIRST.having_died("1")]
)
def test_a_first_version_that_has_failed_or_died_is_nothing_to_go_back_to(first):
    memory = remembered(left_for_2(first), seen("2", DOWN, "1"), order(), MOMENT)
    assert memory.back == ""
    assert [a.step for a in plan(seen("2", DOWN, "1"), order(), memory, MOMENT).actions] == [START]


def test_while_no_version_is_proven_an_order_that_is_withdrawn_leads_to_nothing_to_go_back_to():
    back = left_for_2().stopping("2").switching("2", "1").started_again("1", MOMENT)
    planned = plan(seen("1", DOWN, "2"), order("1"), back, MOMENT)
    assert [(a.step, a.version) for a in planned.actions] == [(START, "1")]
    assert planned.failure.endswith("there is no version to go back to")


def test_a_first_version_that_is_down_after_a_reboot_has_not_died_and_is_gone_back_to():
    rebooted = remembered(FIRST, seen("1", DOWN, "2"), order(), Moment(NOW + 9, WATCH, "another boot"))
    assert (rebooted.switching("1", "2").back, FIRST.switching("1", "2").back) == ("1", "")


def test_a_first_version_from_which_a_switch_was_cut_off_is_still_on_trial():
    cut_off = FIRST.stopping("1").switching("1", "2")
    again = remembered(cut_off, seen("1", UP, "2"), order("1"), MOMENT)
    assert (again.good, again.trial.version, again.is_watched) == ("", "1", True)


def proven(*versions):
    """The memory of a host on which each of these came through its watch, one after the other."""
    memory, now = Memory(), NOW
    for before, version in pairwise(("", *versions)):
        memory = memory.switching(before, version).started_again(version, Moment(now, WATCH))
        now += WATCH
        memory = remembered(memory, seen(version, UP, versions), order(version), Moment(now, WATCH))
    return memory


def test_the_way_back_by_a_person_leads_past_a_version_that_was_replaced_within_its_watch():
    memory = proven("1").switching("1", "9").switching("9", "2").started_again("2", MOMENT)
    memory = remembered(memory, seen("2", UP, "19"), order(), Moment(NOW + WATCH, WATCH))
    assert (memory.previous, memory.good, memory.way_back("2", "129")) == ("9", "2", "1")
    assert not any(a.step is PRUNE for a in plan(seen("2", UP, "19"), order(), memory, MOMENT).actions), "1 is kept"
    back = memory.rolled_back_by_operator(order(), "129")
    assert (back.back, back.rejected.reason, back.switching("2", "1").is_on_trial) == ("1", "by hand", False)


def test_the_version_before_an_order_back_to_the_good_one_is_kept_and_a_person_may_go_back_to_it():
    memory = proven("1", "2").switching("2", "1").started_again("1", MOMENT).stopping("1").switching("1", "2")
    host = seen("2", UP, "01")
    todo = plan(host, order(), memory, MOMENT)
    assert [(a.step, a.version) for a in todo.actions] == [(PRUNE, "0")]
    assert (todo.memory.previous, todo.memory.way_back("2", "012")) == ("1", "1")


@pytest.mark.parametrize("to", ["1", "3"])
def test_a_switch_that_is_cut_off_leaves_the_version_before_as_it_was(to):
    memory = proven("1", "2").switching("2", to).switching("2", to)
    assert remembered(memory, seen("2", UP, "13"), order(), MOMENT).previous == "1"
    assert remembered(memory, seen(to, UP, "123"), order(to), MOMENT).previous == "2"


@pytest.mark.parametrize("trial", [Trial("1", failure="not started"), Trial("1", died=True), Trial("1", until=NOW + 9)])
def test_a_person_does_not_go_back_to_a_version_that_had_failed_or_died_when_it_was_left(trial):
    memory = Memory("1", trial=trial).switching("1", "2").started_again("2", MOMENT)
    memory = remembered(memory, seen("2", UP, "1"), order(), Moment(NOW + WATCH, WATCH))
    assert (memory.good, memory.previous, memory.way_back("2", "12")) == ("2", "1", "")
    assert memory.rolled_back_by_operator(order(), "12") == memory
    again = memory.switching("2", "1")
    assert again.switching("1", "2").way_back("2", "12") == "", "it never ran since"
    assert again.started_again("1", MOMENT).stopping("1").switching("1", "2").way_back("2", "12") == "1", "it ran since"


def test_a_person_may_go_back_to_an_unproven_version_where_there_is_no_other_and_it_is_on_trial():
    memory = remembered(left_for_2(), seen("2", UP, "1"), order(), Moment(NOW + WATCH, WATCH))
    assert memory.good == "2"
    back = memory.rolled_back_by_operator(order(), "12").switching("2", "1")
    assert (back.good, back.back, back.is_on_trial) == ("", "1", True)
    assert [a.version for a in plan(seen("1", DOWN, "2"), order(), back, MOMENT).actions] == ["1"]


def test_a_way_back_that_is_gone_leaves_the_one_that_was_proven_before_it():
    memory = proven("1", "2", "3").switching("3", "4")
    assert (memory.back, remembered(memory, seen("4", UP, "12"), order("4"), MOMENT).back) == ("3", "2")
    assert remembered(memory, seen("4", UP), order("4"), MOMENT).back == ""


def test_what_was_proven_once_and_is_rejected_later_is_no_way_back_any_more():
    memory = proven("1", "2").switching("2", "1").rejecting(order("1"), "died").switching("1", "2")
    assert (memory.back, memory.way_back("2", "12"), memory.ways_back.earlier) == ("2", "", ())


def test_a_version_that_no_look_could_judge_during_a_download_is_judged_before_it_is_left():
    first = Memory().switching("", "1").started_again("1", Moment(NOW - WATCH, WATCH))
    last = first.after_look("agent", "1", True, "12", MOMENT).stopping("1").switching("1", "2")
    assert (last.good, last.back) == ("1", "1")


def test_a_version_in_its_watch_has_proven_nothing_while_another_one_is_ordered():
    after = remembered(WATCHED, seen("2", UP, "1"), order("3"), MOMENT)
    assert (after.good, after.is_watched, after.may_be_taken_back(started=True)) == ("1", True, True)
    assert plan(seen("2", DOWN, "1"), order("2"), after, Moment(NOW + 5, WATCH)).is_way_back
    through = remembered(after, seen("2", UP, "1"), order("3"), Moment(NOW + 31, WATCH))
    assert (through.good, through.last.to, through.last.result) == ("2", "2", "done")


def test_a_version_that_another_updater_runs_is_the_way_back():
    assert remembered(Memory(), seen("1", UP, marked=False), order("2"), MOMENT).switching("1", "2").good == "1"


def test_a_first_version_that_has_failed_is_not_on_trial_while_it_is_down():
    """There is nothing before it, so nothing takes it back: it is told as failed, and nobody waits for its watch."""
    first = Memory().switching("", "2").failed("2", "not started within 60 s", "")
    assert not first.may_be_taken_back(started=False)
    assert not remembered(first, seen("2", DOWN), order(cmd="stop"), MOMENT).may_be_taken_back(started=False)
    assert remembered(first, seen("2", UP), order(), MOMENT).may_be_taken_back(started=True)
    assert FAILED.may_be_taken_back(started=False), "it is about to be taken back"


def test_a_version_from_which_a_switch_was_cut_off_is_on_trial_as_before():
    ran = ON_TRIAL.started_again("2", MOMENT)
    for died, before in ((False, ran.stopping("2")), (True, ran)):
        cut_off = before.switching("2", "3")
        assert cut_off.trial == Trial("3")
        assert remembered(cut_off, seen("2", DOWN, "13"), order("2"), MOMENT).trial == Trial("2", died=died)


def test_a_way_back_that_is_gone_is_none():
    assert remembered(Memory("1", "0"), seen("1", UP), order("2"), MOMENT).good == "1"
    assert remembered(Memory("1", "0", "0", Trial("1")), seen("1", DOWN), order("2"), MOMENT).good == ""


STARTED_AT = Memory("2", "1", "1", Trial("2", until=NOW + 30, began=NOW - 3))


def test_a_version_that_dies_in_its_watch_is_said_to_have_died_so_long_after_its_start():
    host = seen("2", DOWN, "1")
    [reject, *_] = plan(host, order(), STARTED_AT, MOMENT).actions
    assert (reject.step, reject.reason) == (REJECT, "died 3 s after its start")
    assert plan(host, order(), WATCHED, MOMENT).actions[0].reason == "died within its watch", (
        "of an earlier updater's memory"
    )


def test_a_start_of_ours_within_the_watch_begins_it_again():
    again = STARTED_AT.started_again("2", Moment(NOW + 5, WATCH))
    assert (again.trial.began, again.trial.until) == (NOW + 5, NOW + 5 + WATCH)
    assert remembered(again, seen("2", UP, "1"), order(), Moment(NOW + 9, WATCH)).trial == again.trial


def test_a_watch_ends_well_only_when_the_version_is_seen_started_at_its_end_or_later():
    last_look = remembered(WATCHED, seen("2", UP, "1"), order(), Moment(NOW + 29.9, WATCH))
    assert (last_look.good, last_look.outcomes) == ("1", ())
    assert remembered(last_look, seen("2", DOWN, "1"), order(), Moment(NOW + 30, WATCH)).good == "1"
    unknown = remembered(last_look, seen("2", HUNG, "1"), order(), Moment(NOW + 30, WATCH))
    assert unknown.good == "1"
    assert unknown.may_be_taken_back(started=False), "it is on trial until a look has said how its watch ended"
    [done] = remembered(unknown, seen("2", UP, "1"), order(), Moment(NOW + 90, WATCH)).outcomes
    assert (done.agent, done.from_, done.to, done.step, done.result) == ("agent", "1", "2", "watch", "done")


def test_what_comes_through_its_watch_is_told_though_nothing_was_written_after_its_start():
    killed = Memory("1", "1").switching("1", "2")
    watched = remembered(killed, seen("2", UP, "1"), order(), MOMENT)
    after = remembered(watched, seen("2", UP, "1"), order(), Moment(NOW + WATCH, WATCH))
    assert [(one.from_, one.to, one.result) for one in after.outcomes] == [("1", "2", "done")]


@pytest.mark.parametrize("lived", [0.5, 20, 59])
def test_a_first_version_that_dies_in_every_watch_never_becomes_good(lived):
    memory, now = Memory().switching("", "2"), NOW
    for _ in range(50):
        memory = memory.started_again("2", Moment(now, WATCH))
        now += lived
        memory = remembered(memory, seen("2", UP), order(), Moment(now, WATCH))
        planned = plan(seen("2", DOWN), order(), memory, Moment(now, WATCH))
        assert ([a.step for a in planned.actions], planned.memory.good) == ([START], "")
        assert planned.failure.endswith("there is no version to go back to")


@pytest.mark.parametrize("lived", [0.5, 20, 59])
def test_a_first_version_that_its_supervisor_starts_again_in_every_watch_never_becomes_good(lived):
    memory = Memory().switching("", "2").started_again("2", MOMENT)
    for number in range(50):
        host = replace(seen("2", UP), processes=frozenset({str(number)}), mains=frozenset({str(number)}))
        moment = Moment(NOW + lived * number, WATCH)
        planned = plan(host, order(), memory, moment)
        memory = planned.memory
        assert (planned.actions, memory.good) == ((), "")
        assert ("was started again" in planned.failure) == (number >= 3)
    assert remembered(memory, host, order(), Moment(moment.now + WATCH, WATCH)).good == "2"


def test_what_works_now_and_then_only_is_not_taken_for_an_agent_that_is_started_again():
    """As cron's jobs do, or what a socket starts: none of them is of the agent's start."""
    memory = Memory(good="1", current="2", trial=Trial("2")).started_again("2", MOMENT)
    for number in range(10):
        host = replace(seen("2", UP, "1"), processes=frozenset({str(number)}))
        planned = plan(host, order(), memory, Moment(NOW + number, WATCH))
        memory = planned.memory
        assert planned == Plan(memory=memory)
    assert remembered(memory, host, order(), Moment(NOW + WATCH, WATCH)).good == "2"


def serving(number, *ports):
    """A version whose listeners are others at each number."""
    return Observed(
        "agent",
        "2",
        Status(UP),
        {version: Marker(at=1) for version in "12"},
        named="2",
        processes=frozenset({"loop", str(number)}),
        mains=frozenset({"loop"}),
        listeners={port: frozenset({str(number)}) for port in ports},
    )


def test_a_server_of_one_connection_each_is_good_three_watches_after_its_start():
    """What serves one connection and is started again by a loop is well, however often it is scraped."""
    memory = Memory(good="1", current="2", trial=Trial("2")).started_again("2", MOMENT)
    for seconds in range(15, 600, 15):
        memory = remembered(memory, serving(seconds, 9100), order(), Moment(NOW + seconds, WATCH))
        assert (memory.good, memory.rejected) == ("2" if seconds >= 3 * WATCH else "1", None)
    assert memory.last.reason == (
        "it has come through its watch; what listens (9100) was replaced 11 times within its watch; "
        "it still was when 3 watches were over, so a version that fails after it goes back to 1"
    )
    planned = plan(seen("2", DOWN, "1"), order(), memory, Moment(NOW + 600, WATCH))
    assert planned.actions[0].step is START, "a stop by hand later is no failure of the version"


def after_watch(memory, version, every, installs="1234"):
    """The memory after a watch of `version` in which what listens was replaced every so many seconds, 0 for never."""
    memory = memory.switching(memory.current, version).started_again(version, MOMENT)
    for seconds in range(0, 4 * int(WATCH), 5):
        number = seconds // every if every else 0
        host = replace(
            seen(version, UP, installs),
            processes=frozenset({"loop", str(number)}),
            mains=frozenset({"loop"}),
            listeners={80: frozenset({str(number)})},
        )
        memory = remembered(memory, host, order(version), Moment(NOW + seconds, WATCH))
    assert memory.good == version, "it is not on trial for ever"
    return memory


def test_what_was_still_being_replaced_at_the_end_of_its_watch_is_gone_back_to_only_where_nothing_else_is_proven():
    restless = after_watch(Memory("1", "1"), "2", 15)
    assert (restless.back, restless.way_back("2", "12")) == ("1", "1")
    assert not any(a.step is PRUNE for a in plan(seen("2", UP, "1"), order(), restless, MOMENT).actions), "1 is kept"
    assert restless.switching("2", "3").rejecting(order("3"), "died").good == "1"
    assert after_watch(Memory("1", "1"), "2", 0).back == "2"
    assert after_watch(restless, "3", 0).ways_back.earlier == ("1",), "2 is none of the proven ones"
    assert remembered(restless, seen("2", UP), order(), Moment(NOW + 600, WATCH)).back == "2", "1 is gone"


def test_what_is_replaced_by_design_in_one_version_after_the_other_counts():
    """A server of one connection each: not to go back to the version of a year ago."""
    second = after_watch(after_watch(Memory("1", "1"), "2", 15), "3", 15)
    assert (second.back, second.way_back("3", "123")) == ("3", "2")


def test_only_so_many_ports_are_remembered_and_those_of_the_last_look_first():
    memory = Memory(good="1", current="2", trial=Trial("2")).started_again("2", MOMENT)
    for number in range(1, 100):
        memory = remembered(memory, serving(number, 80, 1000 + number), order(), Moment(NOW + number / 10, WATCH))
    assert len(memory.trial.listeners) == 64
    assert {80, 1099} <= set(memory.trial.listeners)


def test_what_was_replaced_is_counted_anew_when_the_watch_begins_again_after_a_reboot():
    memory = Memory(good="1", current="2", trial=Trial("2", replaced=2)).started_again("2", MOMENT)
    memory = remembered(memory, serving(1, 80), order(), Moment(NOW + 1, WATCH, "another"))
    assert memory.trial.replaced == 0


def test_a_helper_s_end_is_no_restart_while_a_main_process_lives_on():
    memory = Memory(good="1", current="2", trial=Trial("2")).started_again("2", MOMENT)
    for number in range(10):
        host = replace(seen("2", UP, "1"), processes=frozenset({"0", f"{number}.1"}), mains=frozenset({"0"}))
        memory = remembered(memory, host, order(), Moment(NOW + number, WATCH))
    assert memory.trial.restarts == 0


@pytest.mark.parametrize("is_ordered", [True, False])
def test_an_outcome_does_not_say_that_something_still_runs_that_has_ended_by_then(is_ordered):
    memory = Memory(good="1", current="2", trial=Trial("2")).started_again("2", MOMENT)
    memory = memory.leaving("1", frozenset({"4711.1"}), "1 process of 1 still runs")
    over = Moment(NOW + WATCH, WATCH)
    for crowding in ({"1"}, set()):
        host = replace(seen("2", UP, "1"), occupied=frozenset(crowding), crowding=frozenset(crowding))
        after = remembered(memory, host, order(), over) if is_ordered else memory.seen_started(host, over)
        assert after.good == "2"
        assert ("still runs" in after.last.reason) == bool(crowding)


def test_a_version_in_its_watch_that_is_not_believed_to_run_is_started_twice_before_a_verdict():
    """What it had left where it is installed may not have been the agent."""
    memory = Memory(good="1", current="2", trial=Trial("2")).started_again("2", MOMENT)
    lost = replace(seen("2", UP, "1"), absent=True)
    for number in (1, 2, 3):
        planned = plan(lost, order(), memory, Moment(NOW + 3 * number, WATCH))
        memory, [first, *_] = planned.memory, planned.actions
        assert (first.step, first.forced) == ((START if number < 3 else REJECT), False)
        memory = memory if number == 3 else memory.started_again("2", Moment(NOW + 3 * number, WATCH))
        memory = remembered(memory, seen("2", UP, "1"), order(), Moment(NOW + 3 * number + 1, WATCH))
    assert first.reason.startswith("died ")


def test_what_is_not_believed_to_run_is_told_to_stop_unless_a_stranger_would_be():
    lost = replace(seen("2", UP, "1"), absent=True)
    for host, stops in ((lost, [STOP]), (replace(lost, strange=True), [])):
        assert [a.step for a in plan(host, order("2", "stop"), PROVEN, MOMENT).actions] == stops
        todo = plan(host, order("1"), PROVEN, MOMENT)
        assert [a.step for a in todo.actions] == [*stops, SWITCH, START]
        assert [a.doubtful for a in todo.actions if a.step is STOP] == [True for _ in stops]


def test_a_first_version_whose_start_failed_and_that_comes_up_all_the_same_is_watched_then():
    late = Memory().switching("", "2").failed("2", "not started within 60 s", "")
    watched = remembered(late, seen("2", UP), order(), MOMENT)
    assert (watched.trial.until, watched.trial.failure, watched.good) == (NOW + WATCH, "", "")
    assert remembered(FAILED, seen("2", UP, "1"), order(), MOMENT).trial == FAILED.trial, "there is a way back"
    assert FAILED.may_be_taken_back(started=True)


def test_what_was_down_while_it_was_to_be_stopped_has_not_failed():
    stopped = remembered(OVER, seen("2", DOWN, "1"), order(cmd="stop"), MOMENT)
    again = plan(seen("2", DOWN, "1"), order(), stopped, Moment(NOW + 1, WATCH))
    assert [a.step for a in again.actions] == [START]


def test_a_look_from_before_the_start_says_nothing_of_it():
    planned = plan(seen("2", DOWN, "1"), order(), STARTED_AT, Moment(NOW - 4, WATCH))
    assert (planned.failure, [a.step for a in planned.actions]) == ("", [START])


def test_a_first_version_that_dies_in_its_watch_is_started_again_as_a_failure():
    first = Memory("2", "", "", Trial("2", until=NOW + 30, began=NOW - 3))
    planned = plan(seen("2", DOWN), order(), first, MOMENT)
    assert [a.step for a in planned.actions] == [START]
    assert planned.failure == "died 3 s after its start; there is no version to go back to"
    well = plan(seen("2", UP), order(), first, MOMENT)
    assert well == Plan(memory=well.memory)


def test_a_proven_version_that_has_died_after_its_start_is_told_unless_it_is_left_for_another_one():
    memory, host = Memory("1", "1", restart=Restart("1", began=NOW - 5)), seen("1", DOWN, "2")
    assert plan(host, order("1"), memory, MOMENT).failure == "died within 5 s of its start"
    left = plan(host, order("2"), memory, MOMENT)
    assert ([a.step for a in left.actions][:1], left.failure) == ([SWITCH], "")
    installing = plan(seen("1", DOWN), order("2"), memory, MOMENT)
    assert installing.failure == "died within 5 s of its start"


def test_a_version_that_could_not_be_left_when_it_failed_and_dies_again_is_the_one_that_was_rolled_back():
    failed = Memory("1", "1").switching("1", "2").started_again("2", MOMENT).rejecting(order(), "died")
    again = failed.restarted("2", MOMENT)
    planned = plan(seen("2", DOWN, "1"), order(), again, MOMENT)
    assert (planned.memory.dying, planned.failure) == (None, "")


def test_a_failure_in_a_watch_that_is_come_through_is_told_as_done_once():
    failed = Outcome("agent", "", "2", "watch", "failed", "died 3 s after its start", "evidence", 1)
    memory = replace_fields(Memory("2", "", "", Trial("2", until=NOW - 1, began=NOW - 30)), last=failed)
    after = remembered(memory, seen("2", UP), order(), MOMENT)
    done = Outcome("agent", "", "2", "watch", "done", "it has come through its watch", at=int(NOW))
    assert (after.outcomes, after.last, after.good) == ((done,), done, "2")
    assert remembered(after, seen("2", UP), order(), MOMENT) == after
    assert remembered(memory, seen("2", DOWN), order(), MOMENT).outcomes == (), "it is down"
