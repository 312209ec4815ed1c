"""The exchange, the queue and the binding between them: used as they are where they are there, made durable where not.

An exchange that is no topic is refused: with another type the queue would get messages of other modules, or none.
"""

from collections.abc import Callable
from typing import Any

from pika.exceptions import ChannelClosedByBroker

from meta.errors import Misconfigured

BINDING = "*.heartbeat"
ACCESS_REFUSED, NOT_FOUND, NOT_AS_DECLARED = 403, 404, 406


def ensure(connection: Any, exchange: str, queue: str) -> str:
    """Exchange, queue and binding are there; what the broker did not let us see to, "" for nothing. Each step has a channel of
    its own, since the broker closes the channel of one that it refuses. Raises AMQPError, and Misconfigured for an exchange of
    another type."""
    _ensure(
        connection,
        lambda channel: channel.exchange_declare(exchange, passive=True),
        lambda channel: channel.exchange_declare(exchange, "topic", durable=True),
    )
    _must_be_topic(connection, exchange)
    _ensure(
        connection,
        lambda channel: channel.queue_declare(queue, passive=True),
        lambda channel: channel.queue_declare(queue, durable=True),
    )
    try:
        _on_a_channel(connection, lambda channel: channel.queue_bind(queue, exchange, BINDING))
    except ChannelClosedByBroker as e:
        if e.reply_code != ACCESS_REFUSED:
            raise
        return (
            f"the queue {queue} cannot be bound to {exchange} with {BINDING}, which is well when it is: {e.reply_text}"
        )
    return ""


def load(connection: Any, queue: str) -> tuple[int, int]:
    """(messages of the queue that no consumer has been given, its consumers). Raises AMQPError."""
    channel = connection.channel()
    found = channel.queue_declare(queue, passive=True).method
    channel.close()
    return found.message_count, found.consumer_count


def _ensure(connection: Any, look: Callable[[Any], Any], declare: Callable[[Any], Any]) -> None:
    """Other modules may have made it, with other arguments than ours: it is only made where there is none."""
    try:
        _on_a_channel(connection, look)
    except ChannelClosedByBroker as e:
        if e.reply_code != NOT_FOUND:
            raise
        _on_a_channel(connection, declare)


def _must_be_topic(connection: Any, exchange: str) -> None:
    """AMQP shows no exchange's type. A declaration that differs is refused, and RabbitMQ compares the type first; where we may
    not declare, there is no way to know."""
    try:
        _on_a_channel(connection, lambda channel: channel.exchange_declare(exchange, "topic", durable=True))
    except ChannelClosedByBroker as e:
        if e.reply_code == NOT_AS_DECLARED and "arg 'type'" in e.reply_text:
            text = (
                f"the exchange {exchange} is no topic: delete it, or name another one in mq.exchange ({e.reply_text})"
            )
            raise Misconfigured(text) from e
        if e.reply_code not in (NOT_AS_DECLARED, ACCESS_REFUSED):
            raise


def _on_a_channel(connection: Any, do: Callable[[Any], Any]) -> None:
    channel = connection.channel()
    do(channel)
    channel.close()
