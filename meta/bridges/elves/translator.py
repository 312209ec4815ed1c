"""elves' words <-> ours: what an agent says -> our report, our desired state -> the apps that it may run. Pure.

What an agent says is judged here once. A blank or hostile ip, or an apps text that is no JSON object of versions, makes a beat
that is answered but not stored. The apps of an answer decide what the agent keeps: what is missing there it removes.
"""

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

import msgspec

from updater.wire.heartbeat import STARTED, Desired, RealAgent, Report
from updater.wire.names import START, hostname_problem
from updater.wire.text import one_line

MAX_APPS = 1000  # of one agent
MAX_TEXT = 128  # characters of an app's name, a version, an asset
MAX_IP = 64
_IP = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._:-]{1,64}")  # `.` and `..` are no names on ZooKeeper
Scalar = str | int | float


class Info(NamedTuple):
    """Thrift's AgentInfo as it came. id: the asset; apps: the text of a JSON object, app -> version."""

    id: str = ""
    ip: str = ""
    version: str = ""
    apps: str = ""


class Agent(NamedTuple):
    """An agent that may be stored. last_beat: Unix seconds by our clock, or by that of the instance that heard of it."""

    ip: str
    asset: str
    version: str
    apps: Mapping[str, str]
    last_beat: float


class Judged(NamedTuple):
    """What a beat is worth. agent: None when it is not to be stored, and then `problem` says why; apps: what the agent has,
    None when nobody can tell."""

    asset: str
    ip: str
    agent: Agent | None
    apps: Mapping[str, str] | None
    problem: str = ""


def judge(info: Info, now: float) -> Judged:
    """Never raises: whatever came was a complete Thrift message."""
    asset, ip = one_line(info.id, MAX_TEXT), info.ip.strip()
    apps, problem = parse_apps(info.apps)
    if not ip:
        problem = "its ip is blank"
    elif not _IP.fullmatch(ip):
        problem = f'its ip "{one_line(ip, MAX_IP)}" is none'
    if problem:
        return Judged(asset, ip if _IP.fullmatch(ip) else "", None, apps, problem)
    agent = Agent(ip, asset, one_line(info.version, MAX_TEXT), apps or {}, now)
    return Judged(asset, ip, agent, apps)


_apps_decoder = msgspec.json.Decoder(dict[str, Scalar] | None)


def parse_apps(text: str) -> tuple[dict[str, str] | None, str]:
    """An agent's apps text -> (app -> version, why not). Blank and `null` (what Go makes of no map) are no apps."""
    if not text.strip():
        return {}, ""
    try:
        raw = _apps_decoder.decode(text) or {}
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None, "its apps are no JSON object of versions"
    apps = {name: str(version) for name, version in raw.items()}
    if len(apps) > MAX_APPS:
        return None, f"it has {len(apps)} apps, more than {MAX_APPS}"
    if not all(_is_word(name) and _is_word(version) for name, version in apps.items()):
        return None, "its apps have names or versions that are blank, too long or do not print"
    return apps, ""


def _is_word(text: str) -> bool:
    return 0 < len(text) <= MAX_TEXT and text.isprintable() and bool(text.strip())


def hostname(asset: str, ip: str) -> str:
    """The name of this agent's host among ours: its asset where that can be a host's name, else its ip; an IPv6 address is
    spelled out with `-`. "" when it has neither."""
    if not hostname_problem(asset):
        return asset
    try:
        address = ip_address(ip)
    except ValueError:
        return "" if hostname_problem(ip) else ip
    return address.exploded.replace(":", "-") if isinstance(address, IPv6Address) else str(address)


def as_report(agent: Agent, name: str) -> Report:
    """The beat as a host's report. elves does not say whether an app runs: what it lists counts as started."""
    at = int(agent.last_beat)
    apps = [RealAgent(app, version, STARTED, at) for app, version in agent.apps.items()]
    return Report(name, apps, ip=agent.ip, updater_version=f"elves-agent {agent.version}".strip())


def apps_of(desired: Iterable[Desired]) -> dict[str, str]:
    """Our desired state -> what the agent may run: everything that shall be started."""
    return {d.name: d.version for d in desired if d.cmd == START}


def render_apps(apps: Mapping[str, str]) -> str:
    """The answer to a beat: {"data": {app: version}}."""
    return msgspec.json.encode({"data": dict(apps)}).decode()
