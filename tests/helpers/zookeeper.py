"""A ZooKeeper of a test's own: Debian's package `zookeeper`, on a free port of loopback, with its data in tmp_path.

    apt-get install -y --no-install-recommends zookeeper

Where it is not installed, a test is skipped and says so; with CI in the environment it fails.
"""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from lab.fleet import until
from lab.ports import free_port

JAR = Path("/usr/share/java/zookeeper.jar")
HOW = "apt-get install -y --no-install-recommends zookeeper"


def absent(what: str, how: str) -> NoReturn:
    """In CI a failure, elsewhere a visible skip."""
    text = f"{what} is not here: {how}"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class ZooKeeper:
    """Use it in a `with`; `kill`, `forget` and `start` may be called in between: the port stays, and the data
    unless it forgets. max_buffer: bytes of the largest message that it takes."""

    def __init__(self, directory: Path, max_buffer: int = 0xFFFFF):
        if not JAR.exists() or not shutil.which("java"):
            absent("ZooKeeper", HOW)
        self._directory = directory
        self._max_buffer = max_buffer
        self.port = free_port()
        self.hosts = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "ZooKeeper":
        self._directory.mkdir(parents=True, exist_ok=True)
        lines = [
            "tickTime=500",  # sessions of 1 to 10 seconds
            f"dataDir={self._directory / 'data'}",
            f"clientPort={self.port}",
            "clientPortAddress=127.0.0.1",
            "admin.enableServer=false",
        ]
        (self._directory / "zoo.cfg").write_text("\n".join(lines))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        command = ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command += [f"-Djute.maxbuffer={self._max_buffer}", "-cp", str(JAR)]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "org.apache.zookeeper.server.ZooKeeperServerMain", "zoo.cfg"],
                cwd=self._directory,
                stdout=log,
                stderr=log,
            )
        try:
            until("ZooKeeper listens", lambda: is_open(self.port))
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """As a crash would."""
        process, self._process = self._process, None
        if process:
            process.send_signal(signal.SIGKILL)
            process.wait(20)

    def forget(self) -> None:
        """All its data, as a disk that is replaced. Only while it is down."""
        shutil.rmtree(self._directory / "data")
