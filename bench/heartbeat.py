"""Heartbeats a second, against a bare WSGI callable on the same server in the same run. Prints one JSON object.

    .venv/bin/python -m bench.heartbeat [--rounds N] [--seconds S] [--connections C]        # needs wrk: apt-get install wrk

meta keeps 50,000 hosts of three agents in SQLite on the disk. They are known before anything is timed; then one beat in a
hundred carries a change. The bare callable (bench.bare) only decodes the report and answers a constant. Each round loads the
bare one and meta in turns, over connections that are kept, and over one connection for each beat.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

from lab.fleet import Meta, get, until
from lab.load import Load, Plan, agents_of
from lab.ports import free_port
from meta.store import Store

HOSTS = 50_000
CONNECTIONS = 8  # enough to keep the server busy; `--connections` shows what more of them at once do
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
    """beats: a second; p99: milliseconds; errors: of all kinds."""

    beats: float
    p99: float
    errors: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each load")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    given = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("bench.heartbeat needs wrk, which loads a server from C: apt-get install wrk")
    with tempfile.TemporaryDirectory(prefix="ops-updater-bench-") as directory, ExitStack() as stack:
        print(json.dumps(measure(Path(directory), stack, given.rounds, given.seconds, given.connections), indent=2))


def measure(directory: Path, stack: ExitStack, rounds: int, seconds: int, connections: int) -> dict[str, object]:
    meta = stack.enter_context(Meta(directory / "meta")).start("--anonymous-hosts")
    meta.edit(json.dumps({"agents": [agent | {"tarball": f"{meta.url}/tarball"} for agent in agents_of("1.0.0")]}))
    with Load(meta.address, Plan(HOSTS, changing=0.0, rate=0.0)) as load:
        load.run(HOSTS)
    until("all hosts are known and written", written, meta, within=120)
    bare = stack.enter_context(Bare(directory))
    rates: dict[str, dict[str, list[Rate]]] = {"keepalive": {}, "connection_per_beat": {}}
    for number in range(rounds):
        for kind, found in rates.items():
            for name, address in (("bare", bare.address), ("meta", meta.address)):
                script = write_script(directory, number, kind == "keepalive")
                found.setdefault(name, []).append(wrk(address, script, seconds, connections))
    return {"hosts": HOSTS, "connections": connections, "rounds": rounds, "seconds": seconds} | {
        k: shown(found) for k, found in rates.items()
    }


def shown(found: dict[str, list[Rate]]) -> dict[str, object]:
    ratios = [meta.beats / bare.beats for meta, bare in zip(found["meta"], found["bare"], strict=True)]
    return {
        "bare_per_s": round(statistics.median(rate.beats for rate in found["bare"])),
        "meta_per_s": round(statistics.median(rate.beats for rate in found["meta"])),
        "meta_to_bare": round(statistics.median(ratios), 3),
        "meta_to_bare_all": [round(ratio, 3) for ratio in ratios],
        "bare_p99_ms": round(statistics.median(rate.p99 for rate in found["bare"]), 2),
        "meta_p99_ms": round(statistics.median(rate.p99 for rate in found["meta"]), 2),
        "errors": sum(rate.errors for rates in found.values() for rate in rates),
    }


def written(meta: Meta) -> bool:
    with closing(Store(meta.database)) as store:
        return sum(1 for _ in store.load_hosts()) == HOSTS


def write_script(directory: Path, number: int, keep: bool) -> Path:
    script = directory / "beats.lua"
    headers = "nil" if keep else '{["Connection"]="close"}'
    script.write_text(SCRIPT.format(start=number * 7919, hosts=HOSTS, headers=headers))
    return script


def wrk(address: str, script: Path, seconds: int, connections: int) -> Rate:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"http://{address}/heartbeat"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return Rate(found["requests"] / found["microseconds"] * 1e6, found["p99_us"] / 1000, found["errors"])


class Bare:
    """The bare callable, on a free port."""

    def __init__(self, directory: Path):
        self.address = f"127.0.0.1:{free_port()}"
        self._log = (directory / "bare.log").open("wb")

    def __enter__(self) -> "Bare":
        command = [sys.executable, "-m", "bench.bare", self.address.partition(":")[2]]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        until("the bare server answers", self._answers, within=30)
        return self

    def _answers(self) -> bool:
        try:
            return get(f"http://{self.address}/").status_code >= 200
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()


if __name__ == "__main__":
    main()
