"""Shares agents with other heartbeat instances, also Java ones, through ZooKeeper.

    {root}/heartbeat/agent/{ip}   persistent, see nodes
    {root}/heartbeat/NNNNNNNNNN   ephemeral and sequential, one for each instance

Heartbeats never wait for ZooKeeper: this thread writes the latest state of each agent later, and keeps it while ZooKeeper is
away. After a lost session, the instance registers again, and writes all its agents again.

A kazoo client may end for good: at an answer that it does not understand (https://github.com/python-zk/kazoo/issues/641), or
if the server has lost its data (https://github.com/python-zk/kazoo/issues/42). It is then replaced by a new client.
"""

import logging
import threading
import time
from contextlib import suppress
from typing import Any

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KeeperState
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.retry import KazooRetry

from meta.bridges.elves.counters import Numbers
from meta.bridges.elves.online_agents import OnlineAgents
from meta.bridges.elves.rate_limited_log import RateLimitedLog, Reminder
from meta.bridges.elves.translator import Agent
from meta.bridges.elves.zookeeper.nodes import parse_node
from meta.bridges.elves.zookeeper.writes import Writes, in_words
from meta.process.clock import SYSTEM, Now
from updater.wire.text import one_line

TICK = 0.1  # seconds
CROWD = 60  # heartbeats in a tick; with more, writing waits, so that agents are answered first
WAIT_AT_MOST = 30  # ticks
LOOK_EVERY = 30.0  # seconds
REGISTER_AGAIN = 1.0  # seconds after a failure
SAY_AFTER = 5.0  # seconds; a first connection may take so long
REPLACE_AFTER = 3  # session timeouts without a connection, after which no session is left
Trouble = (KazooException, KazooTimeoutError, OSError)
log = logging.getLogger(__name__)


class _Reason(logging.Handler):
    """Keeps the last line that kazoo logs while it connects, which is the only way to learn why it fails."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.text = f"{record.getMessage()}: {record.exc_info[1]!r}"
        elif not record.getMessage().startswith("Transition"):
            self.text = record.getMessage()


class Sharing(threading.Thread):
    """The thread that shares agents; `stop` ends it.

    hosts: HOST:PORT, separated by commas; timeout: seconds of the session; look_every: seconds between two checks that the
    instance is registered.
    """

    def __init__(
        self,
        hosts: str,
        root: str,
        timeout: float,
        online: OnlineAgents,
        numbers: Numbers,
        look_every: float = LOOK_EVERY,
        now: Now = SYSTEM.now,
    ):
        super().__init__(name="zookeeper", daemon=True)
        self._base = f"{root}/heartbeat"
        self._hosts = hosts
        self._timeout = timeout
        self._look_every = look_every
        self._online = online
        self._now = now
        self._writes = Writes(self._base, numbers)
        self._waited = 0  # ticks
        self._stopping = threading.Event()
        self._registered_in = 0  # the session; 0: in none
        self._next_look = 0.0
        self._register_after = 0.0
        self._away_since = 0.0
        self._limited_log = RateLimitedLog()
        self._away = Reminder(log)
        self._unregistered = Reminder(log)
        self._unregistered_why = ""
        self._reason = _Reason()
        self._cache: TreeCache | None = None
        self.is_connected = False

    def note(self, agent: Agent) -> None:
        """Have an agent written whose heartbeat arrived here."""
        self._writes.note(agent)

    def stop(self, within: float = 5.0) -> None:
        """Write what is pending, if ZooKeeper is connected, and close the session."""
        self._stopping.set()
        self.join(within)

    @property
    def trouble(self) -> str:
        """Why agents are not shared; "" if they are."""
        if self.is_connected:
            return self._unregistered_why
        return f"is away: {self._why_away}"

    @property
    def _why_away(self) -> str:
        return one_line(self._reason.text, 300) or "not yet connected"

    def run(self) -> None:
        self._open()
        while not self._stopping.wait(TICK):
            self._turn(time.monotonic())
        self._turn(time.monotonic())
        self._close()

    def _open(self) -> None:
        """Make a new client, which connects in its own threads."""
        quiet = logging.Logger("kazoo", logging.WARNING)  # not shown: kazoo logs every attempt to connect
        quiet.addHandler(self._reason)
        retry = KazooRetry(max_tries=-1, delay=0.1, backoff=2, max_delay=2)
        self._client = KazooClient(self._hosts, timeout=self._timeout, connection_retry=retry, logger=quiet)
        self._client.add_listener(self._changed)
        self._away_since = time.monotonic()
        self._client.start_async()

    def _close(self) -> None:
        self._client.remove_listener(self._changed)
        self.is_connected = False
        with suppress(Exception):  # a failing client may raise anything
            if self._cache:
                self._cache.close()
        self._cache = None
        with suppress(Exception):
            self._client.stop()
            self._client.close()

    def _turn(self, now: float) -> None:
        if not self.is_connected:
            self._wait_for_it(now)
            return
        self._away_since = now
        self._away.over()
        try:
            if self._is_to_look(now):
                self._look(now)
            if self._session == self._registered_in and not self._is_crowded():
                self._write()
        except Exception:  # noqa: BLE001 (logged with its trace)
            self._limited_log.say(log, "ZooKeeper at %s: internal error", self._hosts, trace=True)

    def _is_to_look(self, now: float) -> bool:
        return now >= self._register_after and (self._session != self._registered_in or now >= self._next_look)

    def _look(self, now: float) -> None:
        """Register the instance if it is not. A refusal is logged once, and again each minute."""
        self._register_after = now + REGISTER_AGAIN
        try:
            self._register(now)
        except Trouble as e:
            why = one_line(in_words(e), 300)
            self._unregistered_why = f"does not register this instance: {why}"
            self._unregistered.say(
                "ZooKeeper at %s does not register this instance, trying again: %s", self._hosts, why
            )
            return
        self._register_after, self._unregistered_why = now, ""
        self._unregistered.over()

    def _write(self) -> None:
        if lost := self._writes.write(self._client, self._stopping.is_set()):
            self._limited_log.say(log, "ZooKeeper at %s: %s", self._hosts, lost)

    def _wait_for_it(self, now: float) -> None:
        if self._reason.text or now - self._away_since > SAY_AFTER:
            self._away.say("ZooKeeper at %s is away, trying again: %s", self._hosts, self._why_away)
        away = now - self._away_since
        is_dead = self._client.client_state in (KeeperState.CLOSED, KeeperState.AUTH_FAILED) and away > SAY_AFTER
        if (is_dead or away > REPLACE_AFTER * self._timeout) and not self._stopping.is_set():
            self._close()
            self._open()

    @property
    def _session(self) -> int:
        """The id of the current session; 0 if there is none."""
        known = self._client.client_id
        return known[0] if known else 0

    def _is_crowded(self) -> bool:
        crowd = self._writes.noted() > CROWD
        self._waited = self._waited + 1 if crowd and self._waited < WAIT_AT_MOST and not self._stopping.is_set() else 0
        return self._waited > 0

    def _changed(self, state: str) -> None:
        """Note a change of the connection. Runs in kazoo's thread, so it must be quick."""
        was, self.is_connected = self.is_connected, state == KazooState.CONNECTED
        if self.is_connected:
            self._reason.text = ""
        if was != self.is_connected:
            log.info("ZooKeeper at %s: %s", self._hosts, "connected" if self.is_connected else "away")

    def _register(self, now: float) -> None:
        """Make sure that this instance has its node.

        If the connection broke while the node was created, its name is unknown. So an existing node is searched by session.
        """
        session = self._session
        self._client.ensure_path(f"{self._base}/agent")
        path = self._find(session)
        if path is None:
            path = self._client.create(f"{self._base}/", b"", ephemeral=True, sequence=True)
            log.info("ZooKeeper at %s: registered as %s", self._hosts, path)
        if session != self._registered_in:
            self._writes.repeat(self._online.heard_here(self._now()))
        self._registered_in, self._next_look = session, now + self._look_every
        if self._cache is None:
            self._cache = TreeCache(self._client, f"{self._base}/agent")
            self._cache.listen(self._seen)
            self._cache.listen_fault(self._fault)
            self._cache.start()

    def _find(self, session: int) -> str | None:
        for name in self._client.get_children(self._base):
            path = f"{self._base}/{name}"
            stat = None if name == "agent" else self._client.exists(path)
            if stat and stat.ephemeralOwner == session:
                return path
        return None

    def _fault(self, error: Exception) -> None:
        self._limited_log.say(
            log, "ZooKeeper at %s: what others write cannot be read: %s", self._hosts, in_words(error)
        )

    def _seen(self, event: Any) -> None:
        """Note a change of an agent's node. Runs in kazoo's thread."""
        if event.event_type not in (TreeEvent.NODE_ADDED, TreeEvent.NODE_UPDATED, TreeEvent.NODE_REMOVED):
            return
        ip = event.event_data.path.removeprefix(f"{self._base}/agent").removeprefix("/")
        if not ip:
            return
        if event.event_type == TreeEvent.NODE_REMOVED:
            self._online.withdraw(ip)
        elif agent := parse_node(ip, event.event_data.data):
            self._online.share(agent, self._now())
        else:
            text = "the node of agent %s in ZooKeeper is invalid, and is ignored"
            self._limited_log.say(log, text, one_line(ip, 80))
