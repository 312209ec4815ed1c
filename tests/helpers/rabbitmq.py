"""RabbitMQ for tests: the machine's own broker, under names of the test's own; and nodes that a test may kill.

    apt-get install -y --no-install-recommends rabbitmq-server

Where it is not there, a test is skipped and says so; with CI in the environment it fails.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any
from uuid import uuid4

import pika

from helpers.zookeeper import absent, is_open
from lab.fleet import until
from lab.ports import free_port

PORT = 5672
SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
HOW = "apt-get install -y --no-install-recommends rabbitmq-server, and start it on 127.0.0.1:5672"
START_WITHIN = 60.0


def connect(port: int = PORT, vhost: str = "/") -> pika.BlockingConnection:
    credentials = pika.PlainCredentials("guest", "guest")
    return pika.BlockingConnection(
        pika.ConnectionParameters("127.0.0.1", port, vhost, credentials, socket_timeout=5, heartbeat=0)
    )


@contextmanager
def names(port: int = PORT) -> Iterator[tuple[str, str]]:
    """An exchange and a queue of the test's own, neither of them made; what is there at the end is deleted."""
    if not is_open(port):
        absent("RabbitMQ", HOW)
    name = f"elves-test-{token_hex(6)}"
    try:
        yield name, f"{name}-heartbeat"
    finally:
        connection = connect(port)
        channel = connection.channel()
        channel.queue_delete(f"{name}-heartbeat")
        channel.exchange_delete(name)
        connection.close()


class Module:
    """Another module of elves. Use it in a `with`."""

    def __init__(self, exchange: str, port: int = PORT, vhost: str = "/"):
        self._exchange = exchange
        self._connection = connect(port, vhost)
        self.channel = self._connection.channel()
        self.channel.confirm_delivery()

    def __enter__(self) -> "Module":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, body: bytes, **properties: Any) -> None:
        """To the heartbeat module; returns when the broker has taken it."""
        known = pika.BasicProperties(delivery_mode=2, **properties)
        self.channel.basic_publish(self._exchange, "test.heartbeat", body, known, mandatory=True)

    def cast(self, service: str, body: Any) -> None:
        self.send(json.dumps({"mqkey": f"test.heartbeat.{service}", "mqtype": "cast", "mqbody": body}).encode())

    def call(self, service: str, body: Any, within: float = 5.0) -> Any:
        """As the code calls: `call`, AMQP's reply_to and a correlation id, which must come back. None: no answer in time."""
        queue = self.channel.queue_declare("", exclusive=True).method.queue
        message = {"mqkey": f"test.heartbeat.{service}", "mqtype": "call", "mqbody": body}
        wanted = uuid4().hex
        self.send(json.dumps(message).encode(), reply_to=queue, correlation_id=wanted)
        answer = self.take(queue, within)
        if answer is None:
            return None
        properties, text = answer
        assert properties.correlation_id == wanted
        return json.loads(text)

    def take(self, queue: str, within: float = 5.0) -> tuple[Any, bytes] | None:
        """The next message of a queue."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            method, properties, body = self.channel.basic_get(queue, auto_ack=True)
            if method:
                return properties, body
            self._connection.sleep(0.01)
        return None


class Node:
    """A RabbitMQ node of a test's own on free ports, with all its files in the directory. Use it in a `with`; `kill` and
    `start` may be called in between. It is known to the machine's epmd, and to nothing else of the machine's broker."""

    def __init__(self, directory: Path):
        if not SCRIPT.exists() or not is_open(4369):
            absent("RabbitMQ", HOW)
        self._directory = directory
        self.port, self._dist_port = free_port(), free_port()
        self._name = f"elves-{token_hex(6)}@localhost"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Node":
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / "plugins").write_text("[].")
        (self._directory / "rabbit.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """And wait until it serves; nothing to do when it does."""
        if self._process and self._process.poll() is None:
            return
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [SCRIPT], cwd=self._directory, env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_WITHIN
        try:
            while not self._serves():
                assert time.monotonic() < deadline and self._process.poll() is None, (
                    self._directory / "log"
                ).read_text()
                time.sleep(0.05)
        except BaseException:
            self.kill()
            raise

    def _environment(self) -> dict[str, str]:
        at = self._directory
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(at),  # its own Erlang cookie
            "LANG": "C.UTF-8",
            "RUNNING_UNDER_SYSTEMD": "1",  # the script becomes the broker, so that its pid is ours
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(at / "mnesia"),
            "RABBITMQ_LOG_BASE": str(at / "logs"),
            "RABBITMQ_CONFIG_FILE": str(at / "rabbit"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(at / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}",
        }

    def _serves(self) -> bool:
        try:
            connect(self.port).close()
        except (pika.exceptions.AMQPError, OSError):
            return False
        return True

    def kill(self) -> None:
        """As a crash would."""
        process, self._process = self._process, None
        if process:
            process.send_signal(signal.SIGKILL)
            process.wait(20)
            until("Erlang's helpers end", lambda: not _working_in(self._directory))


def _working_in(directory: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(directory):
                found.append(entry.name)
        except OSError:
            continue
    return [pid for pid in found if pid != str(os.getpid())]


def control(*words: str) -> None:
    """rabbitmqctl of the machine's own broker."""
    result = subprocess.run(["rabbitmqctl", "-q", *words], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, f"rabbitmqctl {' '.join(words)}: {result.stdout}{result.stderr}"


class Guest:
    """A user of the test's own, in a virtual host of its own, who may do what the patterns match there."""

    def __init__(self) -> None:
        if not is_open(PORT):
            absent("RabbitMQ", HOW)
        if not shutil.which("rabbitmqctl") or os.geteuid():
            absent("a rabbitmqctl that may make users", "run the tests as root, or as the broker's user")
        self.user = self.vhost = f"elves-test-{token_hex(6)}"

    def __enter__(self) -> "Guest":
        control("add_vhost", self.vhost)
        control("set_permissions", "-p", self.vhost, "guest", ".*", ".*", ".*")
        control("add_user", self.user, "secret")
        return self

    def __exit__(self, *_: object) -> None:
        control("delete_user", self.user)
        control("delete_vhost", self.vhost)

    def may(self, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        control("set_permissions", "-p", self.vhost, self.user, configure, write, read)
