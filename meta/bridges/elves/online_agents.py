"""The elves-agents that were heard of, by ip: by this instance, or by other ones, which tell it through ZooKeeper.

An agent is online if its last heartbeat is at most 600 seconds ago. Of one agent, the latest heartbeat counts, whichever
instance received it. Agents that were silent for a day are forgotten.
"""

import threading

from meta.bridges.elves.limits import MAX_ONLINE
from meta.bridges.elves.translator import Agent

ONLINE_FOR = 600.0  # seconds
FORGOTTEN_AFTER = 86400.0  # seconds


class OnlineAgents:
    """The agents by ip. Safe for threads: the lock is held only for operations on dictionaries."""

    def __init__(self, max_agents: int = MAX_ONLINE) -> None:
        self._lock = threading.Lock()
        self._agents: dict[str, Agent] = {}
        self._foreign: set[str] = set()  # ips that only other instances heard of
        self._max_agents = max_agents

    def hear(self, agent: Agent) -> bool:
        """Note a heartbeat that arrived here. Returns whether the agent was unknown or offline before.

        If there are max_agents already, an unknown one is not stored.
        """
        with self._lock:
            before = self._agents.get(agent.ip)
            if before is None and len(self._agents) >= self._max_agents and not self._forget(agent.last_beat):
                return False
            self._agents[agent.ip] = agent
            self._foreign.discard(agent.ip)
        return before is None or not is_online(before, agent.last_beat)

    def share(self, agent: Agent, now: float) -> None:
        """Note an agent that another instance heard of. A time later than now counts as now."""
        agent = agent._replace(last_beat=min(agent.last_beat, now))
        with self._lock:
            before = self._agents.get(agent.ip)
            if before is not None and before.last_beat >= agent.last_beat:
                return
            if before is None:
                if len(self._agents) >= self._max_agents and not self._forget(now):
                    return
                self._foreign.add(agent.ip)
            self._agents[agent.ip] = agent

    def withdraw(self, ip: str) -> None:
        """Forget an agent that was removed from ZooKeeper, unless its heartbeat arrived here."""
        with self._lock:
            if ip in self._foreign:
                self._foreign.discard(ip)
                self._agents.pop(ip, None)

    def heard_here(self, now: float) -> list[Agent]:
        """Return the agents that are online and whose heartbeat arrived here."""
        with self._lock:
            agents = [agent for ip, agent in self._agents.items() if ip not in self._foreign]
        return [agent for agent in agents if is_online(agent, now)]

    def find(self, ip: str, asset: str, now: float) -> list[Agent]:
        """Return the agents that are online and have this ip and this asset, sorted by ip. "" fits any."""
        with self._lock:
            known = self._agents.get(ip)
            agents = ([known] if known else []) if ip else list(self._agents.values())
        found = [agent for agent in agents if is_online(agent, now) and (not asset or agent.asset == asset)]
        return sorted(found, key=lambda agent: agent.ip)

    def count(self, now: float) -> int:
        with self._lock:
            agents = list(self._agents.values())
        return sum(is_online(agent, now) for agent in agents)

    def forget_old(self, now: float) -> None:
        with self._lock:
            self._forget(now)

    def _forget(self, now: float) -> bool:
        old = [ip for ip, agent in self._agents.items() if now - agent.last_beat > FORGOTTEN_AFTER]
        for ip in old:
            del self._agents[ip]
            self._foreign.discard(ip)
        return bool(old)


def is_online(agent: Agent, now: float) -> bool:
    return now - agent.last_beat <= ONLINE_FOR
