"""Properties of AMQP messages as bytes, for what no well-behaved client writes. AMQP 0-9-1, 4.2.5 and 4.2.6."""

import struct
from typing import Any

import pika

ORDER = (
    *(
        "content_type",
        "content_encoding",
        "headers",
        "delivery_mode",
        "priority",
        "correlation_id",
        "reply_to",
        "expiration",
    ),
    *("message_id", "timestamp", "type", "user_id", "app_id", "cluster_id"),
)


def short(text: str | bytes) -> bytes:
    value = text.encode() if isinstance(text, str) else text
    return bytes((len(value),)) + value


def long(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def table(*fields: bytes) -> bytes:
    return long(b"".join(fields))


def field(kind: str, value: bytes, name: str | bytes = "h") -> bytes:
    """One entry of a table."""
    return short(name) + kind.encode() + value


class Properties(pika.BasicProperties):
    """Each property by its name: text or bytes (at most 255), an int, and `headers` as the bytes of a table."""

    def __init__(self, **given: Any):
        super().__init__()
        self._given = given

    def encode(self) -> list[bytes]:
        flags, encoded = 0, []
        for place, name in enumerate(ORDER):
            if name not in self._given:
                continue
            flags |= 1 << (15 - place)
            value = self._given[name]
            if name == "headers":
                encoded.append(value)
            elif name == "timestamp":
                encoded.append(struct.pack(">Q", value))
            elif name in ("delivery_mode", "priority"):
                encoded.append(bytes((value,)))
            else:
                encoded.append(short(value))
        return [struct.pack(">H", flags), *encoded]
