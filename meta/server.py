"""Runs meta under granian: a main process that checks and supervises, and one worker that has all state and answers.

Mistakes in settings are found before the worker starts. A worker that crashes is started again from the database, and a worker
never outlives the main process.

SIGTERM and SIGINT stop meta: within about ten seconds, and without losing an acknowledged heartbeat. SIGHUP reloads the
records, and waits until the worker can handle it. granian itself would start a second worker at SIGHUP, and two workers would
each have their own memory of the hosts. So this module handles that signal.
"""

import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import cache, partial
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from meta import logs
from meta.access.tokens import Token, Tokens
from meta.edits import managed_file, reach
from meta.errors import MetaError, Misconfigured, TryLater
from meta.process import hanging_up, listening, open_files
from meta.process.clock import SYSTEM
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

THREADS = 512  # requests at once; more than slow bodies and downloads may occupy, so that heartbeats find one
CONNECTIONS = 4096  # at once; further ones wait to be accepted
OPEN_FILES = CONNECTIONS + 1024  # the others are for the database, tarballs and the log
STOP_WITHIN = 8  # seconds for running requests, then the worker is killed
FLUSH_WITHIN = 5.0  # seconds of these for the last write to the database
HTTP1 = HTTP1Settings(header_read_timeout=10_000, max_buffer_size=64 * 1024)
log = logging.getLogger(__name__)


def serve(settings: Settings, announcer: Announcer) -> None:
    """Serve until a signal says stop. Raises Misconfigured or TryLater if meta cannot start."""
    _hold({signal.SIGHUP})
    open_files.allow(OPEN_FILES)
    # The hooks below work at a fork, and granian shares its socket with workers only by fork.
    multiprocessing.set_start_method("fork", force=True)
    told: set[str] = set()
    with (
        contextlib.closing(listening.reserve(settings.host, settings.port)) as reserved,
        contextlib.closing(Store(settings.database, told=told)) as store,
    ):
        store.upgrade()  # only after the address is reserved, so that the database of a running meta is not changed
        _refuse_to_be_open(settings, store, store.tokens())
        store.close()
        address, port = reserved.getsockname()[:2]
        server = make_server(settings, address, port)
        server.on_startup(_forward_hangups)
        both = {signal.SIGTERM, signal.SIGHUP}
        os.register_at_fork(
            before=partial(_hold, both), after_in_parent=partial(_take, both), after_in_child=_stop_at_once
        )
        load = partial(load_app, settings, announcer, address, port, told)
        try:
            server.serve(target_loader=load, wrap_loader=False)
        except SystemExit:
            if not server.interrupt_signal:  # else the worker got the same signal, and ended first
                raise TryLater("the worker keeps ending; its log lines above say why") from None
    log.info("meta stopped")


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


def make_server(settings: Settings, address: str, port: int) -> Any:
    """Return a granian server with one worker."""
    return Granian(
        "meta",
        address=address,
        port=port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1,
        websockets=False,
        blocking_threads=THREADS,
        backpressure=CONNECTIONS,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_WITHIN,
        log_level=LogLevels.warning,
        log_dictconfig=logs.config(settings.log_level, settings.log_format),
    )


def _forward_hangups() -> None:
    def forward(_signal: int, _frame: Any) -> None:
        for child in multiprocessing.active_children():
            if child.pid:
                with contextlib.suppress(ProcessLookupError):  # it has just ended, and granian's thread has seen that
                    os.kill(child.pid, signal.SIGHUP)

    signal.signal(signal.SIGHUP, forward)
    _take({signal.SIGHUP})


def _hold(signals: set[signal.Signals]) -> None:
    """Block signals. A new worker inherits the main process's handlers, which must not take its signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)


def _take(signals: set[signal.Signals]) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def _stop_at_once() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _take({signal.SIGTERM})  # SIGHUP stays blocked until the records are loaded


def load_app(settings: Settings, announcer: Announcer, address: str, port: int, told: set[str]) -> Callable[..., Any]:
    """Load all state in the worker, and return the WSGI application. The state is written when the process ends.

    told: see Store.
    """
    announcer.starts()
    began = readiness.now()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C reaches both processes; the main one stops us
    store = Store(settings.database, told=told)
    service = Service(store, settings._replace(host=address, port=port))
    try:
        service.start()
    except MetaError as e:
        for line in str(e).splitlines():
            log.error("%s", line)
        sys.exit(e.exit_code)
    Finalize(None, _shut_down, args=(service, store), exitpriority=10)
    reload = partial(announcer.reload, partial(_reload, service), MetaError)
    signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=reload).start())
    _take({signal.SIGHUP})
    story = _story(settings, service, store, address, port)
    serving = partial(announcer.ready, began, counted(len(service.records.records), "agent"))
    threading.Thread(target=_guard, args=(address, port, story, serving), name="guard", daemon=True).start()
    gc.set_threshold(50_000, 20, 50)  # heartbeats leave no cycles, and a collection of a million hosts takes long
    hanging_up.when_it_stops(service.requests, port)
    return create_app(service).wsgi_app


def _shut_down(service: Service, store: Store) -> None:
    if not service.close(FLUSH_WITHIN):
        log.error("the last changes of some hosts could not be written; their next heartbeats report them again")
    store.close()


def _reload(service: Service) -> str:
    return "\n".join(service.reload().told())


def _story(settings: Settings, service: Service, store: Store, address: str, port: int) -> str:
    where = f"file {settings.records}" if settings.records else f"revision {service.records.revision}"
    if service.source and (why := service.source.waiting()):
        where = f"revision {service.records.revision}, for {why}"
    return (
        f"meta {VERSION} listens on http://{addresses.shown(address, port)}, records: {where} "
        f"({counted(len(service.records.records), 'agent')}), database {store.shown}, tarballs {settings.tarballs or 'none'}"
    )


def _guard(address: str, port: int, story: str, serving: Callable[[], None]) -> None:
    """Log when the worker can be reached. Then wait for the end of the main process, and end too."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    while not _is_open(address, port):
        if wait([parent.sentinel], 0.02):
            break
    else:
        log.info("%s", story)
        serving()
    wait([parent.sentinel])
    log.error("the main process is gone; stopping")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_WITHIN)
    os._exit(1)


def _is_open(address: str, port: int) -> bool:
    try:
        socket.create_connection((addresses.from_here(address), port), timeout=1).close()
    except OSError:
        return False
    return True
