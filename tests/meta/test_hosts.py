"""What meta remembers of the hosts, and how it shows them."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta.hosts import FRESH_FOR, MAX_OUTCOMES, Host, HostTable, fresh, merge, status_fields, status_text
from updater.wire import Outcome, RealAgent, Report

OLD = RealAgent("a", "1.0.0", "started", 100)
NEW = RealAgent("a", "1.0.1", "started", 200)
OTHER = RealAgent("b", "2", "stoped", 200)


def host(hostname: str = "h", last_seen: float = 0, *agents: RealAgent, **more) -> Host:
    return Host(hostname, 0, last_seen, agents={agent.name: agent for agent in agents}, **more)


def test_a_first_report_makes_a_host():
    report = Report("h", [OLD], updater_version="0.1.0", outcomes=[Outcome("a", result="done")])
    assert merge(None, report, "10.0.0.1", 5.0) == Host(
        "h", 5.0, 5.0, "10.0.0.1", "0.1.0", {"a": OLD}, {"a": Outcome("a", result="done")}
    )


@pytest.mark.parametrize(
    ("agents", "expected"),
    [([NEW], {"a": NEW}), ([OTHER], {"b": OTHER}), ([], {}), (None, {"a": OLD}), ([OLD, NEW], {"a": NEW})],
)
def test_a_report_replaces_the_agents_if_it_lists_any(agents, expected):
    merged = merge(host("h", 5.0, OLD), Report("h", agents), "", 9.0)
    assert (merged.agents, merged.first_seen, merged.last_seen) == (expected, 0, 9.0)


def test_an_outcome_stays_until_the_same_agent_has_another():
    before = host(outcomes={"a": Outcome("a", to="1"), "b": Outcome("b", to="1")})
    merged = merge(before, Report("h", outcomes=[Outcome("a", to="2"), Outcome("a", to="3")]), "", 1)
    assert merged.outcomes == {"b": Outcome("b", to="1"), "a": Outcome("a", to="3")}


def test_a_host_that_invents_agents_does_not_fill_the_memory():
    known = None
    for i in range(MAX_OUTCOMES + 5):
        known = merge(known, Report("h", outcomes=[Outcome(f"a{i}")]), "", i)
    assert known is not None
    assert list(known.outcomes) == [f"a{i}" for i in range(5, MAX_OUTCOMES + 5)]


def test_what_a_host_says_is_cut_and_cleaned():
    nasty = "ok\nINFO admin login\x00\x1b[2J" + "x" * 5000
    report = Report(
        "h", [RealAgent(nasty, nasty, nasty)], updater_version=nasty, outcomes=[Outcome("a", evidence=nasty)]
    )
    merged = merge(None, report, "", 0)
    (agent,) = merged.agents.values()
    assert agent.name == merged.updater_version == agent.version == ("ok INFO admin login  [2J" + "x" * 64)[:64]
    assert len(agent.status) == 300
    assert merged.outcomes["a"].evidence.splitlines()[0] == "ok"
    assert len(merged.outcomes["a"].evidence) < 2000


def test_only_hosts_with_agents_that_were_heard_of_lately_are_shown():
    hosts = [host("late", 0, OLD), host("b", 1, OLD), host("a", 1, OLD), host("bare", 1)]
    assert [h.hostname for h in fresh(hosts, FRESH_FOR)] == ["a", "b"]


def test_the_status_of_an_agent_on_every_host():
    outcome = Outcome("a", from_="1.0.0", to="1.0.1", step="start", result="rolled back", reason="died", at=200)
    hosts = [host("h1", 0, OLD), host("h2", 0, OTHER), host("h3", 0, NEW, outcomes={"a": outcome})]
    assert status_fields(hosts, "a") == {
        "h1": {"name": "a", "version": "1.0.0", "status": "started", "timestamp": 100},
        "h2": None,
        "h3": {
            "name": "a",
            "version": "1.0.1",
            "status": "started",
            "timestamp": 200,
            "outcome": {
                "agent": "a",
                "from": "1.0.0",
                "to": "1.0.1",
                "step": "start",
                "result": "rolled back",
                "reason": "died",
                "evidence": "",
                "at": 200,
            },
        },
    }
    assert status_text(hosts, "a").splitlines() == [
        "h1 1.0.0 started 100 1970-01-01 00:01:40",
        "h2 not found",
        "h3 1.0.1 started 200 1970-01-01 00:03:20",
    ]


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_second_a_host_claims_can_be_shown(timestamp):
    (line,) = status_text([host("h", 0, RealAgent("a", "1", "started", timestamp))], "a").splitlines()
    assert line.startswith(f"h 1 started {timestamp} ")


def test_a_changed_host_is_taken_once_and_comes_back_if_it_is_given_back():
    table = HostTable()
    table.remember(Report("h", [OLD]), "", 1)
    last = table.remember(Report("h", [NEW]), "", 2)
    assert table.changed.is_set()
    assert table.take_changed() == [last] == [table.get("h")]
    assert (table.changed.is_set(), table.take_changed()) == (False, [])
    table.give_back([last])
    assert table.changed.is_set()
    assert table.take_changed() == [last]


def test_many_threads_lose_no_change():
    table, threads, each = HostTable(), 16, 300
    taken: dict[str, float] = {}
    done = threading.Event()

    def report(thread: int) -> None:
        for i in range(each):
            table.remember(Report(f"h{i % 50}", [OLD]), "", thread * each + i)

    def take() -> None:
        while not done.is_set() or table.changed.is_set():
            table.changed.wait(0.01)
            taken.update((h.hostname, h.last_seen) for h in table.take_changed())

    reporters = [threading.Thread(target=report, args=(n,)) for n in range(threads)]
    taker = threading.Thread(target=take)
    for thread in [taker, *reporters]:
        thread.start()
    for thread in reporters:
        thread.join()
    done.set()
    taker.join()
    assert taken == {h.hostname: h.last_seen for h in table.all()}
    assert len(taken) == 50
