"""The plan against a model of a host: kill it between any two actions, let versions fail, and it still converges.

The model does what `perform` does to the disk, to the agent and to the memory, in the same order of writes.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from updater.model.actions import Plan, Source, Step
from updater.model.memory import Memory
from updater.model.observed import Marker, Observed, Status
from updater.model.trials import Moment
from updater.reconcile.plan import plan
from updater.wire.heartbeat import Desired
from updater.wire.names import START, STOP

VERSIONS = ("1", "2", "3")
WATCH = 60.0


class Killed(Exception):
    pass


class StartFailed(Exception):
    pass


@dataclass
class Model:
    """A host with one agent. bad: versions that never start; lives: writes left until the kill."""

    bad: frozenset[str] = frozenset()
    current: str = ""
    running: str = ""
    installs: dict[str, Marker] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    now: float = 1_000_000.0
    lives: int = 1_000_000
    stopped_without_replacement: bool = False
    last: dict[str, str] = field(default_factory=dict)  # version -> how it last was on trial: "", "alive" or "dead"

    def write(self):
        if self.lives == 0:
            raise Killed
        self.lives -= 1

    def seen(self):
        status = "started" if self.running and self.running == self.current else "stoped"
        return Observed(
            "agent", self.current, Status(status if self.current else ""), dict(self.installs), True, named=self.current
        )

    def perform(self, action, order):
        self.write()
        match action.step:
            case Step.INSTALL:
                assert action.version == order.version, "only the ordered version can be fetched"
                self.installs[action.version] = Marker(at=1)
            case Step.STOP:
                wanted = order.version if order.cmd == START else action.version
                wanted = self.memory.back if self.memory.is_given_up else wanted
                self.stopped_without_replacement |= wanted not in self.installs
                if self.running != action.version:
                    self.memory = self.memory.having_died(action.version)
                self.memory = self.memory.stopping(action.version)
                self.write()
                self.running = ""
            case Step.SWITCH:
                self.memory = self.memory.switching(action.replaces, action.version)
                self.write()
                self.current = action.version
                self.try_again()
            case Step.START:
                assert self.running in ("", action.version), "two versions at once"
                if action.version in self.bad:
                    self.last[action.version] = "dead"
                    self.write()
                    self.memory = self.memory.failed(action.version, "does not start", "")
                    raise StartFailed
                self.running = action.version
                self.last[action.version] = self.last.get(action.version) or "alive"
                self.write()
                self.memory = self.memory.started(action.version, Moment(self.now, WATCH))
            case Step.PRUNE:
                assert action.version not in (self.current, self.running, self.memory.back, order.version)
                del self.installs[action.version]
            case Step.REJECT:
                if action.version == order.version:
                    self.memory = self.memory.rejecting(order, action.reason)
                else:
                    self.memory = self.memory.given_up(action.version, action.reason)

    def plan(self, order, source=Source.ANSWER) -> Plan:
        todo = plan(self.seen(), order, self.memory, Moment(self.now, WATCH), source=source)
        self.memory = todo.memory
        return todo

    def turn(self, order, source):
        """What converge does: the plan, and after a failed start the way back."""
        if self.fails(self.plan(order, source), order):
            again = self.plan(order, source)
            if again.is_way_back:
                self.fails(again, order)

    def fails(self, todo, order):
        for action in todo.actions:
            try:
                self.perform(action, order)
            except StartFailed:
                if action.essential:
                    return True
        return False

    def try_again(self):
        """The current version was switched to: however it ended before, it may run well now."""
        if self.last.get(self.current) == "dead":
            self.last[self.current] = ""

    def die(self):
        """What runs dies. An updater that was killed before it saw the start, or just before a stop, cannot tell."""
        trial = self.memory.trial
        if self.running and trial and trial.version == self.running and trial.until:
            self.last[self.running] = "dead"
        self.running = ""

    def cycle(self, order, kill_after=1_000_000, source=Source.ANSWER):
        self.lives = kill_after
        try:
            self.turn(order, source)
        except Killed:
            event("killed")
        self.lives = 1_000_000
        self.now += 10


orders = st.builds(
    lambda version, cmd: Desired("agent", version, "http://meta/tarball", cmd=cmd),
    st.sampled_from(VERSIONS),
    st.sampled_from([START, START, START, STOP]),
)
histories = st.lists(st.tuples(orders, st.integers(0, 12)), max_size=8)
sources = st.sampled_from([Source.ANSWER, Source.ANSWER, Source.EARLIER, Source.KEPT])
stories = st.lists(st.tuples(orders, st.integers(0, 12), sources), max_size=8)
bad_versions = st.frozensets(st.sampled_from(VERSIONS), max_size=2)


@given(stories, orders, bad_versions)
def test_whatever_was_killed_before_two_clean_cycles_end_in_an_empty_plan(history, last, bad):
    host = Model(bad)
    for order, kill_after, source in history:
        host.cycle(order, kill_after, source)
    host.cycle(last)
    host.cycle(last)
    if last.cmd == STOP:
        assert host.running == ""
        assert host.plan(last) == Plan(memory=host.memory)
    elif last.version not in bad:
        assert host.plan(last) == Plan(memory=host.memory)
        assert host.running == host.current == last.version
    else:
        assert host.running != last.version


@pytest.mark.long
@given(stories, bad_versions)
def test_nothing_is_stopped_before_its_replacement_is_installed(history, bad):
    host = Model(bad)
    for order, kill_after, source in history:
        host.cycle(order, kill_after, source)
    assert not host.stopped_without_replacement


@pytest.mark.long
@given(stories, st.sampled_from(VERSIONS))
def test_a_host_with_a_working_version_never_ends_without_one(history, working):
    """Once a version has proven itself, no bad order leaves the host without a running agent, whatever is killed."""
    host = Model(frozenset(VERSIONS) - {working})
    host.cycle(Desired("agent", working, "http://meta/tarball", cmd=START))
    host.now += WATCH * 2
    last = Desired("agent", working, "http://meta/tarball", cmd=START)
    for order, kill_after, source in history:
        if order.cmd == START:
            host.cycle(order, kill_after, source)
            last = order
    host.cycle(last)
    host.cycle(last)
    assert host.running == host.current == working


@pytest.mark.long
@given(stories, st.sampled_from(VERSIONS))
def test_a_version_that_came_through_its_watch_is_the_way_back_until_another_one_does(history, working):
    """Versions replace one another within 10 s each, so none of the others is proven, whatever is killed."""
    host = Model(frozenset())
    for _ in range(2):
        host.cycle(Desired("agent", working, "http://meta/tarball", cmd=START))
        host.now += WATCH
    for order, kill_after, source in history[:5]:
        if order.cmd == START:
            host.cycle(order, kill_after, source)
        assert host.memory.back == working
        assert working in host.installs


@pytest.mark.long
@given(stories, st.lists(st.booleans(), min_size=8, max_size=8), bad_versions)
def test_while_no_version_is_proven_none_that_last_died_or_never_ran_is_a_way_back(history, deaths, bad):
    """Whatever is ordered, killed and stopped in between."""
    host = Model(bad)
    for (order, kill_after, source), dies in zip(history[:5], deaths, strict=False):
        host.cycle(order, kill_after, source)
        if dies:
            host.die()
        assert host.memory.good == ""
        ways = {host.memory.back, host.memory.way_back(host.current, host.installs)} - {"", host.current}
        assert all(host.last.get(way) == "alive" for way in ways)


@pytest.mark.long
@given(stories, orders, bad_versions)
def test_by_an_order_of_an_earlier_run_only_our_own_trial_is_left(history, kept, bad):
    """Whatever was killed before and whatever was desired then: nothing is fetched or removed, what is switched to is the
    version to go back to, and what it leaves is the version that was tried last."""
    host = Model(bad)
    for order, kill_after, source in history:
        host.cycle(order, kill_after, source)
    before, todo = host.current, host.plan(kept, Source.KEPT)
    back, tried = host.memory.back, host.memory.trial
    steps = {action.step for action in todo.actions}
    assert steps <= {Step.REJECT, Step.STOP, Step.SWITCH, Step.START}
    if Step.SWITCH in steps or Step.STOP in steps:
        assert tried is not None and tried.version == before != back
        assert [a.version for a in todo.actions if a.step in (Step.SWITCH, Step.START)] == [back, back]
    else:
        assert all(action.version == before for action in todo.actions)
    if kept.cmd == STOP:
        assert todo.actions == ()


@pytest.mark.long
@given(stories, orders, bad_versions)
def test_by_an_order_of_an_earlier_run_a_start_that_was_due_is_made(history, kept, bad):
    host = Model(bad)
    for order, kill_after, source in history:
        host.cycle(order, kill_after, source)
    host.cycle(kept, source=Source.KEPT)
    host.cycle(kept, source=Source.KEPT)
    if kept.cmd == START and host.current and host.current not in bad:
        assert host.running == host.current


@pytest.mark.long
@given(histories, bad_versions)
def test_a_rejected_order_is_tried_once(history, bad):
    host = Model(bad)
    for order, kill_after in history:
        host.cycle(order, kill_after)
    for version in bad:
        order = Desired("agent", version, "http://meta/tarball", cmd=START)
        host.cycle(order)
        host.cycle(order)
        if host.memory.rejected:
            assert host.plan(order).actions == () or host.current != version
