"""Sends files from threads of their own, so that no disk is ever read on the loop, however slow it is or its clients are.

A thread waits for all its clients at once, and `os.sendfile` copies from the page cache to the socket without Python. While a
file system hangs, its downloads wait. So there are several threads, and a download is given to the one with the fewest.
"""

import logging
import os
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from meta.artifacts.file_part import FilePart
from meta.door.limits import UNREAD

SENDERS = 4  # threads
PIECE = 128 << 10  # bytes for one client, before the others get theirs
LEAST = 16 << 10  # bytes that are worth a system call while `downloadRate` limits all
BURST = 0.25  # seconds of that rate
log = logging.getLogger(__name__)


@dataclass(eq=False)
class Download:
    """One response that is being sent. done: called in a sender's thread, with whether all was sent; then `sock` is closed."""

    sock: socket.socket  # of its own, non-blocking
    head: memoryview
    part: FilePart
    done: Callable[[bool], None]
    sent: int = 0  # bytes of the part
    progress: float = field(default_factory=time.monotonic)  # when bytes went out last


class Rate:
    """Bytes a second for all downloads; 0 for no limit. Safe for threads."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic):
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._at = clock()
        self._left = 0.0
        self._least = min(LEAST, max(1, int(rate * BURST)))

    def take(self, wanted: int) -> int:
        """How many of these bytes may be sent now; 0 for none. What is not used comes back by `give_back`."""
        if not self._rate:
            return wanted
        with self._lock:
            now = self._clock()
            self._left = min(self._left + (now - self._at) * self._rate, max(self._rate * BURST, LEAST))
            self._at = now
            granted = min(wanted, int(self._left))
            if granted < min(wanted, self._least):
                return 0
            self._left -= granted
            return granted

    def give_back(self, size: int) -> None:
        if self._rate:
            with self._lock:
                self._left += size


class Sender:
    """One thread and its downloads."""

    def __init__(self, rate: Rate):
        self._rate = rate
        self._new: list[Download] = []
        self._current: set[Download] = set()
        self._selector = selectors.DefaultSelector()
        self._wake: socket.socket | None = None  # what wakes the thread; None before it is started
        self._stopping = False
        self.count = 0  # downloads that were given to this thread and are not done

    def send(self, download: Download) -> None:
        """To be called by one thread alone."""
        if self._wake is None:
            self._wake, woken = socket.socketpair()
            self._wake.setblocking(False)
            woken.setblocking(False)
            threading.Thread(target=self._run, args=(woken,), name="downloads", daemon=True).start()
        self.count += 1
        self._new.append(download)
        self._wake_up()

    def stop(self) -> None:
        self._stopping = True
        self._wake_up()
        if self._wake is None:
            self._selector.close()
        else:
            self._wake.close()

    def _wake_up(self) -> None:
        if self._wake is not None:
            with suppress(OSError):  # it is awake already, or has ended
                self._wake.send(b"x")

    def _run(self, woken: socket.socket) -> None:
        with woken, self._selector:
            self._selector.register(woken, selectors.EVENT_READ)
            self._serve(woken)
            for one in [*self._current, *self._new]:
                self._end(one, False)

    def _serve(self, woken: socket.socket) -> None:
        swept = time.monotonic()
        while not self._stopping:
            ready = [key.data for key, _ in self._selector.select(1.0)]
            if None in ready:
                ready.remove(None)
                with suppress(BlockingIOError):
                    woken.recv(4096)
            ready += self._begun()
            random.shuffle(ready)  # else the first ones would get all of a limited rate
            if ready and not sum(self._goes_on(download) for download in ready):
                time.sleep(0.02)  # the rate is used up
            if time.monotonic() - swept > 1.0:
                swept = time.monotonic()
                for late in [one for one in self._current if swept - one.progress > UNREAD]:
                    self._end(late, False)

    def _begun(self) -> list[Download]:
        begun = []
        while self._new:
            download = self._new.pop()
            self._current.add(download)
            try:
                self._selector.register(download.sock, selectors.EVENT_WRITE, download)
                begun.append(download)
            except (OSError, ValueError):
                self._end(download, False)
        return begun

    def _goes_on(self, download: Download) -> bool:
        """Send the next piece. Returns whether the rate allowed it."""
        try:
            return self._sent_piece(download)
        except BlockingIOError:
            return True
        except OSError:  # the client is gone, or the file cannot be read
            self._end(download, False)
        except Exception:
            log.exception("a download failed")
            self._end(download, False)
        return True

    def _sent_piece(self, download: Download) -> bool:
        left = download.part.length - download.sent
        if download.head:
            sent = download.sock.send(download.head, socket.MSG_MORE if left else 0)
            download.head = download.head[sent:]
        elif left:
            granted = self._rate.take(min(left, PIECE))
            if not granted:
                return False
            sent = 0
            try:
                file = download.part
                sent = os.sendfile(download.sock.fileno(), file.file.fileno(), file.offset + download.sent, granted)
            finally:
                self._rate.give_back(granted - sent)
            if not sent:
                raise OSError("the file became shorter")
            download.sent += sent
            left -= sent
        download.progress = time.monotonic()
        if not left and not download.head:
            self._end(download, True)
        return True

    def _end(self, download: Download, is_whole: bool) -> None:
        self._current.discard(download)
        with suppress(KeyError, ValueError):
            self._selector.unregister(download.sock)
        download.part.close()
        self.count -= 1
        if not is_whole:
            with suppress(OSError):
                download.sock.shutdown(socket.SHUT_RDWR)
        download.sock.close()
        download.done(is_whole)


class Downloads:
    """All downloads. rate: bytes a second for all of them; 0 for no limit. Used by the loop's thread alone."""

    def __init__(self, rate: int):
        limit = Rate(rate)
        self._senders = [Sender(limit) for _ in range(SENDERS)]

    def send(self, download: Download) -> None:
        min(self._senders, key=lambda sender: sender.count).send(download)

    def stop(self) -> None:
        """Hang up on all that are under way."""
        for sender in self._senders:
            sender.stop()
