"""Who listens on a port: told from /proc, for our own process and what it started, and for others."""

import os
import socket
import subprocess
import sys

import pytest

from updater.service.listeners import others_listen


@pytest.fixture
def listening():
    """A socket that another process has open alone: (its port, the process, the parent of that)."""
    program = (
        "import socket, subprocess, sys\n"
        "sock = socket.create_server(('127.0.0.1', 0))\n"
        "sock.set_inheritable(True)\n"
        "below = subprocess.Popen(['sleep', '1000'], close_fds=False)\n"
        "print(sock.getsockname()[1], below.pid, flush=True)\n"
        "sock.close()\n"
        "sys.stdin.read()\n"
        "below.kill()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    port, below = map(int, process.stdout.readline().split())
    yield port, process.pid, below
    process.communicate("")


@pytest.mark.parametrize("host", ["127.0.0.1", "", "0.0.0.0", "localhost"])
def test_what_a_process_has_started_is_not_somebody_else(listening, host):
    port, parent, below = listening
    assert [others_listen(host, port, pid) for pid in (parent, below, os.getpid(), 0)] == [False, False, False, True]
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        assert others_listen(host, port, stranger.pid)
        stranger.kill()


def test_another_address_or_port_is_not_this_one(listening):
    port, *_ = listening
    assert not others_listen("127.0.0.2", port, 0)
    with socket.create_server(("127.0.0.1", 0)) as mine:
        free = mine.getsockname()[1]
    assert not others_listen("127.0.0.1", free, 0)


def test_a_listener_on_every_interface_of_both_kinds_is_met_by_any_address():
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as everywhere:
        port = everywhere.getsockname()[1]
        for host in ("127.0.0.1", "::1", "", "127.0.0.2"):
            assert others_listen(host, port, 0)
            assert not others_listen(host, port, os.getpid())
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as one:
        port = one.getsockname()[1]
        assert (others_listen("::1", port, 0), others_listen("127.0.0.1", port, 0)) == (True, False)
