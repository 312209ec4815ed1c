"""When a watch ends, and with which exit code, look by look."""

import pytest
from msgspec.structs import replace

from meta.api.schemas.types import Counts
from meta.cli.gate import End, Gate, Wanted, end_of, is_taken_back, taken_from
from meta.cli.steps import watching
from meta.errors import Misconfigured, NotThere
from meta.queries.representations import GOING_BACK, Failure, Progress

WANTED = Wanted("a")
FIRST = Progress("a", revision=5, desired="2", wanted=["2"], todo=3)


def found(**fields):
    return replace(FIRST, **({"todo": 0} | fields))


class Metas:
    """Metas behind one address, which answer a watch in turns; None: that one does not know what is asked for."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def get(self, path, type_, **query):
        if path == "/counts":
            return Counts([])
        if path != "/progress":
            return {"version": "2"}
        self.asked.append(query.get("failedBefore"))
        answer = self.answers.pop(0)
        if answer is None:
            raise NotThere("no host web-9 has reported")
        return answer


@pytest.mark.parametrize(
    ("fields", "max_failed", "end"),
    [
        ({"good": 3}, None, End.DONE),
        ({"good": 2, "trial": 1}, None, None),
        ({"good": 2, "todo": 1}, None, None),
        ({"good": 2, "failed": 1, "todo": 1}, None, None),
        ({"good": 2, "failed": 1}, None, End.NOT_YET),
        ({"good": 2, "late": 1, "lost": 1, "held": 1}, None, End.DONE),
        ({"held": 1, "late": 1}, None, End.WAITS_FOR_A_PERSON),
        ({"late": 1}, None, End.NOT_YET),
        ({"good": 2, "banned": 1}, None, End.TAKEN_BACK),  # they run what they ran before the ban
        ({"good": 2, "banned": 1, "trial": 1}, None, None),
        ({"banned": 1, "held": 1}, None, End.TAKEN_BACK),
        ({"failed": 1, "banned": 1}, None, End.NOT_YET),
        ({}, None, End.NOT_YET),
        ({"failed": 1, "todo": 9}, (0, False), End.NOT_YET),
        ({"failed": 1, "todo": 9}, (1, False), None),
        ({"failed": 1, "good": 9}, (1, False), End.DONE),
        ({"failed": 1, "good": 9}, (10, True), End.DONE),
        ({"failed": 1, "good": 8}, (10, True), End.NOT_YET),
        ({"desired": "", "wanted": []}, None, End.TAKEN_BACK),
    ],
)
def test_how_a_look_ends_a_watch(fields, max_failed, end):
    wanted = WANTED._replace(max_failed=max_failed[0], is_share=max_failed[1]) if max_failed else WANTED
    assert end_of(FIRST, found(**fields), wanted) is end


def test_what_no_record_says_is_not_yet_from_the_start():
    nothing = Progress("a", revision=5)
    assert end_of(nothing, nothing, WANTED) is End.NOT_YET


@pytest.mark.parametrize(
    ("what", "before", "after", "is_back"),  # desired, wanted, and of these pending
    [
        ("nothing changed", ("2", ["2"]), ("2", ["2"]), False),
        ("set back", ("2", ["2"]), ("1", ["1"]), True),
        ("banned", ("2", ["2"]), ("2", []), True),
        ("stopped", ("2", ["2"]), ("stop", ["stop"]), True),
        ("another version for some", ("2", ["2"]), ("2", ["2", "3"]), False),
        ("the canary is promoted", ("1", ["1", "2"], ["2"]), ("2", ["2"]), False),
        ("set back to what some were spared it for", ("2", ["1", "2"], ["2"]), ("1", ["1"]), True),
        ("set back, and both are on their way", ("2", ["1", "2"], ["1", "2"]), ("1", ["1"]), True),
        ("the canary is promoted, and others still have an override", ("1", ["0", "1", "2"]), ("2", ["0", "2"]), False),
        ("the canary is promoted, as its own hosts see it", ("1", ["2"]), ("2", ["2"]), False),
        ("the canary is dropped", ("1", ["1", "2"]), ("1", ["1"]), True),
        ("the canary is dropped, as its own hosts see it", ("1", ["2"]), ("1", ["1"]), True),
        ("the canary is banned", ("1", ["1", "2"]), ("1", ["1"]), True),
        ("the canary is dropped and another is set", ("1", ["1", "2"]), ("3", ["3"]), True),
        ("an override elsewhere is changed", ("1", ["1"]), ("1", ["1"]), False),
    ],
)
def test_what_is_taken_back(what, before, after, is_back):
    desired, wanted, *pending = before
    first = Progress("a", revision=5, desired=desired, wanted=wanted, pending=pending[0] if pending else [])
    assert is_taken_back(first, Progress("a", revision=6, desired=after[0], wanted=after[1])) is is_back


def test_a_version_that_no_host_is_left_for_is_not_taken_back_without_an_edit():
    assert not is_taken_back(FIRST, found(wanted=[]))
    first, after = replace(FIRST, grounds="x"), found(wanted=[], revision=6)
    assert not is_taken_back(first, replace(after, grounds="x")), "what was edited is not who shall have which version"
    assert is_taken_back(first, replace(after, grounds="y"))


CANARY = found(wanted=["1", "2"], desired="1", grounds="x", good=2, trial=1)
PROMOTED = found(revision=6, wanted=["2"], desired="2", grounds="y", todo=3)


@pytest.mark.parametrize(
    ("looks", "end"),
    [
        ([["1", "2"], ["2"]], None),
        ([["1", "2"], []], None),
        ([["2"], ["1", "2"]], End.TAKEN_BACK),
        ([["1", "2"], ["1"]], End.TAKEN_BACK),
    ],
    ids=["all have it", "all are good", "some are back on their way", "some are still on their way"],
)
def test_a_canary_is_promoted_where_the_last_look_before_has_no_host_on_its_way_to_what_it_replaces(looks, end):
    gate = Gate(WANTED)
    for now, pending in enumerate(looks):
        assert gate.end(replace(CANARY, pending=pending), now) is None
    assert gate.end(replace(PROMOTED, pending=["2"]), 2) is end
    if end is None:
        after = replace(PROMOTED, revision=7, grounds="z", wanted=["1"], desired="1", good=3, todo=0)
        assert gate.end(after, 3) is End.TAKEN_BACK, "what was promoted is set back"


@pytest.mark.parametrize(("before", "after"), [("", "y"), ("x", "")], ids=["older before", "older after"])
def test_where_an_older_meta_tells_of_no_grounds_revisions_tell_of_edits(before, after):
    first = replace(FIRST, grounds=before, wanted=["1", "2"])
    assert not is_taken_back(first, found(grounds=after))
    assert is_taken_back(first, found(grounds=after, revision=6))


@pytest.mark.parametrize(
    ("before", "after", "hosts"),  # desired, by what hosts shall have how many, and what of it is pending
    [
        (("2", {"2": 10}, ["2"]), ("2", {"1": 9, "2": 1}), 9),
        (("2", {"2": 10}, ["2"]), ("2", {"stop": 9, "2": 1}), 9),
        (("2", {"2": 10}, ["2"]), ("2", {"2": 10}), 0),
        (("2", {"2": 10}, ["2"]), ("2", {"2": 1}), 0),  # hosts are gone, or were put aside
        (("2", {"2": 10}, ["2"]), ("2", {"2": 12, "3": 1}), 0),  # others came
        (("1", {"1": 98, "2": 2}, ["2"]), ("1", {"1": 50, "2": 50}), 0),  # a canary is widened
        (("1", {"1": 98, "2": 2}, ["2"]), ("2", {"2": 100}), 0),
        (("1", {"1": 50, "2": 50}, ["2"]), ("1", {"1": 98, "2": 2}), 48),
        (("2", {"1": 50, "2": 50}, ["2"]), ("2", {"1": 98, "2": 2}), 48),
        (("1", {"1": 98, "2": 2}, []), ("1", {"1": 50, "3": 48, "2": 2}), 48),
        (("2", {}, ["2"]), ("2", {"1": 9, "2": 1}), 0),  # an older meta does not tell
    ],
)
def test_from_how_many_hosts_an_edit_takes_what_they_had_to_have(before, after, hosts):
    desired, ordered, pending = before
    look = Progress("a", 5, "x", desired, sorted(ordered), ordered, pending, todo=9)
    edited = replace(look, revision=6, grounds="y", desired=after[0], wanted=sorted(after[1]), ordered=after[1])
    assert taken_from(look, edited) == hosts
    assert taken_from(look, replace(edited, revision=5, grounds="x")) == 0, "nobody edited it"
    gate = Gate(WANTED)
    assert gate.end(look, 0) is None
    if hosts:
        assert gate.end(edited, 1) is End.TAKEN_BACK
        assert gate.taken == hosts


def test_what_is_taken_back_from_some_hosts_is_said_with_their_number(capsys):
    first = replace(FIRST, grounds="x", ordered={"2": 3}, pending=["2"])
    after = found(revision=6, grounds="y", wanted=["1", "2"], ordered={"1": 2, "2": 1}, good=3)
    assert watching.watch(Metas(first, after), WANTED, every=0.001, within=60, as_json=False) == 4
    assert (
        "taken back from 2 hosts: an edit has changed what they were to have when this watch began"
        in capsys.readouterr().out
    )


def test_a_failure_is_not_forgotten_with_the_label_of_its_host(capsys):
    wanted = WANTED._replace(selector="label:env=staging")
    failed, gone = found(failed=1, trial=1, failed_hosts=["h-1"]), {"gone": ["h-1"]}
    gone["gone_failures"] = [Failure("a", "2", "rolled back", "died", 1, "h-1", 0)]
    looks = [failed, found(trial=2, **gone), found(good=2, **gone)]
    metas = Metas(*looks)
    assert watching.watch(metas, wanted, every=0.001, within=60, as_json=False) == 1
    assert metas.asked == ["", "h-1", "h-1"], "also where another host got the label in between"
    *_, line, failed_on, why = capsys.readouterr().out.splitlines()
    assert line.endswith("2 good, 1 failed and no longer selected; 2 rolled back on 1 host: died (last: h-1)")
    assert failed_on == "failed on 1 host that label:env=staging no longer selects: h-1"
    assert why == "  2 rolled back on 1 host: died (last: h-1)"
    allowed = wanted._replace(max_failed=1)
    assert watching.watch(Metas(*looks), allowed, every=0.001, within=60, as_json=False) == 0
    back = [failed, found(trial=1, **gone), failed, found(good=2)]
    assert watching.watch(Metas(*back), wanted, every=0.001, within=60, as_json=False) == 0
    retired = [failed, found(trial=1), found(good=1)]
    assert watching.watch(Metas(*retired), wanted, every=0.001, within=60, as_json=False) == 0


def test_a_refusal_from_before_the_watch_is_not_remembered_of_a_host_that_loses_its_label(capsys):
    wanted = WANTED._replace(selector="label:env=staging")
    old = {"refused": 2, "refused_hosts": ["h-1", "h-2"], "asked_within": 60.0}
    before = found(failed=3, good=1, failed_hosts=["h-1", "h-2", "h-3"], **old)
    one_less = old | {"refused": 1, "refused_hosts": ["h-2"]}
    metas = Metas(replace(before, todo=1), found(failed=1, todo=1, failed_hosts=["h-2"], **one_less), found(good=2))
    assert watching.watch(metas, wanted, every=0.001, within=60, as_json=False) == 0
    assert metas.asked == ["", "h-3", ""], "the third did not refuse a download"
    gate = Gate(wanted)
    gate.end(before, 0)
    gate.end(before, 60)
    assert gate.failed_before == ["h-1", "h-2", "h-3"], "by now they have tried again"
    gate = Gate(wanted)
    gate.end(found(todo=1), 0)
    gate.end(before, 1)
    assert gate.failed_before == ["h-1", "h-2", "h-3"], "they refused it since the watch began"


def test_hosts_that_failed_are_named_as_far_as_a_question_goes():
    gate = Gate(WANTED._replace(selector="label:env=staging"))
    gate.end(found(failed=99, todo=1, failed_hosts=[f"{number:0253}" for number in range(99)]), 0)
    assert 0 < len(",".join(gate.failed_before)) <= 4000


def test_what_was_refused_before_a_watch_fails_it_only_when_hosts_have_asked_again():
    refused = {"failed": 1, "refused": 1, "asked_within": 60.0}
    for wanted in (WANTED, WANTED._replace(max_failed=0)):
        gate = Gate(wanted)
        assert gate.end(found(good=2, **refused), 0) is None
        assert gate.end(found(good=2, **refused), 59) is None
        assert gate.end(found(good=2, **refused), 60) is End.NOT_YET
        gate = Gate(wanted)
        assert gate.end(found(good=2, **refused), 0) is None
        assert gate.end(found(good=3), 20) is End.DONE
        gate = Gate(wanted)
        assert gate.end(FIRST, 0) is None
        assert gate.end(found(good=2, **refused), 1) is End.NOT_YET, "it was told since the watch began"
    gate = Gate(WANTED._replace(max_failed=0))
    assert gate.end(found(good=1, **refused | {"failed": 2}), 0) is End.NOT_YET, "the other one goes on to try nothing"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"good": 2}, "every host is as desired: 2 good"),
        ({"good": 2, "late": 1}, "every host that counts is as desired: 2 good; left out: 1 late"),
        ({"good": 2, "gone": ["h-1"]}, "2 good, 1 failed and no longer selected"),
        ({"todo": 2, "waits": {"start": 1, "change": 1}}, "2 to do (1 under way, 1 is stopped)"),
    ],
)
def test_a_line_of_a_watch_does_not_contradict_itself(capsys, fields, said):
    watching.watch(Metas(found(**fields), found(good=2)), WANTED, every=0.001, within=60, as_json=False)
    assert capsys.readouterr().out.splitlines()[0].endswith(f"; {said}")


def rollback(reason):
    return found(failed=1, failures=[Failure("a", "2", "rolled back", reason, 1, "h-1", 0)])


def test_a_watch_that_has_failed_ends_with_the_reason_that_follows(capsys):
    metas = Metas(rollback(GOING_BACK), rollback(GOING_BACK), rollback("died"))
    assert watching.watch(metas, WANTED, every=0.001, within=60, as_json=False) == 1
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.endswith(f"1 failed; 2 rolled back on 1 host: {GOING_BACK} (last: h-1)")
    assert second.endswith("1 failed; 2 rolled back on 1 host: died (last: h-1)")
    assert last == "failed on 1 host: see meta hosts --agent a --failed"


@pytest.mark.parametrize("then", [None, found(good=1), found(revision=6, todo=1)], ids=["unknown", "good", "edited"])
def test_what_comes_after_a_watch_has_failed_does_not_change_its_end(capsys, then):
    metas = Metas(rollback(GOING_BACK), then)
    assert watching.watch(metas, WANTED, every=0.001, within=60, as_json=False) == 1
    assert capsys.readouterr().out.splitlines()[1:] == ["failed on 1 host: see meta hosts --agent a --failed"]


def test_a_watch_does_not_wait_for_a_reason_longer_than_it_may(capsys):
    metas = Metas(*[rollback(GOING_BACK)] * 2)
    assert watching.watch(metas, WANTED, every=0.001, within=0.01, as_json=False) == 1
    assert "time is up" not in capsys.readouterr().out


@pytest.mark.parametrize(("at", "last"), [(0, "(last: h-1)"), (5, "(last: h-1, 1970-")])
def test_of_a_failure_of_which_nothing_is_known_no_time_is_told(capsys, at, last):
    failure = Failure("a", "2", "rolled back", "died", 1, "h-1", at)
    watching.watch(Metas(found(failed=1, failures=[failure])), WANTED, every=0.001, within=60, as_json=False)
    assert last in capsys.readouterr().out


def test_what_may_be_of_old_records_ends_no_watch():
    gate = Gate(WANTED)
    assert (
        gate.end(found(revision=4, desired="1", wanted=["1"], good=3, behind="revision 5 is not in force here yet"), 0)
        is None
    )
    assert gate.end(FIRST, 1) is None
    assert gate.end(found(revision=4, desired="1", wanted=["1"], good=3), 2) is None, "another meta lags"
    assert gate.end(found(good=3), 3) is End.DONE


def test_hosts_that_are_silent_since_meta_was_away_are_waited_for_as_long_as_they_may_be():
    gate = Gate(WANTED)
    assert gate.end(found(late=3, patience=60), 0) is None
    assert gate.end(found(late=2, good=1, patience=30), 30) is None
    assert gate.end(found(late=1, good=2, patience=30), 59) is None
    assert gate.end(found(late=1, good=2, patience=30), 60) is End.DONE
    gate = Gate(WANTED)
    assert gate.end(found(late=3, patience=60), 0) is None
    assert gate.end(found(good=3), 1) is End.DONE
    assert gate.end(found(late=3, patience=60), 100) is None, "it was away once more"
    assert gate.end(found(late=3, patience=60), 160) is End.NOT_YET


def test_a_failure_and_a_record_that_is_taken_back_wait_for_nobody():
    assert Gate(WANTED._replace(max_failed=0)).end(found(late=3, failed=1, patience=60), 0) is End.NOT_YET
    share = Gate(WANTED._replace(max_failed=30, is_share=True))
    assert share.end(found(late=3, failed=1, patience=60), 0) is None, "of those who may come, one is not too many"
    gate = Gate(WANTED)
    gate.end(FIRST, 0)
    assert gate.end(found(revision=6, late=3, wanted=[], patience=60), 1) is End.TAKEN_BACK
    gate = Gate(WANTED)  # a ban from before is no edit, so those who may be silent because meta was away are waited for
    assert gate.end(found(good=2, banned=1, late=1, patience=60), 0) is None
    assert gate.end(found(good=2, banned=1, failed=1), 30) is End.NOT_YET
    assert gate.end(found(good=3, banned=1), 40) is End.TAKEN_BACK


def test_a_meta_that_does_not_know_yet_what_another_one_told_of_ends_no_watch(capsys):
    metas = Metas(FIRST, None, None, found(good=3))
    assert watching.watch(metas, WANTED, every=0.001, within=60, as_json=False) == 0
    assert capsys.readouterr().err.count("meta: no host web-9 has reported") == 2
    with pytest.raises(Misconfigured, match="web-9"):
        watching.watch(Metas(None), WANTED, every=0.001, within=60, as_json=False)
