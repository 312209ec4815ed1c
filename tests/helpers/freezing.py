"""A line to another server that can be frozen: everybody stays connected, and nothing gets through any more."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator


class Line:
    """Passes bytes on between its port and a server's, but while `frozen` is set."""

    def __init__(self, host: str, port: int):
        self.frozen = threading.Event()
        self._server = (host, port)
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    @contextlib.contextmanager
    def running(self) -> Iterator["Line"]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()

    def _run(self) -> None:
        peers: dict[socket.socket, socket.socket] = {}
        while not self._ended.is_set():
            if self.frozen.is_set():
                self._ended.wait(0.01)
                continue
            for ready in select.select([self._listener, *peers], [], [], 0.02)[0]:
                if ready is self._listener:
                    near, far = self._listener.accept()[0], socket.create_connection(self._server)
                    peers |= {near: far, far: near}
                elif ready in peers:
                    self._pass_on(ready, peers)
        for open_socket in (self._listener, *peers):
            open_socket.close()

    def _pass_on(self, source: socket.socket, peers: dict[socket.socket, socket.socket]) -> None:
        with contextlib.suppress(OSError):
            if data := source.recv(65536):
                peers[source].sendall(data)
                return
        for end in (source, peers.pop(source)):
            peers.pop(end, None)
            end.close()
