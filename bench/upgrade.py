"""What an upgrade costs, against the plain tools doing the same in the same run. Prints one JSON object.

    .venv/bin/python -m bench.upgrade [--rounds N]

The agent is 100 MB in a tarball of about 27 MB, served by meta on loopback. Each round times `curl`, `md5sum` and `tar xzf`
of the new version's file one after the other, and then `updater once`: from the start of its process until the new version
notes that it is up (`upgraded`), and to the end of the process, after the second heartbeat (`whole_command`). Then a daemon
with three agents idles, as soon as their processes are known by where they are, and its CPU and memory are read.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from lab import agents
from lab.fleet import Host, Meta, until

AGENT = "big-agent"
SIZE, RANDOM = 100_000_000, 23_500_000  # bytes of the agent, and those of them that do not compress
IDLE_CYCLES = 100
SMALL = "small-agent"
COUNTING = "counting-agent"  # its status counts the looks at it, and so the cycles
COUNTING_CONTROL = agents.CONTROL.replace("status)", "status)\n    echo >>../.looks")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="ops-updater-bench-") as directory, Meta(Path(directory) / "meta") as meta:
        print(json.dumps(measure(Path(directory), meta, rounds), indent=2))


def measure(directory: Path, meta: Meta, rounds: int) -> dict[str, object]:
    size = [agents.publish(meta.tarballs, AGENT, f"1.0.{n}", big(n)).path.stat().st_size for n in range(rounds + 1)]
    agents.publish(meta.tarballs, COUNTING, "1.0.0", agents.files("1.0.0", control=COUNTING_CONTROL))
    agents.publish(meta.tarballs, SMALL, "1.0.0")
    meta.records.write_text(records(meta, 0))
    meta.start()
    with Host(directory / "host", meta.address, watch=0) as host:
        once(host)
        plain, ours, whole = [], [], []
        for number in range(1, rounds + 1):
            plain.append(plain_tools(directory, meta, f"{AGENT}-1.0.{number}.tar.gz"))
            meta.edit(records(meta, number))
            began = time.time()
            whole.append(once(host))
            ours.append(until("the agent is up", came_up, host, f"1.0.{number}") - began)
        return {
            "tarball_mb": round(size[-1] / 1e6, 1),
            "rounds": rounds,
            "plain_tools_s": round(statistics.median(plain), 3),
            "upgraded_s": round(statistics.median(ours), 3),
            "upgraded_to_plain_tools": round(statistics.median(o / p for o, p in zip(ours, plain, strict=True)), 2),
            "whole_command_to_plain_tools": round(
                statistics.median(o / p for o, p in zip(whole, plain, strict=True)), 2
            ),
            "agent_down_s": [round(down, 3) for down in downtimes(host)],
            **idle(host, meta, rounds + 1),
        }


def big(number: int) -> dict[str, tuple[bytes, int]]:
    """The members of a 100 MB agent: programs, libraries and data, most of it compressible."""
    source = random.Random(number)
    members = agents.files(f"1.0.{number}")
    pieces = 20
    for piece in range(pieces):
        text = b"".join(b"%08d the quick brown fox jumps over the lazy dog\n" % i for i in range(1000))
        members[f"lib/{piece}.so"] = (source.randbytes(RANDOM // pieces), 0o755)
        members[f"share/{piece}.dat"] = ((text * 100)[: (SIZE - RANDOM) // pieces], 0o644)
    return members


def records(meta: Meta, number: int) -> str:
    names = [(AGENT, f"1.0.{number}"), (COUNTING, "1.0.0"), (SMALL, "1.0.0")]
    entries = [f"  - {{name: {name}, version: {version}, tarball: '{meta.url}/tarball'}}\n" for name, version in names]
    return "agents:\n" + "".join(entries)


def plain_tools(directory: Path, meta: Meta, name: str) -> float:
    """Seconds of curl, md5sum and tar, one after the other."""
    to = directory / "plain"
    to.mkdir()
    began = time.perf_counter()
    subprocess.run(["curl", "--noproxy", "*", "-sSfo", to / name, f"{meta.url}/tarball/{name}"], check=True)
    subprocess.run(["md5sum", to / name], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["tar", "xzf", to / name, "-C", to], check=True)
    took = time.perf_counter() - began
    subprocess.run(["rm", "-r", to], check=True)
    return took


def once(host: Host) -> float:
    """Seconds of one `updater once`, which must bring the host to its desired state."""
    began = time.perf_counter()
    done = host.run("once")
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise SystemExit(f"updater once failed: {done.stdout}{done.stderr}")
    return took


def came_up(host: Host, version: str) -> float:
    """Unix seconds at which a version of the agent noted that it is up, 0 before it did."""
    return next((at for event, v, at in agents.events(host.root / AGENT) if (event, v) == ("up", version)), 0.0)


def downtimes(host: Host) -> list[float]:
    """Seconds from each `down` of the agent to its next `up`, by its own notes."""
    events = agents.events(host.root / AGENT)
    return [b[2] - a[2] for a, b in itertools.pairwise(events) if (a[0], b[0]) == ("down", "up")]


def idle(host: Host, meta: Meta, next_number: int) -> dict[str, object]:
    """CPU of idle cycles (the scripts' own not counted) and memory, after the daemon itself has done an upgrade."""
    agents.publish(meta.tarballs, AGENT, f"1.0.{next_number}", big(next_number))
    meta.edit(records(meta, next_number))
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | {"interval": 0.1, "watch": 0}))
    host.start()
    until("the daemon has upgraded", lambda: host.current(AGENT) == f"1.0.{next_number}", within=60)
    until("the new version runs", lambda: host.control(AGENT, "status") == "started")
    until("all have settled", lambda: all(is_placed(host, name) for name in (AGENT, COUNTING, SMALL)), within=60)
    first, cpu = looks(host), cpu_seconds(host.pid)
    until("idle cycles", lambda: looks(host) >= first + IDLE_CYCLES, within=120)
    last = looks(host)
    per_cycle = (cpu_seconds(host.pid) - cpu) / (last - first)
    memory = dict(line.split(":", 1) for line in Path(f"/proc/{host.pid}/status").read_text().splitlines())
    return {
        "idle_cycle_cpu_ms": round(per_cycle * 1000, 1),
        "resident_mb": round(int(memory["VmRSS"].split()[0]) / 1024, 1),
        "resident_peak_mb": round(int(memory["VmHWM"].split()[0]) / 1024, 1),
    }


def is_placed(host: Host, agent: str) -> bool:
    """Whether the updater knows the agent's processes by where they are, and looks at nothing else in an idle cycle."""
    memory = json.loads((host.root / ".updater" / "agents" / f"{agent}.json").read_text())
    return bool((memory.get("running") or {}).get("placed"))


def looks(host: Host) -> int:
    """How often the counting agent was asked for its status."""
    return (host.root / COUNTING / ".looks").read_text().count("\n")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
