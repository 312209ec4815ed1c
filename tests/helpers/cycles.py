"""Cycles of a host in the test's own process, and what they leave."""

import contextlib
import shutil

from msgspec.structs import replace

from updater import durable_files
from updater.model.actions import Source
from updater.reconcile import cycle
from updater.reconcile.executor import Executor
from updater.wire.heartbeat import Desired

# For programs that root runs: what is seen by a user who may not look into root's processes.
AS_ANOTHER_USER = """
import os
def as_another_user(look):
    asking = os.fork()
    if asking == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        print(*look(), flush=True)
        os._exit(0)
    os.waitpid(asking, 0)
"""


def run(host, site, version, **fields):
    site.desire(site.entry(version=version, **fields))
    return cycle.run(host)


def here(host, version, name="agent"):
    return host.layout.agent(name).install(version)


def current(host):
    return host.layout.agent("agent").version_file.read_text().strip()


def with_timeouts(host, **seconds):
    host.reconfigure(replace(host.config, timeouts=replace(host.config.timeouts, **seconds)))


@contextlib.contextmanager
def unwritable(path):
    """The file cannot be replaced: what would have to be replaced first is a directory."""
    blocked = path.with_name(f".{path.name}.new")
    (blocked / "full").mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(blocked, ignore_errors=True)


def executor_of(host, version):
    """What performs single actions for an order of this version, which is in force."""
    order = Desired("agent", version)
    durable_files.make_directory(host.layout.last_reply.parent)
    host.orders.keep((order,), host.now(), host.uptime())
    return Executor(host, order, Source.ANSWER)
