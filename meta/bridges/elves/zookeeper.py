"""ZooKeeper: heartbeat instances, Java ones among them, share the agents that they hear of.

    {root}/heartbeat/agent/{ip}   persistent, {"checkTime": ms, "agent": {"id", "ip", "version", "apps"}}
    {root}/heartbeat/NNNNNNNNNN   ephemeral and sequential, one for each instance

Promises that a beat never waits for ZooKeeper: writes are behind, of each agent only the latest, and are kept while it is away.
After a lost session the instance registers anew and writes again what it heard.
"""

import logging
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import Any

import msgspec
from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import KazooException, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.retry import KazooRetry

from meta.bridges.elves.numbers import Numbers, Sparing
from meta.bridges.elves.online import OnlineAgents
from meta.bridges.elves.translator import Agent, Info, judge
from updater.wire import one_line

TICK = 0.1  # seconds
BATCH = 40  # writes in a tick: 400 a second at most, twice what 10,000 agents need
CROWD = 60  # beats in a tick, at which agents come first and writing waits, for some ticks
WAIT_AT_MOST = 30  # ticks
WRITE_WITHIN = 10.0  # seconds for a batch
Trouble = (KazooException, KazooTimeoutError, OSError)
log = logging.getLogger(__name__)


class _WireAgent(msgspec.Struct):
    id: str | None = None
    ip: str | None = None
    version: str | None = None
    apps: str | None = None


class _WireNode(msgspec.Struct, rename={"check_time": "checkTime"}):
    check_time: int
    agent: _WireAgent


_node = msgspec.json.Decoder(_WireNode)


def render_node(agent: Agent) -> bytes:
    """An agent as the Java module writes it."""
    apps = msgspec.json.encode(dict(agent.apps)).decode()
    wire = _WireAgent(agent.asset, agent.ip, agent.version, apps)
    return msgspec.json.encode(_WireNode(int(agent.last_beat * 1000), wire))


def parse_node(ip: str, data: bytes | None) -> Agent | None:
    """What an instance wrote of the agent with this ip; None when it cannot be used."""
    try:
        wire = _node.decode(data or b"")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    info = Info(wire.agent.id or "", ip, wire.agent.version or "", wire.agent.apps or "")
    return judge(info, wire.check_time / 1000).agent if abs(wire.check_time) < 1 << 53 else None


class Sharing(threading.Thread):
    """hosts: as ZooKeeper's clients write them; timeout: seconds of the session. Ended by `stop`."""

    def __init__(self, hosts: str, root: str, timeout: float, online: OnlineAgents, numbers: Numbers):
        super().__init__(name="zookeeper", daemon=True)
        self._base = f"{root}/heartbeat"
        self._hosts = hosts
        self._online = online
        self._numbers = numbers
        self._pending: dict[str, Agent] = {}
        self._beats = 0  # since the last tick
        self._waited = 0  # ticks
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._is_registered = False
        self._cache: TreeCache | None = None
        self._sparing = Sparing()
        self.is_connected = False
        retry = KazooRetry(max_tries=-1, delay=0.1, backoff=2, max_delay=2)
        self._client = KazooClient(hosts, timeout=timeout, connection_retry=retry, logger=_quiet())

    def note(self, agent: Agent) -> None:
        """It beats here; it will be written."""
        with self._lock:
            self._pending[agent.ip] = agent
            self._beats += 1

    def stop(self, within: float = 5.0) -> None:
        """Write what is pending, if ZooKeeper is there, and leave."""
        self._stopping.set()
        self.join(within)

    def run(self) -> None:
        self._client.add_listener(self._changed)
        self._client.start_async()
        while not self._stopping.wait(TICK):
            self._turn()
        self._turn()
        with suppress(*Trouble):
            if self._cache:
                self._cache.close()
            self._client.stop()
            self._client.close()

    def _turn(self) -> None:
        if not self.is_connected:
            return
        try:
            if not self._is_registered:
                self._register()
            if not self._is_crowded():
                self._write()
        except Trouble as e:
            self._sparing.say(log, time.time(), "ZooKeeper at %s: %s", self._hosts, _in_words(e))
        except Exception:  # noqa: BLE001 (told with its trace)
            self._sparing.say(log, time.time(), "ZooKeeper at %s: trouble of our own", self._hosts, trace=True)

    def _is_crowded(self) -> bool:
        with self._lock:
            crowd, self._beats = self._beats > CROWD, 0
        self._waited = self._waited + 1 if crowd and self._waited < WAIT_AT_MOST and not self._stopping.is_set() else 0
        return self._waited > 0

    def _changed(self, state: str) -> None:
        """In kazoo's thread: be quick."""
        was, self.is_connected = self.is_connected, state == KazooState.CONNECTED
        if state == KazooState.LOST:
            self._is_registered = False
        if was != self.is_connected:
            log.info("ZooKeeper at %s: %s", self._hosts, "connected" if self.is_connected else "away")

    def _register(self) -> None:
        self._client.ensure_path(f"{self._base}/agent")
        path = self._client.create(f"{self._base}/", b"", ephemeral=True, sequence=True)
        self._is_registered = True
        log.info("ZooKeeper at %s: registered as %s", self._hosts, path)
        self._repeat(self._online.heard_here(time.time()))
        if self._cache is None:
            self._cache = TreeCache(self._client, f"{self._base}/agent")
            self._cache.listen(self._seen)
            self._cache.listen_fault(lambda e: log.error("ZooKeeper at %s: %s", self._hosts, _in_words(e)))
            self._cache.start()

    def _repeat(self, agents: Iterable[Agent]) -> None:
        with self._lock:
            for agent in agents:
                self._pending.setdefault(agent.ip, agent)

    def _write(self) -> None:
        """Some of what is pending, at the end all of it; what does not arrive is pending again."""
        with self._lock:
            wanted = len(self._pending) if self._stopping.is_set() else BATCH
            batch = [self._pending.pop(ip) for ip in list(islice(self._pending, wanted))]
        try:
            self._write_batch(batch)
        except Trouble:
            self._repeat(batch)
            raise
        self._numbers.add("agents_shared", len(batch))

    def _write_batch(self, batch: list[Agent]) -> None:
        deadline = time.monotonic() + WRITE_WITHIN
        written = [(agent, self._client.set_async(self._path(agent), render_node(agent))) for agent in batch]
        made = []
        for agent, result in written:
            try:
                result.get(timeout=max(0.01, deadline - time.monotonic()))
            except NoNodeError:
                made.append(self._client.create_async(self._path(agent), render_node(agent), makepath=True))
        for result in made:
            result.get(timeout=max(0.01, deadline - time.monotonic()))

    def _path(self, agent: Agent) -> str:
        return f"{self._base}/agent/{agent.ip}"

    def _seen(self, event: Any) -> None:
        """Something below our path is so now. In kazoo's thread."""
        if event.event_type not in (TreeEvent.NODE_ADDED, TreeEvent.NODE_UPDATED, TreeEvent.NODE_REMOVED):
            return
        ip = event.event_data.path.removeprefix(f"{self._base}/agent").removeprefix("/")
        if not ip:
            return
        if event.event_type == TreeEvent.NODE_REMOVED:
            self._online.withdraw(ip)
        elif agent := parse_node(ip, event.event_data.data):
            self._online.share(agent, time.time())
        else:
            text = "ZooKeeper has something unusable of agent %s"
            self._sparing.say(log, time.time(), text, one_line(ip, 80))


def _in_words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _quiet() -> logging.Logger:
    """kazoo logs every try to connect; we say it once, when it changes."""
    logger = logging.getLogger(f"{__name__}.kazoo")
    logger.setLevel(logging.CRITICAL)
    return logger
