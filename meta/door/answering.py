"""How a connection answers its requests in their order, and ends.

One read may bring several requests. Those that must wait for the answer to an earlier one are kept, and reading pauses.
"""

import logging
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from meta.door import limits
from meta.door.framework import CROWDED, Response
from meta.door.output import Output
from meta.door.request import Request
from meta.heartbeat.notify import NOTHING, Park
from meta.heartbeat.responses import Answer, refusal

if TYPE_CHECKING:
    from meta.door.door import Door

PARKED = Request("")  # stands for the request of every parked host
FULL = refusal(503, "too much is arriving, or being sent, at the same time")
FAILED = refusal(500, "internal error")
MANY = refusal(503, "too many requests at once over one connection")
log = logging.getLogger(__name__)


class Answering(Output):
    """A request is `_request` while it arrives, in `_queue` while it waits, and `_current` while the framework answers it, or
    while it is parked. The reading half has `late`, `stop` and `cut`."""

    __slots__ = ("_current", "_final", "_in_read", "_queue", "_request", "park")

    def __init__(self, door: "Door"):
        super().__init__(door)
        self._request: Request | None = None
        self._queue: list[Request] = []  # short: what one read has brought
        self._in_read = 0  # whole requests that the present read has brought
        self._current: Request | None = None
        self.park: Park | None = None  # `_current` waits for news
        self._final: Answer | None = None  # a refusal that waits until all before it is answered

    address: str  # of the client

    def late(self, now: float) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def cut(self) -> None:
        raise NotImplementedError

    @property
    def _is_busy(self) -> bool:
        """Whether a whole request is not answered."""
        return self._current is not None or bool(self._queue)

    @property
    def _must_wait(self) -> bool:
        return self._current is not None or self._is_choked or bool(self._queue)

    def is_answering(self) -> bool:
        return self._is_busy or self._has_output or self._is_unsent

    def _take(self, request: Request) -> None:
        """Answer a request whose head and body are here, or whose body is large."""
        self._in_read += 1
        if self._in_read > limits.MAX_PIPELINED:
            self._release(request)
            self._refuse(MANY)
        elif self._current is not None or self._is_choked or self._queue:
            self._queue.append(request)
            self._pause()
        else:
            self._answer(request)

    def _answer(self, request: Request) -> None:
        if request.path is None:
            self._pass_on(request)
            return
        try:
            answer = request.path(request.environ, request.content() if request.rest else request.body)
        except Exception:
            log.exception("%s failed", request.environ["REQUEST_METHOD"])
            answer = FAILED
        if request.held:
            self._release(request)
        if isinstance(answer, Park):
            parked = self._parked(answer)
            if parked is None:
                return
            answer = parked
        is_last = request.is_last or self._door.connections.stopping
        self._send(answer, is_last, request.environ["REQUEST_METHOD"] == "HEAD")
        if is_last:
            self._end(lingers=False)
        else:
            self.deadline = self._door.connections.now + limits.IDLE

    def _parked(self, park: Park) -> Answer | None:
        """Have this request wait for news, or return the answer that it gets at once."""
        parking = self._door.parking
        if self._queue or self._is_eof:  # its client does not wait
            return parking.at_once(park)
        if (answer := parking.enter(self, park)) is None:
            self._current = PARKED  # and not the request: there may be very many
            if self._is_paused:
                ends = self.deadline
                self._resume()
                self.deadline = ends
        return answer

    def unpark(self, answer: Answer, goes_on: bool) -> None:
        """Answer the park. The connection is closed, unless its client has sent another request already: it would count as any
        other, and a host that was woken beats by another one."""
        self._current = None
        self._send(answer, not goes_on, False)
        if goes_on:
            self._go_on()
        else:
            self._end(lingers=False)

    def _stop_waiting(self, goes_on: bool) -> None:
        """The client of a park, if there is one, sends another request, or nothing more."""
        if self.park is not None:
            self._door.parking.end(self, NOTHING, goes_on)

    def _pass_on(self, request: Request) -> None:
        self._current = request
        if request is not self._request:
            self.deadline = inf
        is_last = request.is_last or self._door.connections.stopping or request.pipe is not None
        request.is_last = is_last
        then = partial(self._answered, request)
        if not self._door.framework.call(request.environ, request.pipe or request.content(), is_last, then):
            self._door.counts.refused[CROWDED.status] += 1
            self._door.loop.call_soon(then, self._door.framework.ready(CROWDED, is_last))

    def _answered(self, request: Request, response: Response) -> None:
        """The framework's answer is there."""
        if self._current is not request or request.is_refused or self._transport is None:
            if response.file:
                response.file.close()
            if self._current is request:
                self._current = None
                self._go_on()
            return
        connections = self._door.connections
        self._release(request)
        if not connections.may_send(response.size):
            self._door.counts.refused[FULL.status] += 1
            if response.file:
                response.file.close()
            response = self._door.framework.ready(FULL, request.is_last)
            connections.unsent += response.size
        if response.file:
            self._send_file(response.head, response.file)
        else:
            self._send_parts([response.head, *response.body], response.size)

    def _sent(self) -> None:
        """Nothing is left of the output."""
        request, self._current = self._current, None
        if request is not None and (request.is_last or self._door.connections.stopping):
            self._request = None
            self._end(lingers=not request.is_whole)
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Answer what waits, as far as it can be done now; then read on."""
        while self._queue and not (self._current is not None or self._is_choked or self._is_ended):
            self._answer(self._queue.pop(0))
        if self._is_busy or self._is_choked or self._is_ended:
            return
        if self._final is not None:
            self._finish(self._final)
        elif self._is_eof or self._is_last:
            self._end(lingers=False)
        elif self._is_paused:
            self._resume()
        elif self._request is None:
            self._allow(limits.IDLE)

    def _resumed(self) -> None:
        """Reading goes on after a pause, so the time for it starts again."""
        request = self._request
        if request is None:
            self._allow(limits.IDLE)
        else:
            request.window = request.size
            self._allow(request.within if request.is_headed else limits.HEAD_WITHIN)

    # --- ending ---

    def _refuse(self, answer: Answer) -> None:
        """Answer the request that arrives by a refusal, after those before it, and take no other."""
        if self._is_last and self._request is None:
            return
        request, self._request = self._request, None
        self._is_last = True
        self._door.refused(answer.status, request)
        if request is not None:
            self._release(request)
            request.is_refused = True
        self._final = answer
        if request is not None and request is self._current:
            return  # a thread reads its body, and ends soon
        if not self._is_busy and not self._has_output:
            self._finish(answer)
        else:
            self.deadline = inf  # what is under way has all its time

    def _finish(self, answer: Answer) -> None:
        self._final = None
        self._send(answer, True, False)
        self._end(lingers=True)

    def _release(self, request: Request) -> None:
        """Give back what is held for a request."""
        self._door.connections.held -= request.held
        request.held = 0
        if request.pipe:
            request.pipe.fail()
