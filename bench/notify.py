"""Parked hosts: what they hold, how soon an edit reaches them, and whether a restart brings a herd. Prints one JSON object.

    .venv/bin/python -m bench.notify [--hosts N] [--few N] [--edits N] [--restarts N]

All hosts are simulated in this process, on the same cores as meta. Each beats, parks, and does what it is told as the updater
does: after a wake it beats at random within the time that meta gives, after a 503 it parks again at random after `Retry-After`,
after a cut within a minute. Other hosts beat all the time without parking; theirs is the latency of others.

Open files (ulimit -Hn): 7,000, and one for each host.
"""

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import random
import re
import resource
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import requests

from bench.fleet import cpu_seconds
from lab.fleet import Meta, until
from lab.load import AGENTS, Load, Plan, agents_of
from meta.process.loop_watch import new_loop

WAIT = 270  # seconds of each park
RATE = 4000  # heartbeats a second, meta's own default
PATIENCE = 300  # seconds
OTHERS = 100  # heartbeats a second of hosts that do not park
SETTINGS = "anonymousHosts: true\nmaxConnections: 1000\nmaxConnectionsOfOne: 1000000\nmaxParked: {hosts}\n"
_STATUS = re.compile(rb"HTTP/1.1 ([0-9]{3})")
_LATER = re.compile(rb"\r\nRetry-After: ([0-9]+)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=20_000)
    parser.add_argument("--few", type=int, default=100, help="hosts of a small edit")
    parser.add_argument("--edits", type=int, default=5, help="of a few hosts")
    parser.add_argument("--restarts", type=int, default=10)
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="ops-updater-bench-") as directory, Meta(Path(directory) / "meta") as meta:
        (meta.directory / "meta.yaml").write_text(SETTINGS.format(hosts=given.hosts))
        start(meta)
        with Fleet(meta, given.hosts) as fleet:
            print(json.dumps(measure(meta, fleet, given), indent=2))


def start(meta: Meta) -> None:
    meta.start("--config", str(meta.directory / "meta.yaml"))


def measure(meta: Meta, fleet: "Fleet", given: argparse.Namespace) -> dict[str, Any]:
    edit(meta, "1.0.0", [])
    fleet.beat_all()
    before, used = resident(meta), cpu_seconds(meta)
    fleet.park_all()
    after, parking = resident(meta), cpu_seconds(meta) - used
    used, began = cpu_seconds(meta), time.monotonic()
    time.sleep(5)
    idle = (cpu_seconds(meta) - used) / (time.monotonic() - began)
    with Others(meta) as quiet:
        time.sleep(5)
    few = [small_edit(meta, fleet, number, given.few) for number in range(1, given.edits + 1)]
    with Others(meta) as busy:
        everyone = edit_for_all(meta, fleet)
    return {
        "hosts": given.hosts,
        "kilobytes_each": round((after - before) / 1000 / given.hosts, 2),
        "parking_cpu_us_each": round(parking / given.hosts * 1e6),
        "idle_cpu_of_one_core": round(idle, 3),
        "few": given.few,
        "few_99_percent_after_s": [round(took, 2) for took in few],
        "all": everyone,
        "others_p99_ms": {"quiet": quiet.p99, "edit for all": busy.p99},
        "restarts": [restart(meta, fleet) for _ in range(given.restarts)],
    }


def resident(meta: Meta) -> int:
    """Bytes of meta's memory now."""
    text = Path(f"/proc/{meta.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+([0-9]+) kB", text)[0]) * 1024


def edit(meta: Meta, version: str, hosts: list[str]) -> None:
    """Put this version of one agent in force, for these hosts, or for all; by REST, since a command takes a second to start."""
    records = [agent | {"tarball": "http://127.0.0.1/t"} for agent in agents_of("1.0.0")]
    if hosts:
        records[0]["overrides"] = [{"hosts": hosts, "version": version}]  # type: ignore[assignment]
    else:
        records[0]["version"] = version
    url, head = f"{meta.url}/api/v1/records", {"Authorization": f"Bearer {meta.token.read_text().strip()}"}
    with requests.Session() as session:
        session.trust_env = False
        tag = session.get(url, headers=head, timeout=60).headers["ETag"]
        done = session.put(
            f"{url}?confirm=true", json={"agents": records}, headers=head | {"If-Match": tag}, timeout=60
        )
        assert done.status_code == 200, done.text


def small_edit(meta: Meta, fleet: "Fleet", number: int, few: int) -> float:
    """Seconds from the begin of an edit for a few hosts until 99 % of them have beaten."""
    chosen = random.sample(range(fleet.hosts), few)
    began = time.monotonic()
    edit(meta, f"1.1.{number}", [name_of(host) for host in chosen])
    wanted = set(chosen)
    until(
        "these have beaten", lambda: sum(fleet.beaten[host] > began for host in wanted) >= 0.99 * few, within=PATIENCE
    )
    took = time.monotonic() - began
    fleet.until_parked()
    return took


def edit_for_all(meta: Meta, fleet: "Fleet") -> dict[str, Any]:
    fleet.seconds.clear()
    used, began = cpu_seconds(meta), time.monotonic()
    edit(meta, "2.0.0", [])
    until("all have beaten", lambda: sum(at > began for at in fleet.beaten) >= 0.99 * fleet.hosts, within=PATIENCE)
    took = time.monotonic() - began
    fleet.until_parked()
    return {
        "99_percent_after_s": round(took, 1),
        "most_beats_in_a_second": max(fleet.seconds.values(), default=0),
        "meta_cpu_s": round(cpu_seconds(meta) - used, 1),
    }


def restart(meta: Meta, fleet: "Fleet") -> dict[str, Any]:
    """Stop and start meta; its parked hosts come back by themselves."""
    fleet.seconds.clear()
    fleet.parks.clear()
    began = time.monotonic()
    meta.stop()
    stopped = time.monotonic()
    start(meta)
    started = time.monotonic()
    fleet.until_parked()
    return {
        "stop_s": round(stopped - began, 1),
        "start_s": round(started - stopped, 1),
        "all_parked_again_after_s": round(time.monotonic() - began, 1),
        "most_beats_in_a_second": max(fleet.seconds.values(), default=0),
        "most_parks_in_a_second": max(fleet.parks.values(), default=0),
    }


def name_of(host: int) -> str:
    return f"parked-{host:07d}.example.com"


class Others:
    """Hosts that beat and do not park, while this is open, in a process of their own. p99: milliseconds, known afterwards."""

    def __init__(self, meta: Meta):
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_beat_on, args=(meta.address, theirs))
        self.p99 = 0.0

    def __enter__(self) -> "Others":
        self._process.start()
        self._ours.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.send("enough")
        self.p99 = self._ours.recv()
        self._process.join()


def _beat_on(address: str, pipe: Connection) -> None:
    with Load(address, Plan(1000, rate=OTHERS, connections=4)) as load:
        pipe.send("begun")
        while not pipe.poll():
            load.run(OTHERS)
        pipe.send(round(load.result.percentile(99) * 1000, 1))


class Fleet:
    """The simulated hosts, on a loop in a thread of its own."""

    def __init__(self, meta: Meta, hosts: int):
        self.address, self.hosts = meta.address, hosts
        self.beaten = [0.0] * hosts  # when each was answered last, monotonic
        self.known = [""] * hosts
        self.parked = 0
        self.seconds: Counter[int] = Counter()  # heartbeats by second
        self.parks: Counter[int] = Counter()
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._beating = asyncio.Semaphore(64)
        self._connecting = asyncio.Semaphore(256)
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> "Fleet":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def until_parked(self) -> None:
        """Wait until all of them are."""
        until("all are parked", lambda: self.parked == self.hosts, within=PATIENCE)

    def beat_all(self) -> None:
        """Have meta know all hosts."""

        async def all_of_them() -> None:
            await asyncio.gather(*map(self._beat, range(self.hosts)))

        asyncio.run_coroutine_threadsafe(all_of_them(), self._loop).result(300)

    def park_all(self) -> None:
        async def begin() -> None:
            self._tasks = {self._loop.create_task(self._live(host)) for host in range(self.hosts)}
            for task in self._tasks:
                task.add_done_callback(lambda task: task.result())

        asyncio.run_coroutine_threadsafe(begin(), self._loop).result(300)
        self.until_parked()

    async def _live(self, host: int) -> None:
        while True:
            status, rest = await self._park(host)
            if status == 200:
                await asyncio.sleep(random.random() * json.loads(rest.rpartition(b"\r\n\r\n")[2])["within"])
                await self._beat(host)
            elif status == 503:
                asked = int((_LATER.search(rest) or [b"", b"5"])[1])
                await asyncio.sleep(asked + random.random() * min(asked, 60))
            elif status != 204:
                await asyncio.sleep(max(2.0, random.random() * 60))

    async def _beat(self, host: int) -> None:
        agents = [{"name": name, "version": "1.0.0", "status": "started", "timestamp": 1} for name in AGENTS]
        body = json.dumps({"hostname": name_of(host), "realAgents": agents}).encode()
        head = f"POST /heartbeat HTTP/1.1\r\nHost: m\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        while True:
            async with self._beating:
                status, rest = await self._ask(head.encode() + body, host)
            if status == 200:
                break
            await asyncio.sleep(2 + random.random() * 5)
        self.known[host] = hashlib.sha256(rest.partition(b"\r\n\r\n")[2]).hexdigest()[:16]
        self.beaten[host] = time.monotonic()
        self.seconds[int(time.monotonic())] += 1

    async def _park(self, host: int) -> tuple[int, bytes]:
        target = f"/notify?hostname={name_of(host)}&known={self.known[host]}"
        raw = f"GET {target} HTTP/1.1\r\nHost: m\r\nPrefer: wait={WAIT}\r\n\r\n".encode()
        self.parks[int(time.monotonic())] += 1
        return await self._ask(raw, host, parks=True)

    async def _ask(self, raw: bytes, host: int, parks: bool = False) -> tuple[int, bytes]:
        """The status, 0 for none, and all that came. Each host has an address of its own among some."""
        name, _, port = self.address.rpartition(":")
        done: asyncio.Future[bytes] = self._loop.create_future()
        with suppress(OSError):
            async with self._connecting:
                source = (f"127.0.0.{2 + host % 200}", 0)
                await self._loop.create_connection(lambda: Client(raw, done), name, int(port), local_addr=source)
            self.parked += parks
            try:
                found = await done
            finally:
                self.parked -= parks
            match = _STATUS.match(found)
            return (int(match[1]) if match else 0), found
        return 0, b""


class Client(asyncio.Protocol):
    """Sends one request, and collects what comes until the end."""

    __slots__ = ("_done", "_found", "_raw")

    def __init__(self, raw: bytes, done: asyncio.Future[bytes]):
        self._raw, self._done, self._found = raw, done, b""

    def connection_made(self, transport: Any) -> None:
        transport.write(self._raw)
        self._raw = b""

    def data_received(self, data: bytes) -> None:
        self._found += data

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(self._found)


if __name__ == "__main__":
    main()
