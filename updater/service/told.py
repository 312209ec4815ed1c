"""What a running process tells the commands, in a file: `PID.STARTTIME TEXT`. It counts while that process lives."""

import os
from pathlib import Path

from updater import durable_files
from updater.errors import TryLater
from updater.kernel import processes

_LIMIT = 4096  # bytes


def tell(file: Path, text: str) -> None:
    """Write one line of this process. Raises TryLater."""
    durable_files.write_atomic(file, f"{processes.identity(os.getpid())} {text}\n".encode())


def told(file: Path) -> str:
    """The line of a process that lives, else ""."""
    try:
        process, _, text = durable_files.read_state(file, _LIMIT).decode("utf-8", "replace").strip().partition(" ")
        return text if processes.identity(int(process.partition(".")[0])) == process else ""
    except (ValueError, TryLater):
        return ""
