"""A package as a host has it: unpacked, with a Python beside it and nothing else that Python programs could load."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lab.ports import free_port
from updater.artifact import extract

PYTHON = Path(sys.executable).resolve()  # the interpreter itself, without the libraries of this installation


class Bare:
    """An environment with a home, a PATH on which `python3` is the given one, and nothing more."""

    def __init__(self, directory: Path, python: Path = PYTHON) -> None:
        self.home = directory / "home"
        self.bin = directory / "bin"
        for made in (self.home, self.bin):
            made.mkdir(parents=True)
        (self.bin / "python3").symlink_to(python)
        self.variables = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.home)}

    def program(self, name: str, script: str) -> None:
        """Put a shell script on PATH."""
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, from / (so that nothing depends on where one stands)."""
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.variables | variables,
            cwd="/",
            stdin=subprocess.DEVNULL,
        )

    @contextlib.contextmanager
    def started(self, *command: str | Path) -> Iterator[subprocess.Popen[str]]:
        """A program that runs while the block does, and is killed if it still does afterwards."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, env=self.variables, cwd="/", stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def unpacked(tarball: Path, into: Path) -> Path:
    """A package, as the updater unpacks it."""
    into.parent.mkdir(parents=True, exist_ok=True)
    with extract.opened(tarball) as file:
        extract.unpack(file, into, durable=False)
    return into


def libraries(directory: Path) -> list[str]:
    """The names of unpacked or half unpacked libraries in a directory."""
    return sorted(path.name for path in directory.glob(".lib-*"))


def configure(directory: Path, server: str = "127.0.0.1:9") -> None:
    """Write a cfg.json; the usual server is one that refuses every connection."""
    http = {"enabled": True, "listen": f"127.0.0.1:{free_port()}"}
    settings = {"server": server, "interval": 60, "hostname": "h1", "http": http}
    (directory / "cfg.json").write_text(json.dumps(settings))
