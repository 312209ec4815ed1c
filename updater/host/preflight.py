"""Checks the host before the first cycle, so that errors show at the start and not at the first upgrade."""

import os
import shutil
from pathlib import Path

from updater import places
from updater.errors import Misconfigured
from updater.host.config import Config
from updater.kernel import procfs


def check(config: Config, root: Path) -> None:
    """Raises Misconfigured if a tool is missing or the root is not writable."""
    missing = [tool for tool in config.tools if shutil.which(tool) is None]
    if missing:
        raise Misconfigured(
            f"not found on PATH: {', '.join(missing)}; install {'it' if len(missing) == 1 else 'them'}, "
            "or list only what your agents need under `tools` in cfg.json"
        )
    if not places.is_directory(root):
        raise Misconfigured(f"the root {root} is not a directory: make it, or use another --root")
    if not os.access(root, os.W_OK | os.X_OK):
        raise Misconfigured(f"the root {root} cannot be written by this user: run as its owner, or use another --root")


def check_processes(proc: str = "/proc") -> None:
    """Raises Misconfigured if `proc` does not show the processes of our PID namespace, but those of another one or none."""
    if not procfs.is_ours(proc):
        raise Misconfigured(
            f"{proc} does not show the processes of this PID namespace, so the agents' cannot be told from others': mount it "
            f"here (`mount -t proc proc {proc}`; with unshare, --mount-proc)"
        )
