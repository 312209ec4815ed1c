"""A host and the site it talks to, in the test's own process: real files, real control scripts, a real loopback server."""

import pytest

from helpers import machine
from helpers.site import Site
from lab.fleet import end_all_of
from updater.host.config import Config, Timeouts
from updater.host.context import Host
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
