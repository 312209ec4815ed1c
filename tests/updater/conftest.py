"""A host and the site it talks to, in the test's own process: real files, real control scripts, a real loopback server."""

import contextlib
import os
import signal
import subprocess

import pytest

from helpers import machine
from helpers.site import Site
from lab.fleet import end_all_of, until
from updater.host.config import Config, Timeouts
from updater.host.context import Host
from updater.kernel import processes
from updater.kernel.processes import Table
from updater.model.layout import Layout
from updater.net.http import Http


@pytest.fixture
def site(tmp_path):
    with Site(tmp_path / "site") as running:
        yield running


@pytest.fixture
def host(tmp_path, site):
    root = tmp_path / "root"
    root.mkdir()
    timeouts = Timeouts(status=1, start=1, stop=1, heartbeat=2, download=5)
    yield Host(Layout(root), Config(site.address, interval=60, hostname="h1", timeouts=timeouts), Http())
    end_all_of(root)


@pytest.fixture
def spawn():
    """Runs commands that end with the test, each in a session of its own."""
    started = []

    def spawning(*command, **more):
        one = subprocess.Popen(command, **({"start_new_session": True, "cwd": "/"} | more))
        started.append(one)
        return one

    yield spawning
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)
        one.kill()
        one.wait()
    numbers = {one.pid for one in started}
    until("their groups are gone", lambda: not any(one.session in numbers for one in Table().by_pid.values()))


@pytest.fixture
def elsewhere(tmp_path):
    """A directory for what agents run elsewhere, as a service manager does; the processes that its files *.pid name, one a
    line, end with the test."""
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    yield directory
    for file in directory.glob("*.pid"):
        processes.end(processes.identity(int(line)) for line in file.read_text().split())


@pytest.fixture
def strace():
    machine.require(machine.no_strace())


@pytest.fixture
def mounts():
    machine.require(machine.no_mounts())


@pytest.fixture
def names():
    machine.require(machine.no_names())


@pytest.fixture
def terminal():
    machine.require(machine.no_terminal())
