"""The content of ops-meta's /status/ page, in the form that its readers expect: one agent on all hosts.

Hosts are read by name, a few at a time, so that heartbeats never wait for it.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from meta.hosts.model import Host
from meta.hosts.table import HostTable

FRESH_FOR = 3 * 86400  # seconds without a report after which a host is not shown, as in ops-meta
STEP = 1000  # hosts that are copied at once


class Seen(NamedTuple):
    """The agent of one host, as last reported."""

    host: str
    found: bool  # whether the host has the agent
    version: str = ""
    status: str = ""
    timestamp: int = 0  # when the host observed it (Unix seconds by its own clock)
    held: str | msgspec.UnsetType = msgspec.UNSET
    outcome: Any = None


def seen(table: HostTable, agent: str, now: float) -> Iterator[Seen]:
    """Yield the hosts with at least one agent that reported within FRESH_FOR seconds, by name."""
    names = table.names()
    for start in range(0, len(names), STEP):
        known = table.copies(names[start : start + STEP])
        yield from (_seen(host, agent) for host in known if _is_fresh(host, now))


def _is_fresh(host: Host, now: float) -> bool:
    return bool(host.group.agent_set.agents) and not host.retired_at and now - host.last_seen < FRESH_FOR


def _seen(host: Host, agent: str) -> Seen:
    for (name, version, status, held, *_), _since, looked in host.agents():
        if name == agent:
            return Seen(host.name, True, version, status, looked, held, host.outcomes.get(agent))
    return Seen(host.name, False)


def as_fields(table: HostTable, agent: str, now: float) -> dict[str, Any]:
    """Return {name, version, status, timestamp} by hostname, with `held` and `outcome` if reported; None without the agent."""
    return {one.host: _fields(agent, one) if one.found else None for one in seen(table, agent, now)}


def _fields(agent: str, one: Seen) -> dict[str, Any]:
    fields = {"name": agent, "version": one.version, "status": one.status, "timestamp": one.timestamp}
    if isinstance(one.held, str):
        fields["held"] = one.held
    return fields | ({"outcome": msgspec.to_builtins(one.outcome)} if one.outcome else {})


def as_text(table: HostTable, agent: str, now: float) -> str:
    """Return the same as lines of text: `host version status timestamp YYYY-MM-DD HH:MM:SS` (UTC), or `host not found`."""
    return "".join(f"{one.host} {_line(one)}\n" for one in seen(table, agent, now))


def _line(one: Seen) -> str:
    return f"{one.version} {one.status} {one.timestamp} {_date(one.timestamp)}" if one.found else "not found"


def _date(timestamp: int) -> str:
    """Return the time as a date. A host may report any number; one that is no date becomes "-"."""
    try:
        return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "-"
