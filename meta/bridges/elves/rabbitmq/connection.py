"""A connection to RabbitMQ that no message can break. Only this module uses pika's internals.

pika decodes all headers of a message, and an error there ends the connection. The broker then delivers the message again, for
ever. One example is a timestamp in milliseconds (https://github.com/pika/pika/issues/1698). Others are dates before 1970 and
very deeply nested tables. RabbitMQ passes on all of these, so they can happen by accident.

Here, a message whose headers cannot be decoded arrives without headers, which elves does not use.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika
from pika import data, frame, spec
from pika.adapters.utils.connection_workflow import AMQPConnectorException, AMQPConnectorStackTimeout
from pika.exceptions import (
    AMQPConnectionError,
    IncompatibleProtocolError,
    InvalidFrameError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from meta.bridges.elves.settings import Settings

OPEN_WITHIN = 10.0  # seconds
CLOSE_WITHIN = 2.0  # seconds
HEARTBEAT = 10  # seconds; a broker that is silent for twice as long counts as gone
_REMEDIES = {
    ProbableAuthenticationError: "mq.user or mq.password is wrong",
    ProbableAccessDeniedError: "mq.vhost does not exist, or mq.user may not use it",
    IncompatibleProtocolError: "the server there is no RabbitMQ; check mq.ip and mq.port",
}
_FRAME = struct.Struct(">BHI")  # type, channel, size; AMQP 0-9-1, 4.2.3
_CONTENT = struct.Struct(">HHQ")  # class, weight, size of the body; 4.2.6.1


class _Transport(pika.SelectConnection):  # type: ignore[misc]
    """pika's transport, but it ignores headers that cannot be decoded."""

    def _read_frame(self) -> tuple[int, Any]:
        try:
            read: tuple[int, Any] = super()._read_frame()
            return read
        except InvalidFrameError:  # the stream itself is broken
            raise
        except Exception:
            kind, channel, size = _FRAME.unpack_from(self._frame_buffer)
            if kind != spec.FRAME_HEADER:
                raise
            content = bytes(self._frame_buffer[_FRAME.size : _FRAME.size + size])
            body_size = _CONTENT.unpack_from(content)[2]
            consumed = _FRAME.size + size + spec.FRAME_END_SIZE
            return consumed, frame.Header(channel, body_size, _properties(content[_CONTENT.size :]))


def _properties(encoded: bytes) -> pika.BasicProperties:
    """Decode a message's properties without its headers. If even that fails, return empty properties."""
    try:
        (flags,) = struct.unpack_from(">H", encoded)
        start = 2
        for before in (spec.BasicProperties.FLAG_CONTENT_TYPE, spec.BasicProperties.FLAG_CONTENT_ENCODING):
            if flags & before:
                start = data.decode_short_string(encoded, start)[1]
        (size,) = struct.unpack_from(">I", encoded, start)
        flags &= ~spec.BasicProperties.FLAG_HEADERS
        rest = struct.pack(">H", flags) + encoded[2:start] + encoded[start + 4 + size :]
        return pika.BasicProperties().decode(rest)
    except Exception:  # noqa: BLE001 (the library raises many kinds; the message can still be handled)
        return pika.BasicProperties()


class TookTooLong(StreamLostError):  # type: ignore[misc]
    """The broker did not answer in time, and the connection was cut."""


class Connection(pika.BlockingConnection):  # type: ignore[misc]
    """A pika.BlockingConnection to the configured broker. Raises AMQPError or OSError."""

    def __init__(self, settings: Settings, open_within: float = OPEN_WITHIN):
        try:
            super().__init__(_parameters(settings, open_within), _impl_class=_Transport)
        except AMQPConnectorStackTimeout as e:
            raise TookTooLong(f"the server there did not speak AMQP within {open_within:g} s") from e
        except AMQPConnectorException as e:  # pika's, but not an AMQPError
            raise AMQPConnectionError(in_words(e)) from e

    def close(self, *reason: Any) -> None:
        with self.within(CLOSE_WITHIN):
            super().close(*reason)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Limit the time of calls in this context: then the connection is cut, and the call raises TookTooLong.

        pika has no such limit, and a confirm may never arrive (for example from a quorum queue without a majority).
        """
        loop = self._impl.ioloop
        timer = loop.call_later(seconds, lambda: self._cut(seconds))
        try:
            yield
        finally:
            if self.is_open:
                loop.remove_timeout(timer)

    def _cut(self, seconds: float) -> None:
        self._impl._terminate_stream(TookTooLong(f"no answer from the broker in {seconds:g} s"))


def _parameters(settings: Settings, open_within: float) -> pika.ConnectionParameters:
    return pika.ConnectionParameters(
        host=settings.mq_ip,
        port=settings.mq_port,
        virtual_host=settings.mq_vhost,
        credentials=pika.PlainCredentials(settings.mq_user, settings.mq_password),
        heartbeat=HEARTBEAT,
        blocked_connection_timeout=30,
        socket_timeout=5,
        stack_timeout=open_within,
        connection_attempts=1,
        client_properties={"product": "meta elves"},
    )


def in_words(error: BaseException) -> str:
    """Return the text of one of pika's errors, or of its cause: many have no text of their own."""
    known = (*error.args, getattr(error, "exception", None))  # where pika stores causes
    causes = [in_words(cause) for cause in known if isinstance(cause, BaseException)]
    found = "; ".join(causes) or getattr(error, "reply_text", "") or str(error) or type(error).__name__
    return f"{_REMEDIES[type(error)]} ({found})" if type(error) in _REMEDIES else found
