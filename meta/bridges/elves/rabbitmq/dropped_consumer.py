"""Detects that the broker no longer sends us messages of the queue. Pure.

RabbitMQ may drop a consumer silently, for example when a quorum queue is deleted and created again. Messages that wait in the
queue do not prove that: with a single active consumer, all other consumers get none.
"""


class Supply:
    """The supply of messages over one connection. waiting: messages in the queue when it began."""

    def __init__(self, waiting: int):
        self._waiting = waiting
        self._received = 0
        self.is_doubtful = False  # the caller should check again soon

    def is_cut(self, waiting: int, consumers: int, received: int) -> bool:
        """Check the supply. True if messages that waited at the last check are still not here.

        waiting: messages in the queue; consumers: of the queue; received: messages received over this connection so far.
        """
        is_silent = received == self._received
        was_doubtful, before = self.is_doubtful, self._waiting
        self._waiting, self._received = waiting, received
        self.is_doubtful = not consumers or (is_silent and waiting > (0 if was_doubtful else before))
        return was_doubtful and self.is_doubtful
