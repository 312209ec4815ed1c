"""What an agent prints for ever into the log of its start: cut by a timer, whatever the cycles do, and written on."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
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


@pytest.fixture
def logs(tmp_path):
    """A directory of logs that are kept small while the test runs."""
    directory = tmp_path / "output"
    directory.mkdir()
    over = threading.Event()
    thread = threading.Thread(target=Trimmer(directory, lambda: CAP).run, args=(over,))
    thread.start()
    yield directory
    over.set()
    thread.join(10)
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


def test_looks_become_rare_while_nothing_grows_and_come_back_with_the_first_growth(tmp_path):
    log = tmp_path / "agent.log"
    log.write_bytes(b"")
    os.truncate(log, 0)
    pauses = Pauses(
        *[nothing] * 4, lambda: log.write_bytes(b"x" * 4096), lambda: log.write_bytes(b"x" * (4 << 20)), *[nothing] * 4
    )
    Trimmer(tmp_path, lambda: 16 << 20).run(pauses)
    room = max(1.0, shutil.disk_usage(tmp_path).free / 1e9 * 0.9)
    assert [min(one, room) for one in pauses] == [
        min(one, room) for one in (1.0, 2.0, 4.0, 8.0, 8.0, 1.0, 0.05, 1.0, 2.0, 4.0, 8.0)
    ]


def test_on_a_disk_with_little_room_looks_stay_frequent(tmp_path, mounts):
    asked = Path(updater.__file__).parents[1]
    code = f"""
import sys; sys.path.insert(0, {str(asked)!r})
from pathlib import Path
from updater.host.start_output import Trimmer
pauses = []
class Over:
    def wait(self, seconds):
        pauses.append(seconds)
        return len(pauses) == 5
Trimmer(Path({str(tmp_path)!r}), lambda: 1).run(Over())
print(max(pauses))
"""
    mount = f"mount -t tmpfs -o size=3m none {tmp_path} && exec {sys.executable} -c {shlex.quote(code)}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, text=True, check=True)
    assert done.stdout == "1.0\n"


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
