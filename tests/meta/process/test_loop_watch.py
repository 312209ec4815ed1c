"""The loop is watched: where it stands still is logged, and systemd hears of it as long as it goes on."""

import asyncio
import socket
import time
from contextlib import closing

import pytest

from helpers.opened_door import LOOPS
from meta.process.counts import Counts
from meta.process.loop_watch import Watch, new_loop
from meta.process.systemd import Notifier


@pytest.fixture(params=LOOPS.values(), ids=LOOPS.keys())
def loop(request):
    loop = request.param()
    yield loop
    loop.close()


def watched(loop, work, notifier=None):
    """The counts after the loop has done this work."""
    counts = Counts()

    async def run():
        watch = Watch(loop, counts, notifier or Notifier(), 0.3)
        watch.start()
        await work()
        watch.stop()

    loop.run_until_complete(run())
    return counts


def stand_still_here():
    time.sleep(1.5)


def test_where_the_loop_stands_still_is_logged_and_counted(loop, caplog):
    async def work():
        await asyncio.sleep(0.5)
        stand_still_here()
        await asyncio.sleep(0.5)

    stalls = watched(loop, work).stalls
    told = [record.getMessage() for record in caplog.records]
    begun = [line for line in told if line.startswith("the loop stands still: ")]
    assert any("stand_still_here (test_loop_watch.py:" in line for line in begun)
    assert stalls == len(begun)  # a busy machine may make a loop stand still, too
    lasted = [float(line.split()[-2]) for line in told if line.startswith("the loop stood still for ")]
    assert max(lasted) >= 1.0


def test_a_loop_that_goes_on_is_no_stall(loop, caplog):
    async def work():
        for _ in range(100):
            await asyncio.sleep(0.01)

    assert watched(loop, work).stalls == 0
    assert caplog.records == []


def test_systemd_hears_of_a_loop_that_goes_on_and_not_of_one_that_stands_still(loop, tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)

        def heard():
            found = []
            try:
                while True:
                    found.append(systemd.recv(100))
            except BlockingIOError:
                return found

        async def work():
            await asyncio.sleep(1)
            assert set(heard()) == {b"WATCHDOG=1"}
            stand_still_here()
            assert heard() == []

        with closing(Notifier()) as notifier:
            watched(loop, work, notifier)


def test_without_systemd_nothing_is_told(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with closing(Notifier()) as notifier:
        notifier.say("READY=1")


def test_a_systemd_that_is_gone_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with closing(Notifier()) as notifier:
        notifier.say("READY=1")


def test_asyncio_takes_the_place_of_uvloop_where_that_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "uvloop", None)
    loop = new_loop()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    loop.close()
