"""Servers that say on a socket exactly what a test tells them to, byte by byte, on loopback."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Say = Callable[[socket.socket], None]


def answer(body: bytes = b"", status: str = "200 OK", *headers: str, length: int | None = None) -> Say:
    """A whole HTTP answer, the last of its connection; `length` other than the body's is a lie."""
    length = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {length}", "Connection: close", *headers, "", ""]
    return lambda connection: connection.sendall("\r\n".join(lines).encode("latin-1") + body)


def raw(data: bytes) -> Say:
    """These bytes, and then the end."""
    return lambda connection: connection.sendall(data)


def drip(data: bytes, stop: threading.Event, every: float = 0.05) -> Say:
    """One byte at a time, slowly, for ever."""

    def say(connection: socket.socket) -> None:
        while data and not stop.is_set():
            for byte in data:
                connection.sendall(bytes([byte]))
                if stop.wait(every):
                    return

    return say


def endless(head: bytes, chunk: bytes, stop: threading.Event) -> Say:
    """A head, and then the same bytes as fast as they are taken, for ever."""

    def say(connection: socket.socket) -> None:
        connection.sendall(head)
        while not stop.is_set():
            connection.sendall(chunk)

    return say


@dataclass
class Server:
    """Answers each connection with the next of `says`, the last one again and again; `requests` is what came."""

    says: list[Say]
    requests: list[bytes] = field(default_factory=list)
    url: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self) -> Iterator["Server"]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            thread = threading.Thread(target=self._accept, args=(listener,))
            thread.start()
            try:
                yield self
            finally:
                self.stop.set()
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)
                thread.join(10)

    def _accept(self, listener: socket.socket) -> None:
        threads: list[threading.Thread] = []
        while not self.stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                break
            say = self.says.pop(0) if len(self.says) > 1 else self.says[0]
            threads.append(threading.Thread(target=self._serve, args=(connection, say)))
            threads[-1].start()
        for thread in threads:
            thread.join(10)

    def _serve(self, connection: socket.socket, say: Say) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            self.requests.append(_request(connection))
            say(connection)


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return data
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def serving(*says: Say) -> contextlib.AbstractContextManager[Server]:
    return Server(list(says)).running()
