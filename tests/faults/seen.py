"""The proof that the shim sees every change: the same scenarios under the interpreter's audit events, and under strace.

Audit events know of opens, renames, removals, new directories and links, truncations, modes and times, whoever in the
interpreter causes them; strace knows of every system call, writes and fsyncs too. Each file's counts must be the shim's.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from faults.observers import FAILED, Note
from faults.scenarios import SCENARIOS
from faults.shim import WRITING, real
from faults.world import LIMIT, World

NAME = "seen"
PARTS = tuple(SCENARIOS)

_CALLS = "write,pwrite64,writev,pwritev,pwritev2,sendfile,copy_file_range,fsync,fdatasync,ftruncate,truncate,fallocate"
_CALLS += ",open,openat,openat2,creat,rename,renameat,renameat2,mkdir,mkdirat,rmdir,unlink,unlinkat,link,linkat,symlink"
_CALLS += (
    ",symlinkat,chmod,fchmod,fchmodat,utimensat,chown,fchown,fchownat,lchown,mknod,mknodat,setxattr,fsetxattr,execve"
)
_LINE = re.compile(r"(\d+) +(\w+)\((.*)")
_PLACE = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>(?:\(deleted\))?)?(?:, )?(?:"([^"]*)")?')
_OPS = {"pwrite64": "write", "fdatasync": "fsync", "fchmod": "chmod", "ftruncate": "truncate", "utimensat": "utime"}
_EVENTS = {"remove": "unlink"}
_TO_SECOND = ("rename", "link", "symlink")


def cases(world: World, part: str) -> list[str]:
    """`SCENARIO:audit` and, where there is one, `SCENARIO:strace`."""
    return [f"{part}:{how}" for how in ("audit", "strace") if how == "audit" or shutil.which("strace")]


def note() -> str:
    """What the table says about this machine."""
    return "" if shutil.which("strace") else "no strace here: the shim was held against audit events only"


def run(world: World, case: str) -> list[str]:
    """The files of which somebody else saw more, or less, than the shim did."""
    part, how = case.split(":")
    world.begin(SCENARIOS[part])
    world.log.unlink(missing_ok=True)
    others = _audited(world) if how == "audit" else _straced(world)
    keys = [key.removesuffix(FAILED).split(":")[:2] for key in world.log.read_text().splitlines()]
    shims = Counter((op, path) for op, path in keys if op not in ("read", "listdir", "scandir") and path[0] != "/")
    if how == "audit":
        shims = Counter({k: n for k, n in _by_name(shims).items() if k[0] not in ("write", "fsync")})
    more, less = others - shims, shims - others
    problems = [f"not seen by the shim: {op} of {path}, {n} times" for (op, path), n in sorted(more.items())]
    problems += [f"seen by the shim alone: {op} of {path}, {n} times" for (op, path), n in sorted(less.items())]
    return problems if others else ["nothing was seen at all"]


def _by_name(counts: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    named: Counter[tuple[str, str]] = Counter()
    for (op, path), n in counts.items():
        named[op, path.rpartition("/")[2]] += n
    return named


def _audited(world: World) -> Counter[tuple[str, str]]:
    """Counts by the names of files only: an open's event does not tell the directory that it is relative to."""
    events = world.directory / "events"
    events.unlink(missing_ok=True)
    world.once(lambda: _noting_events(world, events))
    found: Counter[tuple[str, str]] = Counter()
    for line in events.read_text().splitlines():
        op, _, path = line.partition(" ")
        found[op, path.rpartition("/")[2]] += 1
    return found


def _noting_events(world: World, events: Path) -> Note:
    log, root = os.open(events, os.O_WRONLY | os.O_CREAT | os.O_APPEND), str(world.root)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(args[0], int) or not isinstance(args[2], int) or not args[2] & WRITING:
                return  # a descriptor that is open already, or opened for reading
            op, path = "open", args[0]
        elif event.startswith("os.") and event[3:] in (
            "rename",
            "remove",
            "mkdir",
            "rmdir",
            *_TO_SECOND,
            *_OPS.values(),
        ):
            op = _EVENTS.get(event[3:], event[3:])
            path = args[1] if op in _TO_SECOND else args[0]
        else:
            return
        path = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fspath(path)
        if path.startswith(f"{root}/") or not path.startswith("/"):
            real["write"](log, f"{op} {path}\n".encode())

    sys.addaudithook(hook)
    return Note(world.log)


def _straced(world: World) -> Counter[tuple[str, str]]:
    trace = world.directory / "trace"
    trace.write_text("")
    command = [
        "strace",
        "-f",
        "-I1",
        "-y",
        "-o",
        str(trace),
        "-e",
        f"trace={_CALLS}",
        sys.executable,
        "-m",
        "faults.victim",
    ]
    quiet = subprocess.DEVNULL
    strace = subprocess.Popen([*command, world.root, world.config, world.log], stdout=quiet, stderr=quiet)
    try:
        _until_ended(trace, strace)
    finally:
        strace.terminate()  # it would wait for the agents, too; they run on without it
        strace.wait()
    lines = [found.groups() for line in trace.read_text().splitlines() if (found := _LINE.match(line))]
    scripts = {pid for pid, call, _ in lines if call == "execve" and pid != lines[0][0]}
    counts: Counter[tuple[str, str]] = Counter()
    for pid, call, arguments in lines:
        if pid in scripts or call == "execve":
            continue
        op, path = _change(call, arguments)
        if op and path.startswith(f"{world.root}"):
            counts[op, os.path.relpath(path, world.root)] += 1
    return counts


def _until_ended(trace: Path, strace: subprocess.Popen[bytes]) -> None:
    """Wait until the first process of a trace has ended."""
    deadline = time.monotonic() + LIMIT
    while strace.poll() is None and time.monotonic() < deadline:
        text = trace.read_text(errors="replace")
        if f"\n{text.partition(' ')[0]} +++ exited" in text:
            return
        time.sleep(0.02)


def _change(call: str, arguments: str) -> tuple[str, str]:
    """What a system call changes: an op of the shim's and an absolute path."""
    op = _OPS.get(call) or call.removesuffix("2").removesuffix("at")
    if op in ("open", "creat") and not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)", arguments):
        return "", ""
    if op == "unlink" and "AT_REMOVEDIR" in arguments:
        op = "rmdir"
    places = [(d, name) for d, name in _PLACE.findall(arguments) if d or name]
    if op in _TO_SECOND and places:
        places = places[1:]
    directory, name = places[0] if places else ("", "")
    if op in ("write", "writev", "pwritev"):
        name = ""  # it is the data
    return op, os.path.join(directory.removesuffix(" (deleted)"), name) if name else directory.removesuffix(
        " (deleted)"
    )
