"""What a connection writes: small answers at once, large ones as their client takes them, files by a sender's thread."""

import asyncio
import logging
import os
import socket
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from meta.artifacts.file_part import FilePart
from meta.door import limits
from meta.door.downloads import Download
from meta.heartbeat.responses import Answer

if TYPE_CHECKING:
    from meta.door.door import Door

PIECE = 64 << 10  # bytes that are given to the transport at once
log = logging.getLogger(__name__)


class Output:
    """The writing half of a connection; the reading half calls it, and has `_sent`, `_go_on` and `_resumed`."""

    __slots__ = (
        "_door",
        "_dropped",
        "_file",
        "_is_choked",
        "_is_ended",
        "_is_eof",
        "_is_last",
        "_is_paused",
        "_is_sending",
        "_parts",
        "_size",
        "_transport",
        "deadline",
        "unread",
    )

    def __init__(self, door: "Door"):
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._parts: list[memoryview] = []  # of a large answer
        self._file: tuple[bytes, FilePart] | None = None  # a download that waits until all before it is written
        self._size = 0  # bytes that Connections counts as unsent
        self._dropped = 0  # bytes that came after the last request
        self._is_choked = False  # the client does not read
        self._is_paused = False  # we do not read
        self._is_sending = False  # a sender's thread writes
        self._is_eof = False  # the client sends no more
        self._is_last = False  # no further request is taken
        self._is_ended = False  # nothing more is written
        self.deadline = inf  # for what is read
        self.unread = inf  # when what is written must have been read

    def _sent(self) -> None:
        raise NotImplementedError

    def _go_on(self) -> None:
        raise NotImplementedError

    def _resumed(self) -> None:
        raise NotImplementedError

    # --- writing ---

    @property
    def _has_output(self) -> bool:
        return bool(self._parts) or self._file is not None or self._is_sending

    @property
    def _is_unsent(self) -> bool:
        """Whether the transport has yet to write something."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def _write(self, data: bytes | memoryview) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _send(self, answer: Answer, is_last: bool, head_only: bool) -> None:
        """Write a rendered answer."""
        rest = answer.closed if is_last else answer.kept
        if head_only:
            rest = rest[: len(rest) - len(answer.body)]
        if self._transport is not None:
            self._transport.write(b"".join((answer.start, self._door.connections.date, rest)))

    def _send_parts(self, parts: list[bytes], size: int) -> None:
        """Write these, as the client reads them, and then call `_sent`. size: as Connections counts it."""
        self._size = size
        if size <= PIECE:
            parts = [b"".join(parts)]
        for part in parts:
            view = memoryview(part)
            self._parts.extend(view[at : at + PIECE] for at in range(0, len(view), PIECE))
        self._pump()

    def _pump(self) -> None:
        while self._parts and not self._is_choked:
            self._write(self._parts.pop(0))
        if not self._parts:
            self._door.connections.unsent -= self._size
            self._size = 0
            self._sent()

    def _send_file(self, head: bytes, part: FilePart) -> None:
        """Have a sender's thread send this, once all before it is written, and then call `_sent`."""
        self._file = head, part
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=0)
        if not self._is_choked:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._transport is None or self._file is None:
            return
        self._transport.set_write_buffer_limits()
        (head, part), self._file = self._file, None
        try:  # a descriptor of its own: the transport may close the other one while the thread is sending
            sock = socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno()))
        except OSError as e:
            log.warning("a download failed: %s", e.strerror)
            part.close()
            self.abort()
            return
        sock.setblocking(False)
        self._is_sending = True
        self._door.counts.downloads += 1
        self._door.downloads.send(Download(sock, memoryview(head), part, partial(self._door.soon, self._file_sent)))

    def _file_sent(self, is_whole: bool) -> None:
        self._door.counts.downloads -= 1
        self._is_sending = False
        if is_whole and self._transport is not None:
            self._sent()
        else:
            self.abort()

    def pause_writing(self) -> None:
        self._is_choked = True
        self.unread = self._door.connections.now + limits.UNREAD

    def resume_writing(self) -> None:
        self._is_choked = False
        if not self._is_ended:
            self.unread = inf
        self._door.loop.call_soon(self._written)  # asyncio's transport must not be closed in here

    def _written(self) -> None:
        """The client has read enough for more."""
        if self._is_choked or self._transport is None:
            return
        if self._parts:
            self._pump()
        elif self._file is not None:
            self._hand_over()
        else:
            self._go_on()

    # --- reading ---

    def _pause(self) -> None:
        """Read no more until what came is answered."""
        if not self._is_paused and not self._is_eof and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
            self.deadline = inf

    def _resume(self) -> None:
        if self._is_paused and not self._is_eof and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
            self._resumed()

    def _allow(self, seconds: float) -> None:
        """Set the deadline for what is read now; it waits while nothing is read."""
        self.deadline = inf if self._is_paused else self._door.connections.now + seconds

    def _drop(self, size: int) -> None:
        """Take no notice of what comes after the last request."""
        self._dropped += size
        if self._dropped > limits.MAX_LINGERING:
            self.abort()

    # --- ending ---

    def _end(self, lingers: bool) -> None:
        """Close the connection once all is written.

        lingers: read on for a while, since closing a socket with unread bytes would throw away what the client has yet to read.
        """
        self._is_last = self._is_ended = True
        if self._transport is None:
            return
        now = self._door.connections.now
        self.unread = now + limits.UNREAD
        if lingers and not self._is_eof and self._transport.can_write_eof():
            self._transport.write_eof()
            self._resume()
            self.deadline = now + limits.LINGER
        else:
            self.deadline = inf
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _forget_output(self) -> None:
        """The connection is lost."""
        self._transport = None
        self._door.connections.unsent -= self._size
        self._size = 0
        self._parts.clear()
        if self._file is not None:
            self._file[1].close()
            self._file = None
        self.deadline = self.unread = inf
