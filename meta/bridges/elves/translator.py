"""Translates an elves-agent's heartbeat into a report, and desired state into the apps that the agent may run. Pure.

Heartbeats are validated here. One with an invalid ip, or with apps that are no JSON object of versions, is answered but not
stored. An agent removes all its apps that are missing in the answer.
"""

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

import msgspec

from meta.bridges.elves.limits import MAX_APPS, MAX_IP, MAX_TEXT
from updater.wire.heartbeat import STARTED, Desired, RealAgent, Report
from updater.wire.limits import length_problem
from updater.wire.names import START, hostname_problem
from updater.wire.text import one_line, quoted

_IP = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._:-]+")  # ZooKeeper allows no node named `.` or `..`
Scalar = str | int | float


class Info(NamedTuple):
    """Thrift's AgentInfo, as received."""

    id: str = ""  # the asset
    ip: str = ""
    version: str = ""  # of the agent itself
    apps: str = ""  # JSON object: app -> version


class Agent(NamedTuple):
    """A valid agent."""

    ip: str
    asset: str
    version: str  # of the agent itself
    apps: Mapping[str, str]  # app -> version
    last_beat: float  # Unix seconds, by the clock of the instance that received its heartbeat


class Judged(NamedTuple):
    """A validated heartbeat."""

    asset: str
    ip: str  # "": it is invalid
    agent: Agent | None  # None: it must not be stored; `problem` says why
    apps: Mapping[str, str] | None  # app -> version; None: invalid
    problem: str = ""


def judge(info: Info, now: float) -> Judged:
    """Validate a heartbeat. Never raises. now: Unix seconds."""
    asset, ip = one_line(info.id, MAX_TEXT), info.ip.strip()
    apps, problem = parse_apps(info.apps)
    if not ip:
        problem = "its ip is blank"
    elif ip_problem := length_problem("its ip", ip, MAX_IP):
        ip, problem = "", ip_problem
    elif not _IP.fullmatch(ip):
        ip, problem = "", f"its ip {quoted(ip, MAX_IP)} is invalid"
    if problem:
        return Judged(asset, ip, None, apps, problem)
    agent = Agent(ip, asset, one_line(info.version, MAX_TEXT), apps or {}, now)
    return Judged(asset, ip, agent, apps)


_apps_decoder = msgspec.json.Decoder(dict[str, Scalar] | None)


def parse_apps(text: str) -> tuple[dict[str, str] | None, str]:
    """Parse an agent's apps. Returns (app -> version, "") or (None, what is wrong).

    A blank text and `null`, which Go writes for a missing map, mean no apps.
    """
    if not text.strip():
        return {}, ""
    try:
        raw = _apps_decoder.decode(text) or {}
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None, "its apps are no JSON object of versions"
    apps = {name: str(version) for name, version in raw.items()}
    if len(apps) > MAX_APPS:
        return None, f"it has {len(apps):,} apps, of {MAX_APPS:,} at most"
    words = [*apps, *apps.values()]
    if problem := next(
        filter(None, (length_problem("a name or version of its apps", word, MAX_TEXT) for word in words)), ""
    ):
        return None, problem
    if not all(map(_is_word, words)):
        return None, "its apps have names or versions that are blank or not printable"
    return apps, ""


def _is_word(text: str) -> bool:
    return text.isprintable() and bool(text.strip())


def hostname(asset: str, ip: str) -> str:
    """Return the name of this agent's host in meta: its asset if that is a valid hostname, else its ip, "" without either.

    An IPv6 address is written in full, with `-` instead of `:`.
    """
    if not hostname_problem(asset):
        return asset
    try:
        address = ip_address(ip)
    except ValueError:
        return "" if hostname_problem(ip) else ip
    return address.exploded.replace(":", "-") if isinstance(address, IPv6Address) else str(address)


def as_report(agent: Agent, name: str) -> Report:
    """Return the heartbeat as a host's report. elves does not say whether an app runs, so all count as started."""
    at = int(agent.last_beat)
    apps = [RealAgent(app, version, STARTED, at) for app, version in agent.apps.items()]
    return Report(name, apps, ip=agent.ip, updater_version=f"elves-agent {agent.version}".strip())


def apps_of(desired: Iterable[Desired]) -> dict[str, str]:
    """Return the apps that the agent may run, app -> version: those that are desired to be started."""
    return {d.name: d.version for d in desired if d.cmd == START}


def render_apps(apps: Mapping[str, str]) -> str:
    """Return the answer to a heartbeat: {"data": {app: version}}."""
    return msgspec.json.encode({"data": dict(apps)}).decode()
