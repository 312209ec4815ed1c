"""Publishes messages to elves' other modules, over a connection of its own.

The sender of a call chooses the name of the queue for its answer. For some names, the broker closes the channel or the whole
connection (403, 541). So answers do not use the consumer's connection, and a bad name costs only that one answer.
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
ASK_AGAIN = 60.0  # seconds until the default exchange is tried again after it refused us
ACCESS_REFUSED = 403
DEFAULT = ""  # AMQP's default exchange, whose routing keys are names of queues


class Unpublished(Exception):
    """The message is in no queue; the text says why."""


class RefusedByBroker(Unpublished):
    """This user may not write to the exchange."""


class Publisher:
    """Publishes messages. For one thread. connect: opens a connection.Connection; exchange: the one of elves."""

    def __init__(self, connect: Callable[[], Any], exchange: str, within: float = ANSWER_WITHIN):
        self._connect = connect
        self._exchange = exchange
        self._within = within
        self._connection: Any = None
        self._channel: Any = None
        self._default_refused_until = 0.0

    def open(self) -> None:
        """Connect, if not connected. Raises AMQPError or OSError."""
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
        """Answer the broker's heartbeats. Must be called several times a second."""
        if self._connection is not None and self._connection.is_open:
            with suppress(AMQPError, OSError):
                self._connection.process_data_events(0)

    def answer(self, to: str, by_id: bool, data: bytes, properties: pika.BasicProperties) -> None:
        """Send an answer to the queue named `to`. Raises Unpublished.

        It is sent to the exchange with the routing key `to` instead if this user may not write to queues directly. The same is
        done if no such queue exists and `to` is the ID of a call.
        """
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
            raise RefusedByBroker("mq.user may not write to the default exchange")
        try:
            self.publish(DEFAULT, name, data, properties)
        except RefusedByBroker:
            self._default_refused_until = time.monotonic() + ASK_AGAIN
            raise

    def publish(self, exchange: str, key: str, data: bytes, properties: pika.BasicProperties) -> None:
        """Publish a message. Returns when the broker has put it into a queue. Raises Unpublished."""
        try:
            self._publish(exchange, key, data, properties)
        except (UnroutableError, NackError) as e:
            raise Unpublished("no queue accepts it") from e
        except ChannelClosedByBroker as e:
            kind = RefusedByBroker if e.reply_code == ACCESS_REFUSED else Unpublished
            raise kind(e.reply_text) from e
        except Exception as e:  # pika has no common base class for these; the next message gets a new connection
            self.close()
            raise Unpublished(in_words(e)) from e

    def _publish(self, *message: Any) -> None:
        """Publish, and try once more if the connection turns out to be lost: that may have happened long before."""
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
