"""Cycles of a host in the test's own process, and what they leave."""

from msgspec.structs import replace

from updater.reconcile import cycle

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
