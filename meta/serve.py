"""Runs meta under granian: the main process checks and supervises, one worker holds all state and answers.

Promises: everything that can be wrong is found before the worker starts; a stop takes at most some ten seconds and loses no
acknowledged heartbeat; a worker that crashes is started again from the database; a worker never outlives the main process.
SIGTERM and SIGINT stop, SIGHUP reloads the records in place. granian would answer SIGHUP with a second worker beside the
first, which two memories of the same hosts do not allow, so that signal is ours.
"""

import errno
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
from contextlib import closing, suppress
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from meta import logs
from meta.app import create_app
from meta.auth import Tokens
from meta.config import Settings, is_loopback
from meta.errors import MetaError, Misconfigured, TryLater, missing_extra
from meta.service import Service
from meta.store import Store
from updater.wire import VERSION

THREADS = 512  # requests answered at once; more than slow bodies and downloads may hold, so that heartbeats find one
CONNECTIONS = 4096  # at once; further ones wait to be accepted
STOP_WITHIN = 8  # seconds for requests under way, then the worker is killed
FLUSH_WITHIN = 5.0  # seconds of these for the last write
HTTP1 = HTTP1Settings(header_read_timeout=10_000, max_buffer_size=64 * 1024)
VAR = Path("var")  # what the bridge to elves keeps
log = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Serve until a signal says stop. Raises Misconfigured or TryLater when it cannot start."""
    with closing(reserve(settings.host, settings.port)) as reserved, closing(Store(settings.database)) as store:
        store.upgrade()  # after the address is ours: another meta that serves here keeps its database as it is
        _refuse_to_be_open(settings, store)
        store.close()
        address, port = reserved.getsockname()[:2]
        server = make_server(settings, address, port)
        server.on_startup(_forward_hangups)
        os.register_at_fork(before=_hold_stops, after_in_parent=_take_stops, after_in_child=_stop_at_once)
        try:
            server.serve(target_loader=partial(load_app, settings, address, port), wrap_loader=False)
        except SystemExit:
            if not server.interrupt_signal:  # else the worker got the same signal and was only quicker than we
                raise TryLater("the worker does not stay up; its log lines above say why") from None
    log.info("meta stopped")


def _refuse_to_be_open(settings: Settings, store: Store) -> None:
    """Beyond loopback somebody must be able to say who may do what. Raises Misconfigured."""
    if is_loopback(settings.host) or Tokens(store.tokens()).has_admin(time.time()):
        return
    raise Misconfigured(
        f"meta does not listen on {settings.host or 'every interface'} before there is an admin: make a token with "
        f"`meta token new NAME --role admin --database {store.shown}`"
    )


def make_server(settings: Settings, address: str, port: int) -> Any:
    """granian with one worker, as meta runs it."""
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


def reserve(host: str, port: int) -> socket.socket:
    """A socket bound to this address, which keeps others from it and only lets our own worker listen there.

    granian listens with SO_REUSEPORT, under which a second meta would silently take half of the connections. So the port
    is first bound without it, which fails if anybody listens there. Raises Misconfigured or TryLater.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or "0.0.0.0",  # noqa: S104 (asked for by an address without a host)
            port,
            type=socket.SOCK_STREAM,
        )[0]
        reserved = socket.socket(family, kind, protocol)
    except OSError as e:
        raise Misconfigured(f"cannot listen on {host}:{port}: {e.strerror}") from e
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(address)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as e:
        reserved.close()
        if e.errno == errno.EADDRINUSE:
            text = f"{host}:{port} is in use: stop what listens there, or choose another address with --listen"
            raise TryLater(text) from e
        raise Misconfigured(f"cannot listen on {host}:{port}: {e.strerror}") from e
    return reserved


def _forward_hangups() -> None:
    def forward(_signal: int, _frame: Any) -> None:
        for child in multiprocessing.active_children():
            if child.pid:
                os.kill(child.pid, signal.SIGHUP)

    signal.signal(signal.SIGHUP, forward)


def _hold_stops() -> None:
    """A new worker inherits the main process's handlers, which would swallow a stop that comes before it has its own."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _take_stops() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _stop_at_once() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _take_stops()


def load_app(settings: Settings, address: str, port: int) -> Callable[..., Any]:
    """In the worker: all state, made here and flushed when the process ends. Returns the WSGI application."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C reaches both; the main process will tell us
    store = Store(settings.database)
    service = Service(store, settings)
    try:
        service.start(time.time())
    except MetaError as e:
        for line in str(e).splitlines():
            log.error("%s", line)
        sys.exit(e.exit_code)
    Finalize(None, _shut_down, args=(service, store), exitpriority=10)
    if settings.elves:
        _serve_elves(settings.elves, service)
    signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=_reload, args=(service,)).start())
    story = _story(settings, service, store, address, port)
    threading.Thread(target=_guard, args=(address, port, story), name="guard", daemon=True).start()
    gc.set_threshold(50_000, 20, 50)  # a beat leaves no cycles, and a million hosts take long to look through
    return create_app(service).wsgi_app


def _serve_elves(conf: Path, service: Service) -> None:
    """elves-agents, in a thread of this process. Ends it when they cannot be served."""
    try:
        from meta.bridges.elves import config, server
        from meta.bridges.elves.fleet import TableFleet
    except ImportError as e:
        log.error("elves: %s", missing_extra(e, "elves"))
        sys.exit(Misconfigured.exit_code)
    try:
        beside = server.Beside(config.read(conf), TableFleet(service.table), VAR)
        beside.start()
    except MetaError as e:
        log.error("elves: %s", e)
        sys.exit(e.exit_code)
    service.beside = server.pages(beside.parts)
    Finalize(None, beside.stop, exitpriority=20)  # before what it tells us is written for the last time


def _shut_down(service: Service, store: Store) -> None:
    if not service.close(FLUSH_WITHIN):
        log.error("the last changes of some hosts could not be written; their next heartbeat will tell them again")
    store.close()


def _reload(service: Service) -> None:
    with suppress(MetaError):  # logged, line by line
        service.reload()


def _story(settings: Settings, service: Service, store: Store, address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    agents = len(service.records.records)
    where = f"file {settings.records}" if settings.records else f"revision {service.records.revision}"
    return (
        f"meta {VERSION} listens on http://{host}:{port}, records: {where} ({agents} {'agent' if agents == 1 else 'agents'}), "
        f"database {store.shown}, tarballs {settings.tarballs or 'none'}"
    )


def _guard(address: str, port: int, story: str) -> None:
    """Say when we can be reached; then wait for the main process's death, and follow it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    while not _is_open(address, port):
        if wait([parent.sentinel], 0.02):
            break
    else:
        log.info("%s", story)
    wait([parent.sentinel])
    log.error("the main process is gone; stopping")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_WITHIN)
    os._exit(1)


def _is_open(address: str, port: int) -> bool:
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    try:
        socket.create_connection((anywhere.get(address, address), port), timeout=1).close()
    except OSError:
        return False
    return True
