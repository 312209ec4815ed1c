"""Bytes of memory that meta needs for each host, in one process without a server. Prints one JSON object.

    .venv/bin/python -m bench.memory [--hosts N]              # a million: 80 s of a core that has nothing else to do
    PYTHONPATH=OTHER_TREE .venv/bin/python bench/memory.py    # the same of another tree's meta, to compare

Hosts of three agents beat as they come from the wire, each from an address of its own. Then, in turns: one in a hundred says
that its version was rolled back and why, which makes other groups; all say that another version is in its watch; then that it
has come through. `seconds` are of the processor. What is needed once, however many hosts there are, is not counted: a table of
few hosts goes through the same before. How far it has come is told on stderr.
"""

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from meta.hosts.table import HostTable
from meta.records.model import Record, RecordSet, Release
from meta.sync.rows import take
from updater.wire.heartbeat import decode_report

AGENTS = ("falcon-agent", "deploy-agent", "naming-agent")
FAILING = 100  # one in so many
BEATS = 20_000.0  # a second, by the clock of the table
FEW = 25_000  # hosts of the table that goes before: more than one write takes
TOLD_EVERY = 10.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=1_000_000)
    hosts = parser.parse_args().hosts
    measure(min(FEW, hosts), "before it, ")
    print(json.dumps(measure(hosts), indent=2))


def measure(hosts: int, what_for: str = "") -> dict[str, object]:
    records = RecordSet(1, tuple(Record(name, Release("1.0.1"), "http://meta/tarball") for name in AGENTS))
    table, clock = HostTable(records, max_hosts=hosts), 1_700_000_000.0
    found: dict[str, object] = {"hosts": hosts}
    before = resident()
    rounds: tuple[tuple[str, str, bool, Iterable[int]], ...] = (
        ("known", "1.0.0", False, range(hosts)),
        ("one_in_100_failed", "1.0.0", False, range(0, hosts, FAILING)),
        ("all_on_trial", "1.0.1", True, range(hosts)),
        ("all_good", "1.0.1", False, range(hosts)),
    )
    tell = Progress()
    for what, version, trial, numbers in rounds:
        started, is_failure = time.process_time(), what == "one_in_100_failed"
        for number in numbers:
            clock += 1 / BEATS
            table.beat(decode_report(body(number, version, trial, is_failure, int(clock))), address(number), clock)
            if not number % int(BEATS):
                write(table, clock)
                tell(f"{what_for}{what}: {number:,} of {hosts:,}")
        write(table, clock)
        found[what] = {
            "bytes_per_host": round((resident() - before) / hosts, 1),
            "groups": len({host.group for name in table.names() if (host := table.get(name))}),
            "seconds": round(time.process_time() - started, 1),
        }
    return found


class Progress:
    """Lines on stderr, some seconds apart."""

    def __init__(self) -> None:
        self._next = time.monotonic() + TOLD_EVERY

    def __call__(self, text: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + TOLD_EVERY
            print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def write(table: HostTable, clock: float) -> None:
    """As a database would, which keeps nothing."""
    while take(table, clock).hosts:
        pass


def body(number: int, version: str, trial: bool, is_failure: bool, stamp: int) -> bytes:
    """A heartbeat as our updater sends it. What is new in it the meta of an older tree leaves out."""
    told = "true" if trial else "false"
    rest = f'"status":"started","timestamp":{stamp},"trial"'
    agents = (
        f'{{"name":"{AGENTS[0]}","version":"{version}",{rest}:{told}}},'
        f'{{"name":"{AGENTS[1]}","version":"1.0.0",{rest}:false}},'
        f'{{"name":"{AGENTS[2]}","version":"1.0.0",{rest}:false}}'
    )
    outcomes = f',"outcomes":[{failure(number, stamp)}]' if is_failure else ""
    ids = f'"machine":"{number * 40503 % (1 << 64):016x}","boot":"{number * 2654435761 % (1 << 64):016x}"'
    host = f'"hostname":"host-{number:07d}.example.com","realAgents":[{agents}],"updaterVersion":"1.0.0",{ids}'
    return f"{{{host}{outcomes}}}".encode()


def failure(number: int, stamp: int) -> str:
    outcome = {"agent": AGENTS[0], "from": "1.0.0", "to": "1.0.1", "step": "watch", "result": "rolled back"}
    return json.dumps(outcome | {"reason": f"died {number % 50} s after its start", "at": stamp, "attempt": 0})


def address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
