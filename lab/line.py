"""A line to a server that fails as lines and servers do: it refuses, is late, freezes, breaks; or it swallows the answer to a
COMMIT, which leaves open whether that was done."""

import contextlib
import socket
import threading
from collections.abc import Iterator

PIECE = 65536
COMMITTING = 0.2  # seconds for the server to do a COMMIT whose answer is swallowed
COMMIT = b"COMMIT\0"  # as it stands in a message of libpq
PASS, CUT, HOLD, CUT_BEFORE = "pass", "cut", "hold", "cut before"


class Line:
    """Passes bytes on between its port and a server's. All faults are attributes, and may change at any moment.

    target: (host, port) of connections to come; refusing: all of these; frozen: nothing gets through while it is set; delay:
    seconds by which answers are late; at_commit: what becomes of a COMMIT: PASS; CUT: it is done, and then the connection
    breaks; HOLD: it is done, and its answer never comes; CUT_BEFORE: it does not arrive.
    """

    def __init__(self, host: str, port: int):
        self.target = (host, port)
        self.refusing = False
        self.frozen = threading.Event()
        self.delay = 0.0
        self.at_commit = PASS
        self._ended = threading.Event()
        self._pairs: list[_Pair] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    @contextlib.contextmanager
    def running(self) -> Iterator["Line"]:
        thread = threading.Thread(target=self._accept)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            self._listener.close()
            self.cut()
            for pair in self._pairs:
                pair.join()

    def heal(self) -> None:
        """No faults from now on; what is held stays so until it is cut."""
        self.refusing, self.delay, self.at_commit = False, 0.0, PASS
        self.frozen.clear()

    def cut(self) -> None:
        """All connections break."""
        for pair in list(self._pairs):
            pair.cut()

    def pause(self, held: threading.Event, broken: threading.Event) -> bool:
        """Returns when something may get through: True; or all is over."""
        while (self.frozen.is_set() or held.is_set()) and not broken.wait(0.005):
            pass
        return not broken.is_set()

    def be_late(self) -> None:
        if self.delay:
            self._ended.wait(self.delay)

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            try:
                far = None if self.refusing else socket.create_connection(self.target, 5)
            except OSError:
                far = None
            if far is None:
                near.close()
                continue
            far.settimeout(None)
            for over in [pair for pair in self._pairs if not pair.is_open()]:
                over.join()
                self._pairs.remove(over)
            self._pairs.append(_Pair(self, near, far))


class _Pair:
    """One connection, and the two threads that keep it."""

    def __init__(self, line: Line, near: socket.socket, far: socket.socket):
        self._line, self._near, self._far = line, near, far
        self._held, self._broken = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._pass_questions, self._pass_answers)]
        for thread in self._threads:
            thread.start()

    def is_open(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
        self._near.close()
        self._far.close()

    def cut(self) -> None:
        self._broken.set()
        for end in (self._near, self._far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _pass_questions(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._near.recv(PIECE):
                if not self._line.pause(threading.Event(), self._broken):
                    break
                what = self._line.at_commit if COMMIT in data else PASS
                if what == CUT_BEFORE:
                    break
                if what != PASS:
                    self._held.set()
                self._far.sendall(data)
                if what == CUT:
                    self._line._ended.wait(COMMITTING)
                    break
        self.cut()

    def _pass_answers(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._far.recv(PIECE):
                self._line.be_late()
                if not self._line.pause(self._held, self._broken):
                    break
                self._near.sendall(data)
        self.cut()
