"""What this machine lets a test do. A test that cannot be done here is skipped and says why; where CI is set it fails, since a
machine for that must have it all."""

import functools
import os
import pty
import shutil
import subprocess

import pytest


def require(problem: str) -> None:
    """Skip the test for this problem, if there is one."""
    if problem and os.environ.get("CI"):
        pytest.fail(f"a CI machine must have it: {problem}")
    if problem:
        pytest.skip(problem)


@functools.cache
def no_strace() -> str:
    """Why system calls cannot be watched and failed here, "" when they can."""
    if not shutil.which("strace"):
        return "there is no strace"
    return _tried("strace -f -o /dev/null -e trace=fsync -e inject=fsync:error=EIO true", "strace cannot trace")


@functools.cache
def no_mounts() -> str:
    """Why a process of ours cannot have mounts of its own, "" when it can."""
    if not shutil.which("unshare"):
        return "there is no unshare"
    return _tried("unshare -m mount -t tmpfs none /", "mounts cannot be made")


@functools.cache
def no_names() -> str:
    """Why a process of ours cannot have a host name of its own, "" when it can."""
    if not shutil.which("unshare"):
        return "there is no unshare"
    return _tried("unshare --uts true", "host names cannot be set")


@functools.cache
def no_networks() -> str:
    """Why a process of ours cannot have a network of its own, "" when it can."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        return "there is no unshare or no ip"
    return _tried("unshare -n ip link set lo up", "networks cannot be made")


def in_network(*sysctls: str) -> list[str]:
    """What to put before a command that is to run in a network of its own, with loopback alone and these sysctls: NAME=VALUE,
    the name below /proc/sys/net."""
    settings = "".join(f"echo {value} >/proc/sys/net/{name} && " for name, value in (one.split("=") for one in sysctls))
    return ["unshare", "-n", "sh", "-c", f'{settings}ip link set lo up && exec "$@"', "sh"]


@functools.cache
def no_terminal() -> str:
    """Why there are no pseudo-terminals, "" when there are."""
    try:
        for fd in pty.openpty():
            os.close(fd)
    except OSError as e:
        return f"there are no pseudo-terminals: {e.strerror or e}"
    return ""


def _tried(command: str, problem: str) -> str:
    done = subprocess.run(command.split(), capture_output=True, text=True, timeout=20, check=False)
    return f"{problem} here: {done.stderr.strip()[-200:]}" if done.returncode else ""
