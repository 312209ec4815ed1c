"""A TCP proxy on loopback whose way back a test may cut: what the client sends arrives, and the answer does not."""

import contextlib
import socket
import threading
from collections.abc import Iterator


class Proxy:
    """hold: nothing goes back to one client from now on, by the number of its connection from 0. hold_after: the same for a
    client that sends these bytes. cut: all connections end, and what is held is gone; new ones are served. `sent`: what the
    clients sent, all connections together."""

    def __init__(self, port: int):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._may_go_back: list[threading.Event] = []
        self._is_closed = False
        self._marker = b""
        self.sent = b""
        self._begin(self._accept)

    def hold(self, number: int) -> None:
        self._may_go_back[number].clear()

    def hold_after(self, marker: bytes) -> None:
        self._marker = marker

    def cut(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._marker = b""
        for event in self._may_go_back:
            event.set()

    def close(self) -> None:
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in list(self._threads):
            thread.join(10)
        self._listener.close()

    def _begin(self, work, *arguments) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target), 10)
            except OSError:
                continue
            server.settimeout(None)
            pair = (client, server)
            may_go_back = threading.Event()
            may_go_back.set()
            with self._lock:
                self._pairs.append(pair)
                self._may_go_back.append(may_go_back)
            self._begin(self._forth, *pair, may_go_back)
            self._begin(self._back, *pair, may_go_back)

    def _forth(self, client: socket.socket, server: socket.socket, may_go_back: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                self.sent += data
                if self._marker and self._marker in data:
                    may_go_back.clear()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _back(self, client: socket.socket, server: socket.socket, may_go_back: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                may_go_back.wait()
                client.sendall(data)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
