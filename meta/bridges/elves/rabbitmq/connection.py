"""A connection to RabbitMQ that no message can end. All that is known of pika's inside is here.

pika decodes every property of a message before it hands it over, and an error there ends the connection
(https://github.com/pika/pika/issues/1698, for one: a timestamp in milliseconds). The broker then delivers it again,
for ever. RabbitMQ passes on any header that it can read, so such a message need not be hostile: timestamps in milliseconds or
before 1970, a thousand tables in each other.

Promises that a message whose headers cannot be decoded arrives without its headers, which elves does not use.
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
CLOSE_WITHIN = 2.0
HEARTBEAT = 10  # seconds: a broker that is silent for twice as long is gone
_REMEDIES = {
    ProbableAuthenticationError: "mq.user or mq.password is wrong",
    ProbableAccessDeniedError: "mq.vhost is not there, or mq.user may not use it",
    IncompatibleProtocolError: "what listens there is no RabbitMQ",
}
_FRAME = struct.Struct(">BHI")  # type, channel, size; AMQP 0-9-1, 4.2.3
_CONTENT = struct.Struct(">HHQ")  # class, weight, size of the body; 4.2.6.1


class _Transport(pika.SelectConnection):  # type: ignore[misc]
    """pika's own, but for the headers that it cannot decode."""

    def _read_frame(self) -> tuple[int, Any]:
        try:
            read: tuple[int, Any] = super()._read_frame()
            return read
        except InvalidFrameError:  # the stream itself is out of step
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
    """A message's properties without its headers; none at all where the others cannot be decoded either."""
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
    except Exception:  # noqa: BLE001 (the library raises many kinds; the message is served as far as it can be)
        return pika.BasicProperties()


class TookTooLong(StreamLostError):  # type: ignore[misc]
    """The broker did not answer in time, and the connection was cut."""


class Connection(pika.BlockingConnection):  # type: ignore[misc]
    """A pika.BlockingConnection to the broker of these settings. Raises AMQPError or OSError."""

    def __init__(self, settings: Settings, open_within: float = OPEN_WITHIN):
        try:
            super().__init__(_parameters(settings, open_within), _impl_class=_Transport)
        except AMQPConnectorStackTimeout as e:
            raise TookTooLong(f"no word of AMQP from what listens there in {open_within:g} s") from e
        except AMQPConnectorException as e:  # pika's own, but none of its AMQPErrors
            raise AMQPConnectionError(in_words(e)) from e

    def close(self, *reason: Any) -> None:
        with self.within(CLOSE_WITHIN):
            super().close(*reason)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """What is called here ends in this time: the connection is cut then, and the call raises TookTooLong. pika has no such
        limit, and a confirm may stay away for ever (a quorum queue without its majority)."""
        loop = self._impl.ioloop
        timer = loop.call_later(seconds, lambda: self._cut(seconds))
        try:
            yield
        finally:
            if self.is_open:
                loop.remove_timeout(timer)

    def _cut(self, seconds: float) -> None:
        self._impl._terminate_stream(TookTooLong(f"no answer of the broker in {seconds:g} s"))


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
    """pika's errors often have no text of their own, but a cause, or a cause's cause, that has one."""
    known = (*error.args, getattr(error, "exception", None))  # where it keeps them
    causes = [in_words(cause) for cause in known if isinstance(cause, BaseException)]
    found = "; ".join(causes) or getattr(error, "reply_text", "") or str(error) or type(error).__name__
    return f"{_REMEDIES[type(error)]} ({found})" if type(error) in _REMEDIES else found
