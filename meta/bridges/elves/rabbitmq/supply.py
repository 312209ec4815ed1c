"""Whether the broker still sends us what is in the queue. Pure.

RabbitMQ may forget a consumer without a word, as that of a quorum queue which is deleted and made again. A queue in which
messages wait is no sign of it alone: with a single active consumer the others get none.
"""


class Supply:
    """Over one connection. waiting: messages in the queue at its beginning."""

    def __init__(self, waiting: int):
        self._waiting = waiting
        self._received = 0
        self.is_doubtful = False  # look again soon

    def is_cut(self, waiting: int, consumers: int, received: int) -> bool:
        """At a look: messages in the queue, its consumers, and messages received so far. True when what came into the queue
        has not come to us by the look after that."""
        is_silent = received == self._received
        was_doubtful, before = self.is_doubtful, self._waiting
        self._waiting, self._received = waiting, received
        self.is_doubtful = not consumers or (is_silent and waiting > (0 if was_doubtful else before))
        return was_doubtful and self.is_doubtful
