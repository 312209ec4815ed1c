"""A million hosts of three agents on one meta, with the load maker on the same two cores. Prints one JSON object.

    .venv/bin/python -m bench.fleet [--hosts N] [--seconds S] [--interval S]

The hosts are in the database (SQLite on the disk) when meta starts. They beat at their interval, one beat in a hundred with
another version, for the given time in each of two halves; between them meta is restarted, and the hosts wait for it. Meanwhile
counts by version and pages of filtered hosts are asked for over the REST API, and /metrics is read. CPU is meta's, as a part
of one core; memory its largest resident set.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import requests

from lab.fleet import Meta, get
from lab.load import AGENTS, Load, Plan, Result, agents_of
from meta.store import HostRow, Store

AT_ONCE = 20_000  # rows that are written at once
QUERIES = {
    "counts": "counts?agent=falcon-agent",
    "page_by_version": "hosts?agent=falcon-agent&version=1.0.1&limit=100",
    "page_by_name": "hosts?name=host-0*7.example.com&status=started&limit=100",
    "page_of_drift": "hosts?drift=true&limit=100",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=75, help="of each half")
    parser.add_argument("--interval", type=int, default=300, help="of each host")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ops-updater-bench-") as directory, Meta(Path(directory) / "meta") as meta:
        print(json.dumps(measure(meta, given.hosts, given.seconds, given.interval), indent=2))


def measure(meta: Meta, hosts: int, seconds: int, interval: int) -> dict[str, Any]:
    fill(meta, hosts)
    began = time.monotonic()
    meta.start("--anonymous-hosts")
    first_start = time.monotonic() - began
    meta.edit(json.dumps({"agents": [agent | {"tarball": f"{meta.url}/tarball"} for agent in agents_of("1.0.0")]}))
    rate = hosts / interval
    with Load(meta.address, Plan(hosts, rate=rate)) as load, Asker(meta) as asker:
        used, since = cpu_seconds(meta), time.monotonic()
        load.run(int(rate * seconds))
        used, took = cpu_seconds(meta) - used, time.monotonic() - since
        steady = load.result.percentile(99)
        restarted = restart(meta, load, int(rate * seconds))
        resident = memory(meta)
    return {
        "hosts": hosts,
        "beats_per_s": round(rate),
        **shown(load.result),
        "p99_before_restart_ms": round(steady * 1000, 2),
        "flush_lag_s": round(max(asker.lags), 2),
        "meta_cpu_of_one_core": round(used / took, 3),
        "meta_resident_mb": round(resident / 1e6),
        "first_start_s": round(first_start, 1),
        "ready_after_restart_s": round(restarted, 1),
        "queries_ms": {name: asker.shown(name) for name in QUERIES},
    }


def fill(meta: Meta, hosts: int) -> None:
    """The hosts as they were an interval ago."""
    now = time.time()
    all_reported = msgspec.json.encode([(name, "1.0.0", "started", None) for name in AGENTS]).decode()
    with closing(Store(meta.database)) as store:
        store.upgrade()
        for start in range(0, hosts, AT_ONCE):
            store.save("bench", now, list(rows(range(start, min(hosts, start + AT_ONCE)), now - 200, all_reported)), [])


def rows(numbers: range, seen: float, all_reported: str) -> Iterator[HostRow]:
    for number in numbers:
        name = f"host-{number:07d}.example.com"
        stamps = f"[{seen - 86400},{int(seen)}]"
        yield HostRow(0, name, seen - 86400, seen, "127.0.0.1", "1.0.0", all_reported, stamps, "", 0.0)


def restart(meta: Meta, load: Load, beats: int) -> float:
    """Stop and start meta while the hosts beat on; returns the seconds from its start until it is ready."""
    took = []

    def again() -> None:
        meta.stop()
        began = time.monotonic()
        meta.start("--anonymous-hosts")
        took.append(time.monotonic() - began)

    restarting = threading.Thread(target=again)
    restarting.start()
    load.run(beats)
    restarting.join()
    return took[0]


def shown(result: Result) -> dict[str, Any]:
    return {
        "beats": result.beats,
        "failed": result.failed,
        "reconnects": result.reconnects,
        "p50_ms": round(result.percentile(50) * 1000, 2),
        "p99_ms": round(result.percentile(99) * 1000, 2),
    }


def _resident(pid: int, key: str) -> int:
    line = next((line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(key)), "")
    return int(line.split()[1]) * 1024 if line else 0


def memory(meta: Meta) -> int:
    return _resident(meta.pid, "VmHWM")


def cpu_seconds(meta: Meta) -> float:
    fields = Path(f"/proc/{meta.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Asker:
    """Asks meta in turn, once a second, how its fleet is."""

    def __init__(self, meta: Meta):
        self._meta = meta
        self._took: dict[str, list[float]] = {name: [] for name in QUERIES}
        self.lags = [0.0]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self._meta.token.read_text().strip()}"}
        with requests.Session() as session:
            session.trust_env = False
            session.headers.update(headers)
            while not self._stop.wait(1):
                for name, query in QUERIES.items():
                    self._ask(session, name, query)
                self._read_metrics()

    def _ask(self, session: requests.Session, name: str, query: str) -> None:
        began = time.monotonic()
        try:
            answer = session.get(f"{self._meta.url}/api/v1/{query}", timeout=30)
        except requests.RequestException:
            return  # it is being restarted
        answer.raise_for_status()
        self._took[name].append(time.monotonic() - began)

    def _read_metrics(self) -> None:
        try:
            text = get(f"{self._meta.url}/metrics").text
        except requests.RequestException:
            return
        found = [line.split()[1] for line in text.splitlines() if line.startswith("meta_flush_lag_seconds ")]
        self.lags += map(float, found)

    def shown(self, name: str) -> dict[str, float]:
        took = self._took[name]
        return {"median": round(statistics.median(took) * 1000, 1), "max": round(max(took) * 1000, 1)}

    def __enter__(self) -> "Asker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


if __name__ == "__main__":
    main()
