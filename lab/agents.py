"""Small real agents, built into tarballs as a release engineer would publish them.

The program samples the machine's load once a second; it notes when it came up and went down in `events`, beside the versions'
directories, so that downtime can be read off the agent itself.
"""

import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CONTROL = """#!/bin/sh
# The agent's promise: start, stop, status, run in the version's directory.
cd "$(dirname "$0")" || exit 1
pid=$(cat pid 2>/dev/null)

# A process that is dead but not yet buried by its parent still has a number: only its state tells.
running() { [ -n "$pid" ] && grep -qs '^State:[[:space:]]*[RSDTtIWKP]' "/proc/$pid/status"; }

case "$1" in
start)
    running && exit 0
    "${PYTHON:-python3}" -S agent.py &
    echo $! >pid
    ;;
stop)
    running || exit 0
    kill "$pid"
    while running; do sleep 0.01; done
    ;;
status)
    if running; then echo started; else echo stoped; fi
    ;;
esac
"""

PROGRAM = """import os, signal, sys, time

VERSION = {version!r}

def note(event):
    with open("../.events", "a") as file:
        print(event, VERSION, f"{{time.time():.6f}}", file=file)

def leave(*_):
    note("down")
    sys.exit(0)

signal.signal(signal.SIGTERM, leave)
note("up")
while True:
    load = os.getloadavg()[0]
    with open("load", "w") as file:
        print(f"{{time.time():.0f}} {{load}}", file=file)
    time.sleep(1)
"""

BROKEN_PROGRAM = """import sys

sys.exit("agent {version}: cannot read agent.conf: no such file")
"""


@dataclass(frozen=True, slots=True)
class Tarball:
    """A published tarball and its digests in lower-case hex."""

    path: Path
    md5: str
    sha256: str


def files(version: str, program: str = PROGRAM, control: str = CONTROL) -> dict[str, tuple[bytes, int]]:
    """The members of an agent's tarball: name -> (content, mode)."""
    return {
        "control": (control.encode(), 0o755),
        "agent.py": (program.format(version=version).encode(), 0o644),
    }


def publish(
    directory: Path,
    name: str,
    version: str,
    members: Mapping[str, tuple[bytes, int]] | None = None,
    digest_file: bool = True,
) -> Tarball:
    """Write `{name}-{version}.tar.gz` and its `.md5` (as md5sum prints it) into a directory that is served."""
    path = directory / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for member, (content, mode) in (members or files(version)).items():
            info = tarfile.TarInfo(member)
            info.size, info.mode = len(content), mode
            archive.addfile(info, io.BytesIO(content))
    data = path.read_bytes()
    tarball = Tarball(path, hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest())
    if digest_file:
        path.with_name(f"{path.name}.md5").write_text(f"{tarball.md5}  {path.name}\n")
    return tarball


def events(agent: Path) -> list[tuple[str, str, float]]:
    """What an agent's program noted: ("up" or "down", version, Unix seconds)."""
    try:
        lines = (agent / ".events").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(event, version, float(at)) for event, version, at in (line.split() for line in lines)]
