"""The exchange, the queue and the binding between them. Existing ones are used unchanged; missing ones are made durable.

An exchange that is no topic exchange is refused: the queue would get messages of other modules, or none.
"""

from collections.abc import Callable
from typing import Any

from pika.exceptions import ChannelClosedByBroker

from meta.errors import Misconfigured

BINDING = "*.heartbeat"
ACCESS_REFUSED, NOT_FOUND, NOT_AS_DECLARED = 403, 404, 406


def ensure(connection: Any, exchange: str, queue: str) -> str:
    """Make sure that exchange, queue and binding exist. Returns what the broker refused, "" for nothing.

    Each step has a channel of its own, because the broker closes the channel after a refusal. Raises AMQPError, and
    Misconfigured for an exchange of another type.
    """
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
            f"may not bind the queue {queue} to {exchange} with {BINDING}; ignore this if it is bound: {e.reply_text}"
        )
    return ""


def load(connection: Any, queue: str) -> tuple[int, int]:
    """Return (messages that wait in the queue, number of its consumers). Raises AMQPError."""
    channel = connection.channel()
    found = channel.queue_declare(queue, passive=True).method
    channel.close()
    return found.message_count, found.consumer_count


def _ensure(connection: Any, look: Callable[[Any], Any], declare: Callable[[Any], Any]) -> None:
    """Declare it only if it does not exist: another module may have made it with other arguments."""
    try:
        _on_a_channel(connection, look)
    except ChannelClosedByBroker as e:
        if e.reply_code != NOT_FOUND:
            raise
        _on_a_channel(connection, declare)


def _must_be_topic(connection: Any, exchange: str) -> None:
    """Raise Misconfigured if the exchange is no topic exchange.

    AMQP does not show the type of an exchange. But RabbitMQ refuses to declare it with another type, and says so first. If
    this user may not declare exchanges, the type stays unknown.
    """
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
