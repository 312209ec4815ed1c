"""Runs meta: one process that has all state, and one event loop that takes all connections.

Mistakes in settings are found before anything is changed, and the address is reserved first. What starts meta again after a
crash is systemd, or the supervisor of `--keep-up`; it then goes on from the database.

SIGTERM and SIGINT stop meta: within about ten seconds, and without losing an acknowledged heartbeat. SIGHUP reloads the
records, and waits until they have been loaded.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

from meta.access.tokens import Token, Tokens
from meta.door.door import Door, Limits
from meta.door.limits import MAX_DOWNLOADS, STALLED
from meta.door.parking import Rules
from meta.edits import managed_file, reach
from meta.errors import MetaError, Misconfigured
from meta.heartbeat.paths import HotPaths
from meta.process import listening, open_files
from meta.process.clock import SYSTEM
from meta.process.loop_watch import Watch, new_loop
from meta.process.systemd import Notifier
from meta.records.files.load import load
from meta.records.model import RecordSet
from meta.service import Service
from meta.settings import Settings
from meta.store import Store, Tables, Undecided
from meta.web.app import create_app
from updater.net import addresses
from updater.net.peer_values import is_loopback
from updater.service import readiness
from updater.service.readiness import Announcer
from updater.wire.heartbeat import VERSION
from updater.wire.text import counted

OTHER_FILES = 2 * MAX_DOWNLOADS + 1024  # open files that are no connections: those sent, the database, the log
STOP_WITHIN = 8.0  # seconds for requests that are under way
FLUSH_WITHIN = 5.0  # seconds for the last write to the database
SETTLE = 1.0  # seconds for which a host may know newer orders than this meta, from another one
SWITCH = 0.0005  # seconds that a thread of the framework may compute before the loop can have its turn; Python's own are 0.005
STOPS = {signal.SIGTERM, signal.SIGINT}
log = logging.getLogger(__name__)


def serve(settings: Settings, announcer: Announcer) -> None:
    """Serve until a signal says stop. Raises a MetaError if meta cannot start."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    wanted, settings = settings, _fitting(settings)
    with (
        contextlib.closing(listening.reserve(settings.host, settings.port)) as reserved,
        contextlib.closing(Store(settings.database)) as store,
    ):
        store.upgrade()  # only after the address is reserved, so that the database of a running meta is not changed
        _refuse_to_be_open(settings, store, store.tokens())
        if settings.notify_wait and settings.max_parked < wanted.max_parked:
            most = counted(settings.max_parked, "host")
            log.info("at most %s can be parked at once, as more files may not be open", most)
        announcer.starts()
        began = readiness.now()
        address, port = reserved.getsockname()[:2]
        service = Service(store, settings._replace(host=address, port=port))
        service.start()
        try:
            with contextlib.closing(new_loop()) as loop:
                loop.run_until_complete(_run(loop, service, reserved, announcer, began))
        finally:
            if not service.close(FLUSH_WITHIN):
                log.error(
                    "the last changes of some hosts could not be written; their next heartbeats report them again"
                )
    log.info("meta stopped")


def _fitting(settings: Settings) -> Settings:
    """These settings with as many connections, and then parked hosts, as this process may have open files."""
    wanted = settings.max_parked if settings.notify_wait else 0
    files = open_files.allow(settings.max_connections + OTHER_FILES, wanted)
    files -= min(OTHER_FILES, files // 2)
    connections = min(settings.max_connections, files)
    return settings._replace(max_connections=connections, max_parked=min(wanted, files - connections))


async def _run(
    loop: asyncio.AbstractEventLoop, service: Service, reserved: socket.socket, announcer: Announcer, began: int
) -> None:
    """Serve until a signal comes. From then on this process takes no signal, so that the last write is not cut off."""
    settings, stopped = service.settings, asyncio.Event()
    hot = HotPaths(service)
    limits = Limits(
        settings.max_connections, settings.max_connections_of_one, settings.download_rate, settings.trusted_proxies
    )
    settle = SETTLE if service.store.may_be_shared else 0.0
    parks = Rules(settings.max_parked, settings.wake_rate, settle, service.clock.now, hot.has_news)
    door = Door(loop, hot.paths, create_app(service).wsgi_app, limits, parks, service.counts, service.beats.refused)
    service.tell = partial(door.soon, door.parking.changed)
    with (
        contextlib.closing(Notifier()) as notifier,
        ThreadPoolExecutor(1, "reload") as reloading,  # one at a time, since each writes the same announcement
    ):
        watch = Watch(loop, service.counts, notifier, STALLED)
        again = partial(announcer.reload, partial(_reload, service), MetaError)
        for number in STOPS:
            loop.add_signal_handler(number, stopped.set)
        loop.add_signal_handler(signal.SIGHUP, partial(reloading.submit, again))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        # What is here now stays. Heartbeats leave no cycles, and a collection of a million hosts takes long.
        gc.freeze()
        sys.setswitchinterval(SWITCH)
        gc.set_threshold(50_000, 20, 50)
        await door.listen(reserved)
        watch.start()
        log.info("%s", _story(settings, service, settings.host, settings.port))
        announcer.ready(began, counted(len(service.records.records), "agent"))
        notifier.say("READY=1")
        await stopped.wait()
        notifier.say("STOPPING=1")
        if left := await door.close(STOP_WITHIN):
            log.warning("%s cut off after %g s", counted(left, "answer"), STOP_WITHIN)
        watch.stop()
        signal.pthread_sigmask(signal.SIG_BLOCK, {*STOPS, signal.SIGHUP})


def check(settings: Settings, running: int | None = None) -> None:
    """Check that `serve` could start with these settings and put its records file in force. Changes nothing.

    running: see meta.process.listening.check. Raises a MetaError if it could not.
    """
    listening.check(settings.host, settings.port, running)
    with contextlib.closing(Store(settings.database)) as store:
        if (tables := store.check()) is Tables.OLDER and (found := store.findings()).answers:
            raise Undecided(found, store.shown)
        if tables is not Tables.OLDER:
            _refuse_to_be_open(settings, store, store.tokens() if tables is Tables.CURRENT else [])
        if settings.records:
            _check_records(settings.records, settings.url, store, tables)


def _check_records(file: Path, url: str, store: Store, tables: Tables) -> None:
    """Raise the MetaError with which a start would refuse the file.

    If the tables are of an older meta, only the file itself is checked, and not against the records in force.
    """
    if tables is Tables.OLDER:
        load(file)
        return
    is_new = tables is Tables.NONE
    names = cache(lambda: [] if is_new else [row.hostname for row in store.load_hosts() if row.retired_at <= 0])
    before = RecordSet() if is_new else store.load_records()
    managed_file.check(file, before, url, lambda records: reach.classes_of(names(), records))


def _refuse_to_be_open(settings: Settings, store: Store, tokens: list[Token]) -> None:
    """Refuse to listen beyond loopback before there is an admin, who decides who may do what. Raises Misconfigured."""
    if is_loopback(settings.host) or Tokens(tokens).has_admin(SYSTEM.now()):
        return
    raise Misconfigured(
        f"meta does not listen on {settings.host or 'every interface'} before there is an admin: create a token with "
        f"`meta token new NAME --role admin --database {store.shown}`"
    )


def _reload(service: Service) -> str:
    return "\n".join(service.reload().told())


def _story(settings: Settings, service: Service, address: str, port: int) -> str:
    where = f"file {settings.records}" if settings.records else f"revision {service.records.revision}"
    if service.source and (why := service.source.waiting()):
        where = f"revision {service.records.revision}, for {why}"
    agents = counted(len(service.records.records), "agent")
    return (
        f"meta {VERSION} listens on http://{addresses.shown(address, port)}, records: {where} ({agents}), "
        f"database {service.store.shown}, tarballs {settings.tarballs or 'none'}"
    )
