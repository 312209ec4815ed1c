"""Heartbeats a second and CPU a beat, beside another server in the same run. Prints one JSON object.

    .venv/bin/python -m bench.heartbeat [--rounds N] [--seconds S] [--connections C ...] [--peer OPS-META]        # needs wrk

meta keeps 50,000 hosts of three agents in SQLite on the disk. They are known before anything is timed; then one beat in a
hundred carries a change. The other server is the Go ops-meta, if its program is given, else a bare protocol (bench.bare)
that only decodes the report and answers a constant. Each round loads both in turns, over connections that are kept, and over
one connection for each beat; ratios are those of a round.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from itertools import product
from pathlib import Path
from typing import NamedTuple

from lab.fleet import Meta, get, until
from lab.load import Load, Plan, agents_of
from lab.ports import free_port
from meta.store import Store

HOSTS = 50_000
CONNECTIONS = (1, 8, 32, 200)  # at once
SCRIPT = """
local number, change, versions = {start}, 0, {{}}
request = function()
  number = (number + 1) % {hosts}
  change = change + 1
  if change % 100 == 0 then versions[number] = (versions[number] or 0) + 1 end
  local version = "1.0." .. (versions[number] or 0)
  local stamp = 1700000000 + change
  return wrk.format("POST", "/heartbeat", {headers}, string.format(
    '{{"hostname":"host-%07d.example.com","realAgents":[' ..
    '{{"name":"falcon-agent","version":"%s","status":"started","timestamp":%d,"trial":false}},' ..
    '{{"name":"deploy-agent","version":"1.0.0","status":"started","timestamp":%d,"trial":false}},' ..
    '{{"name":"naming-agent","version":"1.0.0","status":"started","timestamp":%d,"trial":false}}],"updaterVersion":"1.0.0"}}',
    number, version, stamp, stamp, stamp))
end
done = function(summary, latency, requests)
  io.write(string.format('{{"requests": %d, "microseconds": %d, "p99_us": %d, "errors": %d}}\\n', summary.requests,
    summary.duration, latency:percentile(99),
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout))
end
"""


class Rate(NamedTuple):
    """beats: a second; p99: milliseconds; cpu: seconds of the server for 10,000 beats; errors: of all kinds."""

    beats: float
    p99: float
    cpu: float
    errors: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each load")
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS)
    parser.add_argument("--peer", type=Path, metavar="OPS-META", help="the program of the Go ops-meta")
    given = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("bench.heartbeat needs wrk, which loads a server from C: apt-get install wrk")
    with tempfile.TemporaryDirectory(prefix="ops-updater-bench-") as directory, ExitStack() as stack:
        print(
            json.dumps(
                measure(Path(directory), stack, given.rounds, given.seconds, given.connections, given.peer), indent=2
            )
        )


def measure(
    directory: Path, stack: ExitStack, rounds: int, seconds: int, connections: Sequence[int], peer: Path | None
) -> dict[str, object]:
    meta = stack.enter_context(Meta(directory / "meta")).start("--anonymous-hosts")
    meta.edit(json.dumps({"agents": [agent | {"tarball": f"{meta.url}/tarball"} for agent in agents_of("1.0.0")]}))
    with Load(meta.address, Plan(HOSTS, changing=0.0, rate=0.0)) as load:
        load.run(HOSTS)
    until("all hosts are known and written", written, meta, within=120)
    other = stack.enter_context(Other(directory, peer))
    servers = {"other": (other.address, other.pid), "meta": (meta.address, meta.pid)}
    found: dict[str, object] = {
        "hosts": HOSTS,
        "rounds": rounds,
        "seconds": seconds,
        "other": str(peer or "bare protocol"),
    }
    for keeps, count in product((True, False), connections):
        rates: dict[str, list[Rate]] = {name: [] for name in servers}
        for number in range(rounds):
            script = write_script(directory, number, keeps)
            for name, (address, pid) in servers.items():
                rates[name].append(wrk(address, pid, script, seconds, count))
        found[f"{'kept' if keeps else 'closed'}, {count}"] = shown(rates)
    return found


def shown(rates: dict[str, list[Rate]]) -> dict[str, object]:
    pairs = list(zip(rates["meta"], rates["other"], strict=True))
    return {
        "meta_per_s": round(statistics.median(rate.beats for rate in rates["meta"])),
        "other_per_s": round(statistics.median(rate.beats for rate in rates["other"])),
        "meta_to_other": round(statistics.median(meta.beats / other.beats for meta, other in pairs), 3),
        "meta_to_other_all": [round(meta.beats / other.beats, 3) for meta, other in pairs],
        "cpu_to_other": round(statistics.median(meta.cpu / other.cpu for meta, other in pairs if other.cpu), 3),
        "meta_cpu_s": round(statistics.median(rate.cpu for rate in rates["meta"]), 3),
        "meta_p99_ms": round(statistics.median(rate.p99 for rate in rates["meta"]), 2),
        "other_p99_ms": round(statistics.median(rate.p99 for rate in rates["other"]), 2),
        "errors": sum(rate.errors for some in rates.values() for rate in some),
    }


def written(meta: Meta) -> bool:
    with closing(Store(meta.database)) as store:
        return sum(1 for _ in store.load_hosts()) == HOSTS


def write_script(directory: Path, number: int, keep: bool) -> Path:
    script = directory / "beats.lua"
    headers = "nil" if keep else '{["Connection"]="close"}'
    script.write_text(SCRIPT.format(start=number * 7919, hosts=HOSTS, headers=headers))
    return script


def wrk(address: str, pid: int, script: Path, seconds: int, connections: int) -> Rate:
    before = cpu_seconds(pid)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"http://{address}/heartbeat"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    cpu = (cpu_seconds(pid) - before) / found["requests"] * 10_000
    return Rate(found["requests"] / found["microseconds"] * 1e6, found["p99_us"] / 1000, cpu, found["errors"])


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Other:
    """The other server, on a free port: a peer's program, or the bare protocol."""

    def __init__(self, directory: Path, peer: Path | None):
        self.address = f"127.0.0.1:{free_port()}"
        self._directory = directory / "other"
        self._directory.mkdir()
        self._log = (directory / "other.log").open("wb")
        self._command = [sys.executable, "-m", "bench.bare", self.address.partition(":")[2]]
        if peer:
            config = self._directory / "cfg.json"
            agents = [agent | {"tarball": f"http://{self.address}/", "md5": ""} for agent in agents_of("1.0.0")]
            said = {"debug": False, "tarballDir": "./tarball", "http": {"enabled": True, "listen": self.address}}
            config.write_text(json.dumps(said | {"agents": [{"default": agent, "others": []} for agent in agents]}))
            (self._directory / "tarball").mkdir()
            self._command = [str(peer.resolve()), "-c", str(config)]

    def __enter__(self) -> "Other":
        where = self._directory if self._command[0] != sys.executable else None
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, cwd=where
        )
        until("the other server answers", self._answers, within=30)
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def _answers(self) -> bool:
        try:
            return get(f"http://{self.address}/health").status_code >= 200
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()


if __name__ == "__main__":
    main()
