"""The lock of a root, held and asked for by real processes: who asks disturbs nobody, and wakes nobody else."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from helpers.agents import HEALTHY
from lab.fleet import Host as Machine
from lab.fleet import until
from updater.errors import Misconfigured
from updater.kernel import root_lock
from updater.model.layout import Layout

HOLDS = """
import sys, time
from pathlib import Path
from updater.kernel import root_lock
with root_lock.only_one(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock(tmp_path):
    return tmp_path / ".updater" / "lock"


@pytest.fixture
def other(lock):
    """Another process that holds the lock until its stdin is closed."""
    command = [sys.executable, "-c", HOLDS, lock]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout.readline() == b"held\n"
        yield one


def test_the_process_that_holds_the_lock_is_told_until_it_ends(lock, other):
    assert root_lock.holder(lock) == other.pid
    other.stdin.close()
    assert other.wait(10) == 0
    assert root_lock.holder(lock) == 0


def test_asking_creates_nothing_where_no_updater_ever_ran(lock):
    assert root_lock.holder(lock) == 0
    assert not lock.parent.exists()


def test_a_second_process_does_not_get_the_lock_and_is_told_who_has_it(lock, other):
    with pytest.raises(Misconfigured, match=f"pid {other.pid}"), root_lock.only_one(lock):
        pass


def test_a_process_gets_the_lock_although_another_one_asks_for_it_all_the_time(lock):
    lock.parent.mkdir()
    lock.touch()
    is_over = threading.Event()
    taken = []

    def ask():
        while not is_over.is_set():
            taken.append(root_lock.holder(lock))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        until("it was asked for", lambda: len(taken) > 100)
        for _ in range(200):
            with root_lock.only_one(lock):
                pass
    finally:
        is_over.set()
        asking.join()


def test_a_lock_that_a_moment_later_is_free_is_waited_for(lock):
    lock.parent.mkdir()
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.2, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with root_lock.only_one(lock):
            assert lock.read_text() == f"{os.getpid()}\n"


def test_a_number_that_an_earlier_updater_left_is_nobody_even_if_a_process_has_it_now(lock, other, spawn):
    bystander = spawn("sleep", "1000")
    lock.write_text(f"{bystander.pid}\n")
    assert root_lock.holder(lock) == 0


def test_a_process_that_is_woken_and_does_not_handle_that_goes_on(lock, other):
    os.kill(other.pid, signal.SIGUSR1)
    other.stdin.close()
    assert other.wait(10) == 0


@pytest.fixture
def machine(tmp_path, site):
    """A host that runs version 2 after 1, and no updater yet."""
    for version in "12":
        site.publish(version=version, control=HEALTHY)
    with Machine(tmp_path / "h1", site.address, interval=100, watch=0, probe=0.1) as machine:
        for version in "12":
            site.desire(("agent", version))
            assert machine.run("once").returncode == 0
        yield machine


def test_an_updater_that_is_woken_while_it_starts_runs_on_and_follows_the_request(machine):
    lock = machine.root / ".updater" / "lock"
    machine.start()
    until("it has the lock", lambda: root_lock.holder(lock) == machine.pid)
    os.kill(machine.pid, signal.SIGUSR1)
    done = machine.run("rollback", "agent")
    assert (done.returncode, machine.current("agent")) == (0, "1"), done.stderr


@pytest.mark.long
def test_a_request_that_waits_for_an_updater_that_ends_says_so_soon(machine):
    machine.start()
    until("its first cycle is over", lambda: "first cycle" in machine.log.read_text())
    os.kill(machine.pid, signal.SIGSTOP)
    request = Layout(machine.root).rollback_request("agent")

    def end_it_once_it_is_asked():
        until("there is a request", request.exists)
        os.kill(machine.pid, signal.SIGKILL)

    ending = threading.Thread(target=end_it_once_it_is_asked)
    ending.start()
    began = time.monotonic()
    done = machine.run("rollback", "agent")
    ending.join()
    assert (done.returncode, machine.current("agent")) == (3, "2")
    assert "no updater runs any more: the rollback of agent 2 is followed when one does" in done.stderr
    assert time.monotonic() - began < 60
