"""The messages of elves' modules on RabbitMQ: parses requests and renders answers. Pure.

    {"mqkey": "<from>.heartbeat.<service>", "mqtype": "call" | "call.<ID>" | "cast", "mqbody": {...}}

elves' documentation and its code differ, and both forms are supported. In the documentation, a call has the type `call.<ID>`
and wants its answer at the routing key <ID>. In the code, the type is `call`, and the answer goes to AMQP's reply_to. The type
of an answer is named `mqtype` in the documentation and `mqflag` in the code; our answers have both.
"""

from collections.abc import Mapping
from math import isnan
from typing import Any, NamedTuple

import msgspec

from meta.bridges.elves.limits import MAX_BODY, MAX_KEY
from updater.wire.decode_problems import in_words
from updater.wire.text import one_line, quoted

LARGEST = 1e9  # limit of a page's size and number
Body = dict[str, msgspec.Raw]


class Dropped(ValueError):
    """The message cannot be handled; the text says why."""


class Request(NamedTuple):
    """A parsed message."""

    sender: str
    service: str
    answer_to: str  # the queue or routing key for the answer; "": none is wanted
    by_id: bool  # whether `answer_to` is the ID of the message, rather than AMQP's reply_to
    body: Body


class _Envelope(msgspec.Struct):
    mqkey: str
    mqtype: str
    mqbody: msgspec.Raw = msgspec.Raw(b"null")


_envelope = msgspec.json.Decoder(_Envelope)
_body = msgspec.json.Decoder(Body | str | None)
_fields = msgspec.json.Decoder(Body)
_value = msgspec.json.Decoder(str | int | float | None)


def parse(data: bytes, reply_to: str = "") -> Request:
    """Parse a message. reply_to: AMQP's, "" for none. Raises Dropped."""
    if len(data) > MAX_BODY:
        raise Dropped(f"a body of {len(data)} bytes")
    try:
        envelope = _envelope.decode(data)
        body = _body.decode(bytes(envelope.mqbody))
        if isinstance(body, str):  # the Java module accepts an object that is written as a string
            body = _fields.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise Dropped(one_line(f"no message of elves: {in_words(e)}", 300)) from e
    parts = [part.strip() for part in envelope.mqkey.strip().split(".")]
    if len(parts) != 3 or not all(parts):
        raise Dropped(f"mqkey {quoted(envelope.mqkey)} does not have three parts")
    is_call, call_id = _kind(envelope.mqtype.strip())
    if len(call_id.encode()) > MAX_KEY:
        raise Dropped("the ID of its call is too long for a routing key")
    answer_to = (reply_to or call_id) if is_call else ""
    return Request(parts[0], parts[2], answer_to, not reply_to and bool(call_id), body or {})


def _kind(mqtype: str) -> tuple[bool, str]:
    """Return (whether an answer is wanted, the ID or "")."""
    if mqtype in ("call", "cast"):
        return mqtype == "call", ""
    word, _, call_id = mqtype.partition(".")
    if word != "call" or not call_id:
        raise Dropped(f"mqtype {quoted(mqtype)} is neither call nor cast")
    return True, call_id


def text(body: Body, *keys: str) -> str:
    """Return the first of these values that is not blank, as text; "" if all are. Raises Dropped if it is no text or number."""
    for key in keys:
        if key in body:
            try:
                value = _value.decode(bytes(body[key]))
            except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
                raise Dropped(f"{key} is no text") from e
            if value is not None and str(value).strip():
                return str(value).strip()
    return ""


def whole_number(body: Body, key: str) -> int:
    """Return a whole number, which may be given as text or as 10.0; 0 for anything else. It is cut to LARGEST."""
    try:
        number = float(text(body, key))
    except ValueError:  # Dropped is one
        return 0
    if isnan(number):
        return 0
    number = max(-LARGEST, min(number, LARGEST))
    return int(number) if number.is_integer() else 0


def render_answer(sender: str, body: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({"mqkey": f"heartbeat.{sender}", "mqtype": "cast", "mqflag": "cast", "mqbody": body})


def render_call(key: str) -> bytes:
    """Return a call with an empty body; its answer goes to AMQP's reply_to. key: heartbeat.MODULE.SERVICE."""
    return msgspec.json.encode({"mqkey": key, "mqtype": "call", "mqbody": {}})


def parse_result(data: bytes) -> msgspec.Raw:
    """Return the `mqbody.result` of an answer. Raises Dropped if there is none, or if the answer reports a failure."""
    if len(data) > MAX_BODY:
        raise Dropped(f"an answer of {len(data)} bytes")
    try:
        body = _fields.decode(data).get("mqbody", msgspec.Raw(b"null"))
        fields = _body.decode(bytes(body))
        if isinstance(fields, str):
            fields = _fields.decode(fields)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise Dropped(one_line(f"no answer of elves: {in_words(e)}", 300)) from e
    fields = fields or Body()
    if text(fields, "flag").lower() == "false":
        raise Dropped(f"it failed: {one_line(text(fields, 'error'), 200) or 'no reason given'}")
    result: msgspec.Raw | None = fields.get("result")
    if result is None or bytes(result) == b"null":
        raise Dropped("an answer without a result")
    return result
