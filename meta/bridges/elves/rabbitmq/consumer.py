"""The consumer of elves' queue: answers calls of other modules, and calls the supervisor. One thread, two connections.

No message can block the next one. A call changes nothing, so it is acknowledged before it is answered, over the connection of
the Publisher. A new app table is acknowledged when it is on the disk, so that none is lost. A message that breaks several
connections in a row is removed from the queue. While the broker is away, connecting is tried again for ever, with growing
pauses.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import random
from typing import Any

import pika
from pika.exceptions import AMQPConnectionError, AMQPError, ChannelClosedByBroker

from meta.bridges.elves.app_table_store import KeptTable
from meta.bridges.elves.counters import Numbers
from meta.bridges.elves.rabbitmq import topology
from meta.bridges.elves.rabbitmq.connection import Connection, in_words
from meta.bridges.elves.rabbitmq.dropped_consumer import Supply
from meta.bridges.elves.rabbitmq.messages import Dropped, render_call
from meta.bridges.elves.rabbitmq.publisher import Publisher, Unpublished
from meta.bridges.elves.rabbitmq.services import Reply, Services
from meta.bridges.elves.rabbitmq.supervisor_poll import CALL, SUPERVISOR_KEY, Asking
from meta.bridges.elves.rate_limited_log import RateLimitedLog, Reminder
from meta.bridges.elves.settings import Settings
from meta.errors import Misconfigured
from meta.process.clock import SYSTEM, Now

PREFETCH = 4  # messages in memory at once; each may have any size that the broker allows
TICK = 0.2  # seconds
BEGIN_WITHIN = 5.0  # seconds; a broker that is starting may accept a connection and never answer on it
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 3.0  # seconds
BIND_EVERY = 20.0  # seconds
LOOK_AGAIN = 2.0  # seconds within which the broker delivers messages that wait for us
SOON = 5.0  # seconds; if a connection is lost so early, without a message, the first message may be the cause
STRIKES = 3  # such connections in a row, after which the first message is removed from the queue
log = logging.getLogger(__name__)


class Broker(threading.Thread):
    """The thread that consumes the queue; `stop` ends it.

    asking: None if the supervisor is not called; connect: opens a connection; bind_every: seconds between two checks that the
    exchange, the queue and their binding exist.
    """

    def __init__(
        self,
        settings: Settings,
        services: Services,
        kept: KeptTable,
        asking: Asking | None,
        numbers: Numbers,
        connect: Callable[[Settings], Any] = Connection,
        bind_every: float = BIND_EVERY,
        now: Now = SYSTEM.now,
    ):
        super().__init__(name="amqp", daemon=True)
        self._settings = settings
        self._services = services
        self._kept = kept
        self._asking = asking
        self._numbers = numbers
        self._connect = partial(connect, settings)
        self._bind_every = bind_every
        self._now = now
        self._publisher = Publisher(self._connect, settings.mq_exchange)
        self._stopping = threading.Event()
        self._limited_log = RateLimitedLog()
        self._away = Reminder(log)
        self._unbound = Reminder(log)
        self._connection: Any = None
        self._channel: Any = None
        self._reply_queue = ""
        self._unsaved: int | None = None  # delivery tag of the newest app table; None: it is on the disk
        self._is_cancelled = False  # the queue was deleted
        self._is_consuming = False
        self._received = 0  # messages over this connection
        self._strikes = 0  # see STRIKES
        self._supply = Supply(0)
        self._next_bind = 0.0
        self.is_connected = False
        self.trouble = "not yet connected"  # why it is not connected

    def stop(self, within: float = 5.0) -> None:
        """End after the current message."""
        self._stopping.set()
        self.join(within)

    def run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._session()
            except (AMQPError, OSError, Misconfigured) as e:
                self._is_away(in_words(e), time.monotonic() - began)
            except Exception as e:
                log.exception("RabbitMQ at %s: internal error, connecting again", self._place)
                self.trouble = in_words(e)
            self.is_connected = False
            if time.monotonic() - began > SOON:
                pause = FIRST_PAUSE
            self._stopping.wait(pause * (0.5 + random()))  # noqa: S311 (so that instances do not connect all at once)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _is_away(self, why: str, lasted: float) -> None:
        self.trouble = why
        if self.is_connected and lasted > SOON:
            self._away.over()  # it worked in between, so this is another failure
        self._away.say("RabbitMQ at %s is away, trying again: %s", self._place, why)

    @property
    def _place(self) -> str:
        return f"{self._settings.mq_ip}:{self._settings.mq_port}"

    def _session(self) -> None:
        """Serve over one connection, until it breaks or `stop` is called."""
        self._is_consuming, self._received, began = False, 0, time.monotonic()
        self._connection = self._connect()
        try:
            self._publisher.open()
            with self._connection.within(BEGIN_WITHIN):
                self._see_to_the_binding()
                if self._strikes >= STRIKES:
                    self._take_off_the_first()
                self._supply = Supply(topology.load(self._connection, self._settings.mq_queue)[0])
                self._consume()
            self.is_connected = True
            log.info("RabbitMQ at %s: consuming queue %s", self._place, self._settings.mq_queue)
            while not self._stopping.is_set():
                self._turn()
        except AMQPConnectionError:
            if self._is_consuming and not self._received and time.monotonic() - began < SOON:
                self._strikes += 1
            raise
        finally:
            self._publisher.close()
            if self._connection.is_open:
                with suppress(AMQPError, OSError):
                    self._connection.close()

    def _consume(self) -> None:
        self._channel = self._connection.channel()
        self._channel.basic_qos(prefetch_count=PREFETCH)
        self._unsaved, self._is_cancelled = None, False
        self._channel.add_on_cancel_callback(self._cancelled)
        self._is_consuming = True
        self._channel.basic_consume(self._settings.mq_queue, self._receive)
        if self._asking:
            self._consume_answers(self._asking)

    def _consume_answers(self, asking: Asking) -> None:
        """Consume answers of the supervisor, over a channel of their own.

        So if this user may not declare a queue, calls of other modules are still answered.
        """
        self._reply_queue = ""
        try:
            channel = self._connection.channel()
            queue = channel.queue_declare("", exclusive=True, auto_delete=True).method.queue
            channel.basic_consume(queue, self._receive_answer, auto_ack=True)
        except ChannelClosedByBroker as e:
            self._unbound.say("cannot ask the supervisor for the app table: %s", e.reply_text)
            return
        self._reply_queue = queue
        asking.reconnected()

    def _cancelled(self, _method: Any) -> None:
        """Note that the queue was deleted."""
        self._is_cancelled = True

    def _see_to_the_binding(self) -> None:
        refused = topology.ensure(self._connection, self._settings.mq_exchange, self._settings.mq_queue)
        self._next_bind = time.monotonic() + self._bind_every
        if refused:
            self._unbound.say("%s", refused)

    def _see_to_the_supply(self) -> None:
        waiting, consumers = topology.load(self._connection, self._settings.mq_queue)
        if self._supply.is_cut(waiting, consumers, self._received):
            raise AMQPError("messages wait in the queue, but the broker sends none")
        if self._supply.is_doubtful:
            self._next_bind = min(self._next_bind, time.monotonic() + LOOK_AGAIN)

    def _take_off_the_first(self) -> None:
        """Take the first message, which probably broke the last connections, and acknowledge it on delivery.

        If it does not break this connection, it is handled as usual.
        """
        try:
            method, properties, body = self._connection.channel().basic_get(self._settings.mq_queue, auto_ack=True)
        except AMQPConnectionError:
            self._numbers.add("messages_dropped")
            self._limited_log.say(log, "a message is dropped: it broke %d connections", self._strikes + 1)
            raise
        if method:
            self._serve(properties, body)
        else:
            self._strikes = 0

    def _turn(self) -> None:
        self._connection.process_data_events(TICK)
        if self._is_cancelled or not self._channel.is_open:
            raise AMQPError("the broker has closed our channel, or the queue was deleted")
        self._publisher.tick()
        now = time.monotonic()
        if self._kept.save_again(now) and self._unsaved is not None:
            self._channel.basic_ack(self._unsaved)
            self._unsaved = None
        if now >= self._next_bind:
            with self._connection.within(BEGIN_WITHIN):
                self._see_to_the_binding()
                self._see_to_the_supply()
        if self._asking and self._reply_queue and (question := self._asking.due(now)):
            self._ask(question)

    def _ask(self, question: str) -> None:
        properties = pika.BasicProperties(reply_to=self._reply_queue, correlation_id=question, delivery_mode=1)
        try:
            self._publisher.publish(self._settings.mq_exchange, SUPERVISOR_KEY, render_call(CALL), properties)
        except Unpublished as e:
            self._limited_log.say(log, "cannot send appAuthInfo to the supervisor: %s", e)

    def _receive(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._received += 1
        self._strikes = 0
        self._serve(properties, body, method.delivery_tag)

    def _serve(self, properties: Any, body: bytes, tag: int | None = None) -> None:
        """Handle a message. tag: None if it is acknowledged already."""
        self._numbers.add("messages")
        try:
            reply = self._services.handle(body, properties.reply_to or "", self._now())
        except Dropped as e:
            self._numbers.add("messages_dropped")
            self._limited_log.say(log, "a message is dropped: %s", e)
            reply = Reply()
        except Exception:  # noqa: BLE001 (no content of a message may end the consumer)
            self._numbers.add("messages_dropped")
            self._limited_log.say(log, "a message is dropped after an internal error", trace=True)
            reply = Reply()
        if tag is not None:
            self._acknowledge(tag, reply.is_done)
        if reply.to:
            self._answer(reply, properties.correlation_id)

    def _acknowledge(self, tag: int, is_done: bool) -> None:
        """Acknowledge a message, or keep the newest app table unacknowledged until it is on the disk.

        Older tables are acknowledged, because the newest one replaces them.
        """
        if is_done:
            self._channel.basic_ack(tag)
            return
        if self._unsaved is not None:
            self._channel.basic_ack(self._unsaved)
        self._unsaved = tag

    def _answer(self, reply: Reply, correlation_id: str | None) -> None:
        properties = pika.BasicProperties(correlation_id=correlation_id, content_type="application/json")
        try:
            self._publisher.answer(reply.to, reply.by_id, reply.data, properties)
        except Unpublished as e:
            self._numbers.add("answers_nobody_takes")
            self._limited_log.say(log, "an answer to %r cannot be delivered: %s", reply.to[:80], e)

    def _receive_answer(self, _channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        if self._asking:
            self._asking.answered(properties.correlation_id, body)
