"""Answers one heartbeat of an elves-agent with the apps that it may run, by the configured mode.

No answer is empty by mistake. If nothing is decided (no app table yet, no records, an error), this raises, and the agent
changes nothing. A heartbeat that cannot be stored is still answered. If the answer depends on what is missing in it, the agent
is told to keep what it has. This module knows neither Thrift nor RabbitMQ.
"""

import logging
from collections.abc import Callable

from meta.bridges.elves.app_table_store import KeptTable
from meta.bridges.elves.counters import Numbers
from meta.bridges.elves.online_agents import OnlineAgents
from meta.bridges.elves.rate_limited_log import RateLimitedLog
from meta.bridges.elves.settings import RECORDS, SIMPLE, Settings
from meta.bridges.elves.translator import Agent, Info, Judged, apps_of, as_report, hostname, judge, render_apps
from meta.bridges.fleet import Fleet

log = logging.getLogger(__name__)


class Undecided(Exception):
    """It is not decided what this agent may run; the text says what is missing."""


class Heartbeat:
    """Answers heartbeats. Safe for threads.

    fleet: None if hosts are not stored (possible in all modes but records); heard: called with every agent that reports.
    """

    def __init__(
        self,
        settings: Settings,
        online: OnlineAgents,
        kept: KeptTable,
        fleet: Fleet | None,
        numbers: Numbers,
        heard: Callable[[Agent], None] = lambda _agent: None,
    ):
        self._mode = settings.mode
        self._local_apps = dict(settings.local_apps)
        self._online = online
        self._kept = kept
        self._fleet = fleet
        self._numbers = numbers
        self._heard = heard
        self._limited_log = RateLimitedLog()

    def beat(self, info: Info, peer: str, now: float) -> str:
        """Return the answer's text. Raises Undecided, and any other error, for which the agent must change nothing.

        peer: the sender's address; now: Unix seconds.
        """
        self._numbers.add("beats")
        judged = judge(info, now)
        if judged.agent:
            if self._online.hear(judged.agent):
                log.info("agent %s (%s) at %s is online", judged.ip, judged.asset or "no asset", peer)
            self._heard(judged.agent)
        else:
            self._numbers.add("beats_not_stored")
            self._limited_log.say(log, "a heartbeat from %s is answered but not stored: %s", peer, judged.problem)
        return render_apps(self._apps(judged, now))

    def _apps(self, judged: Judged, now: float) -> dict[str, str]:
        if self._mode == RECORDS:
            return self._by_records(judged, now)
        self._remember(judged, now)
        if self._mode == SIMPLE:
            return self._local_apps
        table = self._kept.table
        if table is None:
            raise Undecided("no app table has arrived from the supervisor yet")
        return table.apps_for(judged.ip) if judged.ip else _as_it_is(judged)

    def _by_records(self, judged: Judged, now: float) -> dict[str, str]:
        fleet, name = self._fleet, hostname(judged.asset, judged.ip)
        if fleet is None:
            raise Undecided("there are no records")
        if not name:
            return _as_it_is(judged)
        if judged.agent:
            desired = fleet.beat(as_report(judged.agent, name), judged.ip, now)
        else:
            desired = fleet.resolve(name)
        known = {d.name for d in desired}
        withheld = [app for app in judged.apps or () if app not in known]
        if withheld:
            kept = fleet.withheld(name)
            withheld = [app for app in withheld if app in kept]
        if not desired and not withheld:
            raise Undecided(f"no record applies to {name}")
        return apps_of(desired) | {app: (judged.apps or {})[app] for app in withheld}

    def _remember(self, judged: Judged, now: float) -> None:
        """Store the host among meta's. A failure must not change the answer, which needs no records."""
        if self._fleet is None or judged.agent is None:
            return
        try:
            self._fleet.beat(as_report(judged.agent, hostname(judged.asset, judged.ip)), judged.ip, now)
        except Exception as e:  # noqa: BLE001 (any failure: the answer does not depend on this)
            self._numbers.add("hosts_not_remembered")
            self._limited_log.say(log, "agent %s is not stored as a host: %s", judged.ip, e)


def _as_it_is(judged: Judged) -> dict[str, str]:
    """Return the apps that the agent has, so that it keeps them: it does not say which host it is."""
    if judged.apps is None:
        raise Undecided("the agent reports neither a name nor its apps")
    return dict(judged.apps)
