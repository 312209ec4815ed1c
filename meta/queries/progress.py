"""Progress of an agent's change: how many hosts are good, on trial, to do, failed, or left out.

Progress is a sum over groups at one moment, so that every host counts once. These hosts are examined one by one:
silent hosts; hosts of a selector that no record has; and hosts whose updater does not report trials, as the Go updater.

There a version is good once the host has reported `started` for as long as hosts take to report again. A host whose order is
not resolved yet after an edit counts as to do. So does one that has not reported since its order came in force: it may be
following a former order.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from heapq import nsmallest
from itertools import islice
from typing import NamedTuple

from meta.hosts import standing
from meta.hosts.agent_sets import AgentSet, Group
from meta.hosts.classes import Class, Classes, Reported
from meta.hosts.model import Host, Moment, Part
from meta.hosts.standing import (
    GOOD,
    HAS_FAILED,
    HEARTBEAT,
    HELD,
    MISSED,
    TODO,
    TRIAL,
    is_asked_for_again,
    is_tried_again,
    stand,
)
from meta.hosts.table import HostTable
from meta.queries import failures
from meta.queries.choice import Choice
from meta.queries.host_pages import Ages, judge
from meta.queries.representations import Progress, Standing
from meta.records.selectors import Selector
from updater.wire.heartbeat import STOPPED, Desired
from updater.wire.names import START

LATE, LOST, DOUBLED = "late", "lost", "doubled"
BANNED = "banned"  # the version that the records name is, so that these hosts have no order
LEFT_OUT = (LATE, LOST, HELD, DOUBLED, BANNED)
SILENT = "silent since it was on trial, or had its order"  # counts as failed
PENDING = (TODO, TRIAL, HAS_FAILED, SILENT)
NAMED = 10  # hosts of each state that are named
MOST_FAILED = 100  # failed hosts that are named
SLACK = 60.0  # seconds by which a host may be late before it is among the silent ones
_AMONG = 1000  # hosts of a group from which the named ones are taken


class Asked(NamedTuple):
    """The question: whose progress."""

    agent: str
    selector: Selector | None = None  # None: on all hosts
    include_lost: bool = False  # whether late and lost hosts count by their last report
    failed_before: Iterable[str] = ()  # names of hosts that an earlier answer gave as failed


class _Sums:
    """How many hosts are in which state, and the names of some."""

    def __init__(self) -> None:
        self.hosts: Counter[str] = Counter()  # by state
        self.waits: Counter[str] = Counter()  # by what their change waits for
        self.names: dict[str, list[str]] = {}  # by state
        self.ordered: Counter[str] = Counter()  # by ordered version, or `stop`
        self.pending: set[str] = set()  # the orders that some host has not fulfilled yet
        self.failing: list[tuple[Desired, Sequence[Host], failures.How]] = []
        self.is_patient = False  # some host may be silent because meta was away
        self.refused = 0  # hosts that refused a download
        self.refusing: list[str] = []  # names of some of them

    def add(self, state: str, hosts: int, some: Iterable[Host], waits: str = "") -> None:
        """Count so many hosts in this state. some: of them, to be named."""
        state = HAS_FAILED if state == SILENT else state
        self.hosts[state] += hosts
        if waits and state == TODO:
            self.waits[waits] += hosts
        if state != GOOD and hosts:
            names = [*self.names.get(state, ()), *(host.name for host in islice(some, _AMONG))]
            self.names[state] = nsmallest(MOST_FAILED if state == HAS_FAILED else NAMED, names)

    def add_refused(self, hosts: int, some: Iterable[Host]) -> None:
        """Count so many of the failed hosts as hosts that refused a download. some: of them, to be named."""
        self.refused += hosts
        self.refusing = nsmallest(MOST_FAILED, [*self.refusing, *(host.name for host in islice(some, _AMONG))])

    def named(self, *states: str) -> list[Standing]:
        return [Standing(name, state) for state in states for name in self.names.get(state, ())][:NAMED]

    def failed(self) -> Iterator[failures.Failed]:
        return ((host, order, how) for order, hosts, how in self.failing for host in hosts)


class _Question:
    """The question, answered by the records of `book`."""

    def __init__(self, book: Classes, asked: Asked, now: float, ages: Ages):
        self.book = book
        self.asked = asked
        self.now = now
        self.ages = ages
        self.choice = Choice(book, asked.selector)
        self.state, self.place = cache(self._state), cache(self._place)

    def _state(self, klass: Class, agent_set: AgentSet) -> tuple[Desired | None, str]:
        """Return the order of these hosts and their state for it. Without an order it is `banned`, or "" without a record."""
        agent = self.asked.agent
        if klass.book is not self.book:  # these hosts have not moved to the new records yet
            return klass.orders.get(agent), TODO if self.book.records.record(agent) else ""
        order = klass.orders.get(agent)
        if order is None:
            return None, BANNED if agent in klass.withheld else ""
        return order, stand(order, agent_set.reported(agent), agent_set.verdict(agent))

    def _place(self, agent_set: AgentSet) -> int:
        """Return the position of the agent among those that these hosts report."""
        return next((place for place, reported in enumerate(agent_set.agents) if reported.name == self.asked.agent), 0)

    def is_unsure(self, klass: Class, agent_set: AgentSet) -> bool:
        """Whether it depends on the time, for each of these hosts, if it is on trial."""
        order, state = self.state(klass, agent_set)
        return order is not None and standing.is_unsure(order, agent_set.reported(self.asked.agent), state)

    def needs_hosts(self, klass: Class, agent_set: AgentSet) -> bool:
        """Whether the hosts of this group must be examined, rather than just counted."""
        _, state = self.state(klass, agent_set)
        if not state or self.choice.whole(klass) is False:
            return False
        is_known = self.choice.whole(klass) is not None and not self.is_unsure(klass, agent_set)
        return state != GOOD or not is_known or self.settled_since(klass, agent_set) > 0.0

    def settled_since(self, klass: Class, agent_set: AgentSet) -> float:
        """Return the time since which these hosts must have been heard of to be good; 0.0 if all present hosts have."""
        order, state = self.state(klass, agent_set)
        if order is None or state != GOOD:
            return 0.0
        late_after, lag = self.ages.late_after, self.ages.lag
        since = standing.settled_since(order, agent_set.tells_turns(order.name), klass, late_after, lag)
        return since if since + self.ages.late_after + SLACK > self.now or self.asked.include_lost else 0.0

    def is_on_trial(self, host: Host) -> bool:
        return standing.is_on_trial(host, self.place(host.group.agent_set), self.ages.late_after)

    def away(self, host: Host, klass: Class, its: str, state: str, excused: float) -> str:
        """Return the state that a late, lost or doubled host counts as.

        its: late, lost or doubled; state: by its last report; excused: see `standing.is_down`.
        """
        is_its = its != DOUBLED and klass.book is self.book
        if is_its and standing.is_down(state, klass, self.asked.agent, host.last_seen, excused):
            return HAS_FAILED if state == HAS_FAILED else SILENT
        return state if its != DOUBLED and self.asked.include_lost else its


def progress(table: HostTable, asked: Asked, now: float, ages: Ages) -> Progress:
    """Return how far the change has come. now: Unix seconds."""
    question, moment = _at_one_moment(table, asked, now, ages)
    away: dict[Group, dict[Host, str]] = {}
    for host, group in zip(moment.silent, moment.groups, strict=True):
        if (state := judge(host, now, ages)) in (LATE, LOST):
            away.setdefault(group, {})[host] = state
    for host, group in moment.doubled:  # a report of one machine says nothing about the other
        away.setdefault(group, {})[host] = DOUBLED
    sums, records = _Sums(), question.book.records
    for part in moment.roll.parts:
        _add(sums, question, part, away.get(part.group, {}), moment.excused)
    is_settled = all(part.klass.book is question.book for part in moment.roll.parts)
    found, record = failures.by_reason(sums.failed()), records.record(asked.agent)
    gone = [host for host, _ in moment.roll.named if not question.choice.has(host)]
    return Progress(
        agent=asked.agent,
        revision=records.revision,
        grounds=question.book.version_fingerprint(asked.agent),
        desired=_word(record.release.version, record.cmd) if record else "",
        wanted=sorted(sums.ordered),
        ordered=dict(sums.ordered),
        pending=sorted(sums.pending),
        behind="" if is_settled else f"hosts are still being moved to revision {records.revision} of the records",
        patience=moment.patience if sums.is_patient else 0.0,
        todo=sums.hosts[TODO],
        trial=sums.hosts[TRIAL],
        good=sums.hosts[GOOD],
        failed=sums.hosts[HAS_FAILED],
        late=sums.hosts[LATE],
        lost=sums.hosts[LOST],
        held=sums.hosts[HELD],
        doubled=sums.hosts[DOUBLED],
        banned=sums.hosts[BANNED],
        waits=dict(sums.waits),
        last=sums.named(TODO, TRIAL),
        left_out=sums.named(*LEFT_OUT),
        failures=found.failures,
        failures_are_whole=found.is_whole,
        failed_hosts=sums.names.get(HAS_FAILED, []),
        gone=sorted(host.name for host in gone),
        gone_failures=failures.last_failures(asked.agent, gone),
        refused=sums.refused,
        refused_hosts=sums.refusing,
        asked_within=2 * ages.late_after / MISSED,
    )


def _word(version: str, cmd: str) -> str:
    return version if cmd == START else "stop"


def _at_one_moment(table: HostTable, asked: Asked, now: float, ages: Ages) -> tuple[_Question, Moment]:
    """Return the question, and the hosts at one moment: with their names only for groups that must be examined."""
    question = _Question(table.classes, asked, now, ages)
    pairs = [(part.klass, part.agent_set) for part in table.parts()]
    counted = {pair for pair in pairs if not question.needs_hosts(*pair)}
    moment = table.moment(now, counted, asked.failed_before)
    if moment.roll.book is not question.book:  # other records came in force in between
        moment = table.moment(now, names=asked.failed_before)
        question = _Question(moment.roll.book, asked, now, ages)
    return question, moment


def _add(sums: _Sums, question: _Question, part: Part, away: Mapping[Host, str], excused: float) -> None:
    order, state = question.state(part.klass, part.agent_set)
    if not state or question.choice.whole(part.klass) is False:
        return
    waits = HEARTBEAT if state == GOOD else _waits_for(order, part.agent_set.reported(question.asked.agent))
    found = _by_state(question, part, state, away, excused)
    for its, (number, hosts) in found.items():
        sums.add(its, number, hosts, waits)
        sums.is_patient |= its in (LATE, LOST) and any(host.last_seen >= excused for host in hosts)
    if order is None or not found or part.klass.book is not question.book:
        return
    sums.ordered[word := _word(order.version, order.cmd)] += sum(number for number, _ in found.values())
    if not found.keys().isdisjoint(PENDING):
        sums.pending.add(word)
    reported, verdict = part.agent_set.reported(order.name), part.agent_set.verdict(order.name)
    if state in found and (state == HAS_FAILED or (state == TODO and is_tried_again(verdict))):
        sums.failing.append((order, found[state][1], failures.outcome_of))
        if state == HAS_FAILED and is_asked_for_again(order, reported, verdict):
            sums.add_refused(*found[state])
    if SILENT in found:
        sums.failing.append((order, found[SILENT][1], failures.silent_how(state)))


def _waits_for(order: Desired | None, reported: Reported) -> str:
    """What the change waits for on hosts that report this, or ""."""
    if isinstance(reported.waits, str):
        return reported.waits
    is_there = order is not None and order.cmd == START and reported.version == order.version
    return START if is_there and reported.status in STOPPED else ""


def _by_state(
    question: _Question, part: Part, state: str, away: Mapping[Host, str], excused: float
) -> Mapping[str, tuple[int, Sequence[Host]]]:
    """Return how many hosts of a group are in each state, and which. The list is empty if they were only counted."""
    found: dict[str, list[Host]] = {}
    is_unsure, is_whole = question.is_unsure(part.klass, part.agent_set), question.choice.whole(part.klass)
    settled = question.settled_since(part.klass, part.agent_set)

    def counts_as(host: Host) -> str:
        its = TRIAL if is_unsure and question.is_on_trial(host) else state
        its = question.away(host, part.klass, away[host], its, excused) if host in away else its
        return TODO if its == GOOD and host.last_seen < settled else its

    if is_whole and not is_unsure:
        apart = {*away, *(host for host in part.hosts or () if host.last_seen < settled)} if settled else away
        words = {host: its for host in apart if (its := counts_as(host)) != state}
        for host, its in words.items():
            found.setdefault(its, []).append(host)
        here = [host for host in part.hosts or () if host not in words] if words else part.hosts or []
        counted = {its: (len(hosts), hosts) for its, hosts in found.items()}
        return counted | ({state: (part.number - len(words), here)} if part.number > len(words) else {})
    for host in part.hosts or ():
        if is_whole or question.choice.has(host):
            found.setdefault(counts_as(host), []).append(host)
    return {its: (len(hosts), hosts) for its, hosts in found.items()}
