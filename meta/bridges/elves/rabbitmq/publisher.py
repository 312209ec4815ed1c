"""Messages to elves' other modules, over a connection of their own.

Who asks chooses where the answer goes, and the broker closes the channel or the whole connection for some of these names (403,
541). So answers never share a connection with the queue that we consume: what breaks theirs costs that answer only.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pika
from pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    NackError,
    UnroutableError,
)

from meta.bridges.elves.rabbitmq.connection import TookTooLong, in_words

ANSWER_WITHIN = 5.0  # seconds for the broker to confirm a message; elves' modules wait no longer for an answer
ASK_AGAIN = 60.0  # seconds until the default exchange is tried again that we may not write to
ACCESS_REFUSED = 403
DEFAULT = ""  # AMQP's default exchange: its routing keys are the queues' names


class Unpublished(Exception):
    """The message is in no queue; the text says why."""


class RefusedByBroker(Unpublished):
    """We may not write to this exchange."""


class Publisher:
    """One thread's. connect: opens a rabbitmq_connection.Connection; exchange: elves' own."""

    def __init__(self, connect: Callable[[], Any], exchange: str, within: float = ANSWER_WITHIN):
        self._connect = connect
        self._exchange = exchange
        self._within = within
        self._connection: Any = None
        self._channel: Any = None
        self._default_refused_until = 0.0

    def open(self) -> None:
        """Nothing to do when it is. Raises AMQPError or OSError."""
        if self._connection is None or not self._connection.is_open:
            self.close()
            self._connection = self._connect()
        if self._channel is None or not self._channel.is_open:
            with self._connection.within(self._within):
                self._channel = self._connection.channel()
                self._channel.confirm_delivery()

    def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and connection.is_open:
            with suppress(AMQPError, OSError):
                connection.close()

    def tick(self) -> None:
        """To be called some times a second: answers the broker's heartbeats."""
        if self._connection is not None and self._connection.is_open:
            with suppress(AMQPError, OSError):
                self._connection.process_data_events(0)

    def answer(self, to: str, by_id: bool, data: bytes, properties: pika.BasicProperties) -> None:
        """To the queue of this name. The exchange with this key is next where we may not write to queues directly, and for the
        ID of a call, which may be either. Raises Unpublished."""
        try:
            self._to_queue(to, data, properties)
        except RefusedByBroker:
            self.publish(self._exchange, to, data, properties)
        except Unpublished:
            if not by_id:
                raise
            self.publish(self._exchange, to, data, properties)

    def _to_queue(self, name: str, data: bytes, properties: pika.BasicProperties) -> None:
        if time.monotonic() < self._default_refused_until:
            raise RefusedByBroker("we may not write to the default exchange")
        try:
            self.publish(DEFAULT, name, data, properties)
        except RefusedByBroker:
            self._default_refused_until = time.monotonic() + ASK_AGAIN
            raise

    def publish(self, exchange: str, key: str, data: bytes, properties: pika.BasicProperties) -> None:
        """Returns when the broker has put it into a queue. Raises Unpublished."""
        try:
            self._publish(exchange, key, data, properties)
        except (UnroutableError, NackError) as e:
            raise Unpublished("no queue takes it") from e
        except ChannelClosedByBroker as e:
            kind = RefusedByBroker if e.reply_code == ACCESS_REFUSED else Unpublished
            raise kind(e.reply_text) from e
        except Exception as e:  # pika has no common base for these; the next message gets another connection
            self.close()
            raise Unpublished(in_words(e)) from e

    def _publish(self, *message: Any) -> None:
        """Once more where the connection was lost without a word of the broker, for that may have been long before."""
        was_open = self._connection is not None
        try:
            self._publish_once(*message)
        except (ConnectionClosedByBroker, TookTooLong):
            raise
        except AMQPConnectionError:
            if not was_open:
                raise
            self.close()
            self._publish_once(*message)

    def _publish_once(self, *message: Any) -> None:
        self.open()
        with self._connection.within(self._within):
            self._channel.basic_publish(*message, mandatory=True)
