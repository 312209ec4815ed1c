"""The hosts' last reports, in memory: what each one said, since when and how lately we know it.

`merge` is pure. `HostTable` holds the hosts for all threads and remembers which ones changed, for whoever writes them
down. Text from a host is cut and cleaned here, once, so that nothing downstream has to think of it. What a host is worth
now (fresh or gone) is computed from `now` whenever somebody asks; it is never stored.
"""

import logging
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from updater.wire import Outcome, RealAgent, Report, one_line

FRESH_FOR = 3 * 86400  # seconds without a report after which a host is no longer shown, as the peers do
MAX_OUTCOMES = 100  # kept per host: one per agent, the latest
MAX_STATUS = 300  # characters, like every other foreign sentence here
MAX_NAME = 64
MAX_EVIDENCE = 2000
log = logging.getLogger(__name__)


class Host(msgspec.Struct, frozen=True):
    """One host as last heard of. first_seen, last_seen: Unix seconds by our clock; agents and outcomes: by agent name."""

    hostname: str
    first_seen: float
    last_seen: float
    address: str = ""
    updater_version: str = ""
    agents: dict[str, RealAgent] = {}
    outcomes: dict[str, Outcome] = {}


def merge(before: Host | None, report: Report, address: str, now: float) -> Host:
    """The host after this report. Agents that it lists replace the former ones; a report without a list says nothing of
    them. Outcomes stay until the same agent has another."""
    known = before or Host(report.hostname, now, now)
    agents = known.agents
    if report.real_agents is not None:
        agents = {agent.name: agent for agent in map(_clean_agent, report.real_agents)}
    outcomes = known.outcomes
    if report.outcomes:
        latest = {outcome.agent: outcome for outcome in map(_clean_outcome, report.outcomes)}
        kept = {agent: outcome for agent, outcome in outcomes.items() if agent not in latest}
        outcomes = dict(list((kept | latest).items())[-MAX_OUTCOMES:])
    return Host(
        hostname=report.hostname,
        first_seen=known.first_seen,
        last_seen=now,
        address=one_line(address, MAX_NAME),
        updater_version=one_line(report.updater_version or "", MAX_NAME),
        agents=agents,
        outcomes=outcomes,
    )


def _clean_agent(agent: RealAgent) -> RealAgent:
    return RealAgent(
        name=one_line(agent.name, MAX_NAME),
        version=one_line(agent.version, MAX_NAME),
        status=one_line(agent.status, MAX_STATUS),
        timestamp=agent.timestamp,
    )


def _clean_outcome(outcome: Outcome) -> Outcome:
    evidence = "\n".join(one_line(line, MAX_STATUS) for line in outcome.evidence[:MAX_EVIDENCE].splitlines())
    return Outcome(
        agent=one_line(outcome.agent, MAX_NAME),
        from_=one_line(outcome.from_, MAX_NAME),
        to=one_line(outcome.to, MAX_NAME),
        step=one_line(outcome.step, MAX_NAME),
        result=one_line(outcome.result, MAX_NAME),
        reason=one_line(outcome.reason, MAX_STATUS),
        evidence=evidence,
        at=outcome.at,
    )


def _moved(before: Host, host: Host) -> tuple[str, str, str]:
    return host.hostname, host.address or "nowhere", before.address or "nowhere"


class HostTable:
    """All hosts by name, safe for many threads; the lock is held for a dictionary's work and nothing else."""

    def __init__(self, hosts: Iterable[Host] = ()):
        self.changed = threading.Event()  # set while some host was not taken by `take_changed`
        self._lock = threading.Lock()
        self._hosts = {host.hostname: host for host in hosts}
        self._dirty: set[str] = set()

    def remember(self, report: Report, address: str, now: float) -> Host:
        """Merge one report, and return the host as it is now."""
        with self._lock:
            before = self._hosts.get(report.hostname)
            host = merge(before, report, address, now)
            self._hosts[host.hostname] = host
            self._dirty.add(host.hostname)
            if not self.changed.is_set():
                self.changed.set()
        if before and before.address != host.address:
            log.warning("%s reports from %s, before from %s: moved, or a name used twice", *_moved(before, host))
        return host

    def get(self, hostname: str) -> Host | None:
        with self._lock:
            return self._hosts.get(hostname)

    def all(self) -> list[Host]:
        """Every host, in the order of first sight."""
        with self._lock:
            return list(self._hosts.values())

    def take_changed(self) -> list[Host]:
        """The hosts that changed since the last call; whoever takes them writes them down or gives them back."""
        with self._lock:
            taken = [self._hosts[name] for name in self._dirty]
            self._dirty.clear()
            self.changed.clear()
        return taken

    def give_back(self, hosts: Iterable[Host]) -> None:
        """These could not be written: they count as changed again."""
        with self._lock:
            self._dirty.update(host.hostname for host in hosts)
            self.changed.set()


def fresh(hosts: Iterable[Host], now: float) -> list[Host]:
    """The hosts that a status shows: with at least one agent, and heard of in the last three days. Ordered by name."""
    shown = [host for host in hosts if host.agents and now - host.last_seen < FRESH_FOR]
    return sorted(shown, key=lambda host: host.hostname)


def status_fields(hosts: Iterable[Host], agent: str) -> dict[str, Any]:
    """hostname -> {name, version, status, timestamp} of this agent (and `outcome`, where the host told one), or None."""
    return {host.hostname: _agent_fields(host, agent) for host in hosts}


def _agent_fields(host: Host, name: str) -> dict[str, Any] | None:
    agent = host.agents.get(name)
    if agent is None:
        return None
    fields: dict[str, Any] = msgspec.to_builtins(agent)
    if outcome := host.outcomes.get(name):
        fields["outcome"] = msgspec.to_builtins(outcome)
    return fields


def status_text(hosts: Iterable[Host], agent: str) -> str:
    """The same for people: `host version status timestamp YYYY-MM-DD HH:MM:SS` (UTC), or `host not found`."""
    return "".join(f"{host.hostname} {_agent_text(host, agent)}\n" for host in hosts)


def _agent_text(host: Host, name: str) -> str:
    agent = host.agents.get(name)
    if agent is None:
        return "not found"
    return f"{agent.version} {agent.status} {agent.timestamp} {_date(agent.timestamp)}"


def _date(timestamp: int) -> str:
    """A host may claim any second there is; those without a calendar day show as "-"."""
    try:
        return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "-"
