"""Decodes and encodes Thrift messages, with thriftpy2's strict binary protocol.

It decodes only complete messages, whose size `framing` has limited. A read past the end of the message raises EOFError, so
wrong types cannot mislead the decoder for long. heartbeat.thrift has the service, and is read when this module is loaded.
"""

import struct
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import thriftpy2
from thriftpy2.protocol.binary import TBinaryProtocol
from thriftpy2.thrift import TApplicationException, TException, TMessageType, TPayload

from meta.bridges.elves.limits import MAX_DEPTH
from meta.bridges.elves.thrift.framing import Malformed
from meta.bridges.elves.translator import Info

METHOD = "heartbeatPackage"
UNKNOWN_METHOD = TApplicationException.UNKNOWN_METHOD
INTERNAL_ERROR = TApplicationException.INTERNAL_ERROR
PROTOCOL_ERROR = TApplicationException.PROTOCOL_ERROR
_IDL: Any = thriftpy2.load(str(Path(__file__).with_name("heartbeat.thrift")), "elves_heartbeat_thrift")
_Arguments, _Result = _IDL.HeartbeatService.heartbeatPackage_args, _IDL.HeartbeatService.heartbeatPackage_result


class Call(NamedTuple):
    """One call of an agent."""

    method: str
    sequence: int
    info: Info | None  # None: the method is unknown, or the call has no AgentInfo


class _Exact(BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is not None and len(data) != size:
            raise EOFError
        return data


def parse_call(message: bytes) -> Call:
    """Decode one complete message. Raises Malformed."""
    buffer = _Exact(message)
    protocol = _protocol(buffer)
    try:
        method, kind, sequence = protocol.read_message_begin()
        if kind != TMessageType.CALL:
            raise Malformed(f"a message of type {kind}, not a call")
        if method != METHOD:
            return Call(method, sequence, None)
        arguments = _Arguments()
        arguments.read(protocol)
        if buffer.tell() != len(message):  # thriftpy2 may read a text as a struct
            raise Malformed("wrong types")
        info = arguments.info and Info(*(getattr(arguments.info, name) or "" for name in Info._fields))
    except (TException, struct.error, ValueError, EOFError, TypeError, RecursionError, OverflowError) as e:
        raise e if isinstance(e, Malformed) else Malformed(f"no call: {type(e).__name__}") from e
    return Call(method, sequence, info)


def render_call(info: Info, sequence: int = 0) -> bytes:
    """Return the bytes of an agent's call; for simulators and tests."""
    return _message(METHOD, TMessageType.CALL, sequence, _Arguments(_IDL.AgentInfo(*info)))


def render_result(text: str, sequence: int) -> bytes:
    return _message(METHOD, TMessageType.REPLY, sequence, _Result(text))


def render_exception(method: str, sequence: int, kind: int, text: str) -> bytes:
    """Return the bytes of a TApplicationException, for which the agent changes nothing."""
    return _message(method, TMessageType.EXCEPTION, sequence, TApplicationException(kind, text))


def parse_answer(message: bytes) -> str:
    """Decode the answer to an agent's call; for simulators and tests. Raises TApplicationException, Malformed."""
    protocol = _protocol(_Exact(message))
    _, kind, _ = protocol.read_message_begin()
    if kind == TMessageType.EXCEPTION:
        exception = TApplicationException()
        exception.read(protocol)
        raise exception
    result = _Result()
    result.read(protocol)
    if kind != TMessageType.REPLY or result.success is None:
        raise Malformed("no answer")
    return str(result.success)


def _message(method: str, kind: int, sequence: int, payload: TPayload) -> bytes:
    buffer = BytesIO()
    protocol = _protocol(buffer)
    protocol.write_message_begin(method, kind, sequence)
    payload.write(protocol)
    return buffer.getvalue()


def _protocol(buffer: BytesIO) -> Any:
    protocol: Any = TBinaryProtocol  # not typed
    return protocol(buffer, strict_read=True, strict_write=True, strict_decode=True, max_depth=MAX_DEPTH + 2)
