"""Runs the bridge: Thrift in an event loop, RabbitMQ and ZooKeeper in threads, and a small HTTP server.

Agents get their answers even while RabbitMQ or ZooKeeper is away. SIGHUP reloads the records file. SIGTERM and SIGINT stop the
bridge: calls that have arrived are answered, agents are written to ZooKeeper, and the instance leaves ZooKeeper.
"""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from meta.bridges.elves.app_table_store import KeptTable
from meta.bridges.elves.counters import Numbers
from meta.bridges.elves.heartbeat import Heartbeat
from meta.bridges.elves.http import Watching
from meta.bridges.elves.online_agents import OnlineAgents
from meta.bridges.elves.rabbitmq.consumer import Broker
from meta.bridges.elves.rabbitmq.services import Services
from meta.bridges.elves.rabbitmq.supervisor_poll import Asking
from meta.bridges.elves.settings import SUPERVISOR, Settings
from meta.bridges.elves.thrift.server import ThriftServer
from meta.bridges.elves.zookeeper.shared_agents import Sharing
from meta.bridges.fleet import Fleet
from meta.errors import MetaError
from meta.process import listening, open_files
from meta.process.clock import SYSTEM, Now
from meta.store import Store
from updater.service import readiness
from updater.service.readiness import Announcer
from updater.wire.heartbeat import VERSION

TABLE_FILE = "elves-apps.json"
FORGET_EVERY = 600.0  # seconds between two deletions of old agents
SWITCH_EVERY = 0.0005  # seconds for which another thread may delay the event loop
OPEN_FILES = 16_384  # each heartbeat needs a connection for a moment
log = logging.getLogger(__name__)


class Parts(NamedTuple):
    """The parts of a running bridge."""

    online: OnlineAgents
    kept: KeptTable
    numbers: Numbers
    broker: Broker
    sharing: Sharing | None  # None: ZooKeeper is off
    thrift: ThriftServer


def build(settings: Settings, fleet: Fleet | None, var: Path, now: Now = SYSTEM.now) -> Parts:
    """Make the parts, without starting them. fleet: None if hosts are not stored; var: the directory for the app table."""
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # it logs each step, and contents of messages
    for warning in settings.warnings:
        log.warning("%s", warning)
    online, kept, numbers = OnlineAgents(), KeptTable(var / TABLE_FILE), Numbers()
    sharing = None
    if settings.zookeeper_hosts:
        sharing = Sharing(settings.zookeeper_hosts, settings.root, settings.out_time, online, numbers, now=now)
    asking = Asking(kept, settings.sync_every) if settings.mode == SUPERVISOR else None
    broker = Broker(settings, Services(online, kept, settings.agent_info_list), kept, asking, numbers, now=now)
    heard = sharing.note if sharing else (lambda _agent: None)
    heartbeat = Heartbeat(settings, online, kept, fleet, numbers, heard)
    thrift = ThriftServer(heartbeat.beat, numbers, now=now)
    numbers.watch("agents_online", lambda: online.count(now()))
    numbers.watch("connections", lambda: len(thrift.connections))
    numbers.watch("rabbitmq_up", lambda: broker.is_connected)
    if sharing:
        numbers.watch("zookeeper_up", lambda: sharing.is_connected)
    return Parts(online, kept, numbers, broker, sharing, thrift)


def run(
    settings: Settings,
    fleet: Fleet | None,
    var: Path,
    http: tuple[str, int] | None,
    announcer: Announcer,
    reload: Callable[[], str] = lambda: "no records",
    now: Now = SYSTEM.now,
) -> None:
    """Serve until a signal says stop. Raises Misconfigured, TryLater.

    http: host and port for /health, /ready and /metrics, None for none; reload: called at SIGHUP, returns what to announce.
    now: by the clock of the fleet.
    """
    began = readiness.now()
    open_files.allow(OPEN_FILES)
    sys.setswitchinterval(SWITCH_EVERY)
    parts = build(settings, fleet, var, now)
    gc.freeze()  # objects that exist now stay; collections that walk them would delay agents

    async def until_a_signal() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        again = partial(announcer.reload, reload, MetaError)
        begin = partial(asyncio.get_running_loop().run_in_executor, reloading, again)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, begin)
        begun = partial(announcer.ready, began)
        await _serve(parts, settings, http, stopped, begun, lambda: parts.online.forget_old(now()))

    with ThreadPoolExecutor(1, "reload") as reloading:  # one at a time, since each writes the same announcement
        asyncio.run(until_a_signal())
    log.info("meta elves stopped")


def check(settings: Settings, http: tuple[str, int] | None, store: Store | None, running: int | None = None) -> None:
    """Check that `run` could start with these. Raises Misconfigured or TryLater if it could not.

    store: for the hosts, None if they are not stored; it is closed here. running: see meta.process.listening.check.
    """
    listening.check(settings.thrift_ip, settings.thrift_port, running)
    if http:
        listening.check(*http, running)
    if store:
        with closing(store):
            store.check()


async def _serve(
    parts: Parts,
    settings: Settings,
    http: tuple[str, int] | None,
    stopped: asyncio.Event,
    begun: Callable[[], None],
    chore: Callable[[], None],
) -> None:
    ip, port = await parts.thrift.start(settings.thrift_ip, settings.thrift_port)
    watching = Watching(*http, pages(parts)) if http else None
    parts.broker.start()
    if parts.sharing:
        parts.sharing.start()
    where = f", http://{http[0]}:{watching.port}" if watching and http else ""
    begun()
    log.info("meta %s listens for elves-agents on %s:%d, mode %s%s", VERSION, ip, port, settings.mode, where)
    try:
        await _until(stopped, chore)
    finally:
        await parts.thrift.stop()
        parts.broker.stop()
        if parts.sharing:
            parts.sharing.stop()
        if watching:
            watching.stop()


async def _until(stopped: asyncio.Event, chore: Callable[[], None]) -> None:
    while not stopped.is_set():
        try:
            await asyncio.wait_for(stopped.wait(), FORGET_EVERY)
        except TimeoutError:
            chore()


def pages(parts: Parts) -> dict[str, Callable[[], tuple[int, str]]]:
    """Return the pages /health, /ready and /metrics, by path."""

    def troubles() -> list[str]:
        found = [] if parts.broker.is_connected else [f"RabbitMQ is away: {parts.broker.trouble}"]
        if parts.sharing and (trouble := parts.sharing.trouble):
            found.append(f"ZooKeeper {trouble}")
        return found if parts.kept.is_saved else [*found, "the app table cannot be written to its file"]

    def ready() -> tuple[int, str]:
        found = troubles()
        return (503, "".join(f"{trouble}\n" for trouble in found)) if found else (200, "ok\n")

    return {"/health": lambda: (200, "ok\n"), "/ready": ready, "/metrics": lambda: (200, parts.numbers.render())}
