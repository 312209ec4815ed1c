"""RabbitMQ: receives what elves' other modules ask, answers them, and asks the supervisor. One thread, one connection.

Promises that a message is acknowledged after its effect, so that nothing is lost that the broker had taken; that no message
whatsoever ends the consumer; and that a broker that is away is tried again with growing pauses, for ever. An exchange or queue
that is there already is used as it is.
"""

import logging
import threading
import time
from collections.abc import Callable
from random import random
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker, NackError, UnroutableError

from meta.bridges.elves.asking import CALL, SUPERVISOR_KEY, Asking
from meta.bridges.elves.config import Settings
from meta.bridges.elves.kept import KeptTable
from meta.bridges.elves.messages import Dropped, render_call
from meta.bridges.elves.numbers import Numbers, Sparing
from meta.bridges.elves.services import Reply, Services

BINDING = "*.heartbeat"
PREFETCH = 4  # messages in our memory at once, of whatever size the broker allows
TICK = 0.2  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 3.0
SAY_EVERY = 60.0  # seconds between two lines that say the same of a broker that is away
HEARTBEAT = 10  # seconds: a broker that is silent for twice as long is gone
NOT_FOUND = 404
log = logging.getLogger(__name__)


class Broker(threading.Thread):
    """asking: None where the supervisor is not asked. Ended by `stop`."""

    def __init__(
        self, settings: Settings, services: Services, kept: KeptTable, asking: Asking | None, numbers: Numbers
    ):
        super().__init__(name="amqp", daemon=True)
        self._settings = settings
        self._services = services
        self._kept = kept
        self._asking = asking
        self._numbers = numbers
        self._stopping = threading.Event()
        self._sparing = Sparing()
        self._said_away = ("", 0.0)
        self._channel: Any = None
        self._reply_queue = ""
        self._unsaved: list[int] = []  # delivery tags whose effect is not yet on the disk
        self._is_cancelled = False
        self.is_connected = False

    def stop(self, within: float = 5.0) -> None:
        """End after the message in hand."""
        self._stopping.set()
        self.join(within)

    def run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                self._session()
            except (AMQPError, OSError) as e:
                self._say_away(_in_words(e))
            except Exception:
                log.exception("RabbitMQ at %s: trouble of our own, connecting anew", self._place)
            if self.is_connected:
                pause = FIRST_PAUSE
                self._said_away = ("", 0.0)
            self.is_connected = False
            self._stopping.wait(pause * (0.5 + random()))  # noqa: S311 (so that instances do not come all at once)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _say_away(self, why: str) -> None:
        """Once, and again each minute."""
        said, at = self._said_away
        if why != said or time.monotonic() - at > SAY_EVERY:
            log.warning("RabbitMQ at %s is away, trying again: %s", self._place, why)
            self._said_away = (why, time.monotonic())

    @property
    def _place(self) -> str:
        return f"{self._settings.mq_ip}:{self._settings.mq_port}"

    def _session(self) -> None:
        """One connection, until it breaks or we stop."""
        connection = pika.BlockingConnection(_parameters(self._settings))
        try:
            self._channel = connection.channel()
            self._declare(connection)
            self._channel.confirm_delivery()
            self._channel.basic_qos(prefetch_count=PREFETCH)
            self._unsaved.clear()
            self._is_cancelled = False
            self._channel.add_on_cancel_callback(self._cancelled)
            self._channel.basic_consume(self._settings.mq_queue, self._receive)
            self._reply_queue = self._channel.queue_declare("", exclusive=True, auto_delete=True).method.queue
            self._channel.basic_consume(self._reply_queue, self._receive_answer, auto_ack=True)
            self.is_connected = True
            if self._asking:
                self._asking.reconnected()
            log.info("RabbitMQ at %s: queue %s serves", self._place, self._settings.mq_queue)
            while not self._stopping.is_set():
                connection.process_data_events(TICK)
                if self._is_cancelled or not self._channel.is_open:
                    raise AMQPError("the broker has closed our channel, or the queue is gone")
                self._tick()
        finally:
            if connection.is_open:
                connection.close()

    def _cancelled(self, _method: Any) -> None:
        """Somebody has deleted our queue."""
        self._is_cancelled = True

    def _declare(self, connection: pika.BlockingConnection) -> None:
        exchange, queue = self._settings.mq_exchange, self._settings.mq_queue
        self._ensure(
            connection,
            lambda channel: channel.exchange_declare(exchange, passive=True),
            lambda channel: channel.exchange_declare(exchange, "topic", durable=True),
        )
        self._ensure(
            connection,
            lambda channel: channel.queue_declare(queue, passive=True),
            lambda channel: channel.queue_declare(queue, durable=True),
        )
        self._channel.queue_bind(queue, exchange, BINDING)

    def _ensure(
        self,
        connection: pika.BlockingConnection,
        look: Callable[[BlockingChannel], Any],
        declare: Callable[[BlockingChannel], Any],
    ) -> None:
        """Other modules may have made it, with other arguments than ours: it is only made where there is none."""
        try:
            look(self._channel)
        except ChannelClosedByBroker as e:
            if e.reply_code != NOT_FOUND:
                raise
            self._channel = connection.channel()
            declare(self._channel)

    def _tick(self) -> None:
        if self._unsaved and self._kept.save():
            for tag in self._unsaved:
                self._channel.basic_ack(tag)
            self._unsaved.clear()
        if self._asking and (question := self._asking.due(time.monotonic())):
            properties = pika.BasicProperties(reply_to=self._reply_queue, correlation_id=question, delivery_mode=1)
            self._publish(self._settings.mq_exchange, SUPERVISOR_KEY, render_call(CALL), properties)

    def _receive(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._numbers.add("messages")
        try:
            reply = self._services.handle(body, properties.reply_to or "", time.time())
        except Dropped as e:
            self._numbers.add("messages_dropped")
            self._sparing.say(log, time.time(), "a message is dropped: %s", e)
            reply = Reply()
        except Exception:  # noqa: BLE001 (nothing that a message says may end the consumer)
            self._numbers.add("messages_dropped")
            self._sparing.say(log, time.time(), "a message is dropped, for a fault of ours", trace=True)
            reply = Reply()
        if reply.to:
            self._answer(reply, properties.correlation_id)
        if reply.is_done:
            self._channel.basic_ack(method.delivery_tag)
        else:
            self._unsaved.append(method.delivery_tag)

    def _answer(self, reply: Reply, correlation_id: str | None) -> None:
        """To the queue of this name; an ID of a message may also be a routing key of the exchange."""
        properties = pika.BasicProperties(correlation_id=correlation_id, content_type="application/json")
        if self._publish("", reply.to, reply.data, properties):
            return
        if reply.by_id and self._publish(self._settings.mq_exchange, reply.to, reply.data, properties):
            return
        self._numbers.add("answers_nobody_takes")
        self._sparing.say(log, time.time(), "nobody waits any more for the answer at %r", reply.to[:80])

    def _publish(self, exchange: str, key: str, data: bytes, properties: pika.BasicProperties) -> bool:
        """Whether the broker put it into a queue."""
        try:
            self._channel.basic_publish(exchange, key, data, properties, mandatory=True)
        except (UnroutableError, NackError):
            return False
        return True

    def _receive_answer(self, _channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        if self._asking:
            self._asking.answered(properties.correlation_id, body)


def _parameters(settings: Settings) -> pika.ConnectionParameters:
    return pika.ConnectionParameters(
        host=settings.mq_ip,
        port=settings.mq_port,
        virtual_host=settings.mq_vhost,
        credentials=pika.PlainCredentials(settings.mq_user, settings.mq_password),
        heartbeat=HEARTBEAT,
        blocked_connection_timeout=30,
        socket_timeout=5,
        stack_timeout=10,
        connection_attempts=1,
        client_properties={"product": "meta elves"},
    )


def _in_words(error: Exception) -> str:
    """pika's errors often have no text of their own, and one of their causes has."""
    causes = [error, *(e for e in error.args if isinstance(e, Exception))]
    return "; ".join(str(e) for e in causes if str(e)) or type(error).__name__
