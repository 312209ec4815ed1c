"""What hosts say of their agents: cleaned, shared, bounded."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, DecodeError

from meta.hosts.agent_sets import LIGHT, MANY, MAX_WEIGHT, AgentSets, clean_agents, same_as_reported, since_when
from meta.hosts.classes import Rejection, Reported, Verdict
from meta.hosts.outcomes import MAX_OUTCOMES, MAX_TOLD, clean_outcomes, read_outcomes, verdicts_of, write_outcomes
from updater.wire.heartbeat import WAITS, Outcome, RealAgent
from updater.wire.limits import MAX_ATTEMPT, VERSION_FORM

A = RealAgent("a", "1", "started", 100)
B = RealAgent("b", "2", "stoped", 200, "held by ann")
REPORTED_A = Reported("a", "1", "started")
REPORTED_B = Reported("b", "2", "stoped", "held by ann")
LOOKS = st.lists(
    st.builds(
        Reported,
        st.sampled_from("abc"),
        st.text(max_size=3),
        st.text(max_size=3),
        st.one_of(st.just(UNSET), st.text(min_size=1).filter(str.isprintable)),
        st.one_of(st.just(UNSET), st.booleans()),
        st.one_of(st.just(UNSET), st.sampled_from(WAITS)),
        st.one_of(
            st.just(UNSET),
            st.builds(Rejection, st.from_regex(VERSION_FORM, fullmatch=True), st.integers(0, MAX_ATTEMPT)),
        ),
    ),
    max_size=3,
).map(tuple)


@pytest.mark.parametrize(
    ("agents", "all_reported", "looked"),
    [
        ([], (), 0),
        ([A], (REPORTED_A,), 100),
        ([A, B], (REPORTED_A, REPORTED_B), (100, 200)),
        ([A, A], (REPORTED_A, REPORTED_A), 100),
        ([A], (REPORTED_B,), None),
        ([A], (), None),
        ([], (REPORTED_A,), None),
        ([A, B], (REPORTED_B, REPORTED_A), None),
        ([RealAgent("a", "2", "started", 100)], (REPORTED_A,), None),
        ([RealAgent("a", "1", "stoped", 100)], (REPORTED_A,), None),
        ([RealAgent("a", "1", "started", 100, "held")], (REPORTED_A,), None),
        ([RealAgent("b", "2", "stoped", 200)], (REPORTED_B,), None),
        ([RealAgent("a", "1", "started", 100, trial=True)], (REPORTED_A,), None),
        ([RealAgent("a", "1", "started", 100, waits="download")], (REPORTED_A,), None),
        ([RealAgent("a", "1", "started", 100, rejected="2")], (REPORTED_A,), None),
        ([RealAgent("a", "1", "started", 100, rejected="2")], (REPORTED_A._replace(rejected=Rejection("2")),), 100),
        (
            [RealAgent("a", "1", "started", 100, rejected="2", attempt=1)],
            (REPORTED_A._replace(rejected=Rejection("2")),),
            None,
        ),
        ([A], (REPORTED_A._replace(rejected=Rejection("2")),), None),
    ],
)
def test_a_host_that_sees_what_it_saw_only_tells_when_it_looked(agents, all_reported, looked):
    assert same_as_reported(agents, all_reported) == looked


def test_of_an_agent_that_is_listed_twice_the_last_counts():
    assert clean_agents([A, B, RealAgent("a", "3", "started", 300)]) == (
        (("a", "3", "started", UNSET, UNSET, UNSET, UNSET), REPORTED_B),
        (300, 200),
    )


def test_what_a_host_says_is_cut_and_cleaned():
    nasty = "ok\nINFO admin login\x00\x1b[2J\ud800" + "x" * 5000
    (((name, version, status, held, *_),), looked) = clean_agents([RealAgent(nasty, nasty, nasty, 7, nasty)])
    assert name == version == (r"ok INFO admin login\u0000\u001b[2J\ud800" + "x" * 64)[:64]
    assert status == held == (r"ok INFO admin login\u0000\u001b[2J\ud800" + "x" * 300)[:300]
    assert looked == 7


def test_a_host_with_very_many_agents_looked_at_all_at_one_time():
    agents = [RealAgent(f"a{i}", "1", "started", i) for i in range(MANY + 1)]
    all_reported, looked = clean_agents(agents)
    assert looked == same_as_reported(agents, all_reported) == MANY
    assert since_when(all_reported, {all_reported[0].seen: 5.0}, 9.0) == (5.0, *[9.0] * MANY)


@pytest.mark.parametrize(
    ("all_reported", "since"),
    [
        ((), 9.0),
        ((REPORTED_A,), 5.0),
        ((REPORTED_B,), 9.0),
        ((REPORTED_A, REPORTED_B), (5.0, 9.0)),
        ((REPORTED_B, Reported("c")), 9.0),
    ],
)
def test_an_agent_is_so_since_it_was_first_seen_so(all_reported, since):
    assert since_when(all_reported, {REPORTED_A.seen: 5.0}, 9.0) == since


# --- sharing ---


def test_hosts_that_say_the_same_share_it_until_nobody_says_it():
    agent_sets = AgentSets()
    agent_set = agent_sets.of((REPORTED_A,))
    agent_set.groups = 2
    assert agent_sets.of((REPORTED_A,)) is agent_sets.read(agent_set.text) is agent_set
    agent_sets.release(agent_set)
    assert (len(agent_sets), agent_sets.of((REPORTED_A,)) is agent_set) == (1, True)
    agent_sets.release(agent_set)
    assert (len(agent_sets), agent_sets.weight) == (0, 0)
    assert agent_sets.read(agent_set.text) is not agent_set


def test_a_text_that_is_spelled_in_another_way_means_the_same_and_is_released_too():
    agent_sets = AgentSets()
    agent_set = agent_sets.read('[ ["a", "1", "started", null] ]')
    assert agent_set is agent_sets.of((REPORTED_A,))
    agent_set.groups = 1
    agent_sets.release(agent_set)
    assert agent_sets.read('[ ["a", "1", "started", null] ]') is agent_sets.of((REPORTED_A,)) is not agent_set


@pytest.mark.long
@given(LOOKS)
def test_an_agent_set_comes_back_from_its_text(all_reported):
    assert AgentSets().read(AgentSets().of(all_reported).text).agents == all_reported


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[["a","1","started"]]', '[["a","1","started",1]]', "[[" * 1000])
def test_a_text_of_something_else_is_refused(text):
    with pytest.raises(DecodeError):
        AgentSets().read(text)


def test_when_hosts_have_said_too_much_only_short_reports_are_new():
    agent_sets = AgentSets()
    known = tuple(Reported(f"a{i}", "1", "x" * 300) for i in range(100))
    agent_sets.of(known)
    longer, short = (*known, REPORTED_A), (REPORTED_A, REPORTED_B)
    assert agent_sets.has_room(longer)
    agent_sets.weight = MAX_WEIGHT
    assert [agent_sets.has_room(all_reported) for all_reported in (known, longer, short)] == [True, False, True]
    assert LIGHT > 3 * 300


# --- outcomes ---


def test_outcomes_are_cleaned_and_the_last_of_an_agent_counts():
    told = clean_outcomes(
        [Outcome("a", result="failed"), Outcome("b\n", evidence="x\ny\x00"), Outcome("a", to="2" * 99)]
    )
    assert told == {"a": Outcome("a", to="2" * 64), "b": Outcome("b", evidence="x\ny\\u0000")}
    assert read_outcomes(write_outcomes(told, brief=False)) == told
    assert read_outcomes(write_outcomes(told, brief=True)) == {"a": told["a"], "b": Outcome("b")}
    assert read_outcomes(write_outcomes({}, brief=False)) == {}


def test_a_host_that_invents_agents_does_not_fill_the_memory():
    told = {f"a{i}": Outcome(f"a{i}") for i in range(MAX_OUTCOMES + 5)}
    assert list(read_outcomes(write_outcomes(told, brief=False))) == [f"a{i}" for i in range(5, MAX_OUTCOMES + 5)]
    long = {f"a{i}": Outcome(f"a{i}", evidence="x" * 2000) for i in range(40)}
    kept = read_outcomes(text := write_outcomes(long, brief=False))
    assert len(text) <= MAX_TOLD
    assert list(kept) == list(long), "evidence goes first, of what was told first"
    assert [bool(one.evidence) for one in kept.values()] == [False] * 35 + [True] * 5
    wordy = {f"a{i}": Outcome(f"a{i}", result="failed" if i % 3 else "done", reason="x" * 300) for i in range(90)}
    kept = read_outcomes(text := write_outcomes(wordy, brief=False))
    assert len(text) <= MAX_TOLD
    assert len(kept) > 40
    assert {one.result for one in kept.values()} == {"failed"}, "then what went well"


def test_what_a_host_says_of_its_trial_is_kept_and_words_that_are_none_are_not():
    agents = [RealAgent("a", "1", "started", 1, trial=True), RealAgent("b", "1", "started", 1, waits="download")]
    agents.append(RealAgent("c", "1", "started", 1, waits="for godot"))
    all_reported, _ = clean_agents(agents)
    assert [(one.trial, one.waits) for one in all_reported] == [(True, UNSET), (UNSET, "download"), (UNSET, UNSET)]


@pytest.mark.parametrize("rejected", ["", "../2", "2 trial", "2@5", "2\x1f", "x" * 65])
def test_a_rejected_version_that_is_none_is_not_kept(rejected):
    ((reported,), _) = clean_agents([RealAgent("a", "1", "started", 1, trial=False, rejected=rejected)])
    assert reported.rejected is UNSET


@pytest.mark.long
@given(LOOKS)
def test_the_release_before_reads_what_we_write_and_writes_it_again_unchanged(all_reported):
    text = AgentSets().of(all_reported).text
    read = msgspec.json.decode(text, type=tuple[tuple[str, str, str, str | None], ...])  # as it did
    assert msgspec.json.encode(read).decode() == text
    for (*_, said), reported in zip(read, all_reported, strict=True):
        assert (said or "").startswith(reported.held or "")


@pytest.mark.parametrize(
    ("trial", "held", "rejected", "said"),
    [
        (UNSET, UNSET, UNSET, None),
        (False, UNSET, UNSET, ""),
        (True, UNSET, UNSET, "\x1ftrial"),
        (False, "ann", UNSET, "ann\x1f"),
        (UNSET, "ann", UNSET, "ann"),
        (False, UNSET, Rejection("2"), "\x1frejected=2@0"),
        (True, "ann", Rejection("2", 5), "ann\x1ftrial rejected=2@5"),
        (False, UNSET, Rejection("trial"), "\x1frejected=trial@0"),
    ],
)
def test_how_a_trial_and_a_rejection_are_written_down(trial, held, rejected, said):
    [row] = msgspec.json.decode(AgentSets().of((Reported("a", "1", "started", held, trial, UNSET, rejected),)).text)
    assert row == ["a", "1", "started", said]


@pytest.mark.parametrize("word", ["rejected=", "rejected=2", "rejected=@1", "rejected=2@", "rejected=2@x", "godot"])
def test_words_in_a_row_that_are_not_known_are_skipped(word):
    agent_set = AgentSets().read(f'[["a","1","started","\\u001ftrial {word}"]]')
    assert agent_set.agents == ((*REPORTED_A[:4], True, UNSET, UNSET),)


def test_rows_of_older_metas_are_read_and_written_as_they_were():
    text = '[["a","1","started",null],["b","2","stoped","held by ann"]]'
    agent_set = AgentSets().read(text)
    assert agent_set.agents == (REPORTED_A, REPORTED_B)
    assert agent_set.text == text


def test_a_verdict_is_of_a_change_that_failed_in_words_of_which_there_are_few():
    told = [
        Outcome("d", "1", "2", "watch", "done"),
        Outcome("b", "1", "2", "watch", "rolled back", "died 3 s after its start", attempt=4),
        Outcome("a", "1", "2", "on the moon", "lost"),
    ]
    assert verdicts_of(clean_outcomes(told)) == (
        Verdict("a", "2", "", "failed"),
        Verdict("b", "2", "watch", "rolled back", 4),
    )


def test_hosts_of_different_verdicts_have_different_profiles_that_are_released_alone():
    agent_sets = AgentSets()
    plain, failed = (
        agent_sets.of((REPORTED_A,)),
        agent_sets.of((REPORTED_A,), (Verdict("a", "2", "watch", "rolled back"),)),
    )
    assert plain is not failed
    assert plain.text == failed.text
    plain.groups = failed.groups = 1
    agent_sets.release(failed)
    assert agent_sets.of((REPORTED_A,)) is plain
    agent_sets.release(plain)
    assert (len(agent_sets), agent_sets.weight) == (0, 0)
