"""What an agent prints for ever into the log of its start: cut by a timer, whatever the cycles do, and written on."""

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

import updater
from helpers.agents import install, script
from lab.fleet import Host, end_all_of, until
from updater.host import control_script
from updater.host.start_output import KEPT, Trimmer

CAP = 256 << 10

# 40 MB a second into what its start has left open; the file says how many rounds there were.
FLOODING = script(
    """cd "$(dirname "$0")"
case $1 in
start)
  (n=0
  while [ ! -e ../enough ]; do
    head -c 2000000 /dev/zero; n=$((n+1)); echo $n >../rounds.new; mv ../rounds.new ../rounds; sleep 0.05
  done
  sleep 1000) & echo $! >pid ;;
stop) kill "$(cat pid)"; rm pid ;;
status) if [ -f pid ]; then echo started; else echo stoped; fi ;;
esac"""
)


@contextlib.contextmanager
def trimmed(directory, cap):
    over = threading.Event()
    thread = threading.Thread(target=Trimmer(directory, lambda: cap).run, args=(over,))
    thread.start()
    yield
    over.set()
    thread.join(10)


@pytest.fixture
def logs(tmp_path):
    """A directory of logs that are kept small while the test runs."""
    directory = tmp_path / "output"
    directory.mkdir()
    with trimmed(directory, CAP):
        yield directory
    end_all_of(tmp_path)


def rounds(root):
    file = root / "agent" / "rounds"
    return int(file.read_text() or 0) if file.exists() else 0


@pytest.mark.long
def test_a_flood_never_fills_a_disk_and_the_agent_writes_on(tmp_path, logs):
    directory = install(tmp_path, "agent", "1", FLOODING)
    log = logs / "agent.log"
    control_script.run(directory, "start", 30, log)
    largest = 0

    def flooded():
        nonlocal largest
        largest = max(largest, log.stat().st_size)
        return rounds(tmp_path) >= 60

    until("it has written 120 MB", flooded, within=60)
    (tmp_path / "agent" / "enough").touch()
    assert largest < 100_000_000, "what comes within a second or so, and no more"
    until("it is cut", lambda: log.stat().st_size <= CAP)


# Launches its daemon and waits for it, as one that waits for a port does, while the daemon logs 20 MB into the start's output.
LOUD_START = script(
    """cd "$(dirname "$0")"
case $1 in
start)
  (n=0; while [ $n -lt 40 ]; do head -c 500000 /dev/zero; n=$((n+1)); echo $n >../rounds; sleep 0.05; done; echo up; >ready
  exec sleep 1000) & echo $! >pid
  while [ ! -e ready ]; do sleep 0.05; done ;;
stop) kill "$(cat pid)"; rm pid ;;
status) if [ -e ready ]; then echo started; else echo stoped; fi ;;
esac"""
)


def test_a_start_that_prints_much_is_left_to_succeed_and_fills_no_disk(tmp_path, logs):
    directory = install(tmp_path, "agent", "1", LOUD_START)
    log, largest = logs / "agent.log", 0
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(control_script.run, directory, "start", 60, log)

        def ended():
            nonlocal largest
            largest = max(largest, log.stat().st_size if log.exists() else 0)
            return start.done()

        until("the start has ended", ended, within=60)
    assert start.result().endswith("up")
    assert rounds(tmp_path) == 40
    assert control_script.status(directory, 5).text == "started"
    assert CAP < largest < 15_000_000, "it was cut while the start went on"


def test_the_last_of_it_is_kept_and_what_is_printed_then_comes_behind(tmp_path, logs):
    log = logs / "agent.log"
    with log.open("ab", buffering=0) as file:
        file.write(b"first\n" + b"x" * (CAP + 1) + b"\nthe last\n")
        until("it is cut", lambda: log.stat().st_size == KEPT)
        file.write(b"more\n")
    assert log.read_bytes().endswith(b"x\nthe last\nmore\n")
    assert b"first" not in log.read_bytes()
    assert control_script.tail(log, 100).endswith("the last\nmore")


def test_a_log_within_its_cap_is_left_alone(tmp_path, logs):
    (logs / "quiet.log").write_bytes(b"y" * CAP)
    (logs / "loud.log").write_bytes(b"x" * (CAP + 1))
    until("the other is cut", lambda: (logs / "loud.log").stat().st_size == KEPT)
    assert (logs / "quiet.log").stat().st_size == CAP


def test_a_writer_that_does_not_append_leaves_a_hole_and_is_not_cut_for_that(tmp_path, logs):
    log = logs / "agent.log"
    with log.open("wb", buffering=0) as file:
        file.write(b"x" * (8 << 20))
        until("it is cut", lambda: log.stat().st_size == KEPT)
        file.write(b"the end\n")
        (logs / "loud.log").write_bytes(b"x" * (CAP + 1))
        until("there was another look", lambda: (logs / "loud.log").stat().st_size == KEPT)
        assert log.stat().st_size > CAP
        assert log.stat().st_blocks * 512 <= CAP
        assert control_script.tail(log, 100) == "the end"


def test_what_is_planted_among_the_logs_is_not_cut(tmp_path, logs):
    outside = tmp_path / "outside"
    outside.write_bytes(b"x" * (CAP + 1))
    (logs / "agent.log").symlink_to(outside)
    (logs / "loud.log").write_bytes(b"x" * (CAP + 1))
    until("there was a look", lambda: (logs / "loud.log").stat().st_size == KEPT)
    assert outside.stat().st_size == CAP + 1


class Pauses(list):
    """Waits for nothing, does this instead, and is over after so many looks."""

    def __init__(self, *deeds):
        super().__init__()
        self._deeds = list(deeds)

    def wait(self, seconds):
        self.append(seconds)
        if not self._deeds:
            return True
        self._deeds.pop(0)()
        return False


def nothing():
    pass


def test_the_faster_a_log_grows_the_sooner_is_the_next_look(tmp_path):
    log = tmp_path / "agent.log"
    log.touch()

    def grow(size):
        with log.open("ab") as file:
            file.write(b"x" * size)

    pauses = Pauses(nothing, nothing, partial(grow, 8 << 20))
    Trimmer(tmp_path, lambda: 16 << 20).run(pauses)
    first, *others, quick = pauses
    assert first == 0.02, "a flood may be under way"
    assert quick < 0.1, "8 MiB came in a moment: what is left of the cap could be full in another one"
    longest = min(1.0, shutil.disk_usage(tmp_path).free / 2e9 * 0.9)
    assert min(others) >= longest, "where there is room, once a second is enough while nothing grows"


# 100 MB a second for 3 s into what its start has left open; it says how much it has written, and what it met.
FLOOD = script(f'cd "$(dirname "$0")"; [ "$1" != start ] || {sys.executable} -S flood.py &')
FLOODS = b"""
import os, time
begin, count, met = time.monotonic(), 0, ""
while (took := time.monotonic() - begin) < 3 and not met:
    try:
        while count < took * 100:
            count += os.write(1, b"x" * 1_000_000) / 1e6
    except OSError as e:
        met = e.strerror
    time.sleep(0.002)
with open("ended.new", "w") as file:
    print(round(count), met, file=file)
os.rename("ended.new", "ended")
"""


@pytest.fixture
def flooding(tmp_path):
    directory = install(tmp_path, "agent", "1", FLOOD)
    (directory / "flood.py").write_bytes(FLOODS)
    yield directory
    end_all_of(tmp_path)


@pytest.mark.long
def test_from_the_first_look_on_a_flood_is_kept_to_its_cap(tmp_path, flooding):
    (tmp_path / "output").mkdir()
    log, sizes = tmp_path / "output" / "agent.log", []

    def ended():
        sizes.append(log.stat().st_size)
        return (flooding / "ended").exists()

    with trimmed(log.parent, 1 << 20):
        control_script.run(flooding, "start", 30, log)
        until("the flood is over", ended, within=60)
    after = sorted(sizes[len(sizes) // 2 :])  # the first look is within a second
    assert len(after) > 20
    assert after[len(after) * 3 // 4] < 2 << 20, "on a busy machine a look may be late now and then"


# A flood on a disk of 64 MiB, in a mount namespace: prints what the flood says, and the least that was ever free.
SMALL_DISK = """
import os, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from updater.host import control_script
from updater.host.start_output import Trimmer
disk, install, least, over = Path(sys.argv[2]), Path(sys.argv[3]), 1 << 40, threading.Event()
threading.Thread(target=Trimmer(disk / "output", lambda: 16 << 20).run, args=(over,)).start()
control_script.run(install, "start", 30, disk / "output" / "agent.log")
while not (install / "ended").exists():
    least = min(least, os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize)
    time.sleep(0.005)
over.set()
print((install / "ended").read_text().strip(), least >> 20)
"""


@pytest.mark.long
def test_no_flood_fills_a_small_disk(tmp_path, mounts, flooding):
    disk = tmp_path / "disk"
    disk.mkdir()
    program = [sys.executable, "-c", SMALL_DISK, str(Path(updater.__file__).parents[1]), str(disk), str(flooding)]
    done = in_a_small_disk(disk, "64m", *program)
    written, *met, least = done.stdout.split()
    assert (int(written) > 128, met) == (True, []), "it never found the disk full"
    assert int(least) >= 8, "MiB"


def in_a_small_disk(disk, size, *program):
    """Run a program where this directory is a disk of this size."""
    mount = f"mount -t tmpfs -o size={size} none {disk} && exec {shlex.join(program)}"
    return subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, text=True, check=True, timeout=100)


def test_on_a_disk_with_little_room_looks_stay_frequent_and_logs_are_small(tmp_path, mounts):
    code = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from updater.host.start_output import Trimmer
disk, pauses = Path(sys.argv[2]), []
(disk / "agent.log").write_bytes(b"x" * (2 << 20))
class Over:
    def wait(self, seconds):
        pauses.append(seconds)
        return len(pauses) == 5
Trimmer(disk, lambda: 16 << 20).run(Over())
print(max(pauses), (disk / "agent.log").stat().st_size)
"""
    program = [sys.executable, "-c", code, str(Path(updater.__file__).parents[1]), str(tmp_path)]
    assert in_a_small_disk(tmp_path, "3m", *program).stdout == "0.02 65536\n"


def test_the_daemon_cuts_between_two_cycles(tmp_path, site):
    with Host(
        tmp_path / "h1", site.address, interval=60, watch=0, timeouts={"start": 5, "stop": 5, "status": 5}
    ) as host:
        host.config.write_text(json.dumps(json.loads(host.config.read_text()) | {"maxOutput": CAP}))
        site.publish(control=FLOODING)
        site.desire(("agent", "1"))
        assert host.run("once").returncode == 0
        (host.root / "agent" / "enough").touch()
        log = host.root / ".updater" / "output" / "agent.log"
        host.start()
        until("it has had its first cycle", lambda: site.reports)
        before = len(site.reports)
        with log.open("ab") as file:
            file.write(b"x" * (CAP + 1))
        until("it is cut", lambda: log.stat().st_size <= KEPT)
        assert len(site.reports) <= before + 1, "and no cycle was waited for"
        subprocess.run(["./control", "stop"], cwd=host.root / "agent" / "1", check=True)
