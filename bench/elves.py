"""What elves-agents see of `meta elves` under load. Prints one JSON object.

    .venv/bin/python -m bench.elves [--seconds N] [--agents N] [--burst N]

10,000 agents with a beat each minute, spread as they come, for a minute; then 2,000 connections within one second. Every beat
is a connection of its own, as the real agent makes it; its time is from the first packet of the connection to the last of the
answer. The bridge runs as a process, in mode records, with its hosts in SQLite; it must have counted every beat.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lab.fleet import until
from meta.bridges.elves.thrift.codec import parse_answer, render_call
from meta.bridges.elves.thrift.framing import Messages
from meta.bridges.elves.translator import Info

EVERY = 60.0  # seconds between two beats of an agent
ANSWER_WITHIN = 10.0
CONFIG = "thrift.heartbeat.ip=127.0.0.1\nthrift.heartbeat.port=0\nmq.port=9\n"
RECORDS = "agents:\n" + "".join(
    f"- {{name: app{n}, version: 1.0.{n}, tarball: http://r/t, overrides: [{{prefix: CX0{n}, version: 2.0.0}}]}}\n"
    for n in range(5)
)


class Bridge(NamedTuple):
    pid: int
    port: int
    http: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--burst", type=int, default=2_000)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ops-updater-bench-") as directory, running(Path(directory)) as bridge:
        print(json.dumps(asyncio.run(measure(bridge, wanted.agents, wanted.seconds, wanted.burst)), indent=2))


@contextmanager
def running(directory: Path) -> Iterator[Bridge]:
    (directory / "conf.properties").write_text(CONFIG)
    (directory / "records.yaml").write_text(RECORDS)
    command = [
        sys.executable,
        "-m",
        "meta.cli",
        "elves",
        "-c",
        "conf.properties",
        "--records",
        "records.yaml",
        "--http",
        "127.0.0.1:0",
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("META_")}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, env=environment, stderr=log)

    def listening() -> re.Match[str] | None:
        text = (directory / "log").read_text()
        if process.poll() is not None:
            raise SystemExit(f"meta elves ended: {text}")
        return re.search(r"listens for elves-agents on \S+:(\d+), .*(http://\S+)", text)

    try:
        found = until("meta elves listens", listening)
        assert found
        yield Bridge(process.pid, int(found[1]), found[2])
    finally:
        process.terminate()
        process.wait(30)


async def measure(bridge: Bridge, agents: int, seconds: float, burst: int) -> dict[str, object]:
    busy = round(os.getloadavg()[0], 1)  # where others work, too, the times are theirs as well
    await asyncio.gather(*(beat(bridge.port, number) for number in range(50)))  # both sides are warm
    cpu = cpu_seconds(bridge.pid)
    steady = await load(bridge.port, int(agents * seconds / EVERY), seconds)
    cpu = (cpu_seconds(bridge.pid) - cpu) / max(1, len(steady))
    at_once = await load(bridge.port, burst, 1.0, first=agents)
    counted = metric(bridge, "beats_total") - 50
    return {
        "load_of_the_machine_before": busy,
        "agents": agents,
        "beats_per_second": round(len(steady) / seconds, 1),
        "steady": told(steady),
        "burst_connections_in_one_second": told(at_once),
        "beats_sent": len(steady) + len(at_once),
        "beats_counted": counted,
        "server_cpu_ms_per_beat": round(cpu * 1000, 2),
        "resident_peak_mb": resident_peak_mb(bridge.pid),
    }


async def load(port: int, beats: int, seconds: float, first: int = 0) -> list[float]:
    """This many beats of different agents, evenly over this time; their seconds, infinite where there was no answer."""
    began = asyncio.get_running_loop().time()
    tasks = []
    for number in range(beats):
        late = began + number * seconds / beats - asyncio.get_running_loop().time()
        if late > 0:
            await asyncio.sleep(late)
        tasks.append(asyncio.create_task(beat(port, first + number)))
    return list(await asyncio.gather(*tasks))


class _Beat(asyncio.Protocol):
    """One beat, its connection and its answer. The cheapest client there is: it shares the machine with the server."""

    def __init__(self, call: bytes, answered: asyncio.Future[bytes]):
        self._call = call
        self._answered = answered
        self._messages = Messages()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._call)

    def data_received(self, data: bytes) -> None:
        for answer in self._messages.feed(data):
            if not self._answered.done():
                self._answered.set_result(answer)
            self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self._answered.done():
            self._answered.set_result(b"")


async def beat(port: int, number: int) -> float:
    """Seconds until the answer; infinite when there is none, or not the right one."""
    info = Info(f"CX{number:05d}", f"10.1.{number >> 8}.{number & 255}", "0.4.3", '{"app1":"1.0.1","app2":"1.0.2"}')
    call, loop = render_call(info, 1), asyncio.get_running_loop()
    answered: asyncio.Future[bytes] = loop.create_future()
    began = time.perf_counter()
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            await loop.create_connection(lambda: _Beat(call, answered), "127.0.0.1", port)
            answer = await answered
    except (OSError, TimeoutError):
        return float("inf")
    took = time.perf_counter() - began
    return took if answer and json.loads(parse_answer(answer))["data"]["app1"] else float("inf")


def told(times: list[float]) -> dict[str, object]:
    good = sorted(took for took in times if took != float("inf"))
    return {
        "beats": len(times),
        "lost": len(times) - len(good),
        "p50_ms": round(quantile(good, 0.5) * 1000, 1),
        "p99_ms": round(quantile(good, 0.99) * 1000, 1),
        "max_ms": round(quantile(good, 1.0) * 1000, 1),
    }


def quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("inf")


def metric(bridge: Bridge, name: str) -> int:
    with urllib.request.urlopen(f"{bridge.http}/metrics", timeout=10) as answer:
        found = re.search(rf"^meta_elves_{name} ([0-9.e+]+)$", answer.read().decode(), re.MULTILINE)
    return int(float(found[1])) if found else 0


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def resident_peak_mb(pid: int) -> float:
    memory = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return round(int(memory["VmHWM"].split()[0]) / 1024, 1)


if __name__ == "__main__":
    main()
