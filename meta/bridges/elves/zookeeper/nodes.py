"""The node that elves' heartbeat instances write for each agent in ZooKeeper, and the form of ZooKeeper's addresses. Pure.

{"checkTime": ms, "agent": {"id", "ip", "version", "apps"}}
"""

import msgspec
from kazoo.hosts import collect_hosts

from meta.bridges.elves.translator import Agent, Info, judge


class _WireAgent(msgspec.Struct):
    id: str | None = None
    ip: str | None = None
    version: str | None = None
    apps: str | None = None


class _WireNode(msgspec.Struct, rename={"check_time": "checkTime"}):
    check_time: int
    agent: _WireAgent


_node = msgspec.json.Decoder(_WireNode)


def check_hosts(hosts: str) -> None:
    """Check a list of HOST:PORT, separated by commas. Raises ValueError if the client would refuse it."""
    collect_hosts(hosts)


def render_node(agent: Agent) -> bytes:
    """Return the node of an agent, as the Java module writes it."""
    apps = msgspec.json.encode(dict(agent.apps)).decode()
    wire = _WireAgent(agent.asset, agent.ip, agent.version, apps)
    return msgspec.json.encode(_WireNode(int(agent.last_beat * 1000), wire))


def parse_node(ip: str, data: bytes | None) -> Agent | None:
    """Parse the node of the agent with this ip; None if it is invalid."""
    try:
        wire = _node.decode(data or b"")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    info = Info(wire.agent.id or "", ip, wire.agent.version or "", wire.agent.apps or "")
    return judge(info, wire.check_time / 1000).agent if abs(wire.check_time) < 1 << 53 else None
